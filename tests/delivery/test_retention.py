"""What is kept of pushes, and for how long."""

from __future__ import annotations

from mqttpush.events import PhonesQueued
from mqttpush.models import Audience, PhonePayload
from mqttpush.networks import Sent
from mqttpush.pushes import PushJob, Trace
from mqttpush.store import Transaction
from tests.support.loop import in_loop
from tests.support.phones import PAYLOAD, TAKEN, Phones, phone, phones_on

UNAVAILABLE = Sent(None, "503")


async def send_event(world: Phones, audience: Audience) -> None:
    now_ms = world.clock.now_ms()
    payloads = {"fcm": PhonePayload(PAYLOAD.body)}
    expires_ms = now_ms + 86_400_000
    job = PushJob("app-1", "fcm", "", "b", payloads, audience, now_ms, now_ms, expires_ms)
    await world.context.store.write(lambda tx: tx.pushes.insert(job))
    world.senders.changed(PhonesQueued("app-1", "fcm", now_ms))


async def job_count(world: Phones) -> int:
    def unit(tx: Transaction) -> int:
        return sum(queue.jobs for queue in tx.pushes.queues())

    return await world.context.store.read(unit)


async def history(world: Phones, installation_id: str) -> list[Trace]:
    return await world.context.store.read(
        lambda tx: tx.pushes.of_installation("app-1", installation_id, 100)
    )


async def delete_events(world: Phones) -> int:
    now_ms = world.clock.now_ms()
    return await world.context.store.write(
        lambda tx: tx.pushes.delete_events(now_ms - 3_600_000, 100)
    )


@in_loop
async def test_an_event_is_forgotten_long_before_messages_are() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        await send_event(world, Audience.of_owners(anna))
        await world.until(lambda: len(world.network.pushes) == 1)
        await world.settle()
        world.clock.advance(3599)
        assert await delete_events(world) == 0
        assert len(await history(world, phone(anna).installation_id)) == 1
        world.clock.advance(2)
        assert await delete_events(world) == 2
        assert await history(world, phone(anna).installation_id) == []


@in_loop
async def test_an_event_still_to_be_sent_is_not_forgotten() -> None:
    async with phones_on(failures_to_pause=1000) as world:
        (anna,) = await world.users(1)
        world.network.answer = lambda _: UNAVAILABLE
        await send_event(world, Audience.of_owners(anna))
        await world.until(lambda: len(world.network.pushes) == 1)
        await world.settle()
        world.clock.advance(7200)
        await world.settle()
        assert await delete_events(world) == 0
        world.network.answer = lambda _: TAKEN
        world.clock.advance(7200)
        await world.settle()
        assert [each.ending for each in await history(world, phone(anna).installation_id)] == [
            "delivered"
        ]


@in_loop
async def test_of_an_event_nobody_hears_nothing_is_kept() -> None:
    async with phones_on() as world:
        await send_event(world, await world.topic([]))
        await world.settle()
        assert await job_count(world) == 0
        world.clock.advance(10_000)
        assert await delete_events(world) == 0
