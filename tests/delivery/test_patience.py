"""Who fails is left alone, and nobody else is."""

from __future__ import annotations

import random
from dataclasses import replace

import orjson
import pytest

from mqttpush.config import DeliverySettings
from mqttpush.delivery.patience import PACE_S, Backoff, Pacer
from mqttpush.models import Audience, DeviceType, Owner
from mqttpush.networks import Ending, Push, Sent
from mqttpush.store import Transaction
from tests.support.loop import in_loop
from tests.support.phones import PAYLOAD, TAKEN, FakeClock, Phones, phone, phones_on

DELIVERED = Ending.DELIVERED.value
UNAVAILABLE = Sent(None, "503")
GOOD, BAD = "push.good.example", "push.bad.example"


@in_loop
async def test_an_app_that_only_fails_does_not_hold_up_another_s_first_push() -> None:
    async with phones_on(
        app_ids=("app-1", "app-2"), failures_to_pause=5, min_backoff_s=60, max_backoff_s=60
    ) as world:
        owners = await world.users(50)
        (ben,) = await world.users(1, app_id="app-2", prefix="ben")
        world.network.answer = lambda push: TAKEN if "ben" in push.token else UNAVAILABLE
        first = await world.send(await world.topic(owners))
        await world.until(lambda: len(world.network.pushes) >= 5)
        await world.settle()
        assert world.metrics.phone_networks_paused.read() == {"fcm": True}
        other = await world.send(Audience.of_owners(ben))
        assert await world.until_ended(other, 1) == {DELIVERED: 1}
        assert world.metrics.phone_networks_paused.read() == {"fcm": True}
        world.network.answer = lambda _: TAKEN
        world.clock.advance(61)
        await world.settle()
        world.clock.advance(61)
        assert await world.until_ended(first, 50) == {DELIVERED: 50}


async def browsers(world: Phones, count: int, host: str) -> list[Owner]:
    """So many users, each with a browser whose service is there."""
    owners = await world.users(count, prefix=host)

    def unit(tx: Transaction) -> None:
        for owner in owners:
            token = orjson.dumps({"endpoint": f"https://{host}/{owner.id}"}).decode()
            made = phone(owner, installation_id=f"browser-{owner.id}", registration_id=token)
            tx.installations.insert(replace(made, device_type=DeviceType.WEBPUSH))

    await world.context.store.write(unit)
    return owners


async def check_one_service(answer: Sent) -> None:
    """BAD answers so: GOOD gets everything at once, BAD its share when it is back."""
    async with phones_on(
        networks=("webpush",), failures_to_pause=5, min_backoff_s=60, max_backoff_s=60
    ) as world:
        bad, good = await browsers(world, 40, BAD), await browsers(world, 40, GOOD)

        def react(push: Push) -> Sent:
            return answer if BAD in push.token else TAKEN

        world.network.answer = react
        message_id = await world.send(await world.topic([*bad, *good]), network="webpush")
        assert (await world.until_ended(message_id, 40))[DELIVERED] == 40
        await world.settle()
        world.network.pushes.clear()
        world.clock.advance(29)
        await world.settle()
        assert world.network.pushes == []
        world.network.answer = lambda _: TAKEN
        for _ in range(5):
            world.clock.advance(61)
            await world.settle()
        assert await world.until_ended(message_id, 80) == {DELIVERED: 80}
        assert set(world.network.counts().values()) == {1}


@in_loop
async def test_a_web_push_service_that_only_fails_does_not_hold_up_the_others() -> None:
    await check_one_service(UNAVAILABLE)


@in_loop
async def test_a_web_push_service_that_asks_for_a_pause_does_not_hold_up_the_others() -> None:
    await check_one_service(Sent(None, "429", retry_after_s=30))


@in_loop
async def test_a_pause_outlives_the_push_it_was_asked_for_with() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        world.network.answer = lambda _: Sent(None, "429", retry_after_s=600)
        hasty = replace(PAYLOAD, ttl_s=0)
        first = await world.send(Audience.of_owners(anna), hasty)
        assert await world.until_ended(first, 1) == {Ending.EXPIRED.value: 1}
        await world.settle()
        world.network.answer = lambda _: TAKEN
        second = await world.send(Audience.of_owners(anna))
        for _ in range(10):
            world.clock.advance(59)
            await world.settle()
        assert len(world.network.pushes) == 1
        world.clock.advance(11)
        assert await world.until_ended(second, 1) == {Ending.DELIVERED.value: 1}


def test_waits_grow_are_bounded_and_spread() -> None:
    settings = DeliverySettings(min_backoff_s=1, max_backoff_s=60)
    backoff = Backoff(settings=settings, random=random.Random(1))
    for failures, longest_s in ((1, 1), (3, 4), (7, 60), (1000, 60)):
        waits = [backoff.wait_s(failures) for _ in range(1000)]
        assert min(waits) >= longest_s / 2
        assert max(waits) <= longest_s
        # Those that failed together do not come back together.
        assert max(waits) - min(waits) > 0.45 * longest_s


@pytest.mark.parametrize("per_s", [10, 500, 1000, 4000])
def test_pushes_begin_as_fast_as_they_may_and_no_faster(per_s: int) -> None:
    clock = FakeClock()
    pacer = Pacer(clock=clock, per_s=per_s)
    begun, end_s = 0, clock.time() + 1
    while clock.time() < end_s and begun < 2 * per_s + 2:
        wait_s = pacer.take()
        begun += not wait_s
        clock.advance(wait_s)
    assert 0.99 * per_s <= begun <= per_s + max(1, per_s * PACE_S)
