"""Jobs for phones and their deliveries.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction. The one idea: an audience is walked in order, page by page, from
where the job's cursor stands; the rights that count are those of that moment.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from mqttpush.models import Audience, Owner
from mqttpush.pushes import Attempt, Delivery, Expanded, PushJob, Queue, Trace
from mqttpush.store.tables import Table
from mqttpush.store.tables.push_rows import JOB_COLUMNS, encoded_audience, encoded_payloads, job_of

SENT_OVER_MQTT: Final = "sent_over_mqtt"
# Neither the owner nor his app is disabled; `i` is the installation.
_ENABLED: Final = "NOT a.is_disabled AND NOT coalesce(u.is_disabled, h.is_disabled, 1)"
_WITH_OWNER: Final = """
    JOIN apps a ON a.app_id = i.app_id
    LEFT JOIN users u ON i.subject LIKE 'user:%'
      AND u.app_id = i.app_id AND u.user_id = substr(i.subject, 6)
    LEFT JOIN things h ON i.subject LIKE 'thing:%'
      AND h.app_id = i.app_id AND h.thing_id = substr(i.subject, 7)
"""
_ENVIRONMENT: Final = "CASE i.is_development WHEN 1 THEN :to_development ELSE :to_production END"
_OF_OWNERS: Final = """
    json_each(:wanted) AS wanted
    CROSS JOIN installations i ON i.app_id = :app_id AND i.subject = wanted.value
"""
_OF_IDS: Final = """
    json_each(:wanted) AS wanted
    CROSS JOIN installations i ON i.installation_id = wanted.value AND i.app_id = :app_id
"""
_VARIANT: Final = (
    "(:is_for_all OR i.variant IN (SELECT value FROM json_each(:variants)))"
    " AND i.variant NOT IN (SELECT value FROM json_each(:silent))"
)
# A device that several owners registered gets a push once.
_NOT_TWICE: Final = """
    NOT EXISTS (
        SELECT 1 FROM installations twin
        JOIN push_deliveries d ON d.job_key = :job_key
          AND d.installation_id = twin.installation_id
        WHERE twin.app_id = i.app_id AND twin.device_type = i.device_type
          AND twin.registration_id = i.registration_id
    )
