"""Sending: who may, what the body must be, what a device receives (spec kii 6.4, 7, 8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.rest.support import MQTT, SEND, assert_refused, send
from tests.support.device import Device
from tests.support.rest import Account, Api, unique


@pytest.fixture
def device(api: Api, user: Account, topic: str) -> Iterator[Device]:
    """A device of that user, who is subscribed to the topic."""
    api.subscribe(user, topic)
    with Device(api.mqtt_endpoint(user)) as device:
        yield device


# --- who, and what is answered -------------------------------------------------------------------


@pytest.mark.spec("kii 6.4")
def test_an_accepted_message_has_an_id(api: Api, user: Account, topic: str) -> None:
    answers = [send(api, topic, user.token, {"data": {"a": 1}, "mqtt": MQTT}) for _ in range(2)]
    for answer in answers:
        assert answer.status_code == 201
        assert "SendPushMessageResponse+json" in answer.headers["content-type"]
    assert len({answer.json()["pushMessageID"] for answer in answers}) == 2


@pytest.mark.spec("kii 6.4")
def test_sending_needs_the_right(
    api: Api, topic: str, other_user: Account, thing: Account, admin_token: str
) -> None:
    body = {"data": {"a": 1}, "mqtt": MQTT}
    for token in (other_user.token, thing.token, None):
        assert_refused(send(api, topic, token, body), 401, "UNAUTHORIZED")
    assert send(api, topic, admin_token, body).status_code == 201


@pytest.mark.spec("kii 6.5")
def test_only_the_admin_sends_to_a_topic_of_the_app(
    api: Api, user: Account, admin_token: str
) -> None:
    path = f"/topics/{unique('app')}"
    api.ok("PUT", path, token=admin_token)
    api.subscribe(user, path)
    body = {"data": {"a": 1}, "mqtt": MQTT}
    assert_refused(send(api, path, user.token, body), 401, "UNAUTHORIZED")
    assert send(api, path, admin_token, body).status_code == 201


@pytest.mark.spec("kii 6.4")
def test_a_missing_topic_is_404(api: Api, user: Account) -> None:
    refused = send(api, "/users/me/topics/none", user.token, {"data": {"a": 1}, "mqtt": MQTT})
    assert_refused(refused, 404, "TOPIC_NOT_FOUND")


@pytest.mark.spec("kii 7")
def test_direct_push_is_for_the_admin_and_for_oneself(
    api: Api, user: Account, other_user: Account, thing: Account, admin_token: str
) -> None:
    body = {"data": {"a": 1}, "mqtt": MQTT}
    assert send(api, "/users/me", user.token, body).status_code == 201
    for target in (f"/users/{user.id}", f"/things/{thing.id}"):
        assert send(api, target, admin_token, body).status_code == 201
        for token in (other_user.token, None):
            assert_refused(send(api, target, token, body), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 7")
@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/users/nobody", "USER_NOT_FOUND"),
        ("/users/EMAIL:no@bo.dy", "USER_NOT_FOUND"),
        ("/things/th.nothing", "THING_NOT_FOUND"),
        ("/things/VENDOR_THING_ID:nothing", "THING_NOT_FOUND"),
    ],
)
def test_a_direct_push_to_nobody_is_404(api: Api, admin_token: str, target: str, code: str) -> None:
    refused = send(api, target, admin_token, {"data": {"a": 1}, "mqtt": MQTT})
    assert_refused(refused, 404, code)


# --- bodies real libraries send ------------------------------------------------------------------


@pytest.mark.spec("kii C3")
@pytest.mark.parametrize(
    "body",
    [
        b'{"data":{"a":"b"},"gcm":{"enabled":true},"apns":{"enabled":true},'
        b'"mqtt":{"enabled":true}}',
        b'{"data":{"a":"b"},"gcm":{"enabled":true},"apns":{"enabled":true},"jpush":'
        b'{"enabled":true},"mqtt":{"enabled":true}}',
        b'{"sendToDevelopment":true,"sendToProduction":true,"sendAppID":false,"sendSender":true,'
        b'"sendWhen":false,"sendOrigin":false,"sendObjectScope":true,"sendTopicID":true,'
        b'"data":{"msg":"mqtt test"},"gcm":{"enabled":false},"apns":{"enabled":false},"jpush":'
        b'{"enabled":false},"mqtt":{"enabled":true,"data":{"msg":"mqtt body"},"qos":1,'
        b'"retain":false,"dryRun":false}}',
        b'{"mqtt":{"enabled":true,"data":{"only":"here"}}}',
        b'{"data":{"a":1},"mqtt":{"enabled":true},"unknownKey":{"deep":[1]}}',
        b'{"gcm":{"enabled":true,"notification":{"title":"t","body":"b"}}}',
        b'{"apns":{"enabled":true,"alert":{"body":"b","locArgs":["x"]},"badge":1}}',
        b'{"data":{"a":"b"},"gcm":{"enabled":true,"collapseKey":"k","timeToLive":60}}',
        b'{"data":{"a":"b"},"gcm":{"enabled":false},"mqtt":{"enabled":false}}',
    ],
)
def test_the_bodies_of_real_clients_are_accepted(
    api: Api, user: Account, topic: str, body: bytes
) -> None:
    path = f"{topic}/push/messages"
    answer = api.call("POST", path, token=user.token, content=body, headers={"Content-Type": SEND})
    assert answer.status_code == 201, answer.text


# --- what arrives --------------------------------------------------------------------------------


@pytest.mark.spec("kii 8.4")
def test_a_device_sees_the_network_s_data_over_the_common_data(
    api: Api, user: Account, topic: str, device: Device
) -> None:
    body = {
        "data": {"msg": "mqtt test", "kept": 1.5},
        "mqtt": {"enabled": True, "data": {"msg": "mqtt body"}},
        "gcm": {"enabled": False},
    }
    assert send(api, topic, user.token, body).status_code == 201
    push = device.next_push()
    assert (push["msg"], push["kept"], push["sender"]) == ("mqtt body", 1.5, user.id)
    assert push["sourceURI"] == f"kiicloud:/{topic}"


@pytest.mark.spec("kii 8.1")
def test_the_defaults_of_a_topic_message(
    api: Api, user: Account, topic: str, device: Device
) -> None:
    send(api, topic, user.token, {"data": {"mymessage": "Hello"}, "mqtt": MQTT})
    assert device.next_push().keys() == {
        "mymessage", "sender", "senderURI", "sourceURI", "topic", "when",
        "objectScopeType", "objectScopeAppID", "objectScopeUserID",
    }  # fmt: skip


@pytest.mark.spec("kii 8.1")
def test_every_switch_of_a_topic_message_turned_round(
    api: Api, user: Account, topic: str, device: Device
) -> None:
    body = {
        "data": {"mymessage": "Hello"},
        "mqtt": MQTT,
        "pushMessageType": "greeting",
        "sendAppID": True,
        "sendSender": False,
        "sendWhen": True,
        "sendOrigin": True,
        "sendObjectScope": False,
        "sendTopicID": False,
    }
    send(api, topic, user.token, body)
    push = device.next_push()
    assert push.keys() == {
        "mymessage", "senderURI", "sourceURI", "when", "type", "appID", "origin",
    }  # fmt: skip
    assert (push["type"], push["origin"], push["appID"]) == ("greeting", "EXPLICIT", api.app_id)


@pytest.mark.spec("kii 9.2")
def test_a_direct_push_of_the_admin_is_the_documented_example(
    api: Api, user: Account, device: Device, admin_token: str
) -> None:
    body = {"data": {"mymessage": "Hello"}, "mqtt": MQTT}
    send(api, f"/users/{user.id}", admin_token, body)
    assert device.next_push() == {
        "sourceURI": f"kiicloud://users/{user.id}",
        "mymessage": "Hello",
        "senderURI": "kiicloud://admins/APP_ADMIN",
    }


@pytest.mark.spec("kii 8.5")
def test_a_refused_message_reaches_nobody(
    api: Api, user: Account, topic: str, device: Device
) -> None:
    too_big = {"data": {"a": "x" * 4096}, "mqtt": MQTT}
    for body in ({"data": {"a": []}, "mqtt": MQTT}, too_big, {"mqtt": MQTT}):
        assert send(api, topic, user.token, body).status_code == 400
    send(api, topic, user.token, {"data": {"marker": "end"}, "mqtt": MQTT})
    assert device.pushes_before("end") == []


@pytest.mark.spec("kii 8.3")
def test_a_message_without_mqtt_reaches_no_mqtt_device(
    api: Api, user: Account, topic: str, device: Device
) -> None:
    for body in (
        {"data": {"a": "b"}, "gcm": {"enabled": True}},
        {"data": {"a": "b"}, "mqtt": {"enabled": False}, "fcm": {"enabled": True}},
    ):
        assert send(api, topic, user.token, body).status_code == 201
    send(api, topic, user.token, {"data": {"marker": "end"}, "mqtt": MQTT})
    assert device.pushes_before("end") == []


@pytest.mark.spec("kii C9")
@pytest.mark.parametrize("to_production", [True, False])
@pytest.mark.parametrize("to_development", [True, False])
def test_a_message_goes_to_the_environments_it_names(
    api: Api, admin_token: str, to_development: bool, to_production: bool
) -> None:
    topic = f"/topics/{unique('environments')}"
    api.ok("PUT", topic, token=admin_token)
    flags = {"sendToDevelopment": to_development, "sendToProduction": to_production}
    with ExitStack() as stack:
        devices = {}
        for is_development in (True, False):
            who = api.pseudo_user()
            api.subscribe(who, topic)
            body = {"deviceType": "MQTT", "development": is_development}
            made = api.ok("POST", "/installations", token=who.token, json=body)
            path = f"/installations/{made['installationID']}/mqtt-endpoint"
            endpoint = api.ok("GET", path, token=who.token)
            devices[is_development] = stack.enter_context(Device(endpoint))
        send(api, topic, admin_token, {"data": {"a": 1}, "mqtt": MQTT, **flags})
        send(api, topic, admin_token, {"data": {"marker": "end"}, "mqtt": MQTT})
        counts = {kind: len(each.pushes_before("end")) for kind, each in devices.items()}
    assert counts == {True: int(to_development), False: int(to_production)}
