"""The wall clock is set back while pushes wait: they do not wait the longer."""

from __future__ import annotations

from pathlib import Path

from mqttpush.errors import StoreUnavailable
from mqttpush.networks import Ending, Sent, TokenFate
from tests.support.loop import in_loop
from tests.support.phones import TAKEN, FakeClock, phones_on

DELIVERED = Ending.DELIVERED.value
BUSY = Sent(None, "429", retry_after_s=60)
HOUR_S = 3600


@in_loop
async def test_a_push_that_waits_to_be_tried_again_waits_no_longer() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        world.network.answer = lambda _: BUSY
        message_id = await world.send(await world.topic([anna]))
        await world.until(lambda: len(world.network.pushes) == 1)
        await world.settle()
        world.network.answer = lambda _: TAKEN
        world.clock.set_back_s = HOUR_S
        for _ in range(11):
            world.clock.advance(5)
            await world.settle()
        assert len(world.network.pushes) == 1  # what the network asked for is kept
        for _ in range(2):
            world.clock.advance(5)
            await world.settle()
        assert await world.until_ended(message_id, 1) == {DELIVERED: 1}


@in_loop
async def test_a_push_that_waits_for_live_connections_waits_no_longer() -> None:
    async with phones_on(once_grace_s=20) as world:
        (anna,) = await world.users(1)
        world.jobs.problems = {"make_up_for_clock": [StoreUnavailable("sqlite", "is busy")]}
        message_id = await world.send(await world.topic([anna]), is_once=True)
        await world.settle()
        world.clock.set_back_s = HOUR_S
        for _ in range(5):
            world.clock.advance(5)
            await world.settle()
        assert await world.until_ended(message_id, 1) == {DELIVERED: 1}


@in_loop
async def test_a_dead_token_goes_though_it_seems_to_be_registered_in_the_future() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        world.clock.set_back_s = HOUR_S
        world.network.answer = lambda _: Sent(Ending.TOKEN_REMOVED, "404", TokenFate.REMOVE)
        message_id = await world.send(await world.topic([anna]))
        assert await world.until_ended(message_id, 1) == {Ending.TOKEN_REMOVED.value: 1}
        assert await world.context.store.read(lambda tx: tx.installations.list_of(anna)) == []


@in_loop
async def test_what_waited_when_the_server_stopped_is_sent_though_the_clock_is_back(
    tmp_path: Path,
) -> None:
    dsn = f"sqlite:///{tmp_path / 'store.db'}"
    clock = FakeClock()
    async with phones_on(dsn, clock=clock, once_grace_s=20) as world:
        (anna,) = await world.users(1)
        message_id = await world.send(await world.topic([anna]), is_once=True)
    clock.set_back_s = HOUR_S
    async with phones_on(dsn, clock=clock, is_new=False) as world:
        await world.settle()
        assert world.network.pushes == []
        clock.advance(20)
        assert await world.until_ended(message_id, 1) == {DELIVERED: 1}
