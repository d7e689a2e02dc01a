"""Kinvey's sends, from REST to the phones: the real server beside the provider simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mqttpush.networks import Network
from mqttpush.provider_simulator import Providers
from tests.conftest import StartServer
from tests.networks.support import fields_from
from tests.support.collections import Environment, Member, assert_error
from tests.support.device import Device
from tests.support.phone_apps import make_phone_app, simulator_settings
from tests.support.providers import RunningProviders, running_providers
from tests.support.rest import Account, Api
from tests.support.server import Server

NETWORKS = (Network.FCM, Network.APNS)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningProviders]:
    with running_providers() as running:
        yield running


@dataclass(slots=True)
class Stage:
    """A server whose app has keys of FCM and APNs, and the simulator of both."""

    server: Server
    kinvey: Environment
    api: Api
    running: RunningProviders

    @property
    def providers(self) -> Providers:
        return self.running.providers

    def device(self, member: Member, network: str, platform: str, **more: str) -> str:
        """A new device of the member; its token."""
        token: str = self.providers.provider(network).make_tokens(1)[0]
        body = {"platform": platform, "deviceId": token, **more}
        self.kinvey.ok("POST", "push/register-device", member.authorization, body)
        return token

    def send(self, recipients: Any, content: Any) -> dict[str, Any]:
        body = {"recipients": recipients, "messageContent": content}
        sent: dict[str, Any] = self.kinvey.ok("POST", "push/sendMessage", self.kinvey.master, body)
        return sent

    def document(self, member: Member) -> dict[str, Any]:
        found: dict[str, Any] = self.kinvey.ok("GET", f"user/{member.id}", self.kinvey.master)
        return found

    def received(self, network: str, token: str) -> Any:
        """What the device got last, once the network has taken one push."""
        self.running.wait_for(network, 1)
        arrival = self.providers.provider(network).last(token)
        assert arrival is not None
        return json.loads(arrival.payload)

    def data(self, token: str) -> Any:
        """Of FCM's message to an Android device."""
        return self.received("fcm", token)["message"]["data"]

    def counts(self, *tokens: str) -> list[int]:
        both = (self.providers.fcm, self.providers.apns)
        return [sum(network.count(token) for network in both) for token in tokens]

    def settle(self, message_id: str) -> None:
        """Until nothing of the message waits any more."""
        token = self.api.admin_token()
        while True:
            found = self.api.ok("GET", f"/push/messages/{message_id}", token=token)
            waiting = found["networks"].values()
            if all(not each.get("waiting") and each.get("isComplete", True) for each in waiting):
                return


@pytest.fixture
def stage(running: RunningProviders, start_server: StartServer, tmp_path: Path) -> Iterator[Stage]:
    running.providers.reset()
    settings = simulator_settings(running.providers)
    credentials = {network: fields_from(running.providers, network) for network in NETWORKS}
    app = make_phone_app(tmp_path, settings, credentials, {})
    server = start_server(tmp_path, **settings)
    kinvey, api = Environment(server.url, app.app), Api(server.url, app.app)
    yield Stage(server, kinvey, api, running)
    kinvey.close()
    api.close()
    server.stop()


@pytest.mark.spec("kinvey 5.3")
def test_a_text_reaches_all_devices_of_a_user_and_his_browser(stage: Stage) -> None:
    joe, sue = stage.kinvey.member(), stage.kinvey.member()
    android = stage.device(joe, "fcm", "android", service="firebase")
    phonegap = stage.device(joe, "fcm", "android", framework="phonegap")
    ios = stage.device(joe, "apns", "ios")
    firebase_ios = stage.device(joe, "fcm", "ios", framework="nativescript", service="firebase")
    others = stage.device(sue, "fcm", "android")
    account = Account(joe.id, joe.authtoken)
    with Device(stage.api.mqtt_endpoint(account)) as browser:
        sent = stage.send([stage.document(joe)], "hello")
        assert browser.next_push() == {"msg": "hello"}
    assert (sent["users"], sent["devices"], sent["queued"]) == (1, 4, 4)
    assert sent["messageId"]
    stage.running.wait_for("fcm", 3)
    stage.settle(sent["messageId"])
    assert stage.data(android) == {"msg": "hello"}
    assert stage.data(phonegap) == {"message": "hello", "msg": "hello"}
    assert stage.received("apns", ios) == {"aps": {"alert": "hello"}}
    message = stage.received("fcm", firebase_ios)["message"]
    assert message["apns"]["payload"] == {"aps": {"alert": "hello"}}
    assert stage.counts(android, phonegap, ios, firebase_ios, others) == [1, 1, 1, 1, 0]


