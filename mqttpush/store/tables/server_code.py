"""Hooks, services, server code with its triggers, schedules, due runs and the log.

Owns the SQL of every query; knows no rule, thread or commit. All methods run in the store's thread,
inside the unit's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import orjson

from mqttpush.models import Json
from mqttpush.server_code import (
    CodeVersion,
    Hook,
    HookKind,
    HookService,
    Job,
    JobKind,
    LogLine,
    Schedule,
    Trigger,
)
from mqttpush.store.tables import Table


def _text(value: Json) -> str:
    return orjson.dumps(value).decode()


class SqliteServerCode(Table):
    _VERSION = "app_id, version_id, source, hooks, is_current, created_ms"
    _SCHEDULE = "app_id, kind, name, plan, endpoint, parameters, next_ms"
    _JOB = (
        "app_id, kind, endpoint, place, parameters, depth, attempts, ready_ms, created_ms, job_id"
    )
    _LOG = "app_id, request_id, at_ms, place, function, level, message"

    # --- hooks and services ---------------------------------------------------------------

    def put_hook(self, hook: Hook) -> None:
        self._execute(
            "INSERT OR REPLACE INTO hooks VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                hook.app_id,
                hook.kind.value,
                hook.name,
                hook.function,
                hook.language,
                _text(hook.code),
                hook.modified_ms,
            ),
        )
        self._bump(hook.app_id)

    def delete_hook(self, app_id: str, kind: HookKind, name: str, function: str) -> bool:
        cursor = self._execute(
            "DELETE FROM hooks WHERE app_id = ? AND kind = ? AND name = ? AND function = ?",
            (app_id, kind.value, name, function),
        )
        self._bump(app_id)
        return cursor.rowcount > 0

    def hooks(self, app_id: str) -> list[Hook]:
        rows = self._execute(
            "SELECT app_id, kind, name, function, language, code, modified_ms FROM hooks"
            " WHERE app_id = ? ORDER BY kind, name, function",
            (app_id,),
        )
        return [
            Hook(
                app_id=row[0],
                kind=HookKind(row[1]),
                name=row[2],
                function=row[3],
                language=row[4],
                code=orjson.loads(row[5]),
                modified_ms=row[6],
            )
            for row in rows
        ]

    def hooks_stamp(self, app_id: str) -> int:
        row = self._execute("SELECT stamp FROM hook_stamps WHERE app_id = ?", (app_id,)).fetchone()
        return row[0] if row else 0

    def put_service(self, service: HookService) -> None:
        self._execute("INSERT OR REPLACE INTO hook_services VALUES (?, ?, ?, ?)", service)
        self._bump(service.app_id)

    def delete_service(self, app_id: str, name: str) -> bool:
        cursor = self._execute(
            "DELETE FROM hook_services WHERE app_id = ? AND name = ?", (app_id, name)
        )
        self._bump(app_id)
        return cursor.rowcount > 0

    def services(self, app_id: str) -> list[HookService]:
        rows = self._execute(
            "SELECT app_id, name, url, sealed FROM hook_services WHERE app_id = ? ORDER BY name",
            (app_id,),
        )
        return [HookService(*row) for row in rows]

    def all_services(self) -> list[HookService]:
        rows = self._execute(
            "SELECT app_id, name, url, sealed FROM hook_services ORDER BY app_id, name"
        )
        return [HookService(*row) for row in rows]

    # --- versions and triggers ------------------------------------------------------------

    def insert_version(self, version: CodeVersion) -> None:
        self._execute(
            f"INSERT INTO server_code_versions ({self._VERSION}) VALUES (?, ?, ?, ?, ?, ?)",
            (
                version.app_id,
                version.version_id,
                version.source,
                _text(version.hooks) if version.hooks is not None else "",
                version.is_current,
                version.created_ms,
            ),
        )

    def version(self, app_id: str, version_id: str) -> CodeVersion | None:
        found = self._versions("AND version_id = ?", app_id, version_id)
        return found[0] if found else None

    def current_version(self, app_id: str) -> CodeVersion | None:
        found = self._versions("AND is_current", app_id)
        return found[0] if found else None

    def versions(self, app_id: str) -> list[CodeVersion]:
        # All sources together may be 100 MiB.
        rows = self._execute(
            "SELECT app_id, version_id, is_current, created_ms FROM server_code_versions"
            " WHERE app_id = ? ORDER BY created_ms DESC, version_id",
            (app_id,),
        )
        return [CodeVersion(row[0], row[1], "", None, bool(row[2]), row[3]) for row in rows]

    def set_current(self, app_id: str, version_id: str | None) -> None:
        self._execute(
            "UPDATE server_code_versions SET is_current = (version_id IS ?) WHERE app_id = ?",
            (version_id, app_id),
        )

    def set_hooks(self, version: CodeVersion) -> None:
        self._execute(
            "UPDATE server_code_versions SET hooks = ? WHERE app_id = ? AND version_id = ?",
            (
                _text(version.hooks) if version.hooks is not None else "",
                version.app_id,
                version.version_id,
            ),
        )

    def delete_version(self, app_id: str, version_id: str) -> bool:
        cursor = self._execute(
            "DELETE FROM server_code_versions WHERE app_id = ? AND version_id = ?",
            (app_id, version_id),
        )
        return cursor.rowcount > 0

    def set_triggers(self, app_id: str, triggers: Iterable[Trigger]) -> None:
        self._execute("DELETE FROM server_code_triggers WHERE app_id = ?", (app_id,))
        for trigger in triggers:
            self._execute(
                "INSERT OR IGNORE INTO server_code_triggers VALUES (?, ?, ?, ?)",
                (app_id, *trigger),
            )
        self._execute(
            "UPDATE apps SET has_triggers ="
            " EXISTS (SELECT 1 FROM server_code_triggers WHERE app_id = ?1) WHERE app_id = ?1",
            (app_id,),
        )

    def triggered(self, app_id: str, place: str, event: str) -> list[str]:
        rows = self._execute(
            "SELECT endpoint FROM server_code_triggers"
            " WHERE app_id = ? AND place = ? AND event = ?",
            (app_id, place, event),
        )
        return [row[0] for row in rows]

    # --- schedules ------------------------------------------------------------------------

    def put_schedule(self, schedule: Schedule) -> None:
        self._execute(
            f"INSERT OR REPLACE INTO schedules ({self._SCHEDULE}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                schedule.app_id,
                schedule.kind.value,
                schedule.name,
                schedule.plan,
                schedule.endpoint,
                _text(schedule.parameters),
                schedule.next_ms,
            ),
        )

    def schedules(self, app_id: str) -> list[Schedule]:
        return self._schedules("app_id = ? ORDER BY kind, name", app_id)

    def delete_schedules(self, app_id: str, kind: JobKind, name: str | None = None) -> None:
        self._execute(
            "DELETE FROM schedules WHERE app_id = ?1 AND kind = ?2 AND (?3 IS NULL OR name = ?3)",
            (app_id, kind.value, name),
        )

    def due_schedules(self, now_ms: int, limit: int) -> list[Schedule]:
        return self._schedules("next_ms <= ? ORDER BY next_ms LIMIT ?", now_ms, limit)

    def next_schedule_ms(self) -> int | None:
        return self._number("SELECT min(next_ms) FROM schedules")

    # --- due runs -------------------------------------------------------------------------

    def insert_job(self, job: Job) -> None:
        self._execute(
            "INSERT INTO server_code_jobs (app_id, kind, endpoint, place, parameters, depth,"
            " attempts, ready_ms, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                job.app_id,
                job.kind.value,
                job.endpoint,
                job.place,
                _text(job.parameters),
                job.depth,
                job.attempts,
                job.ready_ms,
                job.created_ms,
            ),
        )

    def count_jobs(self, app_id: str, limit: int) -> int:
        # Numbers only grow: without so many between the ends of all there are not so many.
        span = self._number(
            "SELECT (SELECT max(job_id) FROM server_code_jobs)"
            " - (SELECT min(job_id) FROM server_code_jobs)"
        )
        if span is None or span + 1 < limit:
            return 0 if span is None else span + 1
        count = self._number(
            "SELECT count(*) FROM (SELECT 1 FROM server_code_jobs WHERE app_id = ? LIMIT ?)",
            app_id,
            limit,
        )
        return count or 0

    def due_jobs(
        self, now_ms: int, limit: int, *, per_app: int, after: str, but: Collection[int]
    ) -> list[Job]:
        # App by app along the index, so that a long queue of one app costs nothing.
        found: list[Job] = []
        app_id, is_round = after, False
        while len(found) < limit:
            following = self._execute(
                "SELECT min(app_id) FROM server_code_jobs WHERE app_id > ?", (app_id,)
            ).fetchone()[0]
            if following is None and not is_round:
                app_id, is_round = "", True
                continue
            if following is None or (is_round and following > after):
                break
            app_id = following
            rows = self._execute(
                f"SELECT {self._JOB} FROM server_code_jobs WHERE app_id = ? AND ready_ms <= ?"
                " ORDER BY ready_ms, job_id LIMIT ?",
                (app_id, now_ms, per_app),
            )
            found.extend(
                Job(row[0], JobKind(row[1]), row[2], row[3], orjson.loads(row[4]), *row[5:])
                for row in rows
                if row[9] not in but
            )
        return found[:limit]

    def next_job_ms(self, after_ms: int) -> int | None:
        return self._number(
            "SELECT min(ready_ms) FROM server_code_jobs WHERE ready_ms > ?", after_ms
        )

    def retry_job(self, job: Job) -> None:
        self._execute(
            "UPDATE server_code_jobs SET attempts = ?, ready_ms = ? WHERE job_id = ?",
            (job.attempts, job.ready_ms, job.job_id),
        )

    def delete_job(self, job_id: int) -> None:
        self._execute("DELETE FROM server_code_jobs WHERE job_id = ?", (job_id,))

    # --- the log --------------------------------------------------------------------------

    def add_log(self, lines: Sequence[LogLine], *, keep_per_app: int) -> None:
        for line in lines:
            self._execute(
                f"INSERT INTO hook_log ({self._LOG}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7"
                " WHERE EXISTS (SELECT 1 FROM apps WHERE app_id = ?1)",
                line,
            )
        for app_id in {line.app_id for line in lines}:
            self._execute(
                "DELETE FROM hook_log WHERE app_id = ?1 AND line_id <="
                " (SELECT line_id FROM hook_log WHERE app_id = ?1"
                " ORDER BY line_id DESC LIMIT 1 OFFSET ?2)",
                (app_id, keep_per_app),
            )

    def log(self, app_id: str, *, request_id: str | None, limit: int) -> list[LogLine]:
        where, values = ("AND request_id = ?", (request_id,)) if request_id else ("", ())
        rows = self._execute(
            f"SELECT {self._LOG} FROM hook_log WHERE app_id = ? {where}"
            " ORDER BY line_id DESC LIMIT ?",
            (app_id, *values, limit),
        ).fetchall()
        return [LogLine(*row) for row in reversed(rows)]

    def delete_log_older(self, at_ms: int, limit: int) -> int:
        return self._execute(
            "DELETE FROM hook_log WHERE line_id IN"
            " (SELECT line_id FROM hook_log WHERE at_ms < ? ORDER BY at_ms LIMIT ?)",
            (at_ms, limit),
        ).rowcount

    # --- helpers --------------------------------------------------------------------------

    def _bump(self, app_id: str) -> None:
        # Random, 53 bits: an app made anew under an old ID must not have the old one's stamp.
        self._execute(
            "INSERT INTO hook_stamps SELECT app_id, (random() & 9007199254740991) + 1 FROM apps"
            " WHERE app_id = ? ON CONFLICT DO UPDATE SET stamp = excluded.stamp",
            (app_id,),
        )

    def _versions(self, where: str, *values: str) -> list[CodeVersion]:
        rows = self._execute(
            f"SELECT {self._VERSION} FROM server_code_versions WHERE app_id = ? {where}", values
        )
        return [
            CodeVersion(
                app_id=row[0],
                version_id=row[1],
                source=row[2],
                hooks=orjson.loads(row[3]) if row[3] else None,
                is_current=bool(row[4]),
                created_ms=row[5],
            )
            for row in rows
        ]

    def _schedules(self, where: str, *values: object) -> list[Schedule]:
        rows = self._execute(f"SELECT {self._SCHEDULE} FROM schedules WHERE {where}", values)
        return [
            Schedule(
                app_id=row[0],
                kind=JobKind(row[1]),
                name=row[2],
                plan=row[3],
                endpoint=row[4],
                parameters=orjson.loads(row[5]),
                next_ms=row[6],
            )
            for row in rows
        ]

    def _number(self, statement: str, *values: Any) -> int | None:
        number: int | None = self._execute(statement, values).fetchone()[0]
        return number
