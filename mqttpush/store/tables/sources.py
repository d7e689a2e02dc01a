"""Buckets and topics, their access rules and subscriptions.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace

import orjson

from mqttpush.errors import AlreadyExists
from mqttpush.kinvey import Permission
from mqttpush.models import AclEntry, Filter, Owner, Scope, Source, SourceKind
from mqttpush.store.tables import Table

_COLUMNS = "s.source_key, s.kind, s.app_id, s.scope, s.source_id, s.creator, s.permission"
_PERMISSIONS = {"": None, **{each.value: each for each in Permission}}


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
        (has_triggers,) = self._execute(
            "SELECT has_triggers FROM apps WHERE app_id = ?", (scope.app_id,)
        ).fetchone()
        made = Source(cursor.lastrowid, kind, scope, source_id, creator)
        return replace(made, has_triggers=True) if has_triggers else made

    def get(self, kind: SourceKind, scope: Scope, source_id: str) -> Source | None:
        row = self._execute(
            "SELECT source_key, creator, has_filters, is_live, permission, networks, has_triggers"
            " FROM sources JOIN apps ON apps.app_id = sources.app_id"
            " WHERE sources.app_id = ? AND scope = ? AND kind = ? AND source_id = ?",
            (scope.app_id, scope.path, kind.value, source_id),
        ).fetchone()
        if row is None:
            return None
        networks, permission = tuple(row[5].split()), _PERMISSIONS[row[4]]
        own = (row[2] != 0, networks, row[3] != 0, permission, row[6] != 0)
        return Source(row[0], kind, scope, source_id, row[1], *own)

    def list_of_scope(
        self, kind: SourceKind, scope: Scope, after_id: str, limit: int
    ) -> list[Source]:
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM sources s"
            " WHERE app_id = ? AND scope = ? AND kind = ? AND source_id > ?"
            " ORDER BY source_id LIMIT ?",
            (scope.app_id, scope.path, kind.value, after_id, limit),
        )
        return [_source(row) for row in rows]

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

    def insert_filter(self, item: Filter, bucket_key: int) -> None:
        self._execute(
            "INSERT INTO filters VALUES (?, ?, ?, ?)",
            (item.source.key, bucket_key, *_filter_columns(item)),
        )
        self._execute("UPDATE sources SET has_filters = 1 WHERE source_key = ?", (bucket_key,))

    def replace_filter(self, item: Filter) -> None:
        self._execute(
            "UPDATE filters SET event_types = ?, clause = ? WHERE source_key = ?",
            (*_filter_columns(item), item.source.key),
        )

    def filters(self, bucket_key: int) -> list[Filter]:
        rows = self._execute(
            f"SELECT {_COLUMNS}, f.event_types, f.clause"
            " FROM filters f JOIN sources s USING (source_key) WHERE f.bucket_key = ?"
            " ORDER BY s.source_id",
            (bucket_key,),
        )
        return [
            Filter(_source(row[:7]), frozenset(orjson.loads(row[7])), orjson.loads(row[8]))
            for row in rows
        ]


class SqliteAcl(Table):
    def entries(self, app_id: str, resource: str, verb: str) -> dict[str, bool]:
        rows = self._execute(
            "SELECT subject, is_granted FROM acl_entries"
            " WHERE app_id = ? AND resource = ? AND verb = ?",
            (app_id, resource, verb),
        )
        return {row[0]: bool(row[1]) for row in rows}

    def put(self, app_id: str, resource: str, entry: AclEntry) -> None:
        self._execute(
            "INSERT OR REPLACE INTO acl_entries VALUES (?, ?, ?, ?, ?)",
            (app_id, resource, entry.verb, entry.subject, entry.is_granted),
        )

    def delete(self, app_id: str, resource: str, verb: str, subject: str) -> None:
        self._execute(
            "DELETE FROM acl_entries"
            " WHERE app_id = ? AND resource = ? AND verb = ? AND subject = ?",
            (app_id, resource, verb, subject),
        )

    def delete_resource(self, app_id: str, resource: str) -> None:
        # '0' follows '/': the range holds what lies below, and the index finds it.
        self._execute(
            "DELETE FROM acl_entries WHERE app_id = ?1"
            " AND (resource = ?2 OR (resource >= ?2 || '/' AND resource < ?2 || '0'))",
            (app_id, resource),
        )

    def delete_subject(self, app_id: str, subject: str) -> None:
        self._execute("DELETE FROM acl_entries WHERE app_id = ? AND subject = ?", (app_id, subject))


class SqliteSubscriptions(Table):
    def insert(self, source_key: int, owner: Owner, now_ms: int) -> bool:
        cursor = self._execute(
            "INSERT INTO subscriptions (source_key, app_id, subject, created_ms, is_heard)"
            " VALUES (?, ?, ?, ?, 1) ON CONFLICT DO NOTHING",
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

    def set_heard(self, source_key: int, owner: Owner, is_heard: bool) -> bool:
        cursor = self._execute(
            "UPDATE subscriptions SET is_heard = ?1"
            " WHERE source_key = ?2 AND subject = ?3 AND is_heard != ?1",
            (is_heard, source_key, owner.subject),
        )
        return cursor.rowcount > 0

    def list_of(self, owner: Owner) -> list[Source]:
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM subscriptions b JOIN sources s USING (source_key)"
            " WHERE b.app_id = ? AND b.subject = ? ORDER BY s.source_key",
            tuple(owner),
        )
        return [_source(row) for row in rows]

    def page_of_source(self, source_key: int, after: str, limit: int) -> list[str]:
        rows = self._execute(
            "SELECT subject FROM subscriptions WHERE source_key = ? AND subject > ?"
            " ORDER BY subject LIMIT ?",
            (source_key, after, limit),
        )
        return [row[0] for row in rows]

    def subjects_of_source(self, source_key: int) -> list[str]:
        rows = self._execute(
            "SELECT subject FROM subscriptions WHERE source_key = ?", (source_key,)
        )
        return [row[0] for row in rows]

    def heard_by(self, owners: Iterable[Owner]) -> dict[Owner, tuple[int, ...]]:
        found: dict[Owner, tuple[int, ...]] = dict.fromkeys(owners, ())
        rows = self._execute(
            """
            SELECT s.app_id, s.subject, s.source_key
            FROM json_each(?) AS wanted
            CROSS JOIN subscriptions s
              ON s.app_id = wanted.value ->> 0 AND s.subject = wanted.value ->> 1
            WHERE s.is_heard
            """,
            (json.dumps(list(found)),),
        )
        for app_id, subject, source_key in rows:
            found[Owner(app_id, subject)] += (source_key,)
        return found


def _source(row: tuple[int, str, str, str, str, str, str]) -> Source:
    scope = Scope.from_path(row[2], row[3])
    permission = _PERMISSIONS[row[6]]
    return Source(row[0], SourceKind(row[1]), scope, row[4], row[5], permission=permission)


def _filter_columns(item: Filter) -> tuple[str, str]:
    event_types = orjson.dumps(sorted(item.event_types)).decode()
    return event_types, orjson.dumps(item.clause).decode()
