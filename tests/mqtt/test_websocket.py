"""WebSocket: the upgrade, frames of every kind and size, and what ends the connection."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mqttpush.mqtt.codec import encode
from mqttpush.mqtt.packets import Connect, Publish, Version
from tests.mqtt.net import Net, in_uvloop, is_closed_by_peer, serving
from tests.mqtt.support import clause, subscribe

V4 = Version.V3_1_1
CONNECT = encode(V4, Connect(V4, "web", keep_alive_s=60))
SUBSCRIBE = encode(V4, subscribe("web"))
CONNACK, SUBACK = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x00"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    is_final: bool = True,
    is_masked: bool = True,
    reserved: int = 0,
    size: int | None = None,
) -> bytes:
    """One frame of a client; `size` may lie about the payload."""
    size = len(payload) if size is None else size
    first = is_final << 7 | reserved << 4 | opcode
    mask_bit = is_masked << 7
    if size < 126:
        head = bytes((first, mask_bit | size))
    elif size < 65536:
        head = bytes((first, mask_bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, mask_bit | 127)) + size.to_bytes(8, "big")
    if not is_masked:
        return head + payload
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def upgrade(path: str = "/mqtt", protocol: str = "mqtt", **headers: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    if protocol:
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class Web:
    """A raw WebSocket client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def next_frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        assert second < 128, "a server does not mask"
        size = second
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        return first & 15, await self.reader.readexactly(size)

    async def binary(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            opcode, payload = await self.next_frame()
            assert opcode == BINARY
            data += payload
        return data


@asynccontextmanager
async def web(net: Net, kind: str = "ws", *, is_connected: bool = True) -> AsyncIterator[Web]:
    async with net.dial(kind) as (reader, writer):
        client = Web(reader, writer)
        writer.write(upgrade())
        await client.head()
        if is_connected:
            writer.write(frame(BINARY, CONNECT + SUBSCRIBE))
            assert await client.binary(9) == CONNACK + SUBACK
        yield client


@pytest.mark.parametrize("path", ["/", "/mqtt", "/a/b?c=d"])
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1"), ("mqttv3.1, mqtt", "mqtt"), ("x,mqtt", "mqtt")],
)
@clause("3.1.1", "MQTT-6.0.0-3")
@clause("3.1.1", "MQTT-6.0.0-4")
@clause("5.0", "MQTT-6.0.0-3")
@clause("5.0", "MQTT-6.0.0-4")
@in_uvloop
async def test_any_path_and_both_sub_protocols_are_served(
    tmp_path: Path, path: str, offered: str, chosen: str
) -> None:
    async with serving(tmp_path, "ws") as net, net.dial("ws") as (reader, writer):
        writer.write(upgrade(path, offered))
        head = await Web(reader, writer).head()
        assert head.startswith("HTTP/1.1 101 ")
        assert f"Sec-WebSocket-Protocol: {chosen}\r\n" in head
        assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (upgrade(protocol=""), 400),
        (upgrade(protocol="soap"), 400),
        (upgrade(Origin="https://evil.example"), 403),
        (upgrade(Origin="https://app.example.com.evil.example"), 403),
        (upgrade(Origin="null"), 403),
        (b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x10\x0c\0\4MQTT\r\n\r\n", 400),
    ],
    ids=["no protocol", "other protocol", "origin", "suffix", "null", "no upgrade", "post", "mqtt"],
)
@in_uvloop
async def test_a_wrong_upgrade_is_refused_and_closed(
    tmp_path: Path, request_bytes: bytes, status: int
) -> None:
    origins = ["https://app.example.com"]
    async with (
        serving(tmp_path, "ws", websocket_origins=origins) as net,
        net.dial("ws") as (reader, writer),
    ):
        writer.write(request_bytes)
        assert (await Web(reader, writer).head()).startswith(f"HTTP/1.1 {status} ")
        assert await is_closed_by_peer(reader)
        assert net.broker.socket_count == 0


@pytest.mark.parametrize("origin", ["https://app.example.com", "https://APP.example.com", ""])
@in_uvloop
async def test_a_listed_origin_and_no_origin_are_served(tmp_path: Path, origin: str) -> None:
    origins = ["https://app.example.com/"]
    async with (
        serving(tmp_path, "ws", websocket_origins=origins) as net,
        net.dial("ws") as (reader, writer),
    ):
        writer.write(upgrade(Origin=origin) if origin else upgrade())
        assert (await Web(reader, writer).head()).startswith("HTTP/1.1 101 ")


@in_uvloop
async def test_headers_without_end_are_closed(tmp_path: Path) -> None:
    async with serving(tmp_path, "ws") as net, net.dial("ws") as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
        assert await is_closed_by_peer(reader)


