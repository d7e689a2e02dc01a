"""Listeners: real clients over TCP, TLS and WebSocket, and how listening begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from itertools import pairwise
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from mqttpush.errors import ConfigError
from mqttpush.mqtt.codec import encode
from mqttpush.mqtt.packets import Connect, Publish, ReasonCode, Version
from tests.mqtt.net import KINDS, Paho, in_uvloop, is_closed_by_peer, serving
from tests.mqtt.support import clause, subscribe

VERSIONS = (MQTTProtocolVersion.MQTTv31, MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5)
V2_HEADER = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\x12\x34\x07\x5b"
)
CONNECT = encode(Version.V3_1_1, Connect(Version.V3_1_1, "raw", keep_alive_s=60))
CONNACK = b"\x20\x02\x00\x00"


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("kind", KINDS)
@clause("3.1.1", "MQTT-6.0.0-2")
@clause("3.1.1", "MQTT-6.0.0-4")
@clause("3.1.1", "MQTT-7.1.1-1")
@clause("3.1.1", "MQTT-7.0.0-2")
@clause("5.0", "MQTT-6.0.0-4")
@clause("5.0", "MQTT-7.1.1-1")
@clause("5.0", "MQTT-7.0.0-2")
@in_uvloop
async def test_paho_is_served(tmp_path: Path, kind: str, version: MQTTProtocolVersion) -> None:
    async with (
        serving(tmp_path, kind) as net,
        Paho(net, kind, version, "device") as client,
    ):
        await client.subscribe()
        for payload in (b"{}", b"x" * 100_000):
            assert net.push("device", payload) == 1
            assert await client.next() == ("message", "device", payload)
        for qos in (0, 1, 2):
            request = b"GET" * 30_000
            client.client.publish("p/device/x", request, qos)
            assert await client.next_of("message") == ("message", "p/device/x", request)
        net.broker.close(net.handle_by_client_id["device"], ReasonCode.NOT_AUTHORIZED)
        is_told = version is MQTTProtocolVersion.MQTTv5
        expected = "Not authorized" if is_told else "Unspecified error"
        assert await client.next_of("disconnect") == ("disconnect", expected)


@pytest.mark.parametrize("kind", KINDS)
@in_uvloop
async def test_paho_with_a_wrong_password_is_refused(tmp_path: Path, kind: str) -> None:
    async with (
        serving(tmp_path, kind) as net,
        Paho(net, kind, VERSIONS[2], "device", password="wrong") as client,
    ):
        assert await client.next() == ("connect", "Bad user name or password")
        assert net.broker.connection_count == 0


@in_uvloop
async def test_a_burst_arrives_whole_and_in_order_over_every_listener(tmp_path: Path) -> None:
    async with serving(tmp_path, *KINDS) as net:
        for kind in KINDS:
            async with Paho(net, kind, VERSIONS[1], kind) as client:
                await client.subscribe()
                for number in range(200):
                    net.push(kind, b"%06d" % number + b"x" * 300)
                for number in range(200):
                    _, _, payload = await client.next()
                    assert payload[:6] == b"%06d" % number


@in_uvloop
async def test_port_0_picks_free_ports_on_ipv4_and_ipv6(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "tcp", "ws", host="::1") as net,
        net.dial() as (reader, writer),
    ):
        assert net.listeners.addresses["tcp"][0] == "::1"
        writer.write(CONNECT)
        assert await reader.readexactly(4) == CONNACK
    assert set(net.listeners.addresses) == {"tcp", "ws"}


@in_uvloop
async def test_a_port_in_use_is_named_and_nothing_is_left_open(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        free_port = probe.getsockname()[1]
        probe.close()
        with pytest.raises(ConfigError) as caught:
            async with serving(tmp_path, tcp_port=free_port, ws_port=taken.getsockname()[1]):
                pass
        assert caught.value.setting == "mqtt.ws_port"
        with socket.create_server(("127.0.0.1", free_port)):
            pass


@in_uvloop
async def test_a_host_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        async with serving(tmp_path, host="no such host"):
            pass
    assert caught.value.setting == "mqtt.host"


# -- PROXY protocol --


@pytest.mark.parametrize(
    "header", [b"PROXY TCP4 203.0.113.7 192.0.2.1 4660 1883\r\n", V2_HEADER], ids=["v1", "v2"]
)
@pytest.mark.parametrize("is_split", [False, True])
@in_uvloop
async def test_a_listed_proxy_names_its_client(
    tmp_path: Path, header: bytes, is_split: bool
) -> None:
    async with (
        serving(tmp_path, proxy_protocol_from=["127.0.0.1"]) as net,
        net.dial() as (reader, writer),
    ):
        for part in (header[:9], header[9:], CONNECT) if is_split else (header + CONNECT,):
            writer.write(part)
            await writer.drain()
        assert await reader.readexactly(4) == CONNACK
        assert net.addresses == ["203.0.113.7"]


@in_uvloop
async def test_a_listed_proxy_without_header_is_closed(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, proxy_protocol_from=["127.0.0.0/8"]) as net,
        net.dial() as (reader, writer),
    ):
        writer.write(CONNECT)
        assert await is_closed_by_peer(reader)
        assert net.addresses == []


@in_uvloop
async def test_a_header_of_a_peer_that_is_not_listed_is_no_connect(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, proxy_protocol_from=["192.0.2.0/24"]) as net,
        net.dial() as (reader, writer),
    ):
        writer.write(V2_HEADER + CONNECT)
        assert await is_closed_by_peer(reader)
        assert net.addresses == []


@in_uvloop
async def test_a_header_may_stand_before_tls(tmp_path: Path) -> None:
    async with serving(tmp_path, "tls", proxy_protocol_from=["127.0.0.1"]) as net:
        host, port = net.listeners.addresses["tls"]
        sock = socket.create_connection((host, port))
        sock.sendall(V2_HEADER)
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=net.client_tls(), server_hostname="localhost"
        )
        writer.write(CONNECT)
        assert await reader.readexactly(4) == CONNACK
        assert net.addresses == ["203.0.113.7"]
        writer.close()


# -- bounds --


@in_uvloop
async def test_a_reader_that_stops_is_bounded_and_then_cut(tmp_path: Path) -> None:
    bounds = {"stall_timeout_s": 0.3, "max_outbox_packets": 50, "write_buffer_bytes": 8192}
    async with serving(tmp_path, **bounds) as net, Paho(net, "tcp", VERSIONS[1], "quick") as quick:
        await quick.subscribe()
        with socket.create_connection(net.listeners.addresses["tcp"]) as slow:
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            connect = Connect(Version.V3_1_1, "slow", keep_alive_s=60)
            await loop.sock_sendall(slow, encode(Version.V3_1_1, connect))
            await loop.sock_sendall(slow, encode(Version.V3_1_1, subscribe("slow")))
            assert await loop.sock_recv(slow, 4) == CONNACK
            assert await loop.sock_recv(slow, 5) == b"\x90\x03\x00\x01\x00"
            for number in range(10_000):
                net.broker.fan_out(net.handle_by_client_id.values(), b"%04d" % number + b"x" * 4000)
                if number % 100 == 0:
                    await asyncio.sleep(0)
                    assert net.metrics.outbox_packets.read() <= 100
            await net.until_gone("slow")
            assert net.metrics.mqtt_disconnects.values == {("stalled",): 1}
        while (await quick.next())[2][:4] != b"9999":
            pass
        assert net.metrics.outbox_bytes.read() == 0


@in_uvloop
async def test_who_sends_much_at_once_is_read_in_turns(tmp_path: Path) -> None:
    async with serving(tmp_path, max_publishes_per_s=1000, write_buffer_bytes=1024) as net:
        publish = encode(Version.V3_1_1, Publish("p/raw/x", bytes(16_384)))
        with socket.create_connection(net.listeners.addresses["tcp"]) as greedy:
            greedy.setblocking(False)
            loop, sent_count = asyncio.get_running_loop(), 0
            await loop.sock_sendall(greedy, CONNECT)
            assert await loop.sock_recv(greedy, 4) == CONNACK
            with contextlib.suppress(BlockingIOError):
                while greedy.send(publish) == len(publish):  # what the kernel takes: 2.5 MB
                    sent_count += 1
            taken = [0]
            while taken[-1] < sent_count:
                await asyncio.sleep(0)
                taken.append(int(net.metrics.mqtt_requests.value))
            # uvloop reads 256,000 bytes at a time.
            assert sent_count > 50
            assert max(after - before for before, after in pairwise(taken)) <= 16


@in_uvloop
async def test_without_free_files_new_sockets_are_closed_and_the_old_are_served(
    tmp_path: Path,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(tmp_path) as net, Paho(net, "tcp", VERSIONS[1], "old") as old:
        await old.subscribe()
        sockets = [socket.socket() for _ in range(100)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (sockets[-1].fileno() + 3, before[1]))
            for sock in sockets:
                sock.setblocking(False)
                sock.connect_ex(net.listeners.addresses["tcp"])
            with contextlib.suppress(ConnectionError):
                assert await asyncio.get_running_loop().sock_recv(sockets[-1], 1) == b""
            net.push("old", b"still here")
            assert await old.next() == ("message", "old", b"still here")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for sock in sockets:
                sock.close()
        async with Paho(net, "tcp", VERSIONS[1], "new") as new:
            await new.subscribe()


@in_uvloop
async def test_the_last_files_are_not_given_to_sockets(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(tmp_path) as net:
        assert net.listeners.may_open()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
            assert not net.listeners.may_open()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert net.metrics.limits_reached.values == {("open_files",): 1}


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("tcp", "connect_timeout_s"),
        ("tls", "tls_handshake_timeout_s"),
        ("ws", "websocket_handshake_timeout_s"),
    ],
)
@in_uvloop
async def test_a_handshake_that_does_not_come_is_cut(
    tmp_path: Path, kind: str, setting: str
) -> None:
    async with (
        serving(tmp_path, kind, **{setting: 0.1}) as net,
        net.dial(kind, tls=False) as (reader, _),
    ):
        assert await is_closed_by_peer(reader)
        assert net.metrics.limits_reached.values == {(f"mqtt.{setting}",): 1}
        assert net.broker.socket_count == 0


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@in_uvloop
async def test_a_packet_that_is_never_whole_is_cut(tmp_path: Path, kind: str) -> None:
    async with (
        serving(tmp_path, kind, stall_timeout_s=0.1) as net,
        net.dial(kind) as (reader, writer),
    ):
        writer.write(CONNECT)
        assert await reader.readexactly(4) == CONNACK
        writer.write(b"\x30\xf0\xff\x0f" + bytes(1000))  # of 262,128 bytes
        assert await is_closed_by_peer(reader)
        assert net.metrics.limits_reached.values == {("mqtt.stall_timeout_s",): 1}
        assert net.metrics.mqtt_disconnects.values == {("stalled",): 1}
        assert net.broker.socket_count == 0


@in_uvloop
async def test_a_drain_tells_the_clients_and_closes_the_listeners(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, *KINDS) as net,
        Paho(net, "tcp", VERSIONS[2], "one") as one,
        Paho(net, "wss", VERSIONS[2], "two") as two,
    ):
        for client in (one, two):
            await client.subscribe()
        assert net.listeners.is_listening
        await net.listeners.drain(5)
        assert not net.listeners.is_listening
        for client in (one, two):
            assert await client.next() == ("disconnect", "Server shutting down")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(net.listeners.addresses["tcp"])
        assert net.broker.socket_count == 0
