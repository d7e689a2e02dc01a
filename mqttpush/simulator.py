"""Simulator: N devices that onboard, subscribe to one bucket and count what arrives.

Owns the plan, the counting and the verdict of a run. Speaks REST and MQTT as any app does, so it
works against any server of the same dialect. The one idea: every write carries an object ID that
the simulator chose, so each push names its write, and missing, doubled and late are plain sums.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import orjson

from mqttpush.client import Account, AppClient
from mqttpush.devices import Device, Transport, tend
from mqttpush.errors import ClientError, ConfigError, RequestRefused, first_error

_Result = TypeVar("_Result")

# The server may answer 429 or 503 while hundreds sign up at once; an app would try again too.
ATTEMPTS = 5
RETRY_DELAY_S = 0.5
# A doubled push comes at once or not at all.
DUPLICATE_WAIT_S = 0.25


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """What to do.

    bodies: the JSON text of each write, in order. rate_per_s: writes a second, 0 for as fast as
    `concurrency` allows. bucket_id: empty for a bucket of this run's own, deleted at the end.
    quiet_s: how long no push may arrive before the rest counts as missing.
    """

    device_count: int
    bodies: Sequence[bytes]
    rate_per_s: float = 10.0
    bucket_id: str = ""
    transport: Transport = "tcp"
    concurrency: int = 16
    quiet_s: float = 5.0
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What came of it. Latency runs from sending the write to receiving its push."""

    device_count: int
    write_count: int
    refused_count: int
    expected_count: int
    delivered_count: int
    missing_count: int
    duplicate_count: int
    other_count: int
    lost_device_count: int
    duration_s: float
    busy_share: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    latency_max_ms: float

    @property
    def is_passed(self) -> bool:
        """Every write was accepted and every push arrived at every device exactly once."""
        return not (self.refused_count or self.missing_count or self.duplicate_count)


