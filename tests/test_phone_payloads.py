"""Phone payloads: every network's own JSON, what it would refuse, and nothing lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush import phone_payloads
from mqttpush.commands import Command, CommandState
from mqttpush.errors import InvalidRequest
from mqttpush.events import ObjectEvent
from mqttpush.models import (
    Message,
    ObjectEventType,
    Owner,
    PhonePayload,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Source,
    SourceKind,
)
from mqttpush.payloads import (
    PHONE_NETWORKS,
    render_command_result,
    render_direct_message,
    render_event,
    render_event_for_phones,
    render_presence,
    render_topic_message,
)

APP_ID = "12345678"
USER_ID = "727f20b00022-8d18-5e11-991f-06db2509"
USER = Principal(APP_ID, PrincipalKind.USER, USER_ID)
ADMIN = Principal(APP_ID, PrincipalKind.ADMIN)
TARGET = Owner(APP_ID, "user:u")
USER_SCOPE = Scope(APP_ID, ScopeType.USER, USER_ID)
TOPIC = Source(2, SourceKind.TOPIC, USER_SCOPE, "myTopic", "admin:")
BUCKET = Source(1, SourceKind.BUCKET, USER_SCOPE, "myBucket", "admin:")
NOW_MS = 1463363865798
CONTROL = {
    "sender": USER_ID,
    "topic": "myTopic",
    "objectScopeType": "APP_AND_USER",
    "objectScopeAppID": APP_ID,
    "objectScopeUserID": USER_ID,
}


def payload_for(network: str, sent: dict[str, Any] | None = None, **fields: Any) -> PhonePayload:
    """A topic message as that network gets it. sent: the network's object of the request."""
    fields.setdefault("data", {"mymessage": "Hello"})
    message = Message(networks={network: {"enabled": True, **(sent or {})}}, **fields)
    rendered = render_topic_message(message, TOPIC, USER, NOW_MS)
    return rendered.phone_payloads["fcm" if network == "gcm" else network]


def body_for(network: str, sent: dict[str, Any] | None = None, **fields: Any) -> Any:
    return json.loads(payload_for(network, sent, **fields).body)


def event_for(network: str) -> tuple[Any, PhonePayload]:
    event = ObjectEvent(ObjectEventType.CREATED, BUCKET, "o-1", NOW_MS - 33, USER.subject)
    payload = render_event_for_phones(event, NOW_MS)[network]
    return json.loads(payload.body), payload


# --- FCM ----------------------------------------------------------------------------------------


@pytest.mark.spec("kii 9.3")
@pytest.mark.parametrize("network", ["fcm", "gcm"])
def test_google_gets_a_message_with_long_names_and_texts_only(network: str) -> None:
    data = {"text": "t", "number": 1.5, "whole": 7, "yes": True, "none": None}
    assert body_for(network, data=data, sends_when=True) == {
        "data": {
            "text": "t",
            "number": "1.5",
            "whole": "7",
            "yes": "true",
            "none": "null",
            "when": str(NOW_MS),
            **CONTROL,
        },
        "android": {"priority": "high"},
    }


@pytest.mark.spec("kii 8.2")
def test_google_s_options_go_where_its_present_interface_has_them() -> None:
    notification = {
        "title": "T",
        "body": "B",
        "imageURL": "https://example.com/i.png",
        "icon": "i",
        "sound": "s",
        "tag": "g",
        "color": "#112233",
        "clickAction": "open",
        "channelID": "c",
        "unknown": 1,
    }
    sent = {
        "notification": notification,
        "collapseKey": "k",
        "timeToLive": 60,
        "priority": "normal",
        "restrictedPackageName": "com.example",
        "delayWhileIdle": True,
    }
    payload = payload_for("fcm", sent)
    body = json.loads(payload.body)
    assert body["notification"] == {
        "title": "T",
        "body": "B",
        "image": "https://example.com/i.png",
    }
    assert body["android"] == {
        "priority": "normal",
        "collapse_key": "k",
        "ttl": "60s",
        "restricted_package_name": "com.example",
        "notification": {
            "icon": "i",
            "sound": "s",
            "tag": "g",
            "color": "#112233",
            "click_action": "open",
            "channel_id": "c",
        },
    }
    assert (payload.collapse_key, payload.ttl_s, payload.is_urgent) == ("k", 60, False)


