"""Installations and MQTT endpoints.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from mqttpush.errors import AlreadyExists
from mqttpush.models import DeviceType, Installation, MqttEndpoint, Owner
from mqttpush.store import ConnectRow
from mqttpush.store.tables import Table


class SqliteInstallations(Table):
    _COLUMNS = (
        "installation_id, app_id, subject, device_type, registration_id, is_development,"
        " created_ms, updated_ms, problem, platform, framework, service"
    )

    def insert(self, installation: Installation) -> None:
        try:
            self._execute(
                f"INSERT INTO installations ({self._COLUMNS}) VALUES"
                " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    installation.installation_id,
                    *installation.owner,
                    installation.device_type.value,
                    installation.registration_id,
                    installation.is_development,
                    installation.created_ms,
                    installation.updated_ms,
                    installation.problem,
                    installation.platform,
                    installation.framework,
                    installation.service,
                ),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("installation", installation.installation_id) from exc

    def update(self, installation: Installation) -> None:
        try:
            self._execute(
                "UPDATE installations SET subject = ?, registration_id = ?, is_development = ?,"
                " updated_ms = ?, problem = ?, platform = ?, framework = ?, service = ?"
                " WHERE installation_id = ?",
                (
                    installation.owner.subject,
                    installation.registration_id,
                    installation.is_development,
                    installation.updated_ms,
                    installation.problem,
                    installation.platform,
                    installation.framework,
                    installation.service,
                    installation.installation_id,
                ),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("installation", installation.installation_id) from exc

    def set_problem(self, installation_id: str, problem: str) -> None:
        self._execute(
            "UPDATE installations SET problem = ? WHERE installation_id = ?",
            (problem, installation_id),
        )

    def get(self, app_id: str, installation_id: str) -> Installation | None:
        found = self._select("app_id = ? AND installation_id = ?", app_id, installation_id)
        return found[0] if found else None

    def get_by_registration(
        self, app_id: str, device_type: DeviceType, registration_id: str
    ) -> Installation | None:
        found = self.list_by_registration(app_id, device_type, registration_id)
        return found[0] if found else None

    def list_by_registration(
        self, app_id: str, device_type: DeviceType, registration_id: str
    ) -> list[Installation]:
        return self._select(
            "app_id = ? AND device_type = ? AND registration_id = ? ORDER BY subject",
            app_id,
            device_type.value,
            registration_id,
        )

    def list_by_prefix(
        self, app_id: str, device_type: DeviceType, prefix: str
    ) -> list[Installation]:
        return self._select(
            "app_id = ? AND device_type = ? AND registration_id >= ? AND registration_id < ?",
            app_id,
            device_type.value,
            prefix,
            f"{prefix}\U0010ffff",
        )

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

    def delete_endpoint(self, installation_id: str) -> None:
        self._execute("DELETE FROM mqtt_endpoints WHERE installation_id = ?", (installation_id,))

    def connect_rows(self, usernames: Sequence[str]) -> dict[str, ConnectRow]:
        rows = self._execute(
            """
            SELECT e.installation_id, e.username, e.password_hash, e.mqtt_topic, e.expires_ms,
                   i.app_id, i.subject, i.device_type, i.registration_id, i.is_development,
                   i.created_ms, i.updated_ms, i.problem, i.platform, i.framework, i.service,
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
                MqttEndpoint(*row[:5]), self._installation((row[0], *row[5:16])), bool(row[16])
            )
            for row in rows
        }

    def _select(self, where: str, *values: str) -> list[Installation]:
        rows = self._execute(f"SELECT {self._COLUMNS} FROM installations WHERE {where}", values)
        return [self._installation(row) for row in rows]

    @staticmethod
    def _installation(row: tuple[Any, ...]) -> Installation:
        owner = Owner(row[1], row[2])
        return Installation(row[0], owner, DeviceType(row[3]), row[4], bool(row[5]), *row[6:])