class Simulation:
    """One run. The counters may be read while it runs."""

    def __init__(
        self,
        plan: SimulationPlan,
        *,
        client: AppClient,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.plan = plan
        self.ready_count = 0
        self.written_count = 0
        self.refused_count = 0
        self.delivered_count = 0
        self.duplicate_count = 0
        self.other_count = 0
        self.first_refusal: ClientError | None = None
        self._client = client
        self._clock = clock
        self._cpu_clock = cpu_clock
        run_id = secrets.token_hex(4)
        self.bucket_id = plan.bucket_id or f"simulation-{run_id}"
        self._object_prefix = f"sim-{run_id}-"
        self._devices: list[Device] = []
        self._accounts: list[Account] = []
        self._sent_at = array("d", bytes(8 * len(plan.bodies)))
        self._latencies_s = array("d")
        self._arrived = asyncio.Event()
        self._limit = asyncio.Semaphore(plan.concurrency)

    @property
    def expected_count(self) -> int:
        """Pushes due for the writes accepted so far."""
        return self.written_count * self.plan.device_count

    async def run(self) -> SimulationReport:
        """Bring the devices up, write, wait for the pushes, clean up.

        Raises ClientError when devices cannot come up; what was made is removed all the same.
        """
        try:
            writer = await retry(self._client.create_pseudo_user)
            self._accounts.append(writer)
            async with self._tended():
                with ungrouped():
                    async with asyncio.TaskGroup() as group:
                        for _ in range(self.plan.device_count):
                            group.create_task(self._bring_up())
                started, busy = self._clock(), self._cpu_clock()
                await self._write_all(writer)
                await self._wait_for_pushes()
                duration_s, busy_s = self._clock() - started, self._cpu_clock() - busy
                await asyncio.sleep(DUPLICATE_WAIT_S)
            return self._report(duration_s, busy_s / duration_s)
        finally:
            for device in self._devices:
                device.close()
            if not self.plan.is_kept:
                await self._clean_up()

    async def _bring_up(self) -> None:
        seen = bytearray(len(self.plan.bodies))
        async with self._limit:
            account = await retry(self._client.create_pseudo_user)
            self._accounts.append(account)
            token = account.token
            installation_id = await retry(lambda: self._client.install_mqtt(token))
            mqtt_endpoint = await retry(
                lambda: self._client.get_mqtt_endpoint(token, installation_id)
            )
            await retry(lambda: self._client.subscribe_to_bucket(token, self.bucket_id))
            device = Device(
                mqtt_endpoint,
                on_push=lambda payload: self._count(seen, payload),
                transport=self.plan.transport,
            )
            self._devices.append(device)
            await device.connect(timeout_s=30.0)
        self.ready_count += 1

    async def _write_all(self, writer: Account) -> None:
        started = self._clock()
        async with asyncio.TaskGroup() as group:
            for index in range(len(self.plan.bodies)):
                if self.plan.rate_per_s:
                    due = started + index / self.plan.rate_per_s
                    await asyncio.sleep(max(0.0, due - self._clock()))
                await self._limit.acquire()
                group.create_task(self._write(writer, index))

    async def _write(self, writer: Account, index: int) -> None:
        self._sent_at[index] = self._clock()
        try:
            await self._client.put_object(
                writer.token,
                self.bucket_id,
                f"{self._object_prefix}{index}",
                self.plan.bodies[index],
            )
            self.written_count += 1
        except ClientError as exc:
            self.refused_count += 1
            self.first_refusal = self.first_refusal or exc
        finally:
            self._limit.release()

    def _count(self, seen: bytearray, payload: bytes) -> None:
        """One push at one device; `seen` counts that device's pushes by write."""
        now = self._clock()
        index = self._write_index(payload)
        if index is None:
            self.other_count += 1
        elif seen[index]:
            self.duplicate_count += 1
        else:
            seen[index] = 1
            self.delivered_count += 1
            self._latencies_s.append(now - self._sent_at[index])
        self._arrived.set()

    def _write_index(self, payload: bytes) -> int | None:
        try:
            push = orjson.loads(payload)
            object_id = push["objectID"]
            if not object_id.startswith(self._object_prefix):
                return None
            return int(object_id[len(self._object_prefix) :])
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
            return None

    async def _wait_for_pushes(self) -> None:
        while self.delivered_count < self.expected_count:
            self._arrived.clear()
            try:
                async with asyncio.timeout(self.plan.quiet_s):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _report(self, duration_s: float, busy_share: float) -> SimulationReport:
        latencies_ms = sorted(1000 * latency for latency in self._latencies_s)
        return SimulationReport(
            device_count=self.plan.device_count,
            write_count=len(self.plan.bodies),
            refused_count=self.refused_count,
            expected_count=self.expected_count,
            delivered_count=self.delivered_count,
            missing_count=max(0, self.expected_count - self.delivered_count),
            duplicate_count=self.duplicate_count,
            other_count=self.other_count,
            lost_device_count=sum(device.lost.done() for device in self._devices),
            duration_s=duration_s,
            busy_share=busy_share,
            latency_p50_ms=percentile(latencies_ms, 50),
            latency_p95_ms=percentile(latencies_ms, 95),
            latency_p99_ms=percentile(latencies_ms, 99),
            latency_max_ms=latencies_ms[-1] if latencies_ms else 0.0,
        )

    async def _clean_up(self) -> None:
        """Delete the bucket of this run and its users; what cannot be deleted stays."""
        # Not self._limit: a cancelled run may have left it taken.
        limit = asyncio.Semaphore(self.plan.concurrency)

        async def attempt(request: Awaitable[None]) -> None:
            async with limit:
                try:
                    await request
                except ClientError as exc:
                    self.first_refusal = self.first_refusal or exc

        if self._accounts and not self.plan.bucket_id:
            await attempt(self._client.delete_bucket(self._accounts[0].token, self.bucket_id))
        async with asyncio.TaskGroup() as group:
            for account in self._accounts:
                group.create_task(attempt(self._client.delete_user(account.token, account.id)))

    @asynccontextmanager
    async def _tended(self) -> AsyncIterator[None]:
        task = asyncio.create_task(tend(self._devices), name="tend devices")
        try:
            yield
        finally:
            task.cancel()


def make_bodies(count: int) -> list[bytes]:
    """Small made-up readings, for a run without a feed."""
    return [orjson.dumps({"reading": index, "unit": "celsius"}) for index in range(count)]


def read_feed(path: Path) -> list[bytes]:
    """The lines of a JSONL file, each one JSON object.

    Raises ConfigError that names the first bad line.
    """
    try:
        lines = [line.strip() for line in path.read_bytes().splitlines()]
    except OSError as exc:
        problem = exc.strerror or str(exc)
        raise ConfigError("--feed", str(path), f"cannot be read: {problem}") from exc
    bodies = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            is_object = isinstance(orjson.loads(line), dict)
        except orjson.JSONDecodeError:
            is_object = False
        if not is_object:
            example = '{"place": "Tokyo", "magnitude": 4.8}'
            raise ConfigError("--feed", f"{path}:{number}", "is not a JSON object", example)
        bodies.append(line)
    if not bodies:
        raise ConfigError("--feed", str(path), "holds no record", '{"place": "Tokyo"}')
    return bodies


async def retry(request: Callable[[], Awaitable[_Result]]) -> _Result:
    """Ask again, a few times, when the server says that it is busy."""
    for attempt in range(1, ATTEMPTS):
        try:
            return await request()
        except RequestRefused as exc:
            if not exc.retryable:
                raise
            await asyncio.sleep(RETRY_DELAY_S * attempt)
    return await request()


@contextmanager
def ungrouped() -> Iterator[None]:
    """Our first error of a task group in place of the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise first_error(group) or group from None


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Nearest rank; 0.0 of nothing."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
