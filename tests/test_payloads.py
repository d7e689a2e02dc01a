"""Payloads: field for field what the service sent (spec kii 8.4, 9), and not a byte too many."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mqttpush.errors import InvalidRequest
from mqttpush.events import ObjectEvent
from mqttpush.models import (
    Message,
    ObjectEventType,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Source,
    SourceKind,
)
from mqttpush.payloads import render_direct_message, render_event, render_topic_message

APP_ID = "12345678"
USER_ID = "727f20b00022-8d18-5e11-991f-06db2509"
OBJECT_ID = "10e9d740-673b-11e5-ac56-123143070e33"
USER_URI = f"kiicloud://users/{USER_ID}"
USER = Principal(APP_ID, PrincipalKind.USER, USER_ID)
ADMIN = Principal(APP_ID, PrincipalKind.ADMIN)
SCOPES = {
    ScopeType.APP: Scope(APP_ID),
    ScopeType.USER: Scope(APP_ID, ScopeType.USER, USER_ID),
    ScopeType.GROUP: Scope(APP_ID, ScopeType.GROUP, "g"),
    ScopeType.THING: Scope(APP_ID, ScopeType.THING, "th.1"),
}
USER_SCOPE = SCOPES[ScopeType.USER]
ALL_SCOPES = pytest.mark.parametrize(
    ("scope_type", "folder", "owner_field"),
    [
        (ScopeType.APP, "", {}),
        (ScopeType.USER, f"users/{USER_ID}/", {"objectScopeUserID": USER_ID}),
        (ScopeType.GROUP, "groups/g/", {"objectScopeGroupID": "g"}),
        (ScopeType.THING, "things/th.1/", {"objectScopeThingID": "th.1"}),
    ],
)
OWNER_FIELDS = {"objectScopeUserID", "objectScopeGroupID", "objectScopeThingID"}


def bucket(scope: Scope = USER_SCOPE) -> Source:
    return Source(1, SourceKind.BUCKET, scope, "myBucket", "admin:")


def topic(scope: Scope = USER_SCOPE) -> Source:
    return Source(2, SourceKind.TOPIC, scope, "myTopic", "admin:")


def message(data: dict[str, Any] | None = None, **fields: Any) -> Message:
    """To MQTT, saying Hello, unless told otherwise."""
    fields.setdefault("networks", {"mqtt": {"enabled": True}})
    return Message(data={"mymessage": "Hello"} if data is None else data, **fields)


def event_payload(
    type_: ObjectEventType = ObjectEventType.CREATED,
    *,
    scope: Scope = USER_SCOPE,
    sender: str = f"user:{USER_ID}",
    object_id: str = OBJECT_ID,
) -> Any:
    event = ObjectEvent(type_, bucket(scope), object_id, 1463364001875, sender)
    return json.loads(render_event(event, 1463364001908))


def topic_payload(sent: Message, sender: Principal = USER, scope: Scope = USER_SCOPE) -> Any:
    rendered = render_topic_message(sent, topic(scope), sender, 1463363865798)
    return json.loads(rendered.payloads["mqtt"])


def direct_payload(sent: Message, sender: Principal = ADMIN) -> Any:
    target = Owner(APP_ID, f"user:{USER_ID}")
    rendered = render_direct_message(sent, target, sender, 1463363865798)
    return json.loads(rendered.payloads["mqtt"])


@pytest.mark.spec("kii 9.2")
def test_an_event_has_the_fields_and_values_of_the_documented_example() -> None:
    assert event_payload() == {
        "modifiedAt": 1463364001875,
        "appID": "12345678",
        "origin": "EVENT",
        "objectScopeType": "APP_AND_USER",
        "bucketID": "myBucket",
        "type": "DATA_OBJECT_CREATED",
        "when": 1463364001908,
        "bucketType": "rw",
        "sender": USER_ID,
        "sourceURI": f"{USER_URI}/buckets/myBucket/objects/{OBJECT_ID}",
        "objectID": OBJECT_ID,
        "objectScopeAppID": "12345678",
        "objectScopeUserID": USER_ID,
        "senderURI": USER_URI,
    }


@pytest.mark.spec("kii 9.2")
def test_a_topic_message_has_the_fields_and_values_of_the_documented_example() -> None:
    assert topic_payload(message()) == {
        "mymessage": "Hello",
        "sender": USER_ID,
        "sourceURI": f"{USER_URI}/topics/myTopic",
        "objectScopeType": "APP_AND_USER",
        "topic": "myTopic",
        "objectScopeAppID": "12345678",
        "senderURI": USER_URI,
        "when": 1463363865798,
        "objectScopeUserID": USER_ID,
    }


@pytest.mark.spec("kii 9.2")
def test_a_direct_push_has_the_fields_and_values_of_the_documented_example() -> None:
    assert direct_payload(message()) == {
        "sourceURI": USER_URI,
        "mymessage": "Hello",
        "senderURI": "kiicloud://admins/APP_ADMIN",
    }


@pytest.mark.spec("kii 9.1")
@pytest.mark.parametrize(
    ("type_", "has_time"),
    [
        (ObjectEventType.CREATED, True),
        (ObjectEventType.UPDATED, True),
        (ObjectEventType.BODY_UPDATED, True),
        (ObjectEventType.DELETED, False),
        (ObjectEventType.BODY_DELETED, False),
        (ObjectEventType.ACL_MODIFIED, False),
        (ObjectEventType.BUCKET_DELETED, False),
    ],
)
def test_only_events_that_modify_tell_when(type_: ObjectEventType, has_time: bool) -> None:
    payload = event_payload(type_)
    assert payload["type"] == type_.value
    assert ("modifiedAt" in payload) is has_time


@pytest.mark.spec("kii 9.1")
@ALL_SCOPES
def test_an_event_names_its_scope_and_only_that(
    scope_type: ScopeType, folder: str, owner_field: dict[str, str]
) -> None:
    payload = event_payload(scope=SCOPES[scope_type])
    assert payload["objectScopeType"] == scope_type.value
    assert payload["objectScopeAppID"] == APP_ID
    assert {key: payload[key] for key in OWNER_FIELDS & payload.keys()} == owner_field
    assert payload["sourceURI"] == f"kiicloud://{folder}buckets/myBucket/objects/{OBJECT_ID}"


@pytest.mark.spec("kii 9.1")
@ALL_SCOPES
def test_a_topic_message_names_its_scope_and_only_that(
    scope_type: ScopeType, folder: str, owner_field: dict[str, str]
) -> None:
    payload = topic_payload(message(), scope=SCOPES[scope_type])
    assert payload["objectScopeType"] == scope_type.value
    assert {key: payload[key] for key in OWNER_FIELDS & payload.keys()} == owner_field
    assert payload["sourceURI"] == f"kiicloud://{folder}topics/myTopic"


@pytest.mark.spec("kii 9.1")
@pytest.mark.parametrize(
    ("sender", "uri", "sender_id"),
    [
        (USER, USER_URI, USER_ID),
        (Principal(APP_ID, PrincipalKind.THING, "th.1"), "kiicloud://things/th.1", "th.1"),
        (ADMIN, "kiicloud://admins/APP_ADMIN", None),
    ],
)
def test_every_payload_names_its_sender_and_the_admin_by_uri_alone(
    sender: Principal, uri: str, sender_id: str | None
) -> None:
    payloads = [
        event_payload(sender=sender.subject),
        topic_payload(message(), sender),
        direct_payload(message(), sender),
    ]
    for payload in payloads:
        assert payload["senderURI"] == uri
        assert payload.get("sender") == sender_id


@pytest.mark.spec("kii 9.1")
def test_the_event_of_a_dropped_bucket_names_no_object() -> None:
    payload = event_payload(ObjectEventType.BUCKET_DELETED, object_id="")
    assert "objectID" not in payload
    assert payload["sourceURI"] == f"{USER_URI}/buckets/myBucket"


@pytest.mark.spec("kii 8.1")
@pytest.mark.parametrize(
    ("switch", "added"),
    [
        ({"sends_app_id": True}, {"appID": APP_ID}),
        ({"sends_origin": True}, {"origin": "EXPLICIT"}),
        ({"message_type": "greeting"}, {"type": "greeting"}),
    ],
)
def test_a_switch_adds_its_field_to_both_kinds_of_message(
    switch: dict[str, Any], added: dict[str, str]
) -> None:
    for render in (topic_payload, direct_payload):
        assert render(message(**switch)) == render(message()) | added


@pytest.mark.spec("kii 8.1")
@pytest.mark.parametrize(
    ("switch", "removed"),
    [
        ({"sends_sender": False}, {"sender"}),
        ({"sends_topic_id": False}, {"topic"}),
        (
            {"sends_object_scope": False},
            {"objectScopeType", "objectScopeAppID", "objectScopeUserID"},
        ),
    ],
)
def test_a_switch_takes_its_fields_from_a_topic_message(
    switch: dict[str, Any], removed: set[str]
) -> None:
    whole = topic_payload(message())
    assert topic_payload(message(**switch)) == {k: v for k, v in whole.items() if k not in removed}


@pytest.mark.spec("kii 9.2")
def test_a_topic_message_always_tells_when_and_a_direct_push_if_asked() -> None:
    assert "when" in topic_payload(message(sends_when=False))
    assert "when" not in direct_payload(message(sends_when=False))
    assert direct_payload(message(sends_when=True))["when"] == 1463363865798


@pytest.mark.spec("kii 7")
def test_topic_and_scope_switches_do_nothing_to_a_direct_push() -> None:
    plain = direct_payload(message())
    assert direct_payload(message(sends_topic_id=False, sends_object_scope=False)) == plain


@pytest.mark.spec("kii 8.4")
def test_the_network_s_data_is_merged_over_the_common_data() -> None:
    networks = {"mqtt": {"enabled": True, "data": {"msg": "mqtt body", "more": 1}}}
    payload = topic_payload(message({"msg": "mqtt test", "kept": True}, networks=networks))
    assert (payload["msg"], payload["more"], payload["kept"]) == ("mqtt body", 1, True)


@pytest.mark.spec("kii 8.4")
@pytest.mark.parametrize("name", ["senderURI", "sourceURI", "sender", "topic", "when"])
def test_a_control_field_wins_over_data_of_its_name(name: str) -> None:
    networks = {"mqtt": {"enabled": True, "data": {name: "forged too"}}}
    assert topic_payload(message({name: "forged"}, networks=networks)) == topic_payload(message({}))


@pytest.mark.spec("kii 9.2")
def test_data_keeps_its_json_types() -> None:
    data = {"text": "ü€😀", "number": 1.5, "whole": 2**53, "yes": True, "none": None}
    payload = direct_payload(message(data))
    assert {key: payload[key] for key in data} == data


TARGET = Owner(APP_ID, "user:u")


def direct_size_bytes(text: str) -> int:
    rendered = render_direct_message(message({"d": text}), TARGET, ADMIN, 0)
    return len(rendered.payloads["mqtt"])


@pytest.mark.spec("kii 8.5")
@pytest.mark.parametrize("filler", ["x", "ü"], ids=["one byte", "two bytes"])
def test_a_payload_may_have_its_limit_and_not_one_byte_more(filler: str) -> None:
    room = 4096 - direct_size_bytes("")
    size = len(filler.encode())
    text = filler * (room // size) + "x" * (room % size)
    assert direct_size_bytes(text) == 4096
    with pytest.raises(InvalidRequest):
        direct_size_bytes(f"{text}x")


@pytest.mark.spec("kii 12")
def test_the_limit_holds_for_topic_messages_too() -> None:
    with pytest.raises(InvalidRequest):
        topic_payload(message({"d": "x" * 4096}))


def test_a_payload_is_compact_utf_8() -> None:
    payload = render_direct_message(message({"d": "ü"}), TARGET, ADMIN, 0).payloads["mqtt"]
    assert '"d":"ü"'.encode() in payload
    assert b" " not in payload


@pytest.mark.spec("kii 8.2")
def test_a_dry_run_is_checked_like_any_other_and_not_sent() -> None:
    networks = {"mqtt": {"enabled": True, "dryRun": True}, "apns": {"enabled": True}}
    rendered = render_topic_message(message({"a": 1}, networks=networks), topic(), USER, 1)
    assert (set(rendered.payloads), set(rendered.phone_payloads)) == (set(), {"apns"})
    with pytest.raises(InvalidRequest):
        render_topic_message(message({"a": "x" * 5000}, networks=networks), topic(), USER, 1)
