"""Objects of collections by query, and who follows collections live.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Any, Final

from mqttpush.errors import InvalidRequest
from mqttpush.kinvey import Permission
from mqttpush.models import ANY_AUTHENTICATED, ANYBODY, AclEntry, Object, Owner, Source, User
from mqttpush.store.collections import Found, LiveClient, ObjectRule
from mqttpush.store.queries import And, EntityQuery, Node, Path, Test
from mqttpush.store.query_sql import Column, QueryFunction, QuerySql
from mqttpush.store.tables import Table
from mqttpush.store.tables.principals import USER_COLUMNS, user_of

_COLUMNS: Final = "object_id, version, created_ms, modified_ms, owner, data_type, document"
_TIME: Final = "strftime('%Y-%m-%dT%H:%M:%fZ', {} / 1000.0, 'unixepoch')"
_VISIBLE: Final = "app_id = ? AND (is_public OR user_id = ? OR ?)"
# What a user's document has beside the app's own fields, and in which column it is.
_USER_COLUMNS: Final[dict[Path, Column]] = {
    ("_id",): Column("user_id"),
    ("username",): Column("coalesce(login_name, user_id)"),
    ("email",): Column("coalesce(json_extract(fields, '$.email'), email_address)"),
    ("_acl", "creator"): Column("user_id"),
    ("_kmd", "ect"): Column(_TIME.format("created_ms")),
    ("_kmd", "lmt"): Column(_TIME.format("max(created_ms, modified_ms)")),
}
# His devices as the administrator is shown them; who has none has no `_messaging` to be found by.
_MESSAGING: Final = {
    "_messaging": Column(
        "(SELECT CASE count(*) WHEN 0 THEN '{}' ELSE json_object('_messaging', json_object("
        "'pushTokens', json_group_array(json_patch("
        "json_object('token', registration_id, 'platform', lower(device_type), 'arn', NULL),"
        " json_object('framework', nullif(framework, ''), 'service', nullif(service, '')))))) END"
        " FROM installations i WHERE i.app_id = users.app_id"
        " AND i.subject = 'user:' || users.user_id AND i.device_type IN ('ANDROID', 'IOS'))"
    )
}
_READ, _WRITE = "READ_EXISTING_OBJECT", "WRITE_EXISTING_OBJECT"


class SqliteEntities(Table):
    def __init__(self, connection: sqlite3.Connection, query_function: QueryFunction) -> None:
        super().__init__(connection)
        self._function = query_function

    def find(
        self,
        bucket: Source,
        query: EntityQuery,
        rules: Sequence[ObjectRule] = (),
        *,
        limit_bytes: int,
    ) -> list[Object]:
        rows = self._select(_COLUMNS, bucket, query, rules, limit_bytes)
        return [Object(*row) for row in rows]

    def look(
        self, bucket: Source, query: EntityQuery, rules: Sequence[ObjectRule] = ()
    ) -> list[Found]:
        rows = self._select("object_id, version, created_ms", bucket, query, rules)
        return [Found(*row) for row in rows]

    def count(self, bucket: Source, query: EntityQuery, rules: Sequence[ObjectRule] = ()) -> int:
        sql, where = _entity_sql(bucket, query, rules)
        with self._function.answering(sql.tests):
            row = self._execute(
                f"SELECT count(*) FROM objects WHERE {where}", sql.parameters
            ).fetchone()
            return int(row[0])

    def rules_of(self, bucket: Source, object_ids: Sequence[str]) -> dict[str, list[AclEntry]]:
        prefix = _resource_prefix(bucket)
        rows = self._execute(
            "SELECT substr(a.resource, ?), a.verb, a.subject, a.is_granted"
            " FROM json_each(?) AS wanted CROSS JOIN acl_entries a"
            " ON a.app_id = ? AND a.resource = ? || wanted.value",
            (len(prefix) + 1, json.dumps(list(object_ids)), bucket.scope.app_id, prefix),
        )
        found: dict[str, list[AclEntry]] = {}
        for object_id, verb, subject, is_granted in rows:
            found.setdefault(object_id, []).append(AclEntry(verb, subject, bool(is_granted)))
        return found

    def find_users(
        self, app_id: str, query: EntityQuery, viewer: str | None, *, limit_bytes: int
    ) -> list[User]:
        sql = _user_sql(viewer)
        sql.parameters += [app_id, viewer, viewer is None]
        condition = sql.condition(query.condition)
        order = sql.order(query.sort, then="created_ms, user_id")
        limit = -1 if query.limit is None else query.limit
        with self._function.answering(sql.tests):
            rows = self._execute(
                f"SELECT {USER_COLUMNS} FROM users WHERE {_VISIBLE} AND {condition}"
                f" ORDER BY {order} LIMIT ? OFFSET ?",
                (*sql.parameters, limit, query.skip),
            )
            return [user_of(row) for row in _bounded(rows, limit_bytes)]

    def count_users(self, app_id: str, query: EntityQuery, viewer: str | None) -> int:
        sql = _user_sql(viewer)
        sql.parameters += [app_id, viewer, viewer is None]
        where = f"{_VISIBLE} AND {sql.condition(query.condition)}"
        with self._function.answering(sql.tests):
            row = self._execute(f"SELECT count(*) FROM users WHERE {where}", sql.parameters)
            return int(row.fetchone()[0])

    def set_permission(self, source_key: int, permission: Permission | None) -> None:
        value = permission.value if permission else ""
        self._execute("UPDATE sources SET permission = ? WHERE source_key = ?", (value, source_key))

    def _select(
        self,
        columns: str,
        bucket: Source,
        query: EntityQuery,
        rules: Sequence[ObjectRule],
        limit_bytes: float = inf,
    ) -> list[Any]:
        sql, where = _entity_sql(bucket, query, rules)
        order = sql.order(query.sort, then="object_key")
        limit = -1 if query.limit is None else query.limit
        with self._function.answering(sql.tests):
            rows = self._execute(
                f"SELECT {columns} FROM objects WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
                (*sql.parameters, limit, query.skip),
            )
            return list(_bounded(rows, limit_bytes))


class SqliteLive(Table):
    def insert(
        self,
        installation_id: str,
        owner: Owner,
        device_id: str,
        token_hash: bytes,
        now_ms: int,
    ) -> None:
        self._execute(
            "INSERT INTO live_clients VALUES (?, ?, ?, ?, ?, ?)",
            (installation_id, *owner, device_id, token_hash, now_ms),
        )

    _CLIENT = (
        "SELECT c.installation_id, c.app_id, c.subject, c.device_id, c.token_hash,"
        " t.expires_ms,"
        " (SELECT json_group_array(source_key) FROM live_subscriptions s"
        "  WHERE s.installation_id = c.installation_id)"
        " FROM live_clients c JOIN access_tokens t USING (token_hash) WHERE"
    )

    def find(self, owner: Owner, device_id: str) -> LiveClient | None:
        row = self._execute(
            f"{self._CLIENT} c.app_id = ? AND c.subject = ? AND c.device_id = ?",
            (*owner, device_id),
        ).fetchone()
        return _client(row) if row else None

    def owner_of_device(self, app_id: str, device_id: str) -> Owner | None:
        row = self._execute(
            "SELECT subject FROM live_clients WHERE app_id = ? AND device_id = ?"
            " ORDER BY created_ms DESC LIMIT 1",
            (app_id, device_id),
        ).fetchone()
        return Owner(app_id, row[0]) if row else None

    def by_installation(self, installation_id: str) -> LiveClient | None:
        row = self._execute(f"{self._CLIENT} c.installation_id = ?", (installation_id,)).fetchone()
        return _client(row) if row else None

    def ids_of(self, owner: Owner) -> list[str]:
        rows = self._execute(
            "SELECT installation_id FROM live_clients WHERE app_id = ? AND subject = ?"
            " ORDER BY created_ms, installation_id",
            tuple(owner),
        )
        return [row[0] for row in rows]

    def ended(self, owner: Owner) -> list[str]:
        rows = self._execute(
            "SELECT installation_id FROM live_clients c WHERE app_id = ? AND subject = ?"
            " AND NOT EXISTS"
            " (SELECT 1 FROM access_tokens t WHERE t.token_hash = c.token_hash)",
            tuple(owner),
        )
        return [row[0] for row in rows]

    def subscribe(self, installation_id: str, source_key: int) -> bool:
        self._execute("UPDATE sources SET is_live = 1 WHERE source_key = ?", (source_key,))
        cursor = self._execute(
            "INSERT INTO live_subscriptions VALUES (?, ?) ON CONFLICT DO NOTHING",
            (installation_id, source_key),
        )
        return cursor.rowcount > 0

    def unsubscribe(self, installation_id: str, source_key: int) -> bool:
        cursor = self._execute(
            "DELETE FROM live_subscriptions WHERE installation_id = ? AND source_key = ?",
            (installation_id, source_key),
        )
        return cursor.rowcount > 0


def _bounded(rows: Iterable[Any], limit_bytes: float) -> Iterator[Any]:
    """The rows while their texts are not too much together; else InvalidRequest."""
    size = 0
    for row in rows:
        size += sum(len(value) for value in row if isinstance(value, str))
        if size > limit_bytes:
            problem = f"more than {limit_bytes} bytes match: ask for fewer with limit and skip"
            raise InvalidRequest(problem, code="ResultSetSizeExceeded")
        yield row


def _client(row: tuple[str, str, str, str, bytes, int, str]) -> LiveClient:
    return LiveClient(row[0], Owner(row[1], row[2]), *row[3:6], tuple(json.loads(row[6])))


def _resource_prefix(bucket: Source) -> str:
    return f"{bucket.path}/objects/"


def _entity_sql(
    bucket: Source, query: EntityQuery, rules: Sequence[ObjectRule]
) -> tuple[QuerySql, str]:
    """The condition. Rights come first, and CASE keeps the order: a test must not even run on what
    may not be read, or the time it takes would tell of it.
    """
    sql = QuerySql(_entity_columns(bucket))
    sql.parameters.append(bucket.key)
    where = "source_key = ?"
    ids = _ids(query.condition)
    if ids is not None:  # the index finds these, whatever else is asked
        where += " AND object_id IN (SELECT value FROM json_each(?))"
        sql.parameters.append(json.dumps(ids))
    allowed = [_allowed(sql, bucket, rule) for rule in rules]
    condition = sql.condition(query.condition)
    if allowed:
        condition = f"CASE WHEN {' AND '.join(allowed)} THEN {condition} ELSE 0 END"
    return sql, f"{where} AND {condition}"


def _ids(node: Node) -> list[str] | None:
    """The only `_id`s that can match; None if the condition does not say."""
    if isinstance(node, And):
        return next((ids for ids in map(_ids, node.parts) if ids is not None), None)
    if isinstance(node, Test) and node.path == ("_id",):
        values = [node.operand] if node.operator == "$eq" else node.operand
        is_list = node.operator in ("$eq", "$in") and isinstance(values, list)
        if is_list and all(isinstance(value, str) for value in values):
            return list(values)
    return None


def _user_sql(viewer: str | None) -> QuerySql:
    return QuerySql(_USER_COLUMNS, document="fields", asides=_MESSAGING if viewer is None else {})


def _allowed(sql: QuerySql, bucket: Source, rule: ObjectRule) -> str:
    """Is one of the rule's subjects granted the right on the row, or has it by default still?"""
    sql.parameters += [
        json.dumps(rule.subjects),
        bucket.scope.app_id,
        _resource_prefix(bucket),
        rule.verb,
        json.dumps(rule.defaults),
    ]
    is_default = "s.value IN (SELECT value FROM json_each(?))"
    if rule.is_creators:
        is_default = f"({is_default} OR s.value = objects.owner)"
    return (
        "EXISTS (SELECT 1 FROM json_each(?) s LEFT JOIN acl_entries a ON a.app_id = ?"
        " AND a.resource = ? || objects.object_id AND a.verb = ? AND a.subject = s.value"
        f" WHERE coalesce(a.is_granted, {is_default}))"
    )


