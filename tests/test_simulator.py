"""The simulator tells the truth: it passes when all arrives once, and sees loss and doubling."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mqttpush.client import AppClient, MqttEndpoint, make_http_client
from mqttpush.errors import ConfigError, RequestRefused
from mqttpush.simulator import (
    Simulation,
    SimulationPlan,
    SimulationReport,
    make_bodies,
    read_feed,
)
from tests.support.loop import in_loop
from tests.support.rest import Api, unique
from tests.support.server import Server, run_cli

PUBLISH = 3


class TamperingRelay:
    """A TCP relay that changes what the server sends: a list of packets for each packet."""

    def __init__(self, target: tuple[str, int], tamper: Callable[[bytes], Sequence[bytes]]) -> None:
        self._target = target
        self._tamper = tamper

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """The port it listens on."""
        relay = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with relay:
            yield int(relay.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self._target)
        ends = (writer, to_server)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, to_server))
                group.create_task(self._down(from_server, writer))
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in ends:
                end.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(2)
            length, shift = head[1] & 127, 7
            while head[-1] & 128:
                head += await reader.readexactly(1)
                length |= (head[-1] & 127) << shift
                shift += 7
            packet = head + await reader.readexactly(length)
            is_publish = packet[0] >> 4 == PUBLISH
            for each in self._tamper(packet) if is_publish else (packet,):
                writer.write(each)


class RelayedClient(AppClient):
    """An app whose devices connect through the relay."""

    relay_port = 0

    async def get_mqtt_endpoint(self, token: str, installation_id: str) -> MqttEndpoint:
        endpoint = await super().get_mqtt_endpoint(token, installation_id)
        return replace(endpoint, tcp_port=self.relay_port)


async def simulate(
    server: Server, app: dict[str, str], tamper: Callable[[bytes], Sequence[bytes]], **plan: Any
) -> SimulationReport:
    async with (
        make_http_client(server.url) as http,
        TamperingRelay(server.mqtt_address, tamper).open() as port,
    ):
        client = RelayedClient(http=http, app_id=app["appID"], app_key=app["appKey"])
        client.relay_port = port
        bodies = plan.pop("bodies", make_bodies(10))
        settings = {"device_count": 5, "rate_per_s": 0.0, "quiet_s": 0.5, **plan}
        return await Simulation(SimulationPlan(bodies=bodies, **settings), client=client).run()


class OnlyOnce:
    """Tampers with the tenth PUBLISH and leaves the others alone."""

    def __init__(self, instead: Callable[[bytes], Sequence[bytes]]) -> None:
        self._count = 0
        self._instead = instead

    def __call__(self, packet: bytes) -> Sequence[bytes]:
        self._count += 1
        return self._instead(packet) if self._count == 10 else (packet,)


@in_loop
async def test_a_run_where_all_arrives_once_passes(server: Server, app: dict[str, str]) -> None:
    report = await simulate(server, app, lambda packet: [packet])
    assert report.is_passed
    assert report.delivered_count == report.expected_count == 50
    assert 0 < report.latency_p50_ms <= report.latency_p99_ms <= report.latency_max_ms


@in_loop
async def test_one_lost_push_fails_the_run(server: Server, app: dict[str, str]) -> None:
    report = await simulate(server, app, OnlyOnce(lambda packet: []))
    assert not report.is_passed
    assert (report.delivered_count, report.missing_count, report.duplicate_count) == (49, 1, 0)


@in_loop
async def test_one_doubled_push_fails_the_run(server: Server, app: dict[str, str]) -> None:
    report = await simulate(server, app, OnlyOnce(lambda packet: [packet, packet]))
    assert not report.is_passed
    assert (report.delivered_count, report.missing_count, report.duplicate_count) == (50, 0, 1)


@in_loop
async def test_a_refused_write_fails_the_run(server: Server, app: dict[str, str]) -> None:
    bodies = [*make_bodies(3), b"[]"]
    report = await simulate(server, app, lambda packet: [packet], bodies=bodies)
    assert not report.is_passed
    assert (report.refused_count, report.missing_count, report.expected_count) == (1, 0, 15)


@in_loop
async def test_pushes_of_others_in_a_shared_bucket_do_not_count(
    server: Server, app: dict[str, str]
) -> None:
    bucket = unique("shared")
    first, second = await asyncio.gather(
        simulate(server, app, lambda packet: [packet], bucket_id=bucket),
        simulate(server, app, lambda packet: [packet], bucket_id=bucket),
    )
    assert first.is_passed
    assert second.is_passed


@in_loop
async def test_what_a_run_made_is_removed(server: Server, app: dict[str, str], api: Api) -> None:
    async with make_http_client(server.url) as http:
        client = AppClient(http=http, app_id=app["appID"], app_key=app["appKey"])
        simulation = Simulation(
            SimulationPlan(device_count=2, bodies=make_bodies(1)), client=client
        )
        await simulation.run()
        user = await client.create_pseudo_user()
        path = f"/buckets/{simulation.bucket_id}/objects/none"
        with pytest.raises(RequestRefused) as caught:
            await client._call("GET", path, token=user.token)
    assert caught.value.error_code == "BUCKET_NOT_FOUND"


# --- the command --------------------------------------------------------------------------------


def test_the_command_simulates_a_hundred_devices_without_any_option(server: Server) -> None:
    arguments = ("simulate", "--devices", "100", "--rate", "0", "--json")
    result = run_cli(*arguments, environ=server.environ, cwd=server.folder)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["delivered_count"], report["missing_count"], report["passed"]) == (2000, 0, True)


def test_the_command_simulates_over_every_transport(open_server: Server) -> None:
    for transport in ("tls", "ws", "wss"):
        arguments = ("simulate", "--devices", "3", "--rate", "0", "--transport", transport)
        result = run_cli(*arguments, environ=open_server.environ, cwd=open_server.folder)
        assert result.returncode == 0, f"{transport}: {result.stdout}{result.stderr}"


def test_a_transport_without_a_listener_is_told(server: Server) -> None:
    arguments = ("simulate", "--devices", "3", "--transport", "wss")
    result = run_cli(*arguments, environ=server.environ, cwd=server.folder)
    assert result.returncode == 1
    assert "the server has no wss listener" in result.stderr


def test_the_command_replays_a_feed(server: Server, tmp_path: Path) -> None:
    feed = tmp_path / "quakes.jsonl"
    records = [{"place": f"place {n}", "magnitude": n / 10} for n in range(30)]
    feed.write_text("\n".join(map(json.dumps, records)) + "\n\n", encoding="utf-8")
    arguments = ("simulate", "--devices", "3", "--feed", str(feed), "--rate", "0")
    result = run_cli(*arguments, environ=server.environ, cwd=server.folder)
    assert result.returncode == 0, result.stderr
    rows = dict(line.split(None, 1) for line in result.stdout.splitlines() if " " in line.strip())
    assert rows["delivered"].strip() == "90"
    assert rows["verdict"].strip() == "passed"


def test_the_command_fails_when_a_record_is_refused(server: Server, tmp_path: Path) -> None:
    feed = tmp_path / "large.jsonl"
    feed.write_text(json.dumps({"text": "x" * 70_000}) + '\n{"a": 1}\n', encoding="utf-8")
    arguments = ("simulate", "--devices", "2", "--feed", str(feed), "--json")
    result = run_cli(*arguments, environ=server.environ, cwd=server.folder)
    assert result.returncode == 1
    assert json.loads(result.stdout)["refused_count"] == 1
    assert "was refused with 400" in result.stderr


# --- feeds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[1]\n", "no JSON\n", "", "\n\n"])
def test_a_bad_feed_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    feed = tmp_path / "feed.jsonl"
    feed.write_text('{"a": 1}\n' + text if text.strip() else text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_feed(feed)
    assert str(feed) in str(caught.value)
    assert (":2)" in str(caught.value)) == bool(text.strip())


def test_a_missing_feed_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_feed(tmp_path / "none.jsonl")


def test_a_feed_keeps_its_records_as_they_are(tmp_path: Path) -> None:
    feed = tmp_path / "feed.jsonl"
    feed.write_bytes(b'{"a":  1.50}\r\n\n{"b": "\xc3\xa9"}')
    assert read_feed(feed) == [b'{"a":  1.50}', b'{"b": "\xc3\xa9"}']
