"""The tables of server code, as the `Store` interface has them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

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


class ServerCodeTable(Protocol):
    """Hooks, services, versions with their triggers, schedules, due runs and the log."""

    def put_hook(self, hook: Hook) -> None: ...
    def delete_hook(self, app_id: str, kind: HookKind, name: str, function: str) -> bool: ...
    def hooks(self, app_id: str) -> list[Hook]:
        """All of the app, by kind, name and function."""

    def hooks_stamp(self, app_id: str) -> int:
        """Another number after each change of hooks or services; 0 if there never was one.

        On the path of every request that may have hooks: one look-up.
        """

    def put_service(self, service: HookService) -> None: ...
    def delete_service(self, app_id: str, name: str) -> bool: ...
    def services(self, app_id: str) -> list[HookService]: ...

    def all_services(self) -> list[HookService]: ...

    def insert_version(self, version: CodeVersion) -> None: ...
    def version(self, app_id: str, version_id: str) -> CodeVersion | None: ...
    def current_version(self, app_id: str) -> CodeVersion | None: ...
    def versions(self, app_id: str) -> list[CodeVersion]:
        """Newest first, without source and hook document."""

    def set_current(self, app_id: str, version_id: str | None) -> None:
        """None: no version is current."""

    def set_hooks(self, version: CodeVersion) -> None:
        """Write the hook document of an existing one."""

    def delete_version(self, app_id: str, version_id: str) -> bool: ...
    def set_triggers(self, app_id: str, triggers: Iterable[Trigger]) -> None:
        """In place of all there are."""

    def triggered(self, app_id: str, place: str, event: str) -> list[str]:
        """Endpoints that wait for it: one look-up."""

    def put_schedule(self, schedule: Schedule) -> None: ...
    def schedules(self, app_id: str) -> list[Schedule]: ...
    def delete_schedules(self, app_id: str, kind: JobKind, name: str | None = None) -> None: ...
    def due_schedules(self, now_ms: int, limit: int) -> list[Schedule]: ...
    def next_schedule_ms(self) -> int | None: ...

    def insert_job(self, job: Job) -> None: ...
    def count_jobs(self, app_id: str, limit: int) -> int:
        """How many wait at most; exact only near `limit`, and counted no further."""

    def due_jobs(
        self, now_ms: int, limit: int, *, per_app: int, after: str, but: Collection[int]
    ) -> list[Job]:
        """Those ready, app after app, beginning with the app after `after`.

        per_app: of one app, oldest first; those of `but` (IDs) are counted and left out.
        """

    def next_job_ms(self, after_ms: int) -> int | None:
        """When the next one that is not ready yet will be."""

    def retry_job(self, job: Job) -> None:
        """Write attempts and time of an existing one."""

    def delete_job(self, job_id: int) -> None: ...

    def add_log(self, lines: Sequence[LogLine], *, keep_per_app: int) -> None:
        """Lines of apps that are gone are passed over; the oldest that are too many go."""

    def log(self, app_id: str, *, request_id: str | None, limit: int) -> list[LogLine]:
        """The latest, oldest first."""

    def delete_log_older(self, at_ms: int, limit: int) -> int: ...
