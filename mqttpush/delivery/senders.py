"""Senders: all networks together, from start to stop, and what metrics tell of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from mqttpush.config import DeliverySettings
from mqttpush.delivery import Clock, Jobs, Keyring, RandomSource
from mqttpush.delivery.attempts import Attempter
from mqttpush.delivery.lane import Lane
from mqttpush.delivery.patience import Backoff, Pacer
from mqttpush.delivery.recorder import Recorder, pause
from mqttpush.errors import MqttPushError
from mqttpush.events import (
    NetworkKeysChanged,
    PhoneChange,
    PhonesEnded,
    PhonesQueued,
    PhonesRefused,
)
from mqttpush.metrics import Metrics
from mqttpush.networks import PushNetwork
from mqttpush.pushes import Queue

_log = logging.getLogger(__name__)

SAMPLE_EVERY_S: Final = 5.0
START_RETRY_S: Final = 1.0
# Clocks that are only a little wrong are not set back, but slowed down.
CLOCK_TOLERANCE_MS: Final = 500


class Senders:
    """Works off the jobs for phones."""

    def __init__(
        self,
        *,
        networks: Mapping[str, PushNetwork],
        jobs: Jobs,
        keyring: Keyring,
        settings: DeliverySettings,
        clock: Clock,
        now_ms: Callable[[], int],
        random: RandomSource,
        metrics: Metrics,
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._now_ms = now_ms
        self._metrics = metrics
        self._recorder = Recorder(jobs=jobs, clock=clock, gather_s=settings.gather_s)
        backoff = Backoff(settings=settings, random=random)
        pacer = Pacer(clock=clock, per_s=settings.max_pushes_per_s)
        self._lanes = {
            name: Lane(
                name=name,
                attempter=Attempter(
                    name=name,
                    network=network,
                    settings=settings,
                    backoff=backoff,
                    clock=clock,
                    now_ms=now_ms,
                    metrics=metrics,
                ),
                jobs=jobs,
                keyring=keyring,
                recorder=self._recorder,
                settings=settings,
                backoff=backoff,
                pacer=pacer,
                clock=clock,
                now_ms=now_ms,
            )
            for name, network in networks.items()
        }
        self._queues: list[Queue] = []
        self._ahead_ms = self._wall_clock_ahead_ms()
        self._sample_soon = asyncio.Event()
        self._read_by_scrapes()

    def changed(self, change: PhoneChange) -> None:
        """What a commit said; called in the event loop."""
        if isinstance(change, PhonesRefused):
            self._metrics.limits_reached.add("delivery.max_waiting_jobs")
            return
        if isinstance(change, PhonesEnded):
            pushes = self._metrics.phone_pushes
            pushes.add(change.network, change.ending, count=change.devices)
            return
        lane = self._lanes.get(change.network)
        if lane is None:
            return
        if isinstance(change, PhonesQueued):
            lane.notice(change.app_id, change.ready_ms)
            self._sample_soon.set()
        elif isinstance(change, NetworkKeysChanged):
            lane.forget_keys(change.app_id)

    async def run(self) -> None:
        """Send until cancelled, first what an earlier process left."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run(), name="push endings")
            for lane in self._lanes.values():
                tasks.create_task(lane.run(), name=f"{lane.name} lane")
            tasks.create_task(self._sample(), name="push queues")
            await self._resume()

    async def stop(self, timeout_s: float) -> None:
        """Begin no more pushes and let those under way end, for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as tasks:
                for lane in self._lanes.values():
                    tasks.create_task(lane.stop(), name=f"{lane.name} end")

    async def _resume(self) -> None:
        while True:
            try:
                await self._jobs.make_up_for_clock(0)
                await self._look_everywhere()
            except MqttPushError as exc:
                _log.warning("pushes of before the start wait for the store: %s", exc)
                await pause(self._clock, START_RETRY_S)
            else:
                return

    async def _look_everywhere(self) -> None:
        for network, app_id in await self._jobs.lanes():
            self.changed(PhonesQueued(app_id, network, 0))

    def _wall_clock_ahead_ms(self) -> float:
        """Of the clock that nobody sets."""
        return self._now_ms() - self._clock.time() * 1000

    async def _heed_clock(self) -> None:
        """Was the wall clock set back? What waits was to be sent at a time of the old one."""
        ahead_ms = self._wall_clock_ahead_ms()
        by_ms = round(self._ahead_ms - ahead_ms)
        if by_ms > CLOCK_TOLERANCE_MS:
            _log.warning("the clock was set back by %.1f s: waiting pushes follow", by_ms / 1000)
            await self._jobs.make_up_for_clock(by_ms)
            await self._look_everywhere()
        self._ahead_ms = ahead_ms

    async def _sample(self) -> None:
        """Count what waits, while anything does."""
        while True:
            await self._sample_soon.wait()
            with suppress(MqttPushError):
                await self._heed_clock()
                self._queues = await self._jobs.queues()
            if not self._queues and not any(lane.is_active for lane in self._lanes.values()):
                self._sample_soon.clear()
            await pause(self._clock, SAMPLE_EVERY_S)

    def _read_by_scrapes(self) -> None:
        metrics, lanes = self._metrics, self._lanes.values()
        metrics.phone_in_flight.read = lambda: {lane.name: lane.in_flight for lane in lanes}
        metrics.phone_networks_paused.read = lambda: {lane.name: lane.is_paused for lane in lanes}
        metrics.phone_queue_jobs.read = lambda: {each.network: each.jobs for each in self._queues}
        metrics.phone_queue_deliveries.read = lambda: {
            each.network: each.deliveries for each in self._queues
        }
        metrics.phone_queue_age.read = lambda: {
            each.network: max(0, self._now_ms() - each.oldest_ms) / 1000
            for each in self._queues
            if each.oldest_ms is not None
        }
