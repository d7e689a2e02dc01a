"""Senders: what is queued reaches each device once, whatever the network answers meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mqttpush.errors import LimitReached
from mqttpush.events import NetworkKeysChanged
from mqttpush.models import Audience, Owner, PhonePayload
from mqttpush.networks import Ending, Push, Sent, TokenFate
from mqttpush.store import Transaction
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.phones import PAYLOAD, TAKEN, phone, phones_on

DELIVERED = Ending.DELIVERED.value
UNAVAILABLE = Sent(None, "503")


@in_loop
async def test_a_direct_push_reaches_every_phone_of_its_owner() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        second = phone(anna, installation_id="second", registration_id="second")
        await world.context.store.write(lambda tx: tx.installations.insert(second))
        message_id = await world.send(Audience.of_owners(anna))
        assert await world.until_ended(message_id, 2) == {DELIVERED: 2}
        assert world.network.counts() == {f"token of {anna.id}": 1, "second": 1}


@in_loop
async def test_a_topic_of_many_pages_reaches_each_phone_once() -> None:
    async with phones_on(page_size=10, concurrency=8) as world:
        owners = await world.users(205)
        message_id = await world.send(await world.topic(owners))
        assert await world.until_ended(message_id, 205) == {DELIVERED: 205}
        assert set(world.network.counts().values()) == {1}
        assert len(world.network.counts()) == 205
        assert world.network.most_under_way <= 8


@in_loop
async def test_a_topic_is_looked_up_only_as_far_as_its_pushes_get() -> None:
    async with phones_on(page_size=10, concurrency=4) as world:
        owners = await world.users(300)
        world.network.gate.clear()
        message_id = await world.send(await world.topic(owners))
        await world.until(lambda: world.network.under_way == 4)
        await world.settle()
        assert len(await world.traces(message_id)) <= 30
        world.network.gate.set()
        await world.until_ended(message_id, 300)


@pytest.mark.spec("kii 8.1")
@pytest.mark.parametrize("to_production", [True, False])
@pytest.mark.parametrize("to_development", [True, False])
def test_a_push_goes_to_the_environments_it_is_for(
    to_development: bool, to_production: bool
) -> None:
    check_environments(to_development, to_production)


@in_loop
async def check_environments(to_development: bool, to_production: bool) -> None:
    async with phones_on() as world:
        owners = await world.users(1, prefix="live")
        owners += await world.users(1, prefix="debug", is_development=True)
        await world.send(
            Audience.of_owners(*owners), to_development=to_development, to_production=to_production
        )
        await world.settle()
        expected = {"token of live-000000"} if to_production else set()
        expected |= {"token of debug-000000"} if to_development else set()
        assert set(world.network.counts()) == expected


@in_loop
async def test_everybody_of_an_app_is_everybody_with_a_phone() -> None:
    async with phones_on(page_size=10, app_ids=("app-1", "app-2")) as world:
        owners = await world.users(35)
        await world.users(3, app_id="app-2", prefix="stranger")
        message_id = await world.send(Audience("app-1", is_everybody=True))
        await world.until_ended(message_id, 35)
        assert set(world.network.counts()) == {f"token of {owner.id}" for owner in owners}


@in_loop
async def test_owners_and_single_devices_are_reached_each_once() -> None:
    async with phones_on(page_size=10) as world:
        owners = await world.users(25)
        ids = tuple(phone(owner).installation_id for owner in owners[10:])
        audience = Audience("app-1", owners=tuple(owners[:15]), installation_ids=ids)
        message_id = await world.send(audience)
        await world.until_ended(message_id, 25)
        assert set(world.network.counts().values()) == {1}
        assert len(world.network.counts()) == 25


@in_loop
async def test_a_device_of_two_owners_gets_a_push_once() -> None:
    async with phones_on(page_size=10) as world:
        owners = await world.users(30)

        def share(tx: Transaction) -> None:
            for owner in owners:
                tx.installations.insert(
                    phone(owner, installation_id=f"shared-{owner.id}", registration_id="shared")
                )

        await world.context.store.write(share)
        message_id = await world.send(await world.topic(owners))
        await world.until_ended(message_id, 31)
        await world.settle()
        assert world.network.counts()["shared"] == 1


@in_loop
async def test_phones_of_who_lost_the_right_or_is_disabled_get_nothing() -> None:
    async with phones_on() as world:
        owners = await world.users(3)
        audience = await world.topic(owners)

        def change(tx: Transaction) -> None:
            assert audience.source is not None
            tx.subscriptions.set_heard(audience.source.key, owners[0], False)
            tx.users.update(nouns.user(owners[1].id, is_disabled=True))

        await world.context.store.write(change)
        message_id = await world.send(audience)
        assert await world.until_ended(message_id, 1) == {DELIVERED: 1}
        assert set(world.network.counts()) == {f"token of {owners[2].id}"}


@pytest.mark.parametrize("fate", ["deleted", "moved", "disabled"])
def test_a_device_that_changed_hands_before_its_turn_gets_nothing(fate: str) -> None:
    @in_loop
    async def run() -> None:
        async with phones_on(concurrency=1, page_size=10) as world:
            owners = await world.users(2)
            world.network.gate.clear()
            world.network.answer = lambda _: UNAVAILABLE
            message_id = await world.send(Audience.of_owners(owners[0]))
            await world.until(lambda: world.network.under_way == 1)

            def change(tx: Transaction) -> None:
                own = phone(owners[0])
                if fate == "deleted":
                    tx.installations.delete(own.installation_id)
                elif fate == "moved":
                    tx.installations.update(replace(own, owner=owners[1]))
                else:
                    tx.users.update(nouns.user(owners[0].id, is_disabled=True))

            await world.context.store.write(change)
            world.network.gate.set()
            await world.until(lambda: world.network.under_way == 0)
            await world.settle()
            world.clock.advance(10)
            assert await world.until_ended(message_id, 1) == {Ending.WITHDRAWN.value: 1}
            assert len(world.network.pushes) == 1

    run()


@in_loop
async def test_a_failed_push_is_tried_again_later_and_later() -> None:
    async with phones_on(min_backoff_s=1, failures_to_pause=100) as world:
        (anna,) = await world.users(1)
        world.network.answer = lambda _: UNAVAILABLE
        message_id = await world.send(Audience.of_owners(anna))
        waits_s = []
        for attempt in range(1, 6):
            await world.until(lambda count=attempt: len(world.network.pushes) == count)  # type: ignore[misc]
            await world.settle()
            began_s = world.clock.now_s
            while len(world.network.pushes) == attempt:
                world.clock.advance(0.25)
                await world.settle()
            waits_s.append(world.clock.now_s - began_s)
        for number, wait_s in enumerate(waits_s):
            assert 0.5 * 2**number <= wait_s <= 2**number + 0.5
        world.network.answer = lambda _: TAKEN
        world.clock.advance(60)
        assert await world.until_ended(message_id, 1) == {DELIVERED: 1}


@in_loop
async def test_a_push_no_network_took_in_its_time_expires() -> None:
    async with phones_on(min_backoff_s=1, max_backoff_s=16, failures_to_pause=100) as world:
        (anna,) = await world.users(1)
        world.network.answer = lambda _: UNAVAILABLE
        message_id = await world.send(
            Audience.of_owners(anna), PhonePayload(PAYLOAD.body, ttl_s=60)
        )
        await world.until(lambda: len(world.network.pushes) == 1)
        while not (await world.endings(message_id))[Ending.EXPIRED.value]:
            world.clock.advance(1)
            await world.settle()
        assert world.clock.now_ms() - nouns.NOW_MS <= 61_000
        assert 3 <= len(world.network.pushes) <= 8


@in_loop
async def test_a_push_that_waited_too_long_is_not_sent() -> None:
    async with phones_on(concurrency=1) as world:
        owners = await world.users(2)
        world.network.gate.clear()
        await world.send(Audience.of_owners(owners[0]))
        await world.until(lambda: world.network.under_way == 1)
        late = await world.send(Audience.of_owners(owners[1]), PhonePayload(b"{}", ttl_s=60))
        world.clock.advance(61)
        world.network.gate.set()
        assert await world.until_ended(late, 1) == {Ending.EXPIRED.value: 1}
        assert len(world.network.pushes) == 1


@in_loop
async def test_what_may_be_held_back_no_time_is_still_tried() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        world.clock.advance(0)
        message_id = await world.send(Audience.of_owners(anna), PhonePayload(b"{}", ttl_s=0))
        assert await world.until_ended(message_id, 1) == {DELIVERED: 1}
        assert world.network.pushes[0].expires_ms == nouns.NOW_MS


@in_loop
async def test_a_network_that_asks_for_a_pause_gets_it_for_this_app_only() -> None:
    async with phones_on(app_ids=("app-1", "app-2"), max_retry_after_s=100) as world:
        (anna,) = await world.users(1)
        (ben,) = await world.users(1, app_id="app-2", prefix="ben")
        world.network.answer = lambda push: (
            Sent(None, "429", retry_after_s=5000) if push.token.endswith(anna.id) else TAKEN
        )
        first = await world.send(Audience.of_owners(anna))
        await world.until(lambda: len(world.network.pushes) == 1)
        await world.settle()
        second = await world.send(Audience.of_owners(anna))
        other = await world.send(Audience.of_owners(ben))
        assert await world.until_ended(other, 1) == {DELIVERED: 1}
        world.network.answer = lambda _: TAKEN
        world.clock.advance(99)
        await world.settle()
        assert world.network.counts()[f"token of {anna.id}"] == 1
        world.clock.advance(2)
        assert await world.until_ended(second, 1) == {DELIVERED: 1}
        assert await world.until_ended(first, 1) == {DELIVERED: 1}


@in_loop
async def test_a_network_that_only_fails_is_left_alone_and_tried_with_one_push() -> None:
    async with phones_on(
        concurrency=10, failures_to_pause=10, min_backoff_s=8, max_backoff_s=8
    ) as world:
        owners = await world.users(100)
        world.network.answer = lambda _: UNAVAILABLE
        message_id = await world.send(await world.topic(owners))
        await world.until(lambda: len(world.network.pushes) >= 10)
        await world.settle()
        assert len(world.network.pushes) <= 20
        assert world.metrics.phone_networks_paused.read() == {"fcm": True}
        before = len(world.network.pushes)
        world.clock.advance(8)
        await world.settle()
        assert len(world.network.pushes) == before + 1
        world.network.answer = lambda _: TAKEN
        world.clock.advance(8)
        await world.settle()
        world.clock.advance(8)
        assert await world.until_ended(message_id, 100) == {DELIVERED: 100}
        assert world.metrics.phone_networks_paused.read() == {"fcm": False}


@in_loop
async def test_an_app_with_much_waiting_does_not_hold_up_another_s_push() -> None:
    async with phones_on(app_ids=("app-1", "app-2"), page_size=20, concurrency=4) as world:
        owners = await world.users(400)
        (ben,) = await world.users(1, app_id="app-2", prefix="ben")
        world.network.gate.clear()
        big = await world.send(await world.topic(owners))
        await world.until(lambda: world.network.under_way == 4)
        before = len(world.network.pushes)
        small = await world.send(Audience.of_owners(ben))
        await world.settle()
        world.network.gate.set()
        await world.until_ended(small, 1)
        await world.until_ended(big, 400)
        assert world.network.apps.index("app-2") - before <= 4


@in_loop
async def test_a_dead_token_takes_its_installation_with_it() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        world.network.answer = lambda _: Sent(Ending.TOKEN_REMOVED, "404", TokenFate.REMOVE)
        message_id = await world.send(Audience.of_owners(anna))
        assert await world.until_ended(message_id, 1) == {Ending.TOKEN_REMOVED.value: 1}
        assert await world.context.store.read(lambda tx: tx.installations.list_of(anna)) == []


@in_loop
async def test_a_token_registered_again_since_it_was_dead_stays() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1, updated_ms=nouns.NOW_MS - 1000)
        dead_since_ms = nouns.NOW_MS - 2000
        world.network.answer = lambda _: Sent(
            Ending.TOKEN_REMOVED, "410", TokenFate.REMOVE, dead_since_ms=dead_since_ms
        )
        message_id = await world.send(Audience.of_owners(anna))
        await world.until_ended(message_id, 1)
        assert len(await world.context.store.read(lambda tx: tx.installations.list_of(anna))) == 1


@in_loop
async def test_a_token_of_another_app_is_marked_until_it_works() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)

        async def problem() -> str:
            found = await world.context.store.read(lambda tx: tx.installations.list_of(anna))
            return found[0].problem

        world.network.answer = lambda _: Sent(
            Ending.TOKEN_MISMATCH, "SENDER_ID_MISMATCH", TokenFate.MARK
        )
        await world.until_ended(await world.send(Audience.of_owners(anna)), 1)
        assert await problem() == "SENDER_ID_MISMATCH"
        world.network.answer = lambda _: TAKEN
        await world.until_ended(await world.send(Audience.of_owners(anna)), 1)
        assert await problem() == ""


@in_loop
async def test_without_keys_nothing_is_asked_of_the_network_until_they_come() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)
        world.keyring.without.add("app-1")
        first = await world.send(Audience.of_owners(anna))
        assert await world.until_ended(first, 1) == {Ending.NOT_CONFIGURED.value: 1}
        assert world.network.pushes == []
        world.keyring.without.clear()
        world.senders.changed(NetworkKeysChanged("app-1", "fcm"))
        second = await world.send(Audience.of_owners(anna))
        assert await world.until_ended(second, 1) == {DELIVERED: 1}


@in_loop
async def test_keys_are_looked_up_once_for_a_burst() -> None:
    async with phones_on(page_size=10) as world:
        owners = await world.users(100)
        await world.until_ended(await world.send(await world.topic(owners)), 100)
        assert world.keyring.asked <= 2


@in_loop
async def test_a_bug_in_a_network_costs_an_attempt_and_nothing_else() -> None:
    async with phones_on() as world:
        (anna,) = await world.users(1)

        def fail(push: Push) -> Sent:
            raise ZeroDivisionError

        world.network.answer = fail
        message_id = await world.send(Audience.of_owners(anna))
        await world.until(lambda: len(world.network.pushes) == 1)
        await world.settle()
        world.network.answer = lambda _: TAKEN
        world.clock.advance(2)
        assert await world.until_ended(message_id, 1) == {DELIVERED: 1}


@in_loop
async def test_more_than_may_wait_is_refused_and_nothing_of_it_kept() -> None:
    async with phones_on(max_waiting_jobs=3, once_grace_s=5) as world:
        (anna,) = await world.users(1)
        for _ in range(3):
            await world.send(Audience.of_owners(anna), is_once=True)
        with pytest.raises(LimitReached, match="max_waiting_jobs"):
            await world.send(Audience.of_owners(anna), is_once=True)
        world.clock.advance(6)
        await world.until(lambda: len(world.network.pushes) == 3)
        await world.settle()
        last = await world.send(Audience.of_owners(anna))
        await world.until_ended(last, 1)
        assert len(world.network.pushes) == 4


@in_loop
async def test_phones_of_whom_a_connection_reached_are_spared() -> None:
    async with phones_on(page_size=10, once_grace_s=5) as world:
        owners = await world.users(30)
        message_id = await world.send(await world.topic(owners), is_once=True)
        await world.context.store.write(lambda tx: tx.pushes.add_reached(message_id, owners[:12]))
        world.clock.advance(4)
        await world.settle()
        assert await world.traces(message_id) == []
        world.clock.advance(2)
        endings = await world.until_ended(message_id, 30)
        assert endings == {DELIVERED: 18, Ending.SENT_OVER_MQTT.value: 12}
        assert len(world.network.pushes) == 18
        outcomes = await world.context.store.read(lambda tx: tx.messages.outcomes(message_id))
        assert sorted(outcomes) == [("fcm", DELIVERED, 18), ("fcm", "sent_over_mqtt", 12)]
        assert world.metrics.phone_pushes.values == {
            ("fcm", DELIVERED): 18,
            ("fcm", "sent_over_mqtt"): 12,
        }


@in_loop
async def test_the_record_of_a_push_is_deleted_only_when_it_can_no_longer_be_sent() -> None:
    async with phones_on(give_up_s=3600, failures_to_pause=100) as world:
        (anna,) = await world.users(1)
        world.network.answer = lambda _: UNAVAILABLE
        message_id = await world.send(Audience.of_owners(anna))
        await world.until(lambda: len(world.network.pushes) == 1)

        async def delete(age_s: int) -> int:
            now_ms = nouns.NOW_MS + age_s * 1000
            return await world.context.store.write(
                lambda tx: tx.pushes.delete_older(now_ms - 60_000, now_ms, 100)
            )

        assert await delete(3599) == 0
        assert len(await world.traces(message_id)) == 1
        assert await delete(3601) == 2
        assert await world.traces(message_id) == []


@in_loop
async def test_an_outcome_is_counted_once_for_the_message() -> None:
    async with phones_on(page_size=10) as world:
        owners = await world.users(50)
        bad = {f"token of {owner.id}" for owner in owners[:7]}
        world.network.answer = lambda push: (
            Sent(Ending.PAYLOAD_REFUSED, "400") if push.token in bad else TAKEN
        )
        message_id = await world.send(await world.topic(owners))
        await world.until_ended(message_id, 50)
        outcomes = await world.context.store.read(lambda tx: tx.messages.outcomes(message_id))
        assert sorted(outcomes) == [("fcm", DELIVERED, 43), ("fcm", "payload_refused", 7)]
        assert world.metrics.phone_pushes.values == {
            ("fcm", DELIVERED): 43,
            ("fcm", "payload_refused"): 7,
        }


@in_loop
async def test_what_is_under_way_is_finished_and_nothing_begun_when_it_stops() -> None:
    async with phones_on(concurrency=4, page_size=10) as world:
        owners = await world.users(40)
        world.network.gate.clear()
        message_id = await world.send(await world.topic(owners))
        await world.until(lambda: world.network.under_way == 4)
        stopping = asyncio.create_task(world.senders.stop(20))
        await world.settle()
        assert not stopping.done()
        world.network.gate.set()
        await stopping
        assert len(world.network.pushes) == 4
        assert (await world.endings(message_id))[DELIVERED] == 4


@in_loop
async def test_what_an_earlier_process_left_is_sent_and_what_it_sent_is_not(
    tmp_path: Path,
) -> None:
    dsn = f"sqlite:///{tmp_path}/store.db"
    async with phones_on(dsn, concurrency=4, page_size=10) as world:
        owners = await world.users(60)
        await world.until_ended(await world.send(Audience.of_owners(owners[0])), 1)
        world.network.gate.clear()
        message_id = await world.send(await world.topic(owners))
        await world.until(lambda: world.network.under_way == 4)
        under_way = {push.token for push in world.network.pushes[1:]}
        # Cancelled without an ending: as if it had been killed.
    async with phones_on(dsn, is_new=False, concurrency=4, page_size=10) as later:
        assert (await later.until_ended(message_id, 60))[DELIVERED] == 60
        assert len(later.network.counts()) == 60
        assert set(later.network.counts().values()) == {1}
        assert under_way <= set(later.network.counts())


def test_an_owner_is_named_as_the_route_of_his_push() -> None:
    anna = Owner("app-1", "user:anna")
    assert Audience.of_owners(anna).place == "users/anna"
    assert Audience("app-1", owners=(anna, anna)).place == "several"
    assert Audience("app-1", is_everybody=True).place == "everybody"
