"""What the second dialect keeps of an app beside the nouns both share.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

from dataclasses import asdict, fields

import orjson

from mqttpush.kinvey import KinveySettings
from mqttpush.store.tables import Table

_KNOWN = frozenset(each.name for each in fields(KinveySettings))


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
