"""The load generator counts what it should: nobody else checks the checker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import Server

from .rest import App
from .servers import BareC, Engine
from .tools import Device, LoadGen, ToolError


@pytest.fixture
def loadgen() -> Iterator[LoadGen]:
    with LoadGen() as loadgen:
        yield loadgen


@pytest.fixture
def bench_app(server: Server, app: dict[str, str], loadgen: LoadGen) -> App:
    return App(http_port=http_port(server), loadgen=loadgen, names=app)


def http_port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.mark.parametrize("kind", [Engine, BareC])
def test_every_device_counts_every_event_once(kind: type[Engine | BareC], loadgen: LoadGen) -> None:
    with kind(loadgen) as running:
        connected = loadgen.connect(running.mqtt_port, running.devices(20))
        answer = running.push(7, 20)
    assert connected["connected"] == 20
    assert answer["in_time"] == 1
    assert answer["pushes"] == 140
    assert (answer["least_per_device"], answer["most_per_device"]) == (7, 7)
    assert answer["bytes"] > 140 * 200
    assert answer["server_cpu_s"] > 0


@pytest.mark.parametrize("level", [3, 4, 5])
def test_a_write_is_timed_from_its_request_to_its_push(
    level: int, server: Server, bench_app: App, loadgen: LoadGen
) -> None:
    bucket = f"loadgen{level}"
    users = bench_app.users(3, buckets=[bucket])
    loadgen.connect(server.mqtt_address[1], [user.device for user in users], level=level)
    writes = bench_app.named_creates(bucket, 5, series="1")
    answer = loadgen.http(http_port(server), writes, connections=2, rate=200, expect=15)
    assert answer["in_time"] == 1
    assert (answer["least_per_device"], answer["most_per_device"]) == (5, 5)
    assert answer["sent_to_received_ms"]["count"] == 15
    assert 0 < answer["sent_to_received_ms"]["p50"] < 5000
    assert answer["answer_ms"]["count"] == 5


def test_a_stalled_device_reads_nothing_until_it_reads_again(
    server: Server, bench_app: App, loadgen: LoadGen
) -> None:
    users = bench_app.users(2, buckets=["stalling"])
    loadgen.connect(server.mqtt_address[1], [user.device for user in users])
    loadgen.run("stall", count=1)
    writes = bench_app.creates("stalling", 4)
    stalled = loadgen.http(http_port(server), writes, expect=4)
    loadgen.run("reset")
    loadgen.run("stall", count=1, on=0)
    resumed = loadgen.run("wait", expect=4)
    assert (stalled["pushes"], resumed["pushes"]) == (4, 4)


def test_pings_are_sent_and_answered(server: Server, bench_app: App, loadgen: LoadGen) -> None:
    [user] = bench_app.users(1, buckets=[])
    loadgen.connect(server.mqtt_address[1], [user.device], keep_alive_s=1)
    held = loadgen.run("hold", seconds=2)
    assert held["pings"] == held["answers"] == 2
    assert held["lost_connections"] == 0


def test_a_refused_device_is_an_error(server: Server, loadgen: LoadGen) -> None:
    stranger = Device("nobody", "nobody", "wrong", "nobody")
    with pytest.raises(ToolError, match="CONNECT was refused"):
        loadgen.connect(server.mqtt_address[1], [stranger])


def test_a_refused_write_is_an_error(server: Server, loadgen: LoadGen) -> None:
    request = b"GET /api/apps/none/users/me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with pytest.raises(ToolError, match="not every request succeeded"):
        loadgen.http(http_port(server), [request])