@pytest.mark.spec("kii 8.3")
def test_fcm_wins_when_its_old_name_is_enabled_too() -> None:
    networks: dict[str, Any] = {
        "gcm": {"enabled": True, "data": {"by": "gcm"}},
        "fcm": {"enabled": True},
    }
    for names in (["gcm", "fcm"], ["fcm", "gcm"]):
        message = Message({"by": "both"}, {name: networks[name] for name in names})
        rendered = render_topic_message(message, TOPIC, USER, NOW_MS)
        assert rendered.phone_payloads.keys() == {"fcm"}
        assert json.loads(rendered.phone_payloads["fcm"].body)["data"]["by"] == "both"


@pytest.mark.parametrize("key", ["from", "message_type", "collapse_key", "google.x", "gcm.y"])
def test_a_key_that_google_keeps_for_itself_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match=key):
        phone_payloads.fcm({key: "x"}, {})


# --- APNs ---------------------------------------------------------------------------------------


@pytest.mark.spec("kii 9.4")
def test_an_apns_message_has_the_fields_and_values_of_the_documented_example() -> None:
    sent = {"alert": {"body": "Hello"}, "badge": 1, "sound": "default"}
    payload = payload_for("apns", sent)
    assert json.loads(payload.body) == {
        "aps": {"alert": {"body": "Hello"}, "badge": 1, "sound": "default"},
        "mymessage": "Hello",
        "s": USER_ID,
        "to": "myTopic",
        "sa": "12345678",
        "st": "APP_AND_USER",
        "su": USER_ID,
    }
    assert (payload.push_type, payload.is_urgent) == ("alert", True)


@pytest.mark.spec("kii 8.2")
def test_apns_keys_are_written_as_apple_writes_them() -> None:
    alert = {"locKey": "k", "locArgs": ["a"], "actionLocKey": "b", "launchImage": "i", "title": "t"}
    sent = {"alert": alert, "contentAvailable": True, "mutableContent": True, "category": "c"}
    assert body_for("apns", sent)["aps"] == {
        "alert": {
            "loc-key": "k",
            "loc-args": ["a"],
            "action-loc-key": "b",
            "launch-image": "i",
            "title": "t",
        },
        "content-available": 1,
        "mutable-content": 1,
        "category": "c",
    }


@pytest.mark.spec("kii 8.4")
def test_data_cannot_take_the_place_of_apple_s_own_dictionary() -> None:
    body = body_for("apns", {"alert": {"body": "Hello"}}, data={"aps": "forged", "s": "x"})
    assert body["aps"] == {"alert": {"body": "Hello"}}
    assert body["s"] == USER_ID


@pytest.mark.parametrize("sent", [{}, {"alert": {}}, {"contentAvailable": True}, {"category": "c"}])
def test_a_push_that_shows_nothing_goes_in_the_background_as_apple_wants_it(
    sent: dict[str, Any],
) -> None:
    payload = payload_for("apns", sent)
    assert json.loads(payload.body)["aps"]["content-available"] == 1
    assert (payload.push_type, payload.is_urgent) == ("background", False)


def test_apple_s_headers_come_from_the_message() -> None:
    sent = {"alert": "x", "collapseKey": "k", "timeToLive": 0, "priority": "normal"}
    payload = payload_for("apns", sent)
    assert (payload.collapse_key, payload.ttl_s) == ("k", 0)
    assert (payload.push_type, payload.is_urgent) == ("alert", False)


@pytest.mark.spec("kii 8.5")
def test_apple_s_old_limit_is_a_switch_of_the_app() -> None:
    message = Message({"d": "x" * 2048}, {"apns": {"enabled": True}})
    render_direct_message(message, TARGET, ADMIN, 0)
    with pytest.raises(InvalidRequest, match="2048 are allowed"):
        render_direct_message(message, TARGET, ADMIN, 0, is_apns_small=True)


# --- JPush, Web Push ------------------------------------------------------------------------------


@pytest.mark.spec("kii 9.3")
def test_jpush_gets_the_fields_as_extras_of_a_message() -> None:
    body = body_for("jpush", {"timeToLive": 60}, data={"n": 7}, message_type="greeting")
    assert body == {
        "platform": "all",
        "message": {
            "msg_content": "greeting",
            "extras": {"n": "7", "type": "greeting", **CONTROL},
        },
        "options": {"time_to_live": 60},
    }


def test_jpush_shows_a_notification_if_there_is_one() -> None:
    shown = body_for("jpush", {"notification": {"title": "T", "body": "B"}})["notification"]
    assert (shown["android"]["title"], shown["android"]["alert"]) == ("T", "B")
    assert shown["ios"]["alert"] == {"title": "T", "body": "B"}
    assert shown["android"]["extras"] == shown["ios"]["extras"]


