"""Credentials of push networks, sealed.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

from mqttpush.store.network_keys import SealedKeys
from mqttpush.store.tables import Table


class SqliteNetworkKeys(Table):
    def put(self, app_id: str, network: str, kept: SealedKeys) -> None:
        self._execute(
            "INSERT OR REPLACE INTO network_credentials"
            " (app_id, network, sealed, summary, changed_ms) VALUES (?, ?, ?, ?, ?)",
            (app_id, network, *kept),
        )

    def get(self, app_id: str, network: str) -> SealedKeys | None:
        return self.list_of(app_id).get(network)

    def list_of(self, app_id: str) -> dict[str, SealedKeys]:
        rows = self._execute(
            "SELECT network, sealed, summary, changed_ms FROM network_credentials"
            " WHERE app_id = ? ORDER BY network",
            (app_id,),
        )
        return {row[0]: SealedKeys(*row[1:]) for row in rows}

    def list_all(self) -> list[tuple[str, str, SealedKeys]]:
        rows = self._execute(
            "SELECT app_id, network, sealed, summary, changed_ms FROM network_credentials"
            " ORDER BY app_id, network"
        )
        return [(row[0], row[1], SealedKeys(*row[2:])) for row in rows]

    def delete(self, app_id: str, network: str) -> bool:
        cursor = self._execute(
            "DELETE FROM network_credentials WHERE app_id = ? AND network = ?", (app_id, network)
        )
        return cursor.rowcount > 0