@pytest.mark.spec("kinvey 13.8")
def test_a_payload_without_an_android_part_reaches_only_ios(stage: Stage) -> None:
    joe = stage.kinvey.member()
    android = stage.device(joe, "fcm", "android")
    ios = stage.device(joe, "apns", "ios")
    firebase_ios = stage.device(joe, "fcm", "ios", service="firebase")
    content = {"iOSAps": {"alert": "a", "badge": 1}, "iOSExtras": {"id": 5}}
    sent = stage.send(stage.document(joe), content)
    assert (sent["devices"], sent["queued"]) == (2, 2)
    stage.settle(sent["messageId"])
    assert stage.counts(android, ios, firebase_ios) == [0, 1, 1]
    assert stage.received("apns", ios) == {"aps": {"alert": "a", "badge": 1}, "id": 5}


@pytest.mark.spec("kinvey 13.8")
def test_an_android_payload_with_a_from_key_is_delivered(stage: Stage) -> None:
    joe = stage.kinvey.member()
    android = stage.device(joe, "fcm", "android")
    titanium = stage.device(joe, "fcm", "android", framework="titanium")
    ios = stage.device(joe, "apns", "ios")
    firebase_ios = stage.device(joe, "fcm", "ios", service="firebase")
    payload = {"message": "hi", "from": "Kinvey", "n": 5}
    content = {"iOSAps": None, "iOSExtras": None, "androidPayload": payload}
    for _ in range(2):
        sent = stage.send([joe.id], content)
        assert (sent["devices"], sent["queued"]) == (2, 2)
        stage.settle(sent["messageId"])
    data = stage.data(android)
    assert json.loads(data.pop("payload")) == payload
    assert data == {"message": "hi", "n": "5"}
    assert json.loads(stage.data(titanium)["payload"]) == payload
    assert stage.counts(android, titanium, ios, firebase_ios) == [2, 2, 0, 0]
    assert stage.server.stderr.count("names that FCM reserves") == 1


@pytest.mark.spec("kinvey 5.2")
def test_who_is_meant_by_a_recipient(stage: Stage) -> None:
    joe, sue, ann = (stage.kinvey.member() for _ in range(3))
    tokens = [stage.device(each, "fcm", "android") for each in (joe, sue, ann)]
    sue_s_name = stage.document(sue)["username"]
    third = {"_id": 5, "_messaging": {"pushTokens": [{"platform": "Android", "token": tokens[2]}]}}
    stale = {**stage.document(joe), "_messaging": {"pushTokens": [{"platform": 1}]}}
    recipients = [
        stale,
        joe.id,
        sue_s_name,
        third,
        "nobody",
        {"_id": "nobody"},
        None,
        7,
        {"_messaging": {"pushTokens": [{"platform": "ios", "token": tokens[0]}]}},
    ]
    sent = stage.send(recipients, "x")
    assert (sent["users"], sent["devices"], sent["unknown"]) == (2, 3, 5)
    stage.settle(sent["messageId"])
    assert stage.counts(*tokens) == [1, 1, 1]


@pytest.mark.spec("kinvey 5.1")
def test_the_old_name_of_recipients_and_nobody_at_all(stage: Stage) -> None:
    joe = stage.kinvey.member()
    token = stage.device(joe, "fcm", "android")
    body = {"destination": [joe.id], "messageContent": "x"}
    sent = stage.kinvey.ok("POST", "push/sendMessage", stage.kinvey.master, body)
    assert sent["devices"] == 1
    stage.settle(sent["messageId"])
    nobody = stage.send([], "x")
    del nobody["messageId"]
    assert nobody == {"users": 0, "devices": 0, "queued": 0}
    assert stage.counts(token) == [1]


