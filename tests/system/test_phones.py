"""Phones, from REST to the push networks: the real server beside the provider simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mqttpush.networks import Network
from mqttpush.provider_simulator.faults import Fault
from tests.conftest import StartServer
from tests.networks.support import fields_from
from tests.support.device import Device
from tests.support.phone_apps import TOPIC, PhoneApp, make_phone_app, simulator_settings
from tests.support.providers import RunningProviders, running_providers
from tests.support.rest import Account, Api
from tests.support.server import Server, call_cli

PER_NETWORK = 3
KILLED_AT = (3000, 9000, 15_000)
MANY = 20_000
CONCURRENCY = 128


@pytest.fixture(scope="module")
def running() -> Iterator[RunningProviders]:
    with running_providers() as running:
        yield running


@dataclass(slots=True)
class Stage:
    """A server, its app with a few phones of every network, and the simulator."""

    server: Server
    api: Api
    admin_token: str
    running: RunningProviders
    tokens: dict[Network, list[str]]
    app: PhoneApp

    def send(self, place: str = f"/topics/{TOPIC}", **fields: Any) -> str:
        body: dict[str, Any] = {"data": {"greeting": "hello"}, "mqtt": {"enabled": True}}
        body |= {name: {"enabled": True} for name in ("fcm", "apns", "jpush", "webpush")}
        path = f"{place}/push/messages"
        sent = self.api.ok("POST", path, token=self.admin_token, json={**body, **fields})
        return str(sent["pushMessageID"])

    def networks_of(self, message_id: str) -> dict[str, Any]:
        """What became of it, when nothing waits any more."""
        while True:
            found = self.api.ok("GET", f"/push/messages/{message_id}", token=self.admin_token)
            networks: dict[str, Any] = found["networks"]
            if networks and not any(is_open(counts) for counts in networks.values()):
                return networks

    def phone(self, network: str, device_type: str) -> tuple[Account, str]:
        """A user and the token of his new phone."""
        user = self.api.pseudo_user()
        token = self.running.providers.provider(network).make_tokens(1)[0]
        body = {"deviceType": device_type, "installationRegistrationID": token}
        self.api.ok("POST", "/installations", token=user.token, json=body)
        return user, token


def is_open(counts: dict[str, Any]) -> bool:
    return bool(counts.get("waiting")) or not counts.get("isComplete", True)


@pytest.fixture
def stage(running: RunningProviders, start_server: StartServer, tmp_path: Path) -> Iterator[Stage]:
    providers = running.providers
    providers.reset()
    settings = {**simulator_settings(providers), "DELIVERY__ONCE_GRACE_S": "1"}
    credentials = {network: fields_from(providers, network) for network in Network}
    tokens = {
        network: providers.provider(network.value).make_tokens(PER_NETWORK) for network in Network
    }
    app = make_phone_app(tmp_path, settings, credentials, tokens)
    server = start_server(tmp_path, **settings)
    api = Api(server.url, app.app)
    yield Stage(server, api, app.token, running, tokens, app)
    api.close()
    server.stop()


def test_one_message_reaches_the_phones_of_every_network(stage: Stage) -> None:
    networks = stage.networks_of(stage.send())
    for network in Network:
        counts = networks[network.value]
        assert (counts["recipients"], counts["delivered"]) == (PER_NETWORK, PER_NETWORK), networks
        provider = stage.running.providers.provider(network.value)
        assert [provider.count(token) for token in stage.tokens[network]] == [1] * PER_NETWORK


def test_a_write_to_a_bucket_reaches_the_phones_of_who_hears_it(stage: Stage) -> None:
    user, token = stage.phone("fcm", "ANDROID")
    bucket = f"/users/{user.id}/buckets/inbox"
    stage.api.ok("PUT", f"{bucket}/objects/first", token=user.token, json={"a": 1})
    stage.api.subscribe(user, bucket)
    stage.api.ok("PUT", f"{bucket}/objects/second", token=user.token, json={"a": 1})
    stage.running.wait_for("fcm", 1)
    arrival = stage.running.providers.fcm.last(token)
    assert arrival is not None
    message = json.loads(arrival.payload)["message"]
    assert message["data"]["objectID"] == "second"
    assert message["android"]["collapse_key"] == "inbox"
    assert stage.running.providers.fcm.count(token) == 1


def test_a_dead_token_is_gone_and_the_trace_says_why(stage: Stage) -> None:
    user, token = stage.phone("fcm", "ANDROID")
    stage.running.providers.fcm.kill([token])
    message_id = stage.send(f"/users/{user.id}")
    assert stage.networks_of(message_id)["fcm"]["dropped"] == {"token_removed": 1}
    listed = stage.api.ok("GET", f"/installations?userID={user.id}", token=stage.admin_token)
    assert listed["installations"] == []
    path = f"/push/messages/{message_id}/deliveries"
    (trace,) = stage.api.ok("GET", path, token=stage.admin_token)["deliveries"]
    assert (trace["ending"], trace["userID"], trace["attempts"]) == ("token_removed", user.id, 1)
    device = f"/installations/{trace['installationID']}/push/deliveries"
    (again,) = stage.api.ok("GET", device, token=stage.admin_token)["deliveries"]
    assert again == trace
    assert stage.api.call("GET", path, token=user.token).status_code == 401


def test_a_network_that_fails_for_a_moment_is_asked_again(stage: Stage) -> None:
    user, token = stage.phone("apns", "IOS")
    providers = stage.running.providers
    providers.add_faults(Fault(network="apns", code="ServiceUnavailable", times=1))
    networks = stage.networks_of(stage.send(f"/users/{user.id}"))
    assert networks["apns"]["delivered"] == 1
    assert providers.apns.count(token) == 1


def test_once_spares_the_phone_of_whom_a_live_connection_reached(stage: Stage) -> None:
    online, spared = stage.phone("fcm", "ANDROID")
    offline, wanted = stage.phone("fcm", "ANDROID")
    for user in (online, offline):
        stage.api.subscribe(user, f"/topics/{TOPIC}")
    endpoint = stage.api.mqtt_endpoint(online)
    stage.api.mqtt_endpoint(offline)
    with Device(endpoint) as device:
        networks = stage.networks_of(stage.send(delivery="once"))
        assert device.next_push()["greeting"] == "hello"
    assert networks["fcm"]["dropped"] == {"sent_over_mqtt": 1}
    fcm = stage.running.providers.fcm
    assert (fcm.count(spared), fcm.count(wanted)) == (0, 1)


def test_once_can_be_an_app_s_habit(stage: Stage) -> None:
    changed = call_cli(
        "app", "change", stage.app.app["appID"], "--deliver-once", "--json",
        environ=stage.server.environ, cwd=stage.server.folder,
    )  # fmt: skip
    assert json.loads(changed.stdout)["deliverOnce"] is True
    user, token = stage.phone("fcm", "ANDROID")
    with Device(stage.api.mqtt_endpoint(user)) as device:
        networks = stage.networks_of(stage.send(f"/users/{user.id}"))
        assert device.next_push()["greeting"] == "hello"
        assert networks["fcm"]["dropped"] == {"sent_over_mqtt": 1}
        networks = stage.networks_of(stage.send(f"/users/{user.id}", delivery="everywhere"))
    assert networks["fcm"]["delivered"] == 1
    assert stage.running.providers.fcm.count(token) == 1


def test_the_command_line_traces_a_message(stage: Stage) -> None:
    user, _ = stage.phone("fcm", "ANDROID")
    options = ("--app-id", stage.app.app["appID"])
    sent = call_cli(
        "push", "user", user.id, "text=hello", "--json", *options,
        environ=stage.server.environ, cwd=stage.server.folder,
    )  # fmt: skip
    message_id = json.loads(sent.stdout)["pushMessageID"]
    stage.networks_of(message_id)
    for is_json in (False, True):
        traced = call_cli(
            "push", "trace", message_id, *options, *(["--json"] if is_json else []),
            environ=stage.server.environ, cwd=stage.server.folder,
        )  # fmt: skip
        assert traced.returncode == 0, traced.stderr
        assert "delivered" in traced.stdout
    (row,) = json.loads(traced.stdout)["deliveries"]
    assert (row["ending"], row["userID"]) == ("delivered", user.id)


def test_metrics_tell_endings_and_times(stage: Stage) -> None:
    stage.networks_of(stage.send())
    text = stage.api.http.get(f"{stage.server.url}/metrics").text
    for network in Network:
        labels = f'{{ending="delivered",network="{network.value}"}}'
        assert f"mqttpush_phone_pushes_total{labels} {PER_NETWORK}.0" in text.replace(
            f'network="{network.value}",ending="delivered"',
            f'ending="delivered",network="{network.value}"',
        )
        assert f'mqttpush_phone_send_latency_seconds_count{{network="{network.value}"}}' in text


def test_kill_9_loses_no_push_and_repeats_no_more_than_were_under_way(
    running: RunningProviders, start_server: StartServer, tmp_path: Path
) -> None:
    providers = running.providers
    providers.reset()
    settings = simulator_settings(providers)
    tokens = providers.fcm.make_tokens(MANY)
    app = make_phone_app(
        tmp_path,
        settings,
        {Network.FCM: fields_from(providers, Network.FCM)},
        {Network.FCM: tokens},
    )
    server = start_server(tmp_path, **settings)
    body = {"data": {"a": "b"}, "fcm": {"enabled": True}}
    api = Api(server.url, app.app)
    path = f"/topics/{TOPIC}/push/messages"
    message_id = api.ok("POST", path, token=app.token, json=body)["pushMessageID"]
    api.close()
    for count in KILLED_AT:
        running.wait_for("fcm", count, timeout_s=60)
        server.kill()
        server = start_server(tmp_path, **settings)
    running.wait_for("fcm", MANY, timeout_s=60)
    stage = Stage(server, Api(server.url, app.app), app.token, running, {}, app)
    networks = stage.networks_of(message_id)
    stage.api.close()
    assert networks["fcm"] == {
        "recipients": MANY, "delivered": MANY, "dropped": {}, "waiting": 0, "isComplete": True,
    }  # fmt: skip
    counts = providers.fcm.ledger.count_by_token
    assert set(counts) == set(tokens)
    repeated = sum(counts.values()) - MANY
    assert repeated <= CONCURRENCY * len(KILLED_AT)
    server.stop()
