"""Buckets and topics, their access rules and subscriptions.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from mqttpush.errors import AlreadyExists
from mqttpush.models import Owner, Scope, Source, SourceKind
from mqttpush.store.tables import Table


class SqliteSources(Table):
    def insert(
        self, kind: SourceKind, scope: Scope, source_id: str, creator: str, now_ms: int
    ) -> Source:
        try:
            cursor = self._execute(
                "INSERT INTO sources (app_id, scope, kind, source_id, creator, created_ms)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (scope.app_id, scope.path, kind.value, source_id, creator, now_ms),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists(kind.value, source_id, scope=scope) from exc
        assert cursor.lastrowid is not None
        return Source(cursor.lastrowid, kind, scope, source_id, creator)

    def get(self, kind: SourceKind, scope: Scope, source_id: str) -> Source | None:
        row = self._execute(
            "SELECT source_key, creator FROM sources"
            " WHERE app_id = ? AND scope = ? AND kind = ? AND source_id = ?",
            (scope.app_id, scope.path, kind.value, source_id),
        ).fetchone()
        return Source(row[0], kind, scope, source_id, row[1]) if row else None

    def list_of_scope(
        self, kind: SourceKind, scope: Scope, after_id: str, limit: int
    ) -> list[Source]:
        rows = self._execute(
            "SELECT source_key, source_id, creator FROM sources"
            " WHERE app_id = ? AND scope = ? AND kind = ? AND source_id > ?"
            " ORDER BY source_id LIMIT ?",
            (scope.app_id, scope.path, kind.value, after_id, limit),
        )
        return [Source(row[0], kind, scope, row[1], row[2]) for row in rows]

    def keys_of_scope(self, scope: Scope) -> list[int]:
        rows = self._execute(
            "SELECT source_key FROM sources WHERE app_id = ? AND scope = ?",
            (scope.app_id, scope.path),
        )
        return [row[0] for row in rows]

    def delete(self, source_key: int) -> None:
        self._execute("DELETE FROM sources WHERE source_key = ?", (source_key,))

    def delete_scope(self, scope: Scope) -> None:
        self._execute(
            "DELETE FROM sources WHERE app_id = ? AND scope = ?", (scope.app_id, scope.path)
        )


class SqliteSubscriptions(Table):
    def insert(self, source_key: int, owner: Owner, now_ms: int) -> bool:
        cursor = self._execute(
            "INSERT INTO subscriptions (source_key, app_id, subject, created_ms)"
            " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (source_key, *owner, now_ms),
        )
        return cursor.rowcount > 0

    def contains(self, source_key: int, owner: Owner) -> bool:
        row = self._execute(
            "SELECT 1 FROM subscriptions WHERE source_key = ? AND subject = ?",
            (source_key, owner.subject),
        ).fetchone()
        return row is not None

    def delete(self, source_key: int, owner: Owner) -> bool:
        cursor = self._execute(
            "DELETE FROM subscriptions WHERE source_key = ? AND subject = ?",
            (source_key, owner.subject),
        )
        return cursor.rowcount > 0

    def delete_of(self, owner: Owner) -> None:
        self._execute("DELETE FROM subscriptions WHERE app_id = ? AND subject = ?", tuple(owner))

    def sources_of(self, owners: Iterable[Owner]) -> dict[Owner, tuple[int, ...]]:
        found: dict[Owner, tuple[int, ...]] = dict.fromkeys(owners, ())
        rows = self._execute(
            """
            SELECT s.app_id, s.subject, s.source_key
            FROM json_each(?) AS wanted
            CROSS JOIN subscriptions s
              ON s.app_id = wanted.value ->> 0 AND s.subject = wanted.value ->> 1
            """,
            (json.dumps(list(found)),),
        )
        for app_id, subject, source_key in rows:
            found[Owner(app_id, subject)] += (source_key,)
        return found
