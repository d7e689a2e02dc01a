"""Silent clients: lone pings, and sockets that a timer looks at instead of the loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from mqttpush.mqtt.codec import PINGREQ, PINGRESP, encode
from mqttpush.mqtt.packets import Connect, PingReq, PingResp, Version
from tests.mqtt.net import KINDS, Paho, in_uvloop, serving
from tests.mqtt.support import World, subscribe
from tests.support.loop import in_loop

PARKING = {"idle_read_from_connections": 1, "idle_read_interval_ms": 1}
CONNECT = encode(Version.V3_1_1, Connect(Version.V3_1_1, "raw", keep_alive_s=60))
OTHER = encode(Version.V3_1_1, Connect(Version.V3_1_1, "other", keep_alive_s=60))
SUBSCRIBE = encode(Version.V3_1_1, subscribe("raw"))


@in_loop
async def test_lone_pings_are_answered_until_they_are_too_many() -> None:
    world = World(max_control_packets_per_s=2)
    client = await world.connect()
    client.packets()
    for _ in range(9):  # SUBSCRIBE was the tenth of the five seconds' worth
        client.send(PingReq())
    assert client.packets() == [PingResp()] * 9
    client.send(PingReq())
    assert client.transport.is_closing


@in_loop
async def test_a_ping_that_comes_in_pieces_is_answered_once() -> None:
    world = World()
    client = await world.connect()
    client.packets()
    for byte in (b"\xc0", b"\x00", b"\xc0", b"\x00\xc0\x00"):
        world.broker.receive(client.handle, byte)
    assert client.packets() == [PingResp()] * 3


@pytest.mark.parametrize("kind", KINDS)
@in_uvloop
async def test_a_parked_client_gets_pushes_and_is_heard(tmp_path: Path, kind: str) -> None:
    async with (
        serving(tmp_path, kind, **PARKING) as net,
        Paho(net, kind, MQTTProtocolVersion.MQTTv5, "device") as client,
    ):
        await client.subscribe()  # and is parked
        for number in range(3):
            net.push("device", b"%d" % number)
            assert await client.next_of("message") == ("message", "device", b"%d" % number)
            for qos in (0, 1, 2):
                client.client.publish("p/device/x", b"GET", qos)
                assert await client.next_of("message") == ("message", "p/device/x", b"GET")
        net.push("device", b"x" * 300_000)
        assert (await client.next_of("message"))[2] == b"x" * 300_000


@in_uvloop
async def test_a_parked_client_is_answered_again_and_again_and_may_go(tmp_path: Path) -> None:
    async with serving(tmp_path, "tcp", **PARKING) as net:
        async with net.dial() as (reader, writer):
            writer.write(CONNECT + SUBSCRIBE)
            await reader.readexactly(4 + 5)
            for _ in range(20):
                writer.write(PINGREQ)
                assert await reader.readexactly(2) == PINGRESP
            writer.write(PINGREQ * 3)
            assert await reader.readexactly(6) == PINGRESP * 3
            writer.write(PINGREQ)
            assert await reader.readexactly(2) == PINGRESP
        await net.until_gone("raw")


@in_uvloop
async def test_a_number_used_again_belongs_to_the_newer_socket(tmp_path: Path) -> None:
    async with serving(tmp_path, "tcp", **PARKING) as net:
        for _ in range(5):  # the kernel gives the lowest free number
            async with net.dial() as (reader, writer):
                writer.write(CONNECT)
                await reader.readexactly(4)
                for _ in range(3):
                    writer.write(PINGREQ)
                    assert await reader.readexactly(2) == PINGRESP
            await net.until_gone("raw")


async def park(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CONNECT + SUBSCRIBE)
    await reader.readexactly(4 + 5)
    writer.write(PINGREQ)
    assert await reader.readexactly(2) == PINGRESP


@in_uvloop
async def test_what_a_parked_client_does_not_take_at_once_is_written_later(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "tcp", **PARKING) as net,
        net.dial() as (reader, writer),
        net.dial() as (other_reader, other_writer),
    ):
        other_writer.write(OTHER)
        await other_reader.readexactly(4)
        await park(reader, writer)
        for _ in range(8):
            net.push("raw", b"x" * 300_000)
        for _ in range(5):  # each is a look at what is parked
            other_writer.write(PINGREQ)
            assert await other_reader.readexactly(2) == PINGRESP
        await reader.readexactly(8 * 300_000)


@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="only Linux tells")
@in_uvloop
async def test_the_loop_does_not_watch_a_parked_client(tmp_path: Path) -> None:
    loop: Any = asyncio.get_running_loop()
    watched = Path(f"/proc/self/fdinfo/{loop._get_backend_id()}")
    async with serving(tmp_path, "tcp", **PARKING) as net, net.dial() as (reader, writer):
        await park(reader, writer)
        transport: Any = net.handle_by_client_id["raw"].transport
        entry = f"tfd: {transport.get_extra_info('socket').fileno():>8} "
        while entry in watched.read_text():  # noqa: ASYNC240
            await asyncio.to_thread(int)  # a turn of the loop
        writer.write(PINGREQ)
        assert await reader.readexactly(2) == PINGRESP
