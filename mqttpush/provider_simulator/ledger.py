"""What arrived: pushes by device, refusals by code.

Owns the counts by device of one network, and the last push of the devices that got one lately. The
one idea: taking a push down costs a few dictionary writes, so that a load test measures the sender
and not this.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple

# What a person or a test looks through; the counts know all.
RECENT_LIMIT_ARRIVALS = 1000
# A push with its headers takes 3 KiB: 30 MiB a network, whatever a load test sends.
LAST_LIMIT_DEVICES = 10_000


class Arrival(NamedTuple):
    """One push that was taken. payload: as the device gets it (Web Push: decrypted)."""

    token: str
    payload: bytes
    headers: Mapping[str, str]
    at_ms: int


class Ledger:
    """Everything one network has seen since it was opened or cleared."""

    def __init__(self) -> None:
        self.count_by_token: dict[str, int] = {}
        self.last_by_token: OrderedDict[str, Arrival] = OrderedDict()
        self.recent: deque[Arrival] = deque(maxlen=RECENT_LIMIT_ARRIVALS)
        self.refusals: Counter[str] = Counter()
        self.accepted_count = 0
        self.dry_run_count = 0
        self.fault_count = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def take(self, arrival: Arrival) -> None:
        """Write one push down."""
        token = arrival.token
        self.count_by_token[token] = self.count_by_token.get(token, 0) + 1
        self.last_by_token[token] = arrival
        self.last_by_token.move_to_end(token)
        if len(self.last_by_token) > LAST_LIMIT_DEVICES:
            self.last_by_token.popitem(last=False)
        self.recent.append(arrival)
        self.accepted_count += 1
        if self._waiters:
            self._wake()

    async def wait_for(self, accepted_count: int) -> None:
        """Until so many pushes were taken since the last clear; the caller sets the time limit."""
        if self.accepted_count >= accepted_count:
            return
        waiter = (accepted_count, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter[1]
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def clear(self) -> None:
        self.count_by_token.clear()
        self.last_by_token.clear()
        self.recent.clear()
        self.refusals.clear()
        self.accepted_count = self.dry_run_count = self.fault_count = 0

    def report(self) -> dict[str, Any]:
        counts = self.count_by_token.values()
        return {
            "accepted": self.accepted_count,
            "devices": len(self.count_by_token),
            "most_for_one_device": max(counts, default=0),
            "dry_runs": self.dry_run_count,
            "faults": self.fault_count,
            "refused": dict(self.refusals),
        }

    def _wake(self) -> None:
        for wanted_count, future in self._waiters:
            if self.accepted_count >= wanted_count and not future.done():
                future.set_result(None)
