"""Nothing that is queued stays behind: what the store, the keys and the clock do meanwhile."""

from __future__ import annotations

from uuid import UUID

from mqttpush.errors import SealBroken, StoreUnavailable
from mqttpush.models import Audience
from mqttpush.networks import Ending, Push, Sent
from tests.support.loop import in_loop
from tests.support.phones import TAKEN, phones_on

DELIVERED = Ending.DELIVERED.value
UNAVAILABLE = Sent(None, "503")


@in_loop
async def test_keys_the_store_cannot_tell_now_are_asked_for_again() -> None:
    async with phones_on() as world:
        owners = await world.users(5)
        world.keyring.problems = [StoreUnavailable("sqlite", "disk I/O error")] * 2
        message_id = await world.send(await world.topic(owners))
        await world.until(lambda: world.keyring.asked == 1)
        await world.settle()
        assert (await world.endings(message_id))[None] == 5
        world.clock.advance(1)
        await world.until(lambda: world.keyring.asked == 2)
        await world.settle()
        world.clock.advance(1)
        assert await world.until_ended(message_id, 5) == {DELIVERED: 5}


@in_loop
async def test_keys_nobody_can_open_end_their_pushes_and_no_others() -> None:
    async with phones_on(app_ids=("app-1", "app-2", "app-3")) as world:
        audiences = []
        for app_id in ("app-1", "app-2", "app-3"):
            (owner,) = await world.users(1, app_id=app_id, prefix=app_id)
            audiences.append(Audience.of_owners(owner))
        world.keyring.problems = [SealBroken("the keys", "are damaged")]
        first = await world.send(audiences[0])
        assert await world.until_ended(first, 1) == {Ending.CREDENTIALS_REFUSED.value: 1}
        world.keyring.problems = [ValueError("a bug")]
        second = await world.send(audiences[1])
        assert await world.until_ended(second, 1) == {Ending.CREDENTIALS_REFUSED.value: 1}
        third = await world.send(audiences[2])
        assert await world.until_ended(third, 1) == {DELIVERED: 1}


@in_loop
async def test_a_topic_goes_on_when_all_devices_that_may_wait_have_their_ending() -> None:
    # More places than devices that may be open: the senders have all of them in their hands.
    async with phones_on(max_open_deliveries=10, concurrency=32, page_size=50) as world:
        owners = await world.users(300)
        message_id = await world.send(await world.topic(owners))
        assert await world.until_ended(message_id, 300) == {DELIVERED: 300}


@in_loop
async def test_a_full_stock_of_failures_is_worked_off_once_the_network_is_back() -> None:
    async with phones_on(
        max_open_deliveries=20, page_size=10, concurrency=8, failures_to_pause=1000
    ) as world:
        owners = await world.users(120)
        world.network.answer = lambda _: UNAVAILABLE
        message_id = await world.send(await world.topic(owners))
        await world.until(lambda: len(world.network.pushes) >= 20)
        await world.settle()
        # What the network does not take stays in its job: less than a page over the bound.
        assert 20 <= len(await world.traces(message_id)) < 30
        world.network.answer = lambda _: TAKEN
        world.clock.advance(1000)
        assert await world.until_ended(message_id, 120) == {DELIVERED: 120}


@in_loop
async def test_a_bug_in_looking_up_or_writing_down_costs_a_moment_and_no_server() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        world.jobs.problems = {"load": [KeyError("a bug")], "record": [KeyError("a bug")]}
        message_id = await world.send(Audience.of_owners(anna))
        await world.until(lambda: not world.jobs.problems["load"])
        await world.settle()
        world.clock.advance(1)
        await world.until(lambda: not world.jobs.problems["record"])
        await world.settle()
        world.clock.advance(1)
        assert await world.until_ended(message_id, 1) == {DELIVERED: 1}
        assert len(world.network.pushes) == 1


@in_loop
async def test_the_same_push_has_the_same_uuid_at_each_attempt() -> None:
    async with phones_on(failures_to_pause=100) as world:
        owners = await world.users(2)
        answers = [UNAVAILABLE, UNAVAILABLE, TAKEN, TAKEN]

        def answer(push: Push) -> Sent:
            return answers.pop(0)

        world.network.answer = answer
        message_id = await world.send(await world.topic(owners))
        await world.until(lambda: len(world.network.pushes) == 2)
        await world.settle()
        world.clock.advance(10)
        await world.until_ended(message_id, 2)
        ids_by_token: dict[str, set[str]] = {}
        for push in world.network.pushes:
            ids_by_token.setdefault(push.token, set()).add(push.push_id)
        found = [push_id for ids in ids_by_token.values() for push_id in ids]
        assert found == [str(UUID(each)) for each in found]
        assert len(found) == len(set(found)) == 2
        assert set(found) == {trace.push_id for trace in await world.traces(message_id)}
