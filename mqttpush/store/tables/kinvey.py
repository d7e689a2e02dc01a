"""What the second dialect asks of apps and devices beyond what both share.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Final

import orjson

from mqttpush.kinvey import KinveySettings
from mqttpush.models import Audience
from mqttpush.store.tables import Table

_KNOWN: Final = frozenset(each.name for each in fields(KinveySettings))


class SqliteKinvey(Table):
    def settings(self, app_id: str) -> KinveySettings:
        row = self._execute(
            "SELECT settings FROM kinvey_settings WHERE app_id = ?", (app_id,)
        ).fetchone()
        if row is None:
            return KinveySettings()
        kept = orjson.loads(row[0])
        return KinveySettings(**{name: kept[name] for name in kept.keys() & _KNOWN})

    def put_settings(self, app_id: str, settings: KinveySettings) -> None:
        self._execute(
            "INSERT INTO kinvey_settings VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET settings = excluded.settings",
            (app_id, orjson.dumps(asdict(settings)).decode()),
        )

    def count_device_owners(self, app_id: str) -> int:
        row = self._execute(
            f"SELECT count(DISTINCT i.subject) FROM installations i {_WITH_USER}"
            f" WHERE i.app_id = ? AND {_IS_REACHED}",
            (app_id,),
        )
        return int(row.fetchone()[0])

    def count_devices(self, audience: Audience) -> dict[tuple[str, str], int]:
        if audience.is_everybody:
            rows = self._execute(
                f"{_COUNT} FROM installations i {_WITH_USER} WHERE i.app_id = ? {_BY_VARIANT}",
                (audience.app_id,),
            )
        else:
            rows = self._execute(
                f"WITH wanted AS ({_OF_OWNERS} UNION {_OF_IDS}) {_COUNT} FROM wanted"
                f" CROSS JOIN installations i USING (installation_id) {_WITH_USER}"
                f" WHERE i.app_id = ? {_BY_VARIANT}",
                (
                    json.dumps([owner.subject for owner in audience.owners]),
                    audience.app_id,
                    json.dumps(audience.installation_ids),
                    audience.app_id,
                ),
            )
        return {(network, variant): count for network, variant, count in rows}


# CROSS JOIN keeps the order: from the few that are wanted to their rows, each by an index.
_OF_OWNERS: Final = (
    "SELECT o.installation_id FROM json_each(?) each"
    " CROSS JOIN installations o ON o.app_id = ? AND o.subject = each.value"
)
_OF_IDS: Final = "SELECT value FROM json_each(?)"
_WITH_USER: Final = (
    "CROSS JOIN users u ON u.app_id = i.app_id AND u.user_id = substr(i.subject, 6)"
    " AND i.subject LIKE 'user:%' AND NOT u.is_disabled"
)
_IS_REACHED: Final = "i.device_type IN ('ANDROID', 'IOS')"
_COUNT: Final = "SELECT i.network, i.variant, count(DISTINCT i.registration_id)"
_BY_VARIANT: Final = f"AND {_IS_REACHED} GROUP BY i.network, i.variant"
