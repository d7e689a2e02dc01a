"""Broker: bounds of time and number that no single packet shows."""

from __future__ import annotations

import weakref

from mqttpush.mqtt.broker import Admitted, RefusalReason, Refused
from mqttpush.mqtt.codec import encode
from mqttpush.mqtt.packets import Disconnect, Publish, ReasonCode, Version
from tests.mqtt.support import TOPIC, Client, World, reason_of
from tests.support.loop import in_loop


@in_loop
async def test_an_onboarding_connection_has_its_time_and_is_told_when_it_is_over() -> None:
    world = World(onboarding_timeout_s=30)
    world.answer = lambda _: Admitted("", "app", is_onboarding=True)
    client = await world.connect("anonymous", Version.V5)
    world.pass_time(29)
    client.send(Publish("p/anonymous/thing-if/apps/app/onboardings", b"POST"))
    assert not client.transport.is_closing
    world.pass_time(1.5)
    assert reason_of(client) == ReasonCode.MAXIMUM_CONNECT_TIME
    assert client.transport.is_closing
    assert (world.reached("onboarding_timeout_s"), world.reached("stall_timeout_s")) == (1, 0)


@in_loop
async def test_an_onboarding_connection_gains_no_time_by_not_reading_for_a_while() -> None:
    world = World(onboarding_timeout_s=30)
    world.answer = lambda _: Admitted("", "app", is_onboarding=True)
    client = await world.connect("anonymous", keep_alive_s=600)
    world.broker.pause(client.handle)
    world.pass_time(10)
    world.broker.resume(client.handle)
    world.pass_time(20.5)
    assert client.transport.is_closing


@in_loop
async def test_a_connect_that_waits_too_long_for_its_check_is_refused() -> None:
    world = World(authenticate_timeout_s=10, max_authenticate_batch=1)
    world.gate.clear()
    first, second = world.knock("first"), world.knock("second", Version.V5)
    await world.settle()
    assert len(world.batches) == 1
    world.pass_time(10.5)
    assert (reason_of(first), reason_of(second)) == (3, ReasonCode.SERVER_UNAVAILABLE)
    assert world.reached("authenticate_timeout_s") == 2
    late = await _admitted_once_the_gate_opens(world)
    assert late.transport.take()
    assert [attempt.client_id for batch in world.batches for attempt in batch] == ["first", "late"]


async def _admitted_once_the_gate_opens(world: World) -> Client:
    client = world.knock("late")
    world.gate.set()
    await world.settle()
    return client


@in_loop
async def test_those_who_knock_and_go_are_not_kept_while_the_store_hangs() -> None:
    world = World(max_unauthenticated=10)
    world.gate.clear()
    world.knock("first")
    await world.settle()
    sockets = []
    for number in range(100):
        client = world.knock(f"client-{number}")
        sockets.append(weakref.ref(client.transport))
        world.broker.lost(client.handle)
        del client
    world.pass_time(11)  # the wheel lets go of them too
    assert sum(socket() is not None for socket in sockets) <= 20
    world.gate.set()
    await world.settle()
    assert [len(batch) for batch in world.batches] == [1]


@in_loop
async def test_an_admitted_client_is_not_cut_when_the_time_of_its_check_is_over() -> None:
    world = World(authenticate_timeout_s=1)
    client = await world.connect(keep_alive_s=600)
    world.pass_time(100)
    assert not client.transport.is_closing


@in_loop
async def test_a_bound_that_a_packet_goes_beyond_is_counted() -> None:
    world = World(max_publishes_per_s=1)
    client = await world.connect()
    client.send(*[Publish(f"p/{TOPIC}/x", b"GET")] * 6)
    assert client.transport.is_closing
    assert world.reached("max_publishes_per_s") == 1


@in_loop
async def test_a_client_that_comes_and_goes_without_end_is_damped() -> None:
    world = World(max_connects_per_s_per_client=1)
    for _ in range(60):
        client = await world.connect(version=Version.V5)
        client.send(Disconnect())
        world.broker.lost(client.handle)
    late = world.knock(version=Version.V5)
    await world.settle()
    assert reason_of(late) == ReasonCode.CONNECTION_RATE_EXCEEDED
    assert world.reached("max_connects_per_s_per_client") == 1
    assert world.closed[-1] is late.handle
    assert not (await world.connect("another")).transport.is_closing
    world.now += 1
    assert not (await world.connect()).transport.is_closing


