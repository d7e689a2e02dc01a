"""JSON objects of buckets.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

from mqttpush.models import Object
from mqttpush.store.tables import Table


class SqliteObjects(Table):
    _COLUMNS = "object_id, version, created_ms, modified_ms, owner, data_type, document"

    def insert(self, source_key: int, item: Object) -> bool:
        cursor = self._execute(
            f"INSERT INTO objects (source_key, {self._COLUMNS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                source_key,
                item.object_id,
                item.version,
                item.created_ms,
                item.modified_ms,
                item.owner,
                item.data_type,
                item.document,
            ),
        )
        return cursor.rowcount > 0

    def get(self, source_key: int, object_id: str) -> Object | None:
        row = self._execute(
            f"SELECT {self._COLUMNS} FROM objects WHERE source_key = ? AND object_id = ?",
            (source_key, object_id),
        ).fetchone()
        return Object(*row) if row else None

    def replace(self, source_key: int, item: Object) -> None:
        self._execute(
            "UPDATE objects SET version = ?, modified_ms = ?, data_type = ?, document = ?"
            " WHERE source_key = ? AND object_id = ?",
            (
                item.version,
                item.modified_ms,
                item.data_type,
                item.document,
                source_key,
                item.object_id,
            ),
        )

    def delete(self, source_key: int, object_id: str) -> bool:
        cursor = self._execute(
            "DELETE FROM objects WHERE source_key = ? AND object_id = ?", (source_key, object_id)
        )
        return cursor.rowcount > 0

    def page(self, source_key: int, after_key: int, limit: int) -> list[tuple[int, Object]]:
        rows = self._execute(
            f"SELECT object_key, {self._COLUMNS} FROM objects"
            " WHERE source_key = ? AND object_key > ? ORDER BY object_key LIMIT ?",
            (source_key, after_key, limit),
        )
        return [(row[0], Object(*row[1:])) for row in rows]