def test_a_browser_gets_the_fields_of_mqtt_and_its_notification() -> None:
    notification = {"title": "T", "actions": [{"action": "a", "title": "A"}]}
    sent = {"notification": notification, "urgency": "low", "collapseKey": "k", "timeToLive": 9}
    networks: dict[str, Any] = {"webpush": {"enabled": True, **sent}, "mqtt": {"enabled": True}}
    message = Message({"whole": 7}, networks)
    rendered = render_topic_message(message, TOPIC, USER, NOW_MS)
    payload = rendered.phone_payloads["webpush"]
    on_mqtt = json.loads(rendered.payloads["mqtt"])
    assert json.loads(payload.body) == {**on_mqtt, "notification": notification}
    assert (payload.collapse_key, payload.ttl_s, payload.push_type) == ("k", 9, "low")
    assert not payload.is_urgent


# --- what every network shares --------------------------------------------------------------------


@pytest.mark.spec("kii 8.4")
def test_the_data_of_one_network_reaches_no_other() -> None:
    networks: dict[str, Any] = {
        "fcm": {"enabled": True, "data": {"only": "fcm"}},
        "webpush": {"enabled": True},
    }
    payloads = render_topic_message(Message({"a": 1}, networks), TOPIC, USER, 0).phone_payloads
    assert json.loads(payloads["fcm"].body)["data"]["only"] == "fcm"
    assert "only" not in json.loads(payloads["webpush"].body)


def test_a_dry_run_is_checked_like_any_other_and_not_sent() -> None:
    sent = {"enabled": True, "dryRun": True}
    for network in (*PHONE_NETWORKS, "gcm"):
        message = Message({"a": 1}, {network: sent})
        assert not render_topic_message(message, TOPIC, USER, 1).phone_payloads
        too_much = Message({"a": "x" * 5000}, {network: sent})
        with pytest.raises(InvalidRequest):
            render_topic_message(too_much, TOPIC, USER, 1)


def counted_bytes(network: str, body: bytes) -> int:
    """What the network counts."""
    fields = json.loads(body)
    if network in ("apns", "webpush"):
        return len(body)
    names = ("data", "notification") if network == "fcm" else ("message", "notification")
    parts = [fields[name] for name in names if name in fields]
    return sum(
        len(json.dumps(p, separators=(",", ":"), ensure_ascii=False).encode()) for p in parts
    )


@pytest.mark.spec("kii 8.5")
@pytest.mark.parametrize("filler", ["x", "ü"], ids=["one byte", "two bytes"])
@pytest.mark.parametrize(
    ("network", "limit_bytes"),
    [("fcm", 4096), ("apns", 4096), ("jpush", 4000), ("webpush", 3993)],
)
def test_a_payload_may_have_its_limit_and_not_one_byte_more(
    network: str, limit_bytes: int, filler: str
) -> None:
    def size_bytes(text: str) -> int:
        return counted_bytes(network, payload_for(network, data={"d": text}).body)

    room = limit_bytes - size_bytes("")
    size = len(filler.encode())
    text = filler * (room // size) + "x" * (room % size)
    assert size_bytes(text) == limit_bytes
    with pytest.raises(InvalidRequest, match=f"{limit_bytes} are allowed"):
        size_bytes(f"{text}x")


@pytest.mark.parametrize(
    ("network", "sent"),
    [
        ("fcm", {"timeToLive": -1}),
        ("fcm", {"timeToLive": 2_419_201}),
        ("fcm", {"timeToLive": True}),
        ("fcm", {"timeToLive": "60"}),
        ("fcm", {"notification": "text"}),
        ("fcm", {"notification": {"title": 1}}),
        ("fcm", {"collapseKey": 1}),
        ("fcm", {"collapseKey": "x" * 201}),
        ("fcm", {"priority": "10"}),
        ("gcm", {"restrictedPackageName": []}),
        ("apns", {"alert": 1}),
        ("apns", {"badge": "1"}),
        ("apns", {"badge": True}),
        ("apns", {"sound": 1}),
        ("apns", {"collapseKey": "x" * 65}),
        ("apns", {"collapseKey": "ü" * 33}),
        ("jpush", {"timeToLive": 864_001}),
        ("jpush", {"notification": []}),
        ("webpush", {"urgency": "urgent"}),
        ("webpush", {"urgency": {}}),
        ("webpush", {"notification": "text"}),
        ("webpush", {"timeToLive": 1.5}),
    ],
)
def test_what_a_network_would_refuse_is_refused_by_name(network: str, sent: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        payload_for(network, sent)
    assert refused.value.field.startswith(f"{network}.")


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=300)
)
flat_data = st.dictionaries(st.text(min_size=1, max_size=30), scalars, max_size=12)


