"""The store's table of jobs for phones: its interface. Knows no SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from mqttpush.models import Audience, Owner
from mqttpush.pushes import Attempt, Delivery, Expanded, PushJob, Queue, Trace


class PushTable(Protocol):
    """What is to be sent to phones, and what became of it."""

    def insert(self, job: PushJob) -> int:
        """Returns its key."""

    def waiting_count(self, app_id: str, network: str) -> int:
        """Jobs of the app that are not expanded to their end."""

    def count(
        self, audience: Audience, to_development: bool, to_production: bool
    ) -> dict[str, int]:
        """Installations of an audience that is enabled, by network."""

    def lanes(self) -> list[tuple[str, str]]:
        """(network, app ID) of all that have anything to send."""

    def waiting_jobs(self, network: str, app_id: str, now_ms: int, limit: int) -> list[PushJob]:
        """Jobs to be expanded, the longest ready first."""

    def waiting_of_sources(self, app_id: str, source_keys: Sequence[int]) -> list[PushJob]:
        """Jobs for their subscribers that are not expanded to their end, the newest first."""

    def end(self, job: PushJob) -> int:
        """Expand no further; returns how many subscribers are left out."""

    def expand(self, job: PushJob, limit: int, now_ms: int) -> Expanded:
        """Make the next `limit` owners (or installations) of the audience into deliveries."""

    def ready(self, network: str, app_id: str, now_ms: int, limit: int) -> list[Delivery]:
        """Open deliveries that may be tried now."""

    def open_count(self, network: str, app_id: str, limit: int) -> int:
        """Open deliveries, counted up to `limit`."""

    def next_ms(self, network: str, app_id: str, now_ms: int) -> int | None:
        """When the next delivery or job, not ready yet, will be."""

    def bring_forward(self, by_ms: int, now_ms: int) -> None:
        """What is not due yet is due so much earlier."""

    def youngest_ms(self) -> int | None:
        """When the last job was made, of those that are kept."""

    def record(self, attempts: Sequence[Attempt], now_ms: int) -> None:
        """Write what came of deliveries; those whose job is gone are passed over."""

    def add_reached(self, message_id: str, owners: Iterable[Owner]) -> None:
        """An unknown message is passed over."""

    def waiting_of_message(self, message_id: str) -> dict[str, tuple[int, bool]]:
        """By network: open deliveries, and is the whole audience known?"""

    def of_message(self, message_id: str, after: str, limit: int) -> list[Trace]:
        """Deliveries in order of `network/installation ID`, which `after` names too."""

    def of_installation(self, app_id: str, installation_id: str, limit: int) -> list[Trace]:
        """What was last sent to it, newest first."""

    def queues(self) -> list[Queue]: ...

    def delete_events(self, created_ms: int, limit: int) -> int:
        """The same for jobs of events made before, which may no longer be sent or all were."""

    def delete_older(self, created_ms: int, now_ms: int, limit: int) -> int:
        """Delete about `limit` deliveries of jobs made before, and jobs without any.

        What may still be sent stays.
        """
