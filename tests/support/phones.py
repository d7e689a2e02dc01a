"""Senders to phones over a fake network, on a real store, with a clock the test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from mqttpush.config import DeliverySettings, SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.delivery import Jobs
from mqttpush.delivery.senders import Senders
from mqttpush.events import Committed, MessageSent, PhoneChange
from mqttpush.metrics import Metrics
from mqttpush.models import (
    Audience,
    DeviceType,
    Installation,
    Owner,
    PhonePayload,
    Principal,
    PrincipalKind,
    Scope,
    SourceKind,
)
from mqttpush.networks import Ending, Keys, Network, Push, Sent
from mqttpush.operations import Operations, phones
from mqttpush.operations.context import Context
from mqttpush.pushes import Attempt, Page, Queue, Trace
from mqttpush.store import Transaction
from mqttpush.store.blobs import open_blobs
from tests.support import nouns
from tests.support.contexts import make_context
from tests.support.stores import MEMORY_DSN, opened

TAKEN = Sent(Ending.DELIVERED, "200")
PAYLOAD = PhonePayload(b'{"data":{"a":"b"}}')


class FakeClock:
    """Moves only when told; timers fire then, in order."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.set_back_s = 0.0  # the wall clock alone
        self._timers: list[tuple[float, int, _Timer]] = []
        self._serials = itertools.count()

    def time(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return nouns.NOW_MS + round((self.now_s - 1000.0 - self.set_back_s) * 1000)

    def call_at(self, when: float, callback: Callable[[], object], /) -> _Timer:
        timer = _Timer(callback)
        if when <= self.now_s:
            asyncio.get_running_loop().call_soon(timer.fire)
        else:
            heapq.heappush(self._timers, (when, next(self._serials), timer))
        return timer

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._timers and self._timers[0][0] <= end_s:
            self.now_s, _, timer = heapq.heappop(self._timers)
            timer.fire()
        self.now_s = end_s


class _Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        if self._callback is not None:
            self._callback()


@dataclass
class FakeNetwork:
    """Answers as told and keeps what it was asked."""

    answer: Callable[[Push], Sent] = lambda push: TAKEN
    pushes: list[Push] = field(default_factory=list)
    apps: list[str] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def check(self, app_id: str, fields: Any) -> Keys:
        return Keys(app_id, Network.FCM, fields, {})

    async def send(self, keys: Keys, push: Push) -> Sent:
        self.pushes.append(push)
        self.apps.append(keys.app_id)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.gate.wait()
            return self.answer(push)
        finally:
            self.under_way -= 1

    async def test(self, keys: Keys, token: str | None) -> Sent:
        return TAKEN

    async def close(self) -> None: ...

    def counts(self) -> Counter[str]:
        """Pushes by token."""
        return Counter(push.token for push in self.pushes)


@dataclass
class FakeKeyring:
    """Every app has keys, but those that are named."""

    without: set[str] = field(default_factory=set)
    problems: list[Exception] = field(default_factory=list)  # raised one by one
    asked: int = 0

    async def keys(self, app_id: str, network: str) -> Keys | None:
        self.asked += 1
        await asyncio.sleep(0)  # one turn of the loop, in which others ask
        if self.problems:
            raise self.problems.pop(0)
        return None if app_id in self.without else Keys(app_id, Network(network), {}, {})


@dataclass
class FaultyJobs:
    """The real ones; what is named in `problems` is raised first, one by one."""

    jobs: Jobs
    problems: dict[str, list[Exception]] = field(default_factory=dict)

    def _fail(self, name: str) -> None:
        if self.problems.get(name):
            raise self.problems[name].pop(0)

    async def lanes(self) -> list[tuple[str, str]]:
        self._fail("lanes")
        return await self.jobs.lanes()

    async def make_up_for_clock(self, by_ms: int) -> None:
        self._fail("make_up_for_clock")
        await self.jobs.make_up_for_clock(by_ms)

    async def load(
        self, network: str, app_id: str, taken: frozenset[tuple[int, str]], count: int
    ) -> Page:
        self._fail("load")
        return await self.jobs.load(network, app_id, taken, count)

    async def record(self, attempts: Sequence[Attempt]) -> None:
        self._fail("record")
        await self.jobs.record(attempts)

    async def queues(self) -> list[Queue]:
        self._fail("queues")
        return await self.jobs.queues()


@dataclass
class Phones:
    """The cast of a test. dsn: a file if a later process is to find what this one left."""

    context: Context
    operations: Operations
    network: FakeNetwork
    keyring: FakeKeyring
    jobs: FaultyJobs
    clock: FakeClock
    metrics: Metrics
    senders: Senders

    async def app(self, app_id: str) -> None:
        def unit(tx: Transaction) -> None:
            tx.apps.insert(replace(nouns.app(), app_id=app_id, client_id=app_id))
            for network in ("fcm", "webpush"):
                tx.apps.set_network(app_id, network, is_configured=True)

        await self.context.store.write(unit)

    async def users(
        self, count: int, *, app_id: str = nouns.APP_ID, prefix: str = "user", **fields: Any
    ) -> list[Owner]:
        """So many, each with one Android phone whose token is `token of {user ID}`."""
        owners = [Owner(app_id, f"user:{prefix}-{number:06}") for number in range(count)]

        def unit(tx: Transaction) -> None:
            for owner in owners:
                tx.users.insert(nouns.user(owner.id, app_id))
                tx.installations.insert(phone(owner, **fields))

        await self.context.store.write(unit)
        return owners

    async def topic(
        self,
        owners: Sequence[Owner],
        *,
        app_id: str = nouns.APP_ID,
        scope: Scope | None = None,
    ) -> Audience:
        """A topic they hear. scope: None for the app's."""
        place = scope or Scope(app_id)

        def unit(tx: Transaction) -> Audience:
            now_ms = self.clock.now_ms()
            topic = tx.sources.insert(SourceKind.TOPIC, place, "topic", "admin:", now_ms)
            for owner in owners:
                tx.subscriptions.insert(topic.key, owner, now_ms)
            return Audience.of_topic(topic)

        return await self.context.store.write(unit)

    async def send(
        self,
        audience: Audience,
        payload: PhonePayload = PAYLOAD,
        *,
        network: str = "fcm",
        **fields: Any,
    ) -> str:
        """Returns the message's ID."""
        live = {"mqtt": b"{}"} if fields.get("is_once") else {}
        message = MessageSent(self.context.secrets.uuid(), audience, live, **fields)
        principal = Principal(audience.app_id, PrincipalKind.ADMIN)

        def unit(tx: Transaction) -> None:
            phones.send(self.context, tx, principal, message, {network: payload})

        await self.context.store.write(unit)
        return message.message_id

    async def traces(self, message_id: str) -> list[Trace]:
        return await self.context.store.read(lambda tx: tx.pushes.of_message(message_id, "", 10**6))

    async def endings(self, message_id: str) -> Counter[str | None]:
        return Counter(trace.ending for trace in await self.traces(message_id))

    async def until_ended(self, message_id: str, count: int) -> Counter[str | None]:
        """Wait until so many of its deliveries have an ending."""
        while True:
            endings = await self.endings(message_id)
            if sum(endings.values()) - endings[None] >= count:
                return endings

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Let everybody work until it is so."""
        while not is_so():
            await self.context.store.read(lambda tx: None)

    async def settle(self) -> None:
        """Let everybody do what can be done without the clock."""
        for _ in range(20):
            await self.context.store.write(lambda tx: None)
            await self.context.store.read(lambda tx: None)


def phone(owner: Owner, **fields: Any) -> Installation:
    """An Android phone of that owner."""
    made = nouns.installation(
        f"phone-of-{owner.app_id}-{owner.id}",
        owner,
        device_type=DeviceType.ANDROID,
        registration_id=f"token of {owner.id}",
    )
    return replace(made, **fields)


@asynccontextmanager
async def phones_on(
    dsn: str = MEMORY_DSN,
    *,
    clock: FakeClock | None = None,
    app_ids: Sequence[str] = (nouns.APP_ID,),
    is_new: bool = True,
    networks: Sequence[str] = ("fcm",),
    **settings: Any,
) -> AsyncIterator[Phones]:
    """A store with these apps and senders at work. settings: of section `delivery`."""
    clock = clock or FakeClock()
    delivery = DeliverySettings(**{"max_pushes_per_s": 1e9, "gather_s": 0, **settings})
    network, keyring = FakeNetwork(), FakeKeyring()
    cast: list[Phones] = []

    def on_commit(committed: Sequence[Committed]) -> None:
        for change in committed:
            if cast and isinstance(change, PhoneChange):
                cast[0].senders.changed(change)

    passwords = Passwords(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
    async with opened(dsn, on_commit=on_commit) as store:
        with open_blobs(None) as blobs:  # no test of phones has a body
            context = make_context(
                store.store, blobs, passwords, now_ms=clock.now_ms, delivery=delivery
            )
        operations = Operations.over(context)
        jobs = FaultyJobs(operations.deliveries)
        senders = Senders(
            networks=dict.fromkeys(networks, network),
            jobs=jobs,
            keyring=keyring,
            settings=delivery,
            clock=clock,
            now_ms=clock.now_ms,
            random=random.Random(1),
            metrics=store.metrics,
        )
        made = Phones(context, operations, network, keyring, jobs, clock, store.metrics, senders)
        for app_id in app_ids if is_new else ():
            await made.app(app_id)
        cast.append(made)
        running = asyncio.create_task(senders.run())
        try:
            yield made
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            passwords.close()
