"""JSON objects of buckets.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

from mqttpush.models import Object, ObjectQuery
from mqttpush.store.clauses import ClauseSql
from mqttpush.store.tables import Table


class SqliteObjects(Table):
    _COLUMNS = "object_id, version, created_ms, modified_ms, owner, data_type, document"

    def insert(self, source_key: int, item: Object) -> bool:
        cursor = self._execute(
            f"INSERT INTO objects (source_key, {self._COLUMNS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (source_key, *_columns(item)),
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

    def query(self, source_key: int, query: ObjectQuery) -> list[tuple[int, Object]]:
        sql = ClauseSql()
        condition = sql.condition(query.clause)
        parameters = [source_key, query.after_key, *sql.parameters]
        sql.parameters.clear()
        order = "object_key"
        if query.order_by is not None:
            order = f"{sql.order(query.order_by)} {'DESC' if query.is_descending else 'ASC'}"
            order += ", object_key"
        rows = self._execute(
            f"SELECT object_key, {self._COLUMNS} FROM objects"
            f" WHERE source_key = ? AND object_key > ? AND {condition}"
            f" ORDER BY {order} LIMIT ? OFFSET ?",
            (*parameters, *sql.parameters, query.limit, query.offset),
        )
        return [(row[0], Object(*row[1:])) for row in rows]

    def count(self, source_key: int, clause: object) -> int:
        sql = ClauseSql()
        condition = sql.condition(clause)
        row = self._execute(
            f"SELECT count(*) FROM objects WHERE source_key = ? AND {condition}",
            (source_key, *sql.parameters),
        ).fetchone()
        return int(row[0])

    def matches(self, item: Object, clause: object) -> bool:
        sql = ClauseSql()
        condition = sql.condition(clause)
        row = self._execute(
            f"WITH candidate ({self._COLUMNS}) AS (VALUES (?, ?, ?, ?, ?, ?, ?))"
            f" SELECT 1 FROM candidate WHERE {condition}",
            (*_columns(item), *sql.parameters),
        ).fetchone()
        return row is not None


def _columns(item: Object) -> tuple[str, int, int, int, str, str, str]:
    return (
        item.object_id,
        item.version,
        item.created_ms,
        item.modified_ms,
        item.owner,
        item.data_type,
        item.document,
    )
