"""Schema versions: numbered SQL files, applied in order inside one transaction.

Owns the version table and the copy made before an older file is changed. Knows
no table. A newer schema is refused: an old program must not write what it does not understand.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mqttpush.errors import SchemaMismatch


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of `store/sql/`."""

    version: int
    name: str
    sql: str


def known_migrations() -> list[Migration]:
    """The package's own migrations in order; numbers run 1, 2, 3… without a gap."""
    migrations = []
    for entry in resources.files("mqttpush.store").joinpath("sql").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name)
        if match:
            sql = entry.read_text(encoding="utf-8")
            migrations.append(Migration(int(match[1]), match[2], sql))
    migrations.sort(key=lambda migration: migration.version)
    assert [m.version for m in migrations] == list(range(1, len(migrations) + 1))
    return migrations


def migrate(connection: sqlite3.Connection, store: str, migrations: list[Migration]) -> None:
    """Bring the schema to the newest known version; raises SchemaMismatch for a newer one.

    An older file is first copied to `FILE.v<version>.bak` beside it, then changed in one
    transaction: a crash leaves the old schema or the new one.
    """
    found_version = _version(connection)
    known_version = migrations[-1].version
    if found_version > known_version:
        raise SchemaMismatch(store, found_version, known_version)
    if found_version == known_version:
        return
    if found_version > 0:
        _back_up(connection, found_version)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_VERSION_TABLE)
        # Another process may have migrated while this one waited for the lock.
        for migration in migrations[_version(connection) :]:
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_versions (version, name) VALUES (?, ?)",
                (migration.version, migration.name),
            )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


_VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS schema_versions (
    version     INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    applied_at  TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT
"""


def _version(connection: sqlite3.Connection) -> int:
    is_known = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_versions'"
    ).fetchone()[0]
    if not is_known:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_versions").fetchone()
    return int(row[0])


def _back_up(connection: sqlite3.Connection, version: int) -> None:
    path = next(row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    if not path:
        return  # in memory: nothing that outlives the process
    target = sqlite3.connect(Path(f"{path}.v{version}.bak"))
    try:
        connection.backup(target)
    finally:
        target.close()


def _statements(sql: str) -> list[str]:
    """Split a script; `executescript` would commit the open transaction."""
    statements, current = [], ""
    for line in sql.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
