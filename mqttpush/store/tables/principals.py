"""Apps, users, things, groups and access tokens.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import astuple
from typing import Any

import orjson

from mqttpush.errors import AlreadyExists
from mqttpush.models import App, Group, Owner, Principal, PrincipalKind, Thing, User
from mqttpush.store import TokenHolder
from mqttpush.store.tables import Table

_KINDS = {kind.value: kind for kind in PrincipalKind}


class SqliteApps(Table):
    _COLUMNS = (
        "app_id, name, app_key, client_id, client_secret_hash, created_ms, is_disabled,"
        " is_app_key_checked, is_thing_password_checked, is_apns_payload_small, is_delivery_once"
    )

    def insert(self, app: App) -> None:
        try:
            self._execute(
                f"INSERT INTO apps ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                astuple(app),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("app", app.app_id) from exc

    def get(self, app_id: str) -> App | None:
        return self._one("WHERE app_id = ?", app_id)

    def update(self, app: App) -> None:
        self._execute(
            "UPDATE apps SET name = ?, is_disabled = ?, is_app_key_checked = ?,"
            " is_thing_password_checked = ?, is_apns_payload_small = ?, is_delivery_once = ?"
            " WHERE app_id = ?",
            (
                app.name,
                app.is_disabled,
                app.is_app_key_checked,
                app.is_thing_password_checked,
                app.is_apns_payload_small,
                app.is_delivery_once,
                app.app_id,
            ),
        )

    def networks(self, app_id: str) -> tuple[str, ...]:
        row = self._execute("SELECT networks FROM apps WHERE app_id = ?", (app_id,)).fetchone()
        return tuple(row[0].split()) if row else ()

    def set_network(self, app_id: str, network: str, is_configured: bool) -> None:
        networks = {*self.networks(app_id)} - {network}
        if is_configured:
            networks.add(network)
        self._execute(
            "UPDATE apps SET networks = ? WHERE app_id = ?", (" ".join(sorted(networks)), app_id)
        )

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
    def _app(row: tuple[str, str, str, str, bytes, int, int, int, int, int, int]) -> App:
        return App(*row[:6], *map(bool, row[6:]))


USER_COLUMNS = (
    "app_id, user_id, created_ms, login_name, email_address, phone_number, password_hash,"
    " is_disabled, fields, modified_ms, is_public"
)


def user_of(row: tuple[Any, ...]) -> User:
    """The user of a row of `USER_COLUMNS`."""
    values: list[Any] = [*row[:7], bool(row[7]), orjson.loads(row[8]), row[9], bool(row[10])]
    return User(*values)


class SqliteUsers(Table):
    _COLUMNS = USER_COLUMNS

    def insert(self, user: User) -> None:
        try:
            self._execute(
                f"INSERT INTO users ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    user.modified_ms,
                    user.is_public,
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
        return user_of(row) if row else None

    def update(self, user: User) -> None:
        try:
            self._execute(
                "UPDATE users SET login_name = ?, email_address = ?, phone_number = ?,"
                " password_hash = ?, is_disabled = ?, fields = ?, modified_ms = ?"
                " WHERE app_id = ? AND user_id = ?",
                (
                    user.login_name,
                    user.email_address,
                    user.phone_number,
                    user.password_hash,
                    user.is_disabled,
                    orjson.dumps(user.fields).decode(),
                    user.modified_ms,
                    user.app_id,
                    user.user_id,
                ),
            )
        except sqlite3.IntegrityError as exc:
            raise self._taken(user, str(exc)) from exc

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


class SqliteThings(Table):
    _COLUMNS = (
        "app_id, thing_id, vendor_thing_id, created_ms, password_hash, is_disabled, fields,"
        " is_online, online_ms"
    )

    def insert(self, thing: Thing) -> None:
        try:
            self._execute(
                f"INSERT INTO things ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)",
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

    def update(self, thing: Thing) -> None:
        try:
            self._execute(
                "UPDATE things SET vendor_thing_id = ?, password_hash = ?, is_disabled = ?,"
                " fields = ? WHERE app_id = ? AND thing_id = ?",
                (
                    thing.vendor_thing_id,
                    thing.password_hash,
                    thing.is_disabled,
                    orjson.dumps(thing.fields).decode(),
                    thing.app_id,
                    thing.thing_id,
                ),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("thing", thing.vendor_thing_id, field="vendor_thing_id") from exc

    def set_online(self, thing: Owner, is_online: bool, now_ms: int) -> bool:
        cursor = self._execute(
            "UPDATE things SET is_online = ?1, online_ms = ?2"
            " WHERE app_id = ?3 AND thing_id = ?4 AND is_online != ?1",
            (is_online, now_ms, thing.app_id, thing.id),
        )
        return cursor.rowcount > 0

    def set_all_offline(self, now_ms: int) -> None:
        self._execute("UPDATE things SET is_online = 0, online_ms = ? WHERE is_online", (now_ms,))

    def owners(self, app_id: str, thing_id: str) -> list[str]:
        rows = self._execute(
            "SELECT subject FROM thing_owners WHERE app_id = ? AND thing_id = ?",
            (app_id, thing_id),
        )
        return [row[0] for row in rows]

    def owned_by(self, app_id: str, subject: str) -> list[str]:
        rows = self._execute(
            "SELECT thing_id FROM thing_owners WHERE app_id = ? AND subject = ?",
            (app_id, subject),
        )
        return [row[0] for row in rows]

    def add_owner(self, app_id: str, thing_id: str, subject: str) -> bool:
        cursor = self._execute(
            "INSERT INTO thing_owners VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (app_id, thing_id, subject),
        )
        return cursor.rowcount > 0

    def remove_owner(self, app_id: str, thing_id: str, subject: str) -> bool:
        cursor = self._execute(
            "DELETE FROM thing_owners WHERE app_id = ? AND thing_id = ? AND subject = ?",
            (app_id, thing_id, subject),
        )
        return cursor.rowcount > 0

    def _one(self, column: str, app_id: str, value: str) -> Thing | None:
        row = self._execute(
            f"SELECT {self._COLUMNS} FROM things WHERE app_id = ? AND {column} = ?",
            (app_id, value),
        ).fetchone()
        if row is None:
            return None
        values: list[Any] = [*row[:5], bool(row[5]), orjson.loads(row[6]), bool(row[7]), row[8]]
        return Thing(*values)


class SqliteGroups(Table):
    _COLUMNS = "app_id, group_id, name, owner_user_id, created_ms, modified_ms"

    def insert(self, group: Group) -> None:
        try:
            self._execute(
                f"INSERT INTO groups ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", astuple(group)
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("group", group.group_id, app_id=group.app_id) from exc

    def update(self, group: Group) -> None:
        self._execute(
            "UPDATE groups SET name = ?, owner_user_id = ?, modified_ms = ?"
            " WHERE app_id = ? AND group_id = ?",
            (group.name, group.owner_user_id, group.modified_ms, group.app_id, group.group_id),
        )

    def get(self, app_id: str, group_id: str) -> Group | None:
        found = self._select("app_id = ? AND group_id = ?", app_id, group_id)
        return found[0] if found else None

    def delete(self, app_id: str, group_id: str) -> bool:
        cursor = self._execute(
            "DELETE FROM groups WHERE app_id = ? AND group_id = ?", (app_id, group_id)
        )
        return cursor.rowcount > 0

    def list_of_member(self, app_id: str, user_id: str) -> list[Group]:
        return self._select(
            "app_id = ?1 AND group_id IN"
            " (SELECT group_id FROM group_members WHERE app_id = ?1 AND user_id = ?2)",
            app_id,
            user_id,
        )

    def list_of_owner(self, app_id: str, user_id: str) -> list[Group]:
        return self._select("app_id = ? AND owner_user_id = ?", app_id, user_id)

    def members(self, app_id: str, group_id: str) -> list[str]:
        rows = self._execute(
            "SELECT user_id FROM group_members WHERE app_id = ? AND group_id = ? ORDER BY user_id",
            (app_id, group_id),
        )
        return [row[0] for row in rows]

    def is_member(self, app_id: str, group_id: str, user_id: str) -> bool:
        row = self._execute(
            "SELECT 1 FROM group_members WHERE app_id = ? AND group_id = ? AND user_id = ?",
            (app_id, group_id, user_id),
        ).fetchone()
        return row is not None

    def add_member(self, app_id: str, group_id: str, user_id: str) -> bool:
        cursor = self._execute(
            "INSERT INTO group_members VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (app_id, group_id, user_id),
        )
        return cursor.rowcount > 0

    def remove_member(self, app_id: str, group_id: str, user_id: str) -> bool:
        cursor = self._execute(
            "DELETE FROM group_members WHERE app_id = ? AND group_id = ? AND user_id = ?",
            (app_id, group_id, user_id),
        )
        return cursor.rowcount > 0

    def remove_user(self, app_id: str, user_id: str) -> None:
        self._execute(
            "DELETE FROM group_members WHERE app_id = ? AND user_id = ?", (app_id, user_id)
        )

    def _select(self, where: str, *values: str) -> list[Group]:
        rows = self._execute(
            f"SELECT {self._COLUMNS} FROM groups WHERE {where} ORDER BY created_ms", values
        )
        return [Group(*row) for row in rows]


class SqliteTokens(Table):
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
        principal = Principal(row[0], _KINDS[row[1]], row[2])
        return TokenHolder(principal, bool(row[3]), bool(row[4]))

    def delete(self, token_hash: bytes) -> bool:
        cursor = self._execute("DELETE FROM access_tokens WHERE token_hash = ?", (token_hash,))
        return cursor.rowcount > 0

    def created_ms(self, token_hash: bytes) -> int | None:
        made = "SELECT created_ms FROM access_tokens WHERE token_hash = ?"
        row = self._execute(made, (token_hash,)).fetchone()
        return None if row is None else row[0]

    def keep_newest(self, principal: Principal, count: int) -> None:
        who = (principal.app_id, principal.kind.value, principal.id)
        self._execute(
            "DELETE FROM access_tokens WHERE token_hash IN (SELECT token_hash FROM access_tokens"
            " WHERE app_id = ? AND kind = ? AND principal_id = ?"
            " ORDER BY created_ms DESC LIMIT -1 OFFSET ?)",
            (*who, count),
        )

    def delete_of(self, owner: Owner, *, but: bytes | None = None) -> int:
        return self._execute(
            "DELETE FROM access_tokens WHERE app_id = ? AND kind = ? AND principal_id = ?"
            " AND token_hash IS NOT ?",
            (owner.app_id, owner.kind, owner.id, but),
        ).rowcount

    def delete_expired(self, now_ms: int) -> int:
        return self._execute("DELETE FROM access_tokens WHERE expires_ms <= ?", (now_ms,)).rowcount