@pytest.mark.parametrize("kind", ["ws", "wss"])
@clause("3.1.1", "MQTT-6.0.0-2")
@clause("5.0", "MQTT-6.0.0-2")
@in_uvloop
async def test_packets_and_frames_need_not_meet(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path, kind) as net, web(net, kind, is_connected=False) as client:
        request = encode(V4, Publish("p/web/x", b"GET" * 100))
        stream = CONNECT + SUBSCRIBE + request
        for byte in stream[:20]:
            client.writer.write(frame(BINARY, bytes((byte,))))
        client.writer.write(frame(BINARY, stream[20:40], is_final=False))
        client.writer.write(frame(PING, b"between"))
        client.writer.write(frame(CONTINUATION, stream[40:60], is_final=False))
        client.writer.write(frame(CONTINUATION, stream[60:]))
        expected = CONNACK + SUBACK + request
        received = b""
        pongs: list[bytes] = []
        while len(received) < len(expected) or not pongs:
            opcode, payload = await client.next_frame()
            if opcode == PONG:
                pongs.append(payload)
            else:
                received += payload
        assert (received, pongs) == (expected, [b"between"])


@in_uvloop
async def test_a_large_answer_comes_in_frames(tmp_path: Path) -> None:
    async with serving(tmp_path, "ws") as net, web(net) as client:
        net.push("web", b"x" * 50_000)
        packet = encode(V4, Publish("web", b"x" * 50_000))
        assert await client.binary(len(packet)) == packet


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(TEXT, b"hello"), 1003),
        (frame(BINARY, b"\xc0\x00", is_masked=False), 1002),
        (frame(BINARY, b"\xc0\x00", reserved=4), 1002),
        (frame(BINARY, zlib.compress(bytes(10_000_000)), reserved=4), 1002),
        (frame(BINARY, b"\xc0\x00", reserved=1), 1002),
        (frame(PING, b"x", is_final=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CONTINUATION, b"\xc0\x00"), 1002),
        (frame(BINARY, b"\xc0", is_final=False) + frame(BINARY, b"\x00"), 1002),
        (frame(3, b""), 1002),
        (frame(BINARY, b"", size=10_000_000), 1009),
        (frame(BINARY, b"", size=1 << 63), 1002),
        (frame(CLOSE, b"\x03"), 1002),
    ],
    ids=[
        "text",
        "unmasked",
        "compressed",
        "compression bomb",
        "reserved bit",
        "fragmented control frame",
        "oversized control frame",
        "continuation of nothing",
        "new message inside a message",
        "reserved opcode",
        "oversized frame",
        "negative size",
        "close of one byte",
    ],
)
@clause("3.1.1", "MQTT-6.0.0-1")
@clause("5.0", "MQTT-6.0.0-1")
@in_uvloop
async def test_a_frame_against_the_rules_ends_the_connection(
    tmp_path: Path, bad: bytes, code: int
) -> None:
    async with serving(tmp_path, "ws") as net, web(net) as client:
        client.writer.write(bad)
        opcode, payload = await client.next_frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
        assert await is_closed_by_peer(client.reader)
        await net.until_gone("web")
        assert net.metrics.mqtt_disconnects.values == {("websocket_error",): 1}


@pytest.mark.parametrize(
    "small",
    [frame(PING), frame(PONG, b"x"), frame(BINARY), frame(BINARY, is_final=False)],
    ids=["ping", "pong", "nothing", "fragments of nothing"],
)
@in_uvloop
async def test_a_flood_of_frames_ends_the_connection(tmp_path: Path, small: bytes) -> None:
    async with serving(tmp_path, "ws", max_websocket_frames_per_s=20) as net, web(net) as client:
        rest = (
            frame(CONTINUATION, is_final=False) if small == frame(BINARY, is_final=False) else small
        )
        client.writer.write(small + 200 * rest)
        opcode, payload = PONG, b""
        while opcode == PONG:
            opcode, payload = await client.next_frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1008)
        assert await is_closed_by_peer(client.reader)
        await net.until_gone("web")
        assert net.metrics.mqtt_disconnects.values == {("websocket_frame_rate",): 1}
        bound = ("mqtt.max_websocket_frames_per_s",)
        assert net.metrics.limits_reached.values == {bound: 1}


@in_uvloop
async def test_a_close_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path, "ws") as net, web(net) as client:
        client.writer.write(frame(CLOSE, b"\x03\xe8"))
        assert (await client.next_frame())[0] == CLOSE
        assert await is_closed_by_peer(client.reader)
        await net.until_gone("web")


@in_uvloop
async def test_a_flood_before_connect_is_cut(tmp_path: Path) -> None:
    async with serving(tmp_path, "ws") as net, web(net, is_connected=False) as client:
        client.writer.write(frame(BINARY, b"\x10", size=200_000) + bytes(100_000))
        assert await is_closed_by_peer(client.reader)
        assert net.metrics.mqtt_disconnects.values == {("too_much_before_connect",): 1}


@in_uvloop
async def test_a_protocol_error_inside_frames_ends_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path, "ws") as net, web(net) as client:
        client.writer.write(frame(BINARY, b"\x00\x00"))
        assert (await client.next_frame())[0] == CLOSE
        assert await is_closed_by_peer(client.reader)
        await net.until_gone("web")
