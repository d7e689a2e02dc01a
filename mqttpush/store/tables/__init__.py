"""The SQLite tables: rows <-> nouns, one class a table of the `Store` interface."""

from __future__ import annotations

import sqlite3


class Table:
    """What every table needs of the connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._execute_many = connection.executemany
