"""Fan-out: one encoding per variant, one write per client and tick, bounds for slow readers."""

from __future__ import annotations

import pytest

from mqttpush.mqtt.broker import Admitted
from mqttpush.mqtt.packets import Property, Publish, Unsubscribe, Version
from tests.mqtt.support import TOPIC, Client, World, clause, subscribe
from tests.support.loop import in_loop


def payloads(client: Client) -> list[bytes]:
    return [packet.payload for packet in client.packets() if isinstance(packet, Publish)]


@in_loop
async def test_a_burst_is_one_write_per_client_and_one_encoding_per_variant() -> None:
    world = World()
    clients = [await world.connect(f"client-{i:02}") for i in range(10)]
    clients += [await world.connect(f"modern-{i:02}", Version.V5) for i in range(10)]
    encodings, writes = world.metrics.push_encodings.value, world.metrics.socket_writes.value
    write_counts = [client.transport.write_count for client in clients]
    for number in range(100):
        taken = world.broker.fan_out([client.handle for client in clients], b"%d" % number)
        assert taken == 20
    assert [client.transport.write_count for client in clients] == write_counts
    await world.settle()
    for client, write_count in zip(clients, write_counts, strict=True):
        assert client.transport.write_count == write_count + 1
        assert payloads(client) == [b"%d" % number for number in range(100)]
    assert world.metrics.push_encodings.value - encodings == 200
    assert world.metrics.socket_writes.value - writes == 20
    assert world.metrics.pushes_sent.value == 2000


@in_loop
async def test_the_time_from_an_event_to_its_last_write_is_observed_once_an_event() -> None:
    world = World()
    clients = [await world.connect(f"client-{i}") for i in range(3)]
    world.broker.fan_out([client.handle for client in clients], b"1")
    world.now += 0.25
    world.broker.fan_out([clients[0].handle], b"2")
    latency = world.metrics.fan_out_latency
    assert sum(latency.counts) == 0
    await world.settle()
    assert (sum(latency.counts), latency.sum_s) == (2, 0.5)
    world.broker.fan_out([], b"3")
    await world.settle()
    assert sum(latency.counts) == 2


@pytest.mark.parametrize("version", list(Version))
@clause("3.1.1", "MQTT-3.3.1-9")
@clause("3.1.1", "MQTT-3.3.2-3")
@clause("3.1.1", "MQTT-3.8.4-6")
@clause("3.1.1", "MQTT-4.3.1-1")
@clause("5.0", "MQTT-3.3.2-3")
@clause("5.0", "MQTT-3.8.4-8")
@clause("5.0", "MQTT-4.3.1-1")
@clause("5.0", "MQTT-2.2.1-2")
@clause("5.0", "MQTT-3.1.2-30")
def test_a_push_is_a_plain_publish_on_the_private_topic(version: Version) -> None:
    @in_loop
    async def run() -> None:
        world = World()
        client = await world.connect(version=version)
        world.broker.fan_out([client.handle], b"{}")
        await world.settle()
        assert client.packets() == [Publish(TOPIC, b"{}")]

    run()


@in_loop
@clause("5.0", "MQTT-3.1.2-29")
@clause("5.0", "MQTT-3.3.2-7")
@clause("5.0", "MQTT-3.3.2-11")
async def test_a_client_that_takes_aliases_gets_the_topic_once() -> None:
    world = World()
    client = await world.connect(version=Version.V5, properties={Property.TOPIC_ALIAS_MAXIMUM: 10})
    for number in range(3):
        world.broker.fan_out([client.handle], b"%d" % number)
    await world.settle()
    world.broker.fan_out([client.handle], b"3")
    await world.settle()
    alias = {Property.TOPIC_ALIAS: 1}
    assert client.packets() == [
        Publish(TOPIC if number == 0 else "", b"%d" % number, properties=alias)
        for number in range(4)
    ]
    again = await world.connect(version=Version.V5, properties={Property.TOPIC_ALIAS_MAXIMUM: 10})
    world.broker.fan_out([again.handle], b"4")
    await world.settle()
    assert again.packets() == [Publish(TOPIC, b"4", properties=alias)]


@in_loop
async def test_a_client_without_subscription_gets_nothing_and_it_is_counted() -> None:
    world = World()
    client = await world.connect(is_subscribed=False)
    assert world.broker.fan_out([client.handle], b"{}") == 0
    client.send(subscribe())
    assert world.broker.fan_out([client.handle], b"{}") == 1
    await world.settle()
    assert payloads(client) == [b"{}"]
    assert world.dropped("not_subscribed") == 1


@in_loop
@clause("3.1.1", "MQTT-3.10.4-2")
@clause("5.0", "MQTT-3.10.4-2")
async def test_after_unsubscribe_nothing_new_comes() -> None:
    world = World()
    client = await world.connect()
    world.broker.fan_out([client.handle], b"1")
    client.send(Unsubscribe(2, (TOPIC,)))
    assert world.broker.fan_out([client.handle], b"2") == 0
    await world.settle()
    assert payloads(client) == [b"1"]


@in_loop
async def test_pushes_to_a_closed_client_are_counted() -> None:
    world = World()
    client = await world.connect()
    world.broker.fan_out([client.handle], b"1")
    world.broker.lost(client.handle)
    assert world.broker.fan_out([client.handle], b"2") == 0
    await world.settle()
    assert client.transport.take() == b""
    assert world.dropped("closed") == 2