@given(data=flat_data, own=flat_data, network=st.sampled_from([*PHONE_NETWORKS, "gcm"]))
def test_whatever_is_accepted_keeps_its_keys_and_fits_the_network(
    data: dict[str, Any], own: dict[str, Any], network: str
) -> None:
    try:
        payload = payload_for(network, {"data": own}, data=data)
    except InvalidRequest:
        return
    fields = json.loads(payload.body)
    name = "fcm" if network == "gcm" else network
    assert counted_bytes(name, payload.body) <= phone_payloads.LIMITS_BYTES[name]
    sent = {**data, **own}
    found = {"fcm": lambda: fields["data"], "jpush": lambda: fields["message"]["extras"]}.get(
        name, lambda: fields
    )()
    assert sent.keys() <= found.keys()
    if name in ("fcm", "jpush"):
        assert all(isinstance(value, str) for value in found.values())
    if name == "fcm":
        assert fields.keys() <= {"data", "notification", "android"}


# --- events, command results, presence ------------------------------------------------------------


@pytest.mark.spec("kii 9.3")
def test_an_event_on_google_s_network_replaces_the_last_of_its_bucket() -> None:
    body, payload = event_for("fcm")
    assert body["data"] == {
        "appID": APP_ID,
        "sender": USER_ID,
        "origin": "EVENT",
        "type": "DATA_OBJECT_CREATED",
        "when": str(NOW_MS),
        "bucketID": "myBucket",
        "bucketType": "rw",
        "objectID": "o-1",
        "modifiedAt": str(NOW_MS - 33),
        "objectScopeType": "APP_AND_USER",
        "objectScopeAppID": APP_ID,
        "objectScopeUserID": USER_ID,
    }
    assert body["android"]["collapse_key"] == payload.collapse_key == "myBucket"
    assert "notification" not in body


@pytest.mark.spec("kii 9.4")
def test_an_event_on_apple_s_network_is_silent_and_short() -> None:
    body, payload = event_for("apns")
    assert body == {
        "aps": {"alert": "", "content-available": 1},
        "w": NOW_MS,
        "t": "DATA_OBJECT_CREATED",
        "st": "APP_AND_USER",
        "sa": APP_ID,
        "su": USER_ID,
        "bi": "myBucket",
        "bt": "rw",
        "oi": "o-1",
        "om": NOW_MS - 33,
    }
    assert (payload.push_type, payload.is_urgent) == ("background", False)
    assert payload.collapse_key == BUCKET.path
    assert len(payload.collapse_key.encode()) <= phone_payloads.APNS_COLLAPSE_LIMIT_BYTES


def test_an_event_in_a_browser_is_that_of_mqtt() -> None:
    event = ObjectEvent(ObjectEventType.DELETED, BUCKET, "o-1", NOW_MS, USER.subject)
    payload = render_event_for_phones(event, NOW_MS, ["webpush"])["webpush"]
    assert json.loads(payload.body) == json.loads(render_event(event, NOW_MS))
    assert payload.collapse_key == BUCKET.path


def test_the_result_of_a_command_reaches_phones_as_a_direct_push() -> None:
    thing = Owner(APP_ID, "thing:th.1")
    command = Command("c-1", thing, "user:u", CommandState.DONE, {}, [], 1, 1, 1)
    rendered = render_command_result(command, TARGET)
    assert rendered.phone_payloads.keys() == set(PHONE_NETWORKS)
    apple = json.loads(rendered.phone_payloads["apns"].body)
    assert (apple["commandID"], apple["s"]) == ("c-1", "th.1")
    assert not {"to", "bi", "bt"} & apple.keys()
    google = json.loads(rendered.phone_payloads["fcm"].body)["data"]
    assert (google["commandID"], google["thingID"]) == ("c-1", "th.1")


def test_presence_reaches_phones_as_a_push_to_user() -> None:
    rendered = render_presence(TOPIC, Owner(APP_ID, "thing:th.1"), True, NOW_MS)
    assert json.loads(rendered.phone_payloads["fcm"].body)["data"]["online"] == "true"
    assert json.loads(rendered.phone_payloads["apns"].body)["to"] == "myTopic"
