"""Bodies of objects and uploads in progress, and which blobs nobody names any more.

Owns the SQL of every query; knows no rule, thread or file. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple
from typing import Final

from mqttpush.bodies import Body, Publication, Upload
from mqttpush.models import NEVER_MS
from mqttpush.store.tables import Table

# For this long an address that has ended is told from one that never was.
_TOLD_GONE_MS: Final = 24 * 3600 * 1000


class SqliteBodies(Table):
    def get(self, source_key: int, object_id: str) -> Body | None:
        row = self._execute(
            "SELECT blob, content_type, size_bytes, modified_ms FROM bodies"
            " WHERE source_key = ? AND object_id = ?",
            (source_key, object_id),
        ).fetchone()
        return Body(*row) if row else None

    def put(self, source_key: int, object_id: str, body: Body) -> None:
        self._execute(
            "INSERT INTO bodies VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (source_key, object_id) DO UPDATE SET blob = excluded.blob,"
            " content_type = excluded.content_type, size_bytes = excluded.size_bytes,"
            " modified_ms = excluded.modified_ms",
            (source_key, object_id, *astuple(body)),
        )

    def delete(self, source_key: int, object_id: str) -> bool:
        cursor = self._execute(
            "DELETE FROM bodies WHERE source_key = ? AND object_id = ?", (source_key, object_id)
        )
        return cursor.rowcount > 0

    def publish(self, publication: Publication, now_ms: int) -> None:
        self._execute(
            "DELETE FROM publications WHERE source_key = ? AND object_id = ? AND expires_ms < ?",
            (publication.source_key, publication.object_id, now_ms - _TOLD_GONE_MS),
        )
        self._execute("INSERT INTO publications VALUES (?, ?, ?, ?)", astuple(publication))

    def published_for_good(self, source_key: int, object_id: str) -> Publication | None:
        row = self._execute(
            "SELECT * FROM publications WHERE source_key = ? AND object_id = ? AND expires_ms = ?",
            (source_key, object_id, NEVER_MS),
        ).fetchone()
        return Publication(*row) if row else None

    def publication(self, publication_id: str) -> Publication | None:
        row = self._execute(
            "SELECT publications.* FROM publications JOIN sources USING (source_key)"
            " JOIN apps USING (app_id) WHERE publication_id = ? AND NOT apps.is_disabled",
            (publication_id,),
        ).fetchone()
        return Publication(*row) if row else None

    def garbage(self, limit: int) -> list[str]:
        return [row[0] for row in self._execute("SELECT blob FROM garbage_blobs LIMIT ?", (limit,))]

    def forget_garbage(self, blobs: Sequence[str]) -> None:
        self._execute(
            "DELETE FROM garbage_blobs WHERE blob IN (SELECT value FROM json_each(?))",
            (json.dumps(blobs),),
        )

    def unnamed(self, blobs: Sequence[str]) -> list[str]:
        rows = self._execute(
            "SELECT value FROM json_each(?)"
            " WHERE NOT EXISTS (SELECT 1 FROM bodies WHERE blob = value)"
            " AND NOT EXISTS (SELECT 1 FROM uploads WHERE blob = value)",
            (json.dumps(blobs),),
        )
        return [row[0] for row in rows]


class SqliteUploads(Table):
    _COLUMNS = (
        "upload_id, app_id, creator, source_key, object_id, blob, content_type, received_bytes,"
        " total_bytes, expires_ms"
    )

    def insert(self, upload: Upload) -> None:
        self._execute(
            f"INSERT INTO uploads ({self._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            astuple(upload),
        )

    def get(self, upload_id: str) -> Upload | None:
        row = self._execute(
            f"SELECT {self._COLUMNS} FROM uploads WHERE upload_id = ?", (upload_id,)
        ).fetchone()
        return Upload(*row) if row else None

    def update(self, upload: Upload) -> None:
        self._execute(
            "UPDATE uploads SET content_type = ?, received_bytes = ?, total_bytes = ?,"
            " expires_ms = ? WHERE upload_id = ?",
            (
                upload.content_type,
                upload.received_bytes,
                upload.total_bytes,
                upload.expires_ms,
                upload.upload_id,
            ),
        )

    def delete(self, upload_id: str) -> bool:
        return self._execute("DELETE FROM uploads WHERE upload_id = ?", (upload_id,)).rowcount > 0

    def count_of(self, app_id: str, creator: str) -> int:
        row = self._execute(
            "SELECT count(*) FROM uploads WHERE app_id = ? AND creator = ?", (app_id, creator)
        ).fetchone()
        return int(row[0])

    def expired(self, now_ms: int, limit: int) -> list[str]:
        rows = self._execute(
            "SELECT upload_id FROM uploads WHERE expires_ms <= ? LIMIT ?", (now_ms, limit)
        )
        return [row[0] for row in rows]
