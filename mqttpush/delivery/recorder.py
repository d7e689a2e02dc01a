"""Recorder: writes down what came of attempts, all that wait in one commit."""

from __future__ import annotations

import asyncio
import logging

from mqttpush.delivery import Clock, Jobs
from mqttpush.errors import MqttPushError
from mqttpush.pushes import Attempt

_log = logging.getLogger(__name__)

# A store that is full or slow is asked again this often; the pushes under way wait with it.
STORE_RETRY_S = 1.0


class _Batch:
    __slots__ = ("attempts", "done")

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.done = asyncio.Event()


class Recorder:
    """One for all networks. gather_s: how long endings wait for others to share their commit."""

    def __init__(self, *, jobs: Jobs, clock: Clock, gather_s: float) -> None:
        self._gather_s = gather_s
        self._jobs = jobs
        self._clock = clock
        self._next = _Batch()
        self._wake = asyncio.Event()

    async def record(self, attempt: Attempt) -> None:
        """Returns when it is durable."""
        batch = self._next
        batch.attempts.append(attempt)
        self._wake.set()
        await batch.done.wait()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._wake.wait()
            if self._gather_s:
                await pause(self._clock, self._gather_s)
            self._wake.clear()
            batch, self._next = self._next, _Batch()
            while not await self._write(batch.attempts):
                await pause(self._clock, STORE_RETRY_S)
            batch.done.set()

    async def _write(self, attempts: list[Attempt]) -> bool:
        try:
            await self._jobs.record(attempts)
        except MqttPushError as exc:
            _log.warning("what came of %d pushes waits for the store: %s", len(attempts), exc)
            return False
        except Exception:  # nothing is begun anew whose end is not written down
            _log.exception("what came of %d pushes cannot be written down", len(attempts))
            return False
        return True


async def pause(clock: Clock, seconds: float) -> None:
    over = asyncio.Event()
    clock.call_at(clock.time() + seconds, over.set)
    await over.wait()
