"""Withdrawal: what waits for a slow reader does not outlive his hearing its source."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mqttpush.mqtt.codec import encode
from mqttpush.mqtt.outbox import Backlog, BacklogTotals, Push
from mqttpush.mqtt.packets import Connect, Publish, Version
from tests.mqtt.net import in_uvloop, serving
from tests.mqtt.support import Client, World, packets_of, subscribe
from tests.support.loop import in_loop

BUCKET, FILTER, TOPIC = 1, 2, 3
keys = st.lists(st.sampled_from((BUCKET, FILTER, TOPIC)), max_size=2, unique=True)


def payloads(client: Client) -> list[bytes]:
    return [packet.payload for packet in client.packets() if isinstance(packet, Publish)]


def push_of_each_kind(world: World, *clients: Client) -> None:
    handles = [client.handle for client in clients]
    world.broker.fan_out(handles, b"bucket", conflation_key="a", source_keys=(BUCKET,))
    world.broker.fan_out(handles, b"both", conflation_key="a", source_keys=(BUCKET, FILTER))
    world.broker.fan_out(handles, b"topic", source_keys=(TOPIC,))
    world.broker.fan_out(handles, b"direct")


@in_loop
async def test_a_slow_reader_is_not_sent_what_waited_by_a_source_he_hears_no_more() -> None:
    world = World()
    slow, other = await world.connect("slow"), await world.connect("other")
    for client in (slow, other):
        world.broker.pause(client.handle)
    push_of_each_kind(world, slow, other)
    world.broker.withdraw([slow.handle], BUCKET, {FILTER, TOPIC})
    assert world.dropped("withdrawn") == 1
    world.broker.withdraw([slow.handle], FILTER, {TOPIC})
    assert world.dropped("withdrawn") == 2
    for client in (slow, other):
        world.broker.resume(client.handle)
    await world.settle()
    assert payloads(slow) == [b"topic", b"direct"]
    assert payloads(other) == [b"bucket", b"both", b"topic", b"direct"]
    assert world.metrics.outbox_packets.read() == world.metrics.outbox_bytes.read() == 0


@in_loop
async def test_what_a_resumed_reader_has_not_been_written_yet_is_withdrawn_too() -> None:
    world = World()
    slow = await world.connect("slow")
    world.broker.pause(slow.handle)
    push_of_each_kind(world, slow)
    world.broker.resume(slow.handle)
    world.broker.withdraw([slow.handle], BUCKET, {TOPIC})
    world.broker.fan_out([slow.handle], b"new", source_keys=(TOPIC,))
    await world.settle()
    assert payloads(slow) == [b"topic", b"direct", b"new"]


@in_loop
async def test_a_reader_of_whom_all_was_withdrawn_gets_what_comes_next() -> None:
    world = World()
    slow = await world.connect("slow")
    world.broker.pause(slow.handle)
    world.broker.fan_out([slow.handle], b"old", source_keys=(BUCKET,))
    world.broker.withdraw([slow.handle], BUCKET, set())
    world.broker.fan_out([slow.handle], b"new", source_keys=(BUCKET,))  # subscribed anew
    world.broker.resume(slow.handle)
    await world.settle()
    assert payloads(slow) == [b"new"]


@given(st.lists(st.tuples(st.binary(max_size=5), st.sampled_from("ab") | st.none(), keys)))
def test_what_is_left_is_as_if_the_withdrawn_had_never_come(
    arrivals: list[tuple[bytes, str | None, list[int]]],
) -> None:
    totals, others = BacklogTotals(), BacklogTotals()
    backlog, expected = Backlog(totals), Backlog(others)
    for payload, conflation_key, source_keys in arrivals:
        push = Push(payload, conflation_key, source_keys)
        backlog.append(push)
        if BUCKET not in source_keys or FILTER in source_keys:
            expected.append(push)
    assert backlog.withdraw(BUCKET, {FILTER}) == len(arrivals) - len(expected)
    assert totals == others
    while expected:
        assert backlog.drop_one() == expected.drop_one()
        assert totals == others
    assert not backlog


@in_uvloop
async def test_over_a_socket_only_what_it_had_been_given_arrives(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, write_buffer_bytes=8192, max_outbox_packets=100) as net:
        with socket.create_connection(net.listeners.addresses["tcp"]) as slow:
            slow.setblocking(False)
            connect = Connect(Version.V3_1_1, "slow", keep_alive_s=60)
            await loop.sock_sendall(slow, encode(Version.V3_1_1, connect))
            await loop.sock_sendall(slow, encode(Version.V3_1_1, subscribe("slow")))
            answers = b""
            while len(answers) < 9:
                answers += await loop.sock_recv(slow, 9 - len(answers))
            handle = net.handle_by_client_id["slow"]
            given = 0
            while net.metrics.outbox_packets.read() < 50:
                net.broker.fan_out([handle], b"%06d" % given + bytes(4000), source_keys=(BUCKET,))
                given += 1
                await asyncio.sleep(0)
            waited = int(net.metrics.outbox_packets.read())
            net.broker.withdraw([handle], BUCKET, set())
            assert net.metrics.pushes_dropped.values == {("withdrawn", "app"): waited}
            net.broker.fan_out([handle], b"the end", source_keys=(TOPIC,))
            received = b""
            while not received.endswith(b"the end"):
                received += await loop.sock_recv(slow, 1_000_000)
            numbers = [
                packet.payload[:6]
                for packet in packets_of(Version.V3_1_1, received)
                if isinstance(packet, Publish)
            ][:-1]
            assert numbers == [b"%06d" % number for number in range(given - waited)]