@in_loop
@clause("5.0", "MQTT-3.1.2-27")
@clause("5.0", "MQTT-3.1.2-28")
async def test_a_push_over_the_clients_maximum_packet_size_is_dropped() -> None:
    world = World()
    # CONNACK and SUBACK fit in 60 bytes: header 2, topic 25, properties 1, payload at most 32.
    client = await world.connect(version=Version.V5, properties={Property.MAXIMUM_PACKET_SIZE: 60})
    assert world.broker.fan_out([client.handle], b"x" * 33) == 0
    assert world.broker.fan_out([client.handle], b"x" * 32) == 1
    await world.settle()
    assert payloads(client) == [b"x" * 32]
    assert world.dropped("too_large") == 1


@in_loop
async def test_a_slow_reader_keeps_the_newest_within_its_bound() -> None:
    world = World(max_outbox_packets=5)
    client, other = await world.connect("slow"), await world.connect("quick")
    world.broker.pause(client.handle)
    for number in range(10_000):
        world.broker.fan_out([client.handle, other.handle], b"%d" % number)
    await world.settle()
    assert client.transport.take() == b""
    assert len(payloads(other)) == 10_000
    assert world.dropped("outbox_full") == 9_995
    assert world.metrics.outbox_packets.read() == 5
    world.broker.resume(client.handle)
    await world.settle()
    assert payloads(client) == [b"%d" % number for number in range(9_995, 10_000)]
    assert world.metrics.outbox_packets.read() == world.metrics.outbox_bytes.read() == 0


@in_loop
async def test_events_of_one_object_are_conflated_before_others_are_dropped() -> None:
    world = World(max_outbox_packets=3)
    client = await world.connect()
    world.broker.pause(client.handle)
    for payload, key in ((b"a1", "a"), (b"b1", "b"), (b"m", None), (b"a2", "a"), (b"a3", "a")):
        world.broker.fan_out([client.handle], payload, conflation_key=key)
    world.broker.fan_out([client.handle], b"n")
    world.broker.resume(client.handle)
    await world.settle()
    assert payloads(client) == [b"m", b"a3", b"n"]
    assert (world.dropped("conflated"), world.dropped("outbox_full")) == (2, 1)


@in_loop
async def test_waiting_bytes_are_bounded_by_connection_and_in_all() -> None:
    world = World(max_outbox_bytes=4096, max_outbox_total_bytes=6000)
    first, second = await world.connect("first"), await world.connect("second")
    for client in (first, second):
        world.broker.pause(client.handle)
        for _ in range(6):
            world.broker.fan_out([client.handle], b"x" * 1000)
    assert world.metrics.outbox_bytes.read() == 6000
    assert world.dropped("outbox_full") == 2
    assert world.dropped("outbox_total_full") == 4
    world.broker.lost(first.handle)
    assert world.metrics.outbox_bytes.read() == 2000


@in_loop
async def test_drops_are_counted_by_app() -> None:
    world = World()
    world.answer = lambda attempt: Admitted(attempt.client_id, attempt.client_id[0])
    one = await world.connect("one", is_subscribed=False)
    two = await world.connect("two", is_subscribed=False)
    world.broker.fan_out([one.handle, two.handle, two.handle], b"x")
    assert world.dropped("not_subscribed", "o") == 1
    assert world.dropped("not_subscribed", "t") == 2


@in_loop
async def test_a_tick_with_very_many_pushes_is_written_before_it_ends() -> None:
    world = World()
    client = await world.connect()
    big = b"x" * 1_000_000
    for _ in range(70):
        world.broker.fan_out([client.handle], big)
    assert len(client.transport.written) > 64_000_000


@in_loop
async def test_a_socket_that_pauses_in_a_burst_gets_the_rest_later() -> None:
    world = World(max_outbox_packets=10)
    client = await world.connect()
    original = client.transport.write

    def write_and_pause(data: bytes) -> None:
        original(data)
        world.broker.pause(client.handle)

    client.transport.write = write_and_pause  # type: ignore[method-assign]
    for number in range(25):
        world.broker.fan_out([client.handle], b"%d" % number)
    await world.settle()
    assert payloads(client) == [b"%d" % number for number in range(10)]
    world.broker.resume(client.handle)
    await world.settle()
    assert payloads(client) == [b"%d" % number for number in range(15, 25)]
    assert world.dropped("outbox_full") == 5


@in_loop
async def test_an_answer_goes_on_its_own_topic_without_a_subscription() -> None:
    world = World()
    client = await world.connect(is_subscribed=False)
    assert world.broker.respond(client.handle, f"p/{TOPIC}/x", b"200\r\n")
    assert client.packets() == [Publish(f"p/{TOPIC}/x", b"200\r\n")]
    world.broker.lost(client.handle)
    assert not world.broker.respond(client.handle, "x", b"")


@in_loop
async def test_answers_to_a_client_that_does_not_read_are_bounded() -> None:
    world = World(max_outbox_bytes=4096)
    client = await world.connect()
    client.transport.is_stalled = True
    world.broker.pause(client.handle)
    answers = [world.broker.respond(client.handle, "p/x", b"x" * 1000) for _ in range(6)]
    assert answers == [True] * 5 + [False]
