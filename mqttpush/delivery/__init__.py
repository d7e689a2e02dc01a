"""Delivery: durable jobs for phones, worked off over the push networks.

Owns what the senders need of others: the store's jobs, the apps' keys, a clock. Knows no bucket, no
route and no network's format. The one idea: a place among the pushes under way is given back only
after the commit that says how the push ended; so what a crash can send twice is bounded by that
number of places, and nothing is lost, because what has no ending is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mqttpush.networks import Keys
from mqttpush.pushes import Attempt, Page, Queue


class Jobs(Protocol):
    """What is to be sent, in the store."""

    async def lanes(self) -> list[tuple[str, str]]:
        """(network, app ID) of all that have anything to send."""

    async def make_up_for_clock(self, by_ms: int) -> None:
        """The wall clock was set back by so much (0: nobody knows): what waits is due earlier."""

    async def load(
        self, network: str, app_id: str, taken: frozenset[tuple[int, str]], count: int
    ) -> Page:
        """About `count` deliveries of the app to be sent now, without those of the keys `taken`.

        Makes no more of an audience into deliveries than it needs for that.
        """

    async def record(self, attempts: Sequence[Attempt]) -> None:
        """Returns after the commit."""

    async def queues(self) -> list[Queue]: ...


class Keyring(Protocol):
    """The apps' credentials for push networks."""

    async def keys(self, app_id: str, network: str) -> Keys | None:
        """None if the app has none; raises MqttPushError if they cannot be read."""


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time in seconds from some start; an event loop is one."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Cancellable: ...


class RandomSource(Protocol):
    """The part of `random.Random` that is used here."""

    def uniform(self, a: float, b: float) -> float: ...