@pytest.mark.spec("kinvey 5.2")
def test_a_broadcast_reaches_every_device_of_enabled_users_once(stage: Stage) -> None:
    members = [stage.kinvey.member() for _ in range(4)]
    tokens = [stage.device(each, "fcm", "android") for each in members]
    ios = stage.device(members[0], "apns", "ios")
    stage.kinvey.ok("DELETE", f"user/{members[1].id}", stage.kinvey.master)
    stage.kinvey.ok("DELETE", f"user/{members[2].id}?hard=true", stage.kinvey.master)
    body = {"messageContent": "to all"}
    account = Account(members[0].id, members[0].authtoken)
    with Device(stage.api.mqtt_endpoint(account)) as browser:
        sent = stage.kinvey.ok("POST", "push/sendBroadcast", stage.kinvey.master, body)
        assert browser.next_push() == {"msg": "to all"}
    assert (sent["users"], sent["devices"], sent["queued"]) == (2, 3, 3)
    stage.settle(sent["messageId"])
    assert stage.counts(*tokens, ios) == [1, 0, 0, 1, 1]


@pytest.mark.spec("kinvey 4.4")
def test_a_dead_token_leaves_the_user_s_document(stage: Stage) -> None:
    joe = stage.kinvey.member()
    dead, alive = (stage.device(joe, "fcm", "android") for _ in range(2))
    stage.providers.fcm.kill([dead])
    stage.settle(stage.send([joe.id], "x")["messageId"])
    left = [each["token"] for each in stage.document(joe)["_messaging"]["pushTokens"]]
    assert left == [alive]
    assert stage.send([joe.id], "x")["devices"] == 1


@pytest.mark.spec("kinvey 5.1")
@pytest.mark.parametrize(
    ("body", "error", "named"),
    [
        ({"messageContent": "x"}, "MissingRequestParameter", "recipients"),
        ({"recipients": None, "messageContent": "x"}, "MissingRequestParameter", "recipients"),
        ({"recipients": []}, "MissingRequestParameter", "messageContent"),
        ({"recipients": [], "messageContent": None}, "MissingRequestParameter", "messageContent"),
        ({"recipients": [], "messageContent": 5}, "ParameterValueOutOfRange", "messageContent"),
        ({"recipients": [], "messageContent": ["x"]}, "ParameterValueOutOfRange", "messageContent"),
        ({"recipients": 5, "messageContent": "x"}, "ParameterValueOutOfRange", "recipients"),
        (
            {"recipients": [], "messageContent": {"iOSAps": "x"}},
            "ParameterValueOutOfRange",
            "iOSAps",
        ),
        (
            {"recipients": [], "messageContent": {"androidPayload": []}},
            "ParameterValueOutOfRange",
            "androidPayload",
        ),
        ({"recipients": [], "messageContent": "x" * 5000}, "ParameterValueOutOfRange", "bytes"),
    ],
)
def test_a_bad_send_is_refused_by_name(
    kinvey: Environment, body: dict[str, Any], error: str, named: str
) -> None:
    refused = kinvey.call("POST", "push/sendMessage", kinvey.master, body)
    assert named in assert_error(refused, 400, error)["debug"]


@pytest.mark.spec("kinvey 5.1")
def test_only_the_master_secret_sends(kinvey: Environment) -> None:
    joe = kinvey.member()
    body = {"recipients": [joe.id], "messageContent": "x"}
    for path in ("push/sendMessage", "push/sendBroadcast"):
        for who in (kinvey.app, joe.authorization):
            refused = kinvey.call("POST", path, who, body)
            assert_error(refused, 401, "InsufficientCredentials")


def test_without_keys_of_a_network_nothing_is_queued(kinvey: Environment) -> None:
    joe = kinvey.member()
    body = {"platform": "ios", "deviceId": "a1" * 32}
    kinvey.ok("POST", "push/register-device", joe.authorization, body)
    sent = kinvey.ok(
        "POST", "push/sendMessage", kinvey.master, {"recipients": [joe.id], "messageContent": "x"}
    )
    assert (sent["users"], sent["devices"], sent["queued"]) == (1, 1, 0)


@pytest.fixture
def kinvey(server: Server, app: dict[str, str]) -> Iterator[Environment]:
    environment = Environment(server.url, app)
    yield environment
    environment.close()
