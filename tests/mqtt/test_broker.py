"""Broker: lives of connections, from CONNECT to the end, with a clock and sockets of the test's."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mqttpush.errors import StoreUnavailable
from mqttpush.mqtt.broker import Admitted, ConnectAttempt, RefusalReason, Refused
from mqttpush.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    Property,
    Publish,
    ReasonCode,
    SubAck,
    Version,
)
from tests.mqtt.support import TOPIC, World, clause, reason_of, subscribe
from tests.support.loop import in_loop

# -- authentication --


@in_loop
async def test_connects_of_one_tick_are_authenticated_together() -> None:
    world = World()
    clients = [world.knock(f"client-{i}") for i in range(50)]
    await world.settle()
    assert [len(batch) for batch in world.batches] == [50]
    assert all(reason_of(client) == 0 for client in clients)
    assert world.broker.connection_count == 50


@in_loop
async def test_connects_gather_while_a_batch_is_checked_and_batches_are_bounded() -> None:
    world = World(max_authenticate_batch=20)
    world.gate.clear()
    world.knock("first")
    await world.settle()
    for i in range(50):
        world.knock(f"client-{i}")
    await world.settle()
    world.gate.set()
    await world.settle()
    await world.settle()
    assert [len(batch) for batch in world.batches] == [1, 20, 20, 10]


@in_loop
@clause("3.1.1", "MQTT-3.1.3-5")
@clause("5.0", "MQTT-3.1.3-5")
async def test_an_attempt_says_what_the_client_said() -> None:
    world = World()
    client = world.knock("0123456789abcdefghijABC", Version.V3_1, "203.0.113.9")
    await world.settle()
    assert world.batches == [
        [
            ConnectAttempt(
                client.handle, "0123456789abcdefghijABC", "user", b"secret", 3, "203.0.113.9"
            )
        ]
    ]
    assert "secret" not in repr(world.batches[0][0])


@pytest.mark.parametrize("failure", [StoreUnavailable("db", "away"), RuntimeError("a bug")])
@clause("3.1.1", "MQTT-4.8.0-2")
def test_when_authentication_fails_everybody_is_refused(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    @in_loop
    async def run() -> None:
        world = World()
        world.failure = failure
        old, new = world.knock("old"), world.knock("new", Version.V5)
        await world.settle()
        assert reason_of(old) == 3
        assert reason_of(new) == ReasonCode.SERVER_UNAVAILABLE
        assert old.transport.is_closing
        assert new.transport.is_closing
        assert world.closed == []

    with caplog.at_level(logging.WARNING):
        run()
    assert "CONNECTs refused" in caplog.text
    assert "secret" not in caplog.text


@in_loop
async def test_when_authentication_takes_too_long_everybody_is_refused() -> None:
    world = World(authenticate_timeout_s=0.01)
    world.gate.clear()
    client = world.knock()
    await client.transport.closed.wait()
    assert reason_of(client) == 3


@in_loop
async def test_a_socket_that_dies_while_it_is_authenticated_is_detached_once() -> None:
    world = World()
    world.gate.clear()
    client = world.knock()
    await world.settle()
    world.broker.lost(client.handle)
    assert world.closed == []
    world.gate.set()
    await world.settle()
    assert world.closed == [client.handle]
    assert world.broker.connection_count == 0
    assert client.transport.take() == b""


@pytest.mark.parametrize(
    ("reason", "old_code", "new_code"),
    [
        (RefusalReason.BAD_CREDENTIALS, 4, 0x86),
        (RefusalReason.IDENTIFIER_REJECTED, 2, 0x85),
        (RefusalReason.NOT_AUTHORIZED, 5, 0x87),
        (RefusalReason.SERVER_UNAVAILABLE, 3, 0x88),
        (RefusalReason.SERVER_BUSY, 3, 0x89),
        (RefusalReason.BANNED, 5, 0x8A),
    ],
)
def test_a_refused_client_is_told_why(reason: RefusalReason, old_code: int, new_code: int) -> None:
    @in_loop
    async def run() -> None:
        world = World()
        world.answer = lambda _: Refused(reason)
        old, new = world.knock(), world.knock(version=Version.V5)
        await world.settle()
        assert (reason_of(old), reason_of(new)) == (old_code, new_code)
        assert old.transport.is_closing
        assert world.closed == []
        assert world.metrics.mqtt_connects.values == {(reason.value.name.lower(),): 2}

    run()


@in_loop
async def test_a_push_between_attachment_and_subscribe_is_skipped() -> None:
    world = World()
    taken = []

    def attach_and_push(attempt: ConnectAttempt) -> Admitted:
        taken.append(world.broker.fan_out([attempt.handle], b"{}"))
        return Admitted(attempt.client_id, "app")

    world.answer = attach_and_push
    client = await world.connect()
    assert taken == [0]
    assert world.dropped("not_subscribed", "") == 1
    assert world.broker.fan_out([client.handle], b"{}") == 1


@in_loop
async def test_a_subscribe_sent_with_the_connect_is_answered_after_it() -> None:
    world = World()
    client = world.open(Version.V5)
    assert client is not None
    client.send(Connect(Version.V5, TOPIC), subscribe(), Publish(f"p/{TOPIC}/x", b"GET"))
    await world.settle()
    connack, suback = client.packets()
    assert isinstance(connack, ConnAck)
    assert suback == SubAck(1, (0,))
    assert world.requests == [(client.handle, f"p/{TOPIC}/x", b"GET")]


# -- takeover --


@in_loop
@clause("3.1.1", "MQTT-3.1.3-2")
@clause("3.1.1", "MQTT-3.1.4-2")
@clause("5.0", "MQTT-3.1.3-2")
@clause("5.0", "MQTT-3.1.4-3")
async def test_a_second_connect_with_a_client_id_displaces_the_first() -> None:
    world = World()
    first = await world.connect(version=Version.V5)
    second = await world.connect()
    assert reason_of(first) == ReasonCode.SESSION_TAKEN_OVER
    assert first.transport.is_closing
    assert not second.transport.is_closing
    assert world.closed == [first.handle]
    world.broker.lost(first.handle)
    assert world.closed == [first.handle]
    assert world.broker.fan_out([first.handle, second.handle], b"{}") == 1


@in_loop
async def test_a_takeover_within_one_batch_leaves_the_last() -> None:
    world = World()
    first, second = world.knock(), world.knock()
    await world.settle()
    assert (first.transport.is_closing, second.transport.is_closing) == (True, False)
    assert world.closed == [first.handle]


@in_loop
async def test_wrong_credentials_do_not_displace_the_owner() -> None:
    world = World()
    owner = await world.connect()
    world.answer = lambda _: Refused(RefusalReason.BAD_CREDENTIALS)
    world.knock()
    await world.settle()
    assert not owner.transport.is_closing
    assert world.closed == []


@in_loop
async def test_a_ping_pong_of_takeovers_is_damped() -> None:
    world = World(max_takeovers_per_s_per_client=0.5)
    clients = [await world.connect(version=Version.V5, is_subscribed=False) for _ in range(6)]
    late = world.knock(version=Version.V5)
    await world.settle()
    assert reason_of(late) == ReasonCode.CONNECTION_RATE_EXCEEDED
    assert not clients[-1].transport.is_closing
    assert world.closed == [*[client.handle for client in clients[:-1]], late.handle]
    assert world.reached("max_takeovers_per_s_per_client") == 1
    world.now += 2
    await world.connect()
    assert clients[-1].transport.is_closing


@in_loop
async def test_onboarding_connections_share_their_client_id() -> None:
    world = World()
    world.answer = lambda _: Admitted("", "app", is_onboarding=True)
    clients = [await world.connect("anonymous") for _ in range(3)]
    assert not any(client.transport.is_closing for client in clients)
    topic = "p/anonymous/thing-if/apps/app/onboardings"
    clients[1].send(Publish(topic, b"POST"))
    assert world.requests == [(clients[1].handle, topic, b"POST")]
    assert world.broker.respond(clients[1].handle, topic, b"200")
    assert clients[1].packets() == [Publish(topic, b"200")]


# -- deadlines --


@in_loop
@clause("3.1.1", "MQTT-3.1.2-24")
@clause("5.0", "MQTT-3.1.2-24")
async def test_a_silent_client_is_closed_after_one_and_a_half_keep_alives() -> None:
    world = World()
    client = await world.connect(version=Version.V5, keep_alive_s=10)
    world.pass_time(14.5)
    assert not client.transport.is_closing
    client.send(PingReq())
    world.pass_time(14.5)
    assert not client.transport.is_closing
    world.pass_time(1)
    assert client.transport.is_closing
    assert reason_of(client) == ReasonCode.KEEP_ALIVE_TIMEOUT
    assert world.closed == [client.handle]


@in_loop
async def test_a_stranger_has_to_send_connect_in_time_however_slowly_he_types() -> None:
    world = World(connect_timeout_s=10)
    client = world.open()
    assert client is not None
    for byte in b"\x10\x20\0\4MQTT\4":
        world.broker.receive(client.handle, bytes((byte,)))
        world.pass_time(1)
    assert not client.transport.is_closing
    world.pass_time(2)
    assert client.transport.is_aborted
    assert world.reached("connect_timeout_s") == 1


@in_loop
async def test_a_peer_that_takes_nothing_is_cut() -> None:
    world = World(stall_timeout_s=30)
    client = await world.connect(keep_alive_s=600)
    client.transport.unsent_bytes = 100_000
    world.broker.pause(client.handle)
    world.pass_time(31)
    assert client.transport.is_aborted
    assert world.closed == [client.handle]
    assert world.reached("stall_timeout_s") == 1


@in_loop
async def test_a_peer_that_takes_a_little_stays() -> None:
    world = World(stall_timeout_s=30)
    client = await world.connect(keep_alive_s=600)
    client.transport.unsent_bytes = 100_000
    world.broker.pause(client.handle)
    for _ in range(5):
        client.transport.unsent_bytes -= 1
        world.pass_time(31)
    assert not client.transport.is_closing
    world.broker.resume(client.handle)
    world.pass_time(300)
    assert not client.transport.is_closing


@in_loop
async def test_a_closed_socket_that_lingers_is_cut() -> None:
    world = World()
    client = await world.connect()
    world.broker.close(client.handle, ReasonCode.NOT_AUTHORIZED)
    assert not client.transport.is_aborted
    world.pass_time(6)
    assert client.transport.is_aborted


@in_loop
async def test_a_peer_that_asks_and_does_not_take_the_answers_is_cut() -> None:
    world = World(max_outbox_bytes=4096, max_control_packets_per_s=100_000)
    client = await world.connect()
    client.transport.is_stalled = True
    world.broker.pause(client.handle)
    for _ in range(3000):
        client.send(PingReq())
    assert client.transport.is_aborted


# -- admission --


@in_loop
async def test_idle_strangers_are_bounded_and_then_closed() -> None:
    world = World(max_unauthenticated=20_000)
    clients = [world.open(address=f"10.0.{number // 250}.1") for number in range(20_001)]
    assert clients[-1] is None
    world.pass_time(11)
    assert all(client.transport.is_aborted for client in clients[:-1] if client)
    for client in clients[:-1]:
        assert client is not None
        world.broker.lost(client.handle)
    assert world.broker.socket_count == 0
    assert world.metrics.mqtt_unauthenticated.read() == 0


@in_loop
async def test_a_late_loop_refuses_new_clients_and_serves_the_others() -> None:
    world = World(max_loop_lag_ms=500)
    client = await world.connect()
    world.broker.start()
    world.broker.note_lag(0.6)
    late, late_modern = world.knock("late"), world.knock("late-5", Version.V5)
    assert reason_of(late) == 3
    assert reason_of(late_modern) == ReasonCode.SERVER_BUSY
    assert world.broker.fan_out([client.handle], b"{}") == 1
    assert world.reached("max_loop_lag_ms") == 2
    world.broker.note_lag(0.0)
    world.broker.note_lag(0.0)
    fine = world.knock("fine")
    await world.settle()
    assert reason_of(fine) == 0
    await world.broker.stop()


@in_loop
async def test_a_bound_of_connections_is_answered_with_server_busy() -> None:
    world = World(max_connections=1)
    await world.connect("one")
    refused = world.knock("two", Version.V5)
    assert reason_of(refused) == ReasonCode.SERVER_BUSY
    assert world.reached("max_connections") == 1


@in_loop
async def test_connects_that_arrive_together_do_not_pass_the_bound() -> None:
    world = World(max_connections=2)
    clients = [world.knock(f"client-{i}") for i in range(5)]
    await world.settle()
    assert [reason_of(client) for client in clients] == [0, 0, 3, 3, 3]
    assert world.broker.connection_count == 2
    assert set(world.closed) == {client.handle for client in clients[2:]}


@in_loop
async def test_a_client_id_with_wrong_credentials_is_locked_out_at_its_address() -> None:
    world = World(max_failed_connects_per_minute=2)
    world.answer = lambda _: Refused(RefusalReason.BAD_CREDENTIALS)
    for _ in range(2):
        world.knock()
        await world.settle()
    banned = world.knock(version=Version.V5)
    assert reason_of(banned) == ReasonCode.BANNED
    world.answer = lambda attempt: Admitted(attempt.client_id, "app")
    owner = world.knock(address="198.51.100.1")
    await world.settle()
    assert reason_of(owner) == 0


@in_loop
async def test_the_clients_of_a_proxy_are_counted_by_their_own_address() -> None:
    world = World(max_unauthenticated_per_address=1)
    first, second = world.open(address="10.0.0.1"), None
    assert first is not None
    assert world.broker.change_address(first.handle, "203.0.113.1")
    second = world.open(address="10.0.0.1")
    assert second is not None
    assert not world.broker.change_address(second.handle, "203.0.113.1")
    world.broker.lost(second.handle)
    assert world.broker.socket_count == 1


# -- the end --


@in_loop
@clause("5.0", "MQTT-3.14.4-1")
async def test_a_server_side_close_calls_back_once() -> None:
    world = World()
    client = await world.connect(version=Version.V5)
    world.broker.fan_out([client.handle], b"{}")
    world.broker.close(client.handle, ReasonCode.NOT_AUTHORIZED)
    world.broker.close(client.handle, ReasonCode.NOT_AUTHORIZED)
    await world.settle()
    assert client.packets() == [Disconnect(ReasonCode.NOT_AUTHORIZED)]
    world.broker.lost(client.handle)
    assert world.closed == [client.handle]
    assert world.metrics.mqtt_disconnects.values == {("not_authorized",): 1}


@in_loop
async def test_a_disconnect_of_the_client_frees_its_client_id() -> None:
    world = World()
    client = await world.connect()
    client.send(Disconnect())
    assert client.transport.is_closing
    assert world.closed == [client.handle]
    world.broker.lost(client.handle)
    again = await world.connect()
    assert world.closed == [client.handle]
    assert again.handle is not client.handle


@pytest.mark.parametrize("reference", ["", "mqtt2.example.com:8883"])
def test_a_drain_tells_everybody_and_waits_for_the_sockets(reference: str) -> None:
    @in_loop
    async def run() -> None:
        world = World(server_reference=reference)
        clients = [await world.connect(f"client-{i}", Version.V5) for i in range(5)]
        drain = asyncio.create_task(world.broker.drain(5))
        await world.settle()
        assert world.open() is None
        assert not drain.done()
        expected = {Property.SERVER_REFERENCE: reference} if reference else {}
        for client in clients:
            (told,) = client.packets()
            assert isinstance(told, Disconnect)
            assert told.reason_code == (0x9D if reference else 0x8B)
            assert told.properties == expected
            world.broker.lost(client.handle)
        await drain
        assert len(world.closed) == 5

    run()


@in_loop
async def test_a_drain_ends_in_time_and_cuts_who_is_left() -> None:
    world = World()
    client = await world.connect()
    await world.broker.drain(0.05)
    assert client.transport.is_aborted


@in_loop
async def test_stop_ends_a_running_authentication() -> None:
    world = World()
    world.gate.clear()
    client = world.knock()
    await world.settle()
    await world.broker.stop()
    assert client.transport.is_aborted
    assert len(asyncio.all_tasks()) == 1


@in_loop
async def test_new_limits_hold_from_the_next_packet_on() -> None:
    world = World()
    client = await world.connect(version=Version.V5)
    world.broker.reload(world.settings.model_copy(update={"max_packet_bytes": 1024}))
    client.send(Publish(f"p/{TOPIC}/x", b"x" * 2000))
    assert reason_of(client) == ReasonCode.PACKET_TOO_LARGE
