"""The SQLite tables: rows <-> nouns, one class a table of the `Store` interface.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Any

import orjson

from mqttpush.errors import AlreadyExists
from mqttpush.models import (
    App,
    DeviceType,
    Installation,
    MqttEndpoint,
    Object,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    Source,
    SourceKind,
    Thing,
    User,
)
from mqttpush.store import ConnectRow, TokenHolder


class _Table:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute


class SqliteApps(_Table):
    _COLUMNS = (
        "app_id, name, app_key, client_id, client_secret_hash, created_ms, is_disabled,"
        " is_app_key_checked"
    )

    def insert(self, app: App) -> None:
        try:
            self._execute(
                f"INSERT INTO apps ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(app)
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("app", app.app_id) from exc

    def get(self, app_id: str) -> App | None:
        return self._one("WHERE app_id = ?", app_id)

    def get_by_client_id(self, client_id: str) -> App | None:
        return self._one("WHERE client_id = ?", client_id)

    def list(self) -> list[App]:
        rows = self._execute(f"SELECT {self._COLUMNS} FROM apps ORDER BY created_ms, app_id")
        return [self._app(row) for row in rows]

    def delete(self, app_id: str) -> bool:
        return self._execute("DELETE FROM apps WHERE app_id = ?", (app_id,)).rowcount > 0

    def _one(self, where: str, value: str) -> App | None:
        row = self._execute(f"SELECT {self._COLUMNS} FROM apps {where}", (value,)).fetchone()
        return self._app(row) if row else None

    @staticmethod
    def _app(row: tuple[str, str, str, str, bytes, int, int, int]) -> App:
        return App(*row[:6], bool(row[6]), bool(row[7]))


class SqliteUsers(_Table):
    _COLUMNS = (
        "app_id, user_id, created_ms, login_name, email_address, phone_number, password_hash,"
        " is_disabled, fields"
    )

    def insert(self, user: User) -> None:
        try:
            self._execute(
                f"INSERT INTO users ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    user.app_id,
                    user.user_id,
                    user.created_ms,
                    user.login_name,
                    user.email_address,
                    user.phone_number,
                    user.password_hash,
                    user.is_disabled,
                    orjson.dumps(user.fields).decode(),
                ),
            )
        except sqlite3.IntegrityError as exc:
            raise self._taken(user, str(exc)) from exc

    def get(self, app_id: str, user_id: str) -> User | None:
        return self.get_by(app_id, "user_id", user_id)

    def get_by(self, app_id: str, field: str, value: str) -> User | None:
        assert field in {"user_id", "login_name", "email_address", "phone_number"}
        row = self._execute(
            f"SELECT {self._COLUMNS} FROM users WHERE app_id = ? AND {field} = ?", (app_id, value)
        ).fetchone()
        if row is None:
            return None
        values: list[Any] = [*row[:7], bool(row[7]), orjson.loads(row[8])]
        return User(*values)

    def delete(self, app_id: str, user_id: str) -> bool:
        cursor = self._execute(
            "DELETE FROM users WHERE app_id = ? AND user_id = ?", (app_id, user_id)
        )
        return cursor.rowcount > 0

    @staticmethod
    def _taken(user: User, problem: str) -> AlreadyExists:
        """SQLite names the columns of the index: `UNIQUE constraint failed: users.app_id, …`."""
        for field in ("login_name", "email_address", "phone_number"):
            if field in problem:
                return AlreadyExists("user", str(getattr(user, field)), field=field)
        return AlreadyExists("user", user.user_id, field="user_id")


class SqliteThings(_Table):
    _COLUMNS = "app_id, thing_id, vendor_thing_id, created_ms, password_hash, is_disabled, fields"

    def insert(self, thing: Thing) -> None:
        try:
            self._execute(
                f"INSERT INTO things ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    thing.app_id,
                    thing.thing_id,
                    thing.vendor_thing_id,
                    thing.created_ms,
                    thing.password_hash,
                    thing.is_disabled,
                    orjson.dumps(thing.fields).decode(),
                ),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("thing", thing.vendor_thing_id, field="vendor_thing_id") from exc

    def get(self, app_id: str, thing_id: str) -> Thing | None:
        return self._one("thing_id", app_id, thing_id)

    def get_by_vendor_id(self, app_id: str, vendor_thing_id: str) -> Thing | None:
        return self._one("vendor_thing_id", app_id, vendor_thing_id)

    def delete(self, app_id: str, thing_id: str) -> bool:
        cursor = self._execute(
            "DELETE FROM things WHERE app_id = ? AND thing_id = ?", (app_id, thing_id)
        )
        return cursor.rowcount > 0

    def is_owner(self, app_id: str, thing_id: str, subject: str) -> bool:
        row = self._execute(
            "SELECT 1 FROM thing_owners WHERE app_id = ? AND thing_id = ? AND subject = ?",
            (app_id, thing_id, subject),
        ).fetchone()
        return row is not None

    def _one(self, column: str, app_id: str, value: str) -> Thing | None:
        row = self._execute(
            f"SELECT {self._COLUMNS} FROM things WHERE app_id = ? AND {column} = ?",
            (app_id, value),
        ).fetchone()
        if row is None:
            return None
        values: list[Any] = [*row[:5], bool(row[5]), orjson.loads(row[6])]
        return Thing(*values)


class SqliteTokens(_Table):
    def insert(
        self, token_hash: bytes, principal: Principal, created_ms: int, expires_ms: int
    ) -> None:
        self._execute(
            "INSERT INTO access_tokens VALUES (?, ?, ?, ?, ?, ?)",
            (
                token_hash,
                principal.app_id,
                principal.kind.value,
                principal.id,
                created_ms,
                expires_ms,
            ),
        )

    def holder(self, token_hash: bytes, now_ms: int) -> TokenHolder | None:
        row = self._execute(
            """
            SELECT t.app_id, t.kind, t.principal_id, a.is_disabled,
                   CASE t.kind WHEN 'user' THEN u.is_disabled
                               WHEN 'thing' THEN h.is_disabled ELSE 0 END
            FROM access_tokens t
            JOIN apps a ON a.app_id = t.app_id
            LEFT JOIN users u
              ON t.kind = 'user' AND u.app_id = t.app_id AND u.user_id = t.principal_id
            LEFT JOIN things h
              ON t.kind = 'thing' AND h.app_id = t.app_id AND h.thing_id = t.principal_id
            WHERE t.token_hash = ? AND t.expires_ms > ?
            """,
            (token_hash, now_ms),
        ).fetchone()
        if row is None or row[4] is None:
            return None
        principal = Principal(row[0], PrincipalKind(row[1]), row[2])
        return TokenHolder(principal, bool(row[3]), bool(row[4]))

    def delete(self, token_hash: bytes) -> bool:
        cursor = self._execute("DELETE FROM access_tokens WHERE token_hash = ?", (token_hash,))
        return cursor.rowcount > 0

    def delete_of(self, owner: Owner) -> int:
        return self._execute(
            "DELETE FROM access_tokens WHERE app_id = ? AND kind = ? AND principal_id = ?",
            (owner.app_id, owner.kind, owner.id),
        ).rowcount

    def delete_expired(self, now_ms: int) -> int:
        return self._execute("DELETE FROM access_tokens WHERE expires_ms <= ?", (now_ms,)).rowcount


class SqliteInstallations(_Table):
    _COLUMNS = (
        "installation_id, app_id, subject, device_type, registration_id, is_development, created_ms"
    )

    def insert(self, installation: Installation) -> None:
        try:
            self._execute(
                f"INSERT INTO installations ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    installation.installation_id,
                    *installation.owner,
                    installation.device_type.value,
                    installation.registration_id,
                    installation.is_development,
                    installation.created_ms,
                ),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("installation", installation.installation_id) from exc

    def update(self, installation: Installation) -> None:
        self._execute(
            "UPDATE installations SET subject = ?, is_development = ? WHERE installation_id = ?",
            (
                installation.owner.subject,
                installation.is_development,
                installation.installation_id,
            ),
        )

    def get(self, app_id: str, installation_id: str) -> Installation | None:
        found = self._select("app_id = ? AND installation_id = ?", app_id, installation_id)
        return found[0] if found else None

    def get_by_registration(
        self, app_id: str, device_type: DeviceType, registration_id: str
    ) -> Installation | None:
        found = self._select(
            "app_id = ? AND device_type = ? AND registration_id = ?",
            app_id,
            device_type.value,
            registration_id,
        )
        return found[0] if found else None

    def list_of(self, owner: Owner) -> list[Installation]:
        return self._select("app_id = ? AND subject = ? ORDER BY created_ms", *owner)

    def list_of_app(self, app_id: str) -> list[Installation]:
        return self._select("app_id = ? ORDER BY created_ms", app_id)

    def delete(self, installation_id: str) -> bool:
        cursor = self._execute(
            "DELETE FROM installations WHERE installation_id = ?", (installation_id,)
        )
        return cursor.rowcount > 0

    def insert_endpoint(self, endpoint: MqttEndpoint) -> None:
        self._execute("INSERT INTO mqtt_endpoints VALUES (?, ?, ?, ?, ?)", astuple(endpoint))

    def endpoint(self, installation_id: str) -> MqttEndpoint | None:
        row = self._execute(
            "SELECT installation_id, username, password_hash, mqtt_topic, expires_ms"
            " FROM mqtt_endpoints WHERE installation_id = ?",
            (installation_id,),
        ).fetchone()
        return MqttEndpoint(*row) if row else None

    def replace_password_hash(self, installation_id: str, password_hash: bytes) -> None:
        self._execute(
            "UPDATE mqtt_endpoints SET password_hash = ? WHERE installation_id = ?",
            (password_hash, installation_id),
        )

    def connect_rows(self, usernames: Sequence[str]) -> dict[str, ConnectRow]:
        rows = self._execute(
            """
            SELECT e.installation_id, e.username, e.password_hash, e.mqtt_topic, e.expires_ms,
                   i.app_id, i.subject, i.device_type, i.registration_id, i.is_development,
                   i.created_ms,
                   NOT a.is_disabled AND NOT coalesce(u.is_disabled, h.is_disabled, 1)
            FROM json_each(?) AS wanted
            CROSS JOIN mqtt_endpoints e ON e.username = wanted.value
            JOIN installations i ON i.installation_id = e.installation_id
            JOIN apps a ON a.app_id = i.app_id
            LEFT JOIN users u ON i.subject LIKE 'user:%'
              AND u.app_id = i.app_id AND u.user_id = substr(i.subject, 6)
            LEFT JOIN things h ON i.subject LIKE 'thing:%'
              AND h.app_id = i.app_id AND h.thing_id = substr(i.subject, 7)
            """,
            (json.dumps(list(usernames)),),
        )
        return {
            row[1]: ConnectRow(
                MqttEndpoint(*row[:5]), self._installation((row[0], *row[5:11])), bool(row[11])
            )
            for row in rows
        }

    def _select(self, where: str, *values: str) -> list[Installation]:
        rows = self._execute(f"SELECT {self._COLUMNS} FROM installations WHERE {where}", values)
        return [self._installation(row) for row in rows]

    @staticmethod
    def _installation(row: tuple[str, str, str, str, str, int, int]) -> Installation:
        return Installation(
            row[0], Owner(row[1], row[2]), DeviceType(row[3]), row[4], bool(row[5]), row[6]
        )


class SqliteSources(_Table):
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


class SqliteSubscriptions(_Table):
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


class SqliteObjects(_Table):
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