@in_loop
async def test_wrong_credentials_use_up_nothing_of_a_clients_connects() -> None:
    world = World(max_connects_per_s_per_client=1)
    right, world.answer = world.answer, lambda _: Refused(RefusalReason.BAD_CREDENTIALS)
    for number in range(20):
        world.knock(address=f"192.0.2.{number}")
        await world.settle()
    world.answer = right
    assert not (await world.connect()).transport.is_closing


@in_loop
async def test_answers_that_are_not_taken_are_bounded_in_all() -> None:
    world = World(max_outbox_total_bytes=100_000, write_buffer_bytes=1024)
    slow = [await world.connect(f"slow-{number}") for number in range(20)]
    answer, topic = bytes(30_000), "p/slow/x"
    taken = []
    for client in slow:
        client.transport.is_stalled = True
        taken.append(world.broker.respond(client.handle, topic, answer))
        world.broker.pause(client.handle)
    assert taken == [True] * 3 + [False] * 17
    assert world.dropped("outbox_total_full") == 17
    assert world.broker.respond(slow[-1].handle, topic, b"small")
    slow[0].transport.unsent_bytes = 0
    world.broker.resume(slow[0].handle)
    world.broker.lost(slow[1].handle)
    assert world.broker.respond(slow[0].handle, topic, answer)


@in_loop
async def test_a_slow_reader_that_asks_more_and_takes_some_is_not_stalled() -> None:
    world = World(stall_timeout_s=30, max_outbox_bytes=200_000)
    client = await world.connect(keep_alive_s=600)
    client.transport.is_stalled = True
    client.transport.unsent_bytes = 70_000
    world.broker.pause(client.handle)
    client.transport.unsent_bytes -= 10_000
    world.broker.respond(client.handle, f"p/{TOPIC}/x", bytes(30_000))
    client.transport.unsent_bytes -= 10_000
    world.pass_time(31)
    assert not client.transport.is_closing
    world.pass_time(31)
    assert client.transport.is_aborted


@in_loop
async def test_a_packet_that_has_begun_has_its_time_however_it_trickles() -> None:
    world = World(stall_timeout_s=30)
    client = await world.connect(keep_alive_s=600)
    packet = encode(client.version, Publish(f"p/{TOPIC}/x", bytes(100)))
    for byte in packet[:60]:
        assert not client.transport.is_closing
        client.broker.receive(client.handle, bytes((byte,)))
        world.pass_time(0.5)
    world.pass_time(0.5)
    assert client.transport.is_aborted
    assert world.reached("stall_timeout_s") == 1
    assert world.metrics.mqtt_disconnects.values == {("stalled",): 1}


@in_loop
async def test_the_time_of_a_packet_ends_with_it_and_the_next_has_its_own() -> None:
    world = World(stall_timeout_s=30)
    client = await world.connect(keep_alive_s=600)
    packet = encode(client.version, Publish(f"p/{TOPIC}/x", bytes(100)))
    client.broker.receive(client.handle, packet[:60])
    for _ in range(5):
        world.pass_time(29)
        client.broker.receive(client.handle, packet[60:] + packet[:60])
    client.broker.receive(client.handle, packet[60:])
    assert len(world.requests) == 6
    world.pass_time(500)
    assert not client.transport.is_closing
    assert world.reached("stall_timeout_s") == 0


@in_loop
async def test_a_packet_begun_before_connack_has_its_time_from_then_on() -> None:
    world = World(stall_timeout_s=30)
    world.gate.clear()
    client = world.knock(keep_alive_s=600)
    client.broker.receive(client.handle, b"\x30")
    world.gate.set()
    await world.settle()
    world.pass_time(29)
    assert not client.transport.is_closing
    world.pass_time(2)
    assert client.transport.is_aborted


@in_loop
async def test_an_onboarding_client_that_leaves_a_packet_incomplete_is_cut() -> None:
    world = World(stall_timeout_s=10, onboarding_timeout_s=60)
    world.answer = lambda _: Admitted("", "app", is_onboarding=True)
    client = await world.connect("anonymous", keep_alive_s=600, is_subscribed=False)
    client.broker.receive(client.handle, b"\x30")
    world.pass_time(11)
    assert client.transport.is_aborted
    assert (world.reached("stall_timeout_s"), world.reached("onboarding_timeout_s")) == (1, 0)