"""
_TRACE: Final = (
    "SELECT d.installation_id, d.network, j.message_id, j.place, d.subject, d.attempts,"
    " d.ready_ms, d.ending, d.code, d.done_ms, d.job_key FROM"
)
_INSERT_JOB: Final = """
    INSERT INTO push_jobs (app_id, network, message_id, place, payloads, audience, to_development,
        to_production, is_once, created_ms, ready_ms, expires_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class SqlitePushes(Table):
    # --- jobs -----------------------------------------------------------------------------

    def insert(self, job: PushJob) -> int:
        cursor = self._execute(
            _INSERT_JOB,
            (
                job.app_id,
                job.network,
                job.message_id,
                job.place,
                encoded_payloads(job),
                encoded_audience(job.audience),
                job.to_development,
                job.to_production,
                job.is_once,
                job.created_ms,
                job.ready_ms,
                job.expires_ms,
            ),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def waiting_count(self, app_id: str, network: str) -> int:
        row = self._execute(
            "SELECT waiting FROM push_queues WHERE app_id = ? AND network = ?", (app_id, network)
        ).fetchone()
        return row[0] if row else 0

    def lanes(self) -> list[tuple[str, str]]:
        rows = self._execute(
            "SELECT DISTINCT network, app_id FROM push_jobs WHERE is_expanded = 0"
            " UNION SELECT DISTINCT network, app_id FROM push_deliveries WHERE ending IS NULL"
        )
        return [(row[0], row[1]) for row in rows]

    def waiting_jobs(self, network: str, app_id: str, now_ms: int, limit: int) -> list[PushJob]:
        rows = self._execute(
            f"SELECT {JOB_COLUMNS} FROM push_jobs WHERE is_expanded = 0 AND network = ?"
            " AND app_id = ? AND ready_ms <= ? ORDER BY ready_ms, job_key LIMIT ?",
            (network, app_id, now_ms, limit),
        )
        return [job_of(row) for row in rows]

    def waiting_of_sources(self, app_id: str, source_keys: Sequence[int]) -> list[PushJob]:
        rows = self._execute(
            f"SELECT {JOB_COLUMNS} FROM push_queues q CROSS JOIN push_jobs USING (network, app_id)"
            " WHERE q.app_id = ? AND q.waiting > 0 AND is_expanded = 0"
            " AND json_extract(audience, '$.sources[0]') IN (SELECT value FROM json_each(?))"
            " ORDER BY job_key DESC",
            (app_id, json.dumps(source_keys)),
        )
        return [job_of(row) for row in rows]

    def end(self, job: PushJob) -> int:
        assert job.audience.source is not None
        row = self._execute(
            "UPDATE push_jobs SET is_expanded = 1 WHERE job_key = ?1 RETURNING (SELECT count(*)"
            " FROM subscriptions WHERE source_key = ?2 AND is_heard AND subject > cursor)",
            (job.key, job.audience.source.key),
        ).fetchone()
        return int(row[0]) if row else 0

    # --- from jobs to deliveries ----------------------------------------------------------

    def expand(self, job: PushJob, limit: int, now_ms: int) -> Expanded:
        row = self._execute("SELECT cursor FROM push_jobs WHERE job_key = ?", (job.key,)).fetchone()
        if row is None:
            return Expanded(0, 0, is_done=True)
        wanted, origin, cursor = self._page(job.audience, row[0], limit)
        made_count = reached_count = 0
        if wanted:
            values = {
                "wanted": json.dumps(wanted),
                "app_id": job.app_id,
                "job_key": job.key,
                "network": job.network,
                "message_id": job.message_id,
                "to_development": job.to_development,
                "to_production": job.to_production,
                "now_ms": now_ms,
                "ending": SENT_OVER_MQTT,
                "is_for_all": job.network in job.payloads,
                "variants": json.dumps(list(job.payloads)),
                "silent": json.dumps(
                    [name for name, each in job.payloads.items() if not each.body]
                ),
            }
            if job.is_once:
                reached_count = self._insert_deliveries(origin, values, is_reached=True)
            made_count = self._insert_deliveries(origin, values, is_reached=False)
        self._execute(
            "UPDATE push_jobs SET cursor = ?, is_expanded = ? WHERE job_key = ?",
            (cursor or "", cursor is None, job.key),
        )
        if cursor is None and not job.message_id:  # of an event nobody hears nothing is kept
            self._execute(
                "DELETE FROM push_jobs WHERE job_key = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM push_deliveries WHERE job_key = ?1)",
                (job.key,),
            )
        if cursor is None and job.is_once:
            self._execute(
                "DELETE FROM push_reached WHERE message_id = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM push_jobs"
                " WHERE message_id = ?1 AND message_id != '' AND is_expanded = 0)",
                (job.message_id,),
            )
        return Expanded(made_count, reached_count, is_done=cursor is None)

    def _insert_deliveries(self, origin: str, values: dict[str, Any], *, is_reached: bool) -> int:
        ending = ":ending, :now_ms" if is_reached else "NULL, 0"
        reached = (
            "AND EXISTS (SELECT 1 FROM push_reached r"
            " WHERE r.message_id = :message_id AND r.subject = i.subject)"
        )
        # One row a device token, so that two owners of one page do not get it twice.
        return self._execute(
            f"""
            INSERT INTO push_deliveries
                (job_key, installation_id, subject, network, app_id, ready_ms, ending, done_ms)
            SELECT :job_key, min(i.installation_id), i.subject, :network, :app_id, :now_ms, {ending}
            FROM {origin} {_WITH_OWNER}
            WHERE i.network = :network AND {_VARIANT} AND {_ENVIRONMENT} AND {_ENABLED}
              AND {_NOT_TWICE}
            {reached if is_reached else ""}
            GROUP BY i.device_type, i.registration_id
            """,
            values,
        ).rowcount

    def _page(
        self, audience: Audience, cursor: str, limit: int
    ) -> tuple[list[str], str, str | None]:
        """Subjects or installation IDs, where to find them, and the next cursor (None: the end).

        Lists are walked by index, owners first; sources and the app by subject.
        """
        subjects: list[str]
        if audience.source is not None:
            keys = (audience.source.key, *audience.filter_keys)
            subjects = self._subscribers(keys, cursor, limit)
        elif audience.is_everybody:
            subjects = self._owners_of_devices(audience.app_id, cursor, limit)
        else:
            return _page_of_lists(audience, int(cursor or 0), limit)
        return subjects, _OF_OWNERS, subjects[-1] if len(subjects) == limit else None

    def _subscribers(self, source_keys: Sequence[int], after: str, limit: int) -> list[str]:
        """Those who hear one of the sources, in order, each once."""
        pages = [
            [
                row[0]
                for row in self._execute(
                    "SELECT subject FROM subscriptions WHERE source_key = ? AND subject > ?"
                    " AND is_heard ORDER BY subject LIMIT ?",
                    (source_key, after, limit),
                )
            ]
            for source_key in source_keys
        ]
        if len(pages) == 1:
            return pages[0]
        return list(islice(dict.fromkeys(heapq.merge(*pages)), limit))

    def _owners_of_devices(self, app_id: str, after: str, limit: int) -> list[str]:
        rows = self._execute(
            "SELECT DISTINCT subject FROM installations WHERE app_id = ? AND subject > ?"
            " AND subject < 'user;' ORDER BY subject LIMIT ?",  # `;` follows `:`
            (app_id, after or "user:", limit),
        )
        return [row[0] for row in rows]

    # --- deliveries -----------------------------------------------------------------------

    def ready(self, network: str, app_id: str, now_ms: int, limit: int) -> list[Delivery]:
        rows = self._execute(
            f"""
            SELECT d.job_key, d.installation_id, d.attempts, i.registration_id, i.variant,
                   i.is_development, coalesce(i.subject = d.subject AND {_ENABLED}, 0),
                   i.problem != ''
            FROM push_deliveries d
            LEFT JOIN installations i ON i.installation_id = d.installation_id
            {_WITH_OWNER.replace("    JOIN apps", "    LEFT JOIN apps", 1)}
            WHERE d.network = ? AND d.app_id = ? AND d.ending IS NULL AND d.ready_ms <= ?
            ORDER BY d.ready_ms LIMIT ?
            """,
            (network, app_id, now_ms, limit),
        ).fetchall()
        jobs = self._jobs({row[0] for row in rows})
        return [
            Delivery(
                jobs[key], device, token or "", variant or "", bool(is_dev), count, *map(bool, is_)
            )
            for key, device, count, token, variant, is_dev, *is_ in rows
        ]

    def _jobs(self, keys: set[int]) -> dict[int, PushJob]:
        rows = self._execute(
            f"SELECT {JOB_COLUMNS} FROM push_jobs"
            " WHERE job_key IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keys)),),
        )
        return {row[0]: job_of(row) for row in rows}

    def open_count(self, network: str, app_id: str, limit: int) -> int:
        row = self._execute(
            "SELECT count(*) FROM (SELECT 1 FROM push_deliveries"
            " WHERE network = ? AND app_id = ? AND ending IS NULL LIMIT ?)",
            (network, app_id, limit),
        ).fetchone()
        return int(row[0])

    def next_ms(self, network: str, app_id: str, now_ms: int) -> int | None:
        row = self._execute(
            "SELECT min(next_ms) FROM ("
            " SELECT min(ready_ms) AS next_ms FROM push_deliveries"
            " WHERE network = ?1 AND app_id = ?2 AND ending IS NULL AND ready_ms > ?3"
            " UNION ALL SELECT min(ready_ms) FROM push_jobs"
            " WHERE network = ?1 AND app_id = ?2 AND is_expanded = 0 AND ready_ms > ?3)",
            (network, app_id, now_ms),
        ).fetchone()
        found: int | None = row[0]
        return found

    def bring_forward(self, by_ms: int, now_ms: int) -> None:
        for waiting in ("push_jobs WHERE is_expanded = 0", "push_deliveries WHERE ending IS NULL"):
            table, _, condition = waiting.partition(" WHERE ")
            self._execute(
                f"UPDATE {table} SET ready_ms = ready_ms - ? WHERE {condition} AND ready_ms > ?",
                (by_ms, now_ms),
            )

    def youngest_ms(self) -> int | None:
        row = self._execute("SELECT max(created_ms) FROM push_jobs").fetchone()
        found: int | None = row[0]
        return found

    def record(self, attempts: Sequence[Attempt], now_ms: int) -> None:
        self._execute_many(
            "UPDATE push_deliveries SET attempts = ?, ready_ms = ?, ending = ?, code = ?,"
            " done_ms = ? WHERE job_key = ? AND installation_id = ?",
            [
                (
                    each.attempts,
                    each.ready_ms,
                    each.ending,
                    each.code,
                    now_ms if each.ending else 0,
                    *each.delivery.key,
                )
                for each in attempts
            ],
        )

    # --- what became of them --------------------------------------------------------------

    def count(
        self, audience: Audience, to_development: bool, to_production: bool
    ) -> dict[str, int]:
        values = {
            "app_id": audience.app_id,
            "to_development": to_development,
            "to_production": to_production,
        }
        origins: list[tuple[str, object]] = []
        if audience.source is not None:
            keys = [audience.source.key, *audience.filter_keys]
            origins.append((_OF_SOURCES, keys))
        elif audience.is_everybody:
            origins.append(("installations i", None))
        else:
            origins.append((_OF_OWNERS, [owner.subject for owner in audience.owners]))
            if audience.installation_ids:
                origins.append((_OF_IDS, audience.installation_ids))
        found: dict[str, int] = {}
        for origin, wanted in origins:
            rows = self._execute(
                f"SELECT i.network, count(*) FROM {origin} {_WITH_OWNER}"
                f" WHERE i.app_id = :app_id AND {_ENVIRONMENT} AND {_ENABLED} GROUP BY i.network",
                {**values, "wanted": json.dumps(wanted)},
            )
            for network, count in rows:
                found[network] = found.get(network, 0) + count
        return found

    def add_reached(self, message_id: str, owners: Iterable[Owner]) -> None:
        self._execute(
            "INSERT OR IGNORE INTO push_reached SELECT ?1, value FROM json_each(?2)"
            " WHERE EXISTS (SELECT 1 FROM messages WHERE message_id = ?1)",
            (message_id, json.dumps([owner.subject for owner in owners])),
        )

    def waiting_of_message(self, message_id: str) -> dict[str, tuple[int, bool]]:
        rows = self._execute(
            "SELECT j.network, count(d.job_key), min(j.is_expanded) FROM push_jobs j"
            " LEFT JOIN push_deliveries d ON d.job_key = j.job_key AND d.ending IS NULL"
            " WHERE j.message_id = ? AND j.message_id != '' GROUP BY j.network",
            (message_id,),
        )
        return {network: (count, bool(is_known)) for network, count, is_known in rows}

    def of_message(self, message_id: str, after: str, limit: int) -> list[Trace]:
        network, _, installation_id = after.partition("/")
        rows = self._execute(
            f"{_TRACE} push_jobs j JOIN push_deliveries d ON d.job_key = j.job_key"
            " WHERE j.message_id = ? AND j.message_id != ''"
            " AND (j.network, d.installation_id) > (?, ?)"
            " ORDER BY j.network, d.installation_id LIMIT ?",
            (message_id, network, installation_id, limit),
        )
        return [Trace(*row) for row in rows]

    def of_installation(self, app_id: str, installation_id: str, limit: int) -> list[Trace]:
        rows = self._execute(
            f"{_TRACE} push_deliveries d JOIN push_jobs j ON j.job_key = d.job_key"
            " WHERE d.installation_id = ? AND d.ending IS NOT NULL AND d.app_id = ?"
            " ORDER BY d.done_ms DESC LIMIT ?",
            (installation_id, app_id, limit),
        )
        return [Trace(*row) for row in rows]

    def queues(self) -> list[Queue]:
        rows = self._execute(
            "SELECT network, sum(jobs), sum(deliveries), min(oldest_ms) FROM ("
            " SELECT network, count(*) AS jobs, 0 AS deliveries, min(created_ms) AS oldest_ms"
            " FROM push_jobs WHERE is_expanded = 0 GROUP BY network"
            # Of 100,000 open rows only an index is read; the keys of jobs grow with their time.
            " UNION ALL SELECT d.network, 0, d.count, j.created_ms FROM ("
            " SELECT network, count(*) AS count, min(job_key) AS first FROM push_deliveries"
            " WHERE ending IS NULL GROUP BY network) d JOIN push_jobs j ON j.job_key = d.first"
            ") GROUP BY network"
        )
        return [Queue(*row) for row in rows]

    def delete_older(self, created_ms: int, now_ms: int, limit: int) -> int:
        jobs = self._execute(
            "SELECT job_key FROM push_jobs WHERE created_ms < ? AND expires_ms < ?"
            " ORDER BY created_ms LIMIT ?",
            (created_ms, now_ms, limit),
        ).fetchall()
        return self._delete(jobs, limit)

    def delete_events(self, created_ms: int, limit: int) -> int:
        jobs = self._execute(
            "SELECT job_key FROM push_jobs j INDEXED BY push_jobs_of_events"
            " WHERE message_id = '' AND created_ms < ? AND is_expanded AND NOT EXISTS ("
            " SELECT 1 FROM push_deliveries d WHERE d.job_key = j.job_key AND d.ending IS NULL)"
            " ORDER BY created_ms LIMIT ?",
            (created_ms, limit),
        ).fetchall()
        return self._delete(jobs, limit)

    def _delete(self, jobs: Sequence[tuple[int]], limit: int) -> int:
        deleted_count = 0
        for (job_key,) in jobs:
            deleted_count += self._execute(
                "DELETE FROM push_deliveries WHERE job_key = ?1 AND installation_id IN (SELECT"
                " installation_id FROM push_deliveries WHERE job_key = ?1 LIMIT ?2)",
                (job_key, limit - deleted_count),
            ).rowcount
            if deleted_count >= limit:
                break
            deleted_count += self._execute(
                "DELETE FROM push_jobs WHERE job_key = ?", (job_key,)
            ).rowcount
        return deleted_count


_OF_SOURCES: Final = """
    (SELECT DISTINCT app_id, subject FROM subscriptions
     WHERE source_key IN (SELECT value FROM json_each(:wanted)) AND is_heard) AS s
    CROSS JOIN installations i ON i.app_id = s.app_id AND i.subject = s.subject
"""


def _page_of_lists(audience: Audience, start: int, limit: int) -> tuple[list[str], str, str | None]:
    owner_count, id_count = len(audience.owners), len(audience.installation_ids)
    if start < owner_count:
        end = min(start + limit, owner_count)
        wanted = list(dict.fromkeys(owner.subject for owner in audience.owners[start:end]))
        is_last = end == owner_count and not id_count
        return wanted, _OF_OWNERS, None if is_last else str(end)
    start_id = start - owner_count
    ids = list(dict.fromkeys(audience.installation_ids[start_id : start_id + limit]))
    is_last = start_id + limit >= id_count
    return ids, _OF_IDS, None if is_last else str(start + limit)
