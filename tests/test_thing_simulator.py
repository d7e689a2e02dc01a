"""The simulator of things tells the truth: it passes when all is done, sees loss and doubling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mqttpush.client import make_http_client
from mqttpush.errors import RequestRefused
from mqttpush.thing_simulator import ThingPlan, ThingReport, ThingSimulation
from tests.support.loop import in_loop
from tests.support.server import Server, run_cli
from tests.test_simulator import RelayedClient, TamperingRelay

THING_COUNT = 5


class TellTheIssuer:
    """Lets the first news of a command's end reach its issuer's device so many times."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._is_done = False

    def __call__(self, packet: bytes) -> list[bytes]:
        if self._is_done or b'"commandID"' not in packet:
            return [packet]
        self._is_done = True
        return [packet] * self._times


class ForgetfulClient(RelayedClient):
    """Loses the first command on its way."""

    is_lost = False

    async def command_thing(self, token: str, thing_id: str, command: Mapping[str, Any]) -> str:
        if self.is_lost:
            return await super().command_thing(token, thing_id, command)
        self.is_lost = True
        return "11111111-1111-1111-1111-111111111111"

    async def command_state(self, token: str, thing_id: str, command_id: str) -> str:
        try:
            return await super().command_state(token, thing_id, command_id)
        except RequestRefused:
            return ""


async def simulate(
    server: Server,
    app: dict[str, str],
    *,
    times: int = 1,
    client_class: type[RelayedClient] = RelayedClient,
) -> ThingReport:
    async with (
        make_http_client(server.url) as http,
        TamperingRelay(server.mqtt_address, TellTheIssuer(times)).open() as port,
    ):
        client = client_class(http=http, app_id=app["appID"], app_key=app["appKey"])
        client.relay_port = port
        plan = ThingPlan(THING_COUNT, quiet_s=0.5)
        return await ThingSimulation(plan, client=client).run()


@in_loop
async def test_a_run_where_all_is_done_passes(server: Server, app: dict[str, str]) -> None:
    report = await simulate(server, app)
    assert report.is_passed
    assert report.done_count == report.told_count == report.onboarded_count == THING_COUNT
    assert 0 < report.latency_p50_ms <= report.latency_p99_ms


@in_loop
async def test_an_issuer_who_is_not_told_fails_the_run(server: Server, app: dict[str, str]) -> None:
    report = await simulate(server, app, times=0)
    assert not report.is_passed
    assert (report.told_count, report.done_count) == (THING_COUNT - 1, THING_COUNT)


@in_loop
async def test_an_issuer_who_is_told_twice_fails_the_run(
    server: Server, app: dict[str, str]
) -> None:
    report = await simulate(server, app, times=2)
    assert not report.is_passed
    assert report.told_count == THING_COUNT + 1


@in_loop
async def test_a_lost_command_fails_the_run(server: Server, app: dict[str, str]) -> None:
    report = await simulate(server, app, client_class=ForgetfulClient)
    assert not report.is_passed
    assert (report.command_count, report.received_count) == (THING_COUNT, THING_COUNT - 1)
    assert report.done_count == report.told_count == THING_COUNT - 1


@pytest.mark.parametrize("transport", ["tcp", "tls", "ws", "wss"])
def test_the_command_simulates_things(open_server: Server, transport: str) -> None:
    arguments = ("simulate", "--things", "10", "--transport", transport, "--json")
    result = run_cli(*arguments, environ=open_server.environ, cwd=open_server.folder)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["done_count"], report["passed"]) == (10, True)


def test_the_command_prints_a_table(server: Server) -> None:
    arguments = ("simulate", "--things", "3")
    result = run_cli(*arguments, environ=server.environ, cwd=server.folder)
    assert result.returncode == 0, result.stderr
    rows = dict(line.split("  ", 1) for line in result.stdout.splitlines() if "  " in line.strip())
    assert rows["done"].strip() == "3"
    assert rows["verdict"].strip() == "passed"


def test_things_write_no_objects(server: Server) -> None:
    arguments = ("simulate", "--things", "3", "--writes", "5")
    result = run_cli(*arguments, environ=server.environ, cwd=server.folder)
    assert result.returncode == 2
    assert "--things" in result.stderr