def _entity_columns(bucket: Source) -> dict[Path, Column]:
    app_id = bucket.scope.app_id
    # An administrator is nobody's user: his entities are the app's own.
    creator = "iif(owner = 'admin:', ?, substr(owner, instr(owner, ':') + 1))"
    columns = {
        ("_id",): Column("object_id"),
        ("_acl", "creator"): Column(creator, (app_id,)),
        ("_kmd", "ect"): Column(_TIME.format("created_ms")),
        ("_kmd", "lmt"): Column(_TIME.format("modified_ms")),
    }
    for verb, letter in ((_READ, "r"), (_WRITE, "w")):
        place = (app_id, _resource_prefix(bucket), verb)
        columns["_acl", letter] = _named(place, "user")
        columns["_acl", "groups", letter] = _named(place, "group")
        columns["_acl", f"g{letter}"] = Column(
            "(SELECT 'true' FROM acl_entries a WHERE a.app_id = ?"
            " AND a.resource = ? || objects.object_id AND a.verb = ? AND a.is_granted"
            " AND a.subject IN (?, ?) LIMIT 1)",
            (*place, ANYBODY, ANY_AUTHENTICATED),
            is_json=True,
        )
    return columns


def _named(place: tuple[str, str, str], kind: str) -> Column:
    """A list in `_acl`: the IDs of the kind that were granted the right."""
    return Column(
        "(SELECT nullif(json_group_array(substr(a.subject, ?)), '[]') FROM acl_entries a"
        " WHERE a.app_id = ? AND a.resource = ? || objects.object_id AND a.verb = ?"
        " AND a.is_granted AND substr(a.subject, 1, ?) = ? AND a.subject NOT IN (?, ?))",
        (len(kind) + 2, *place, len(kind) + 1, f"{kind}:", ANYBODY, ANY_AUTHENTICATED),
        is_json=True,
    )
