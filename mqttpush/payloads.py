"""Payloads: an event or a message -> the JSON a network carries; size rules.

Owns the field names of spec kii 9 and the limits of 12. Knows no receiver: every client of a source
gets the same bytes, so they are rendered once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mqttpush.errors import InvalidRequest
from mqttpush.events import ObjectEvent
from mqttpush.models import (
    Command,
    Json,
    Message,
    ObjectEventType,
    Owner,
    Principal,
    Scope,
    ScopeType,
    Source,
)

# Of the payload as JSON (spec kii 8.5.9, 12; networks for JPush).
LIMITS_BYTES: Final = {"mqtt": 4096, "fcm": 4096, "gcm": 4096, "apns": 2048, "jpush": 4000}
# Names of control fields on APNs, where bytes are few (spec kii 9.1).
SHORT_NAMES: Final = {
    "appID": "a",
    "sender": "s",
    "origin": "o",
    "when": "w",
    "type": "t",
    "topic": "to",
    "objectScopeType": "st",
    "objectScopeAppID": "sa",
    "objectScopeUserID": "su",
    "objectScopeGroupID": "sg",
    "objectScopeThingID": "sth",
    "bucketID": "bi",
    "bucketType": "bt",
    "objectID": "oi",
    "modifiedAt": "om",
}
_APS_ALERT: Final = {
    "actionLocKey": "action-loc-key",
    "locKey": "loc-key",
    "locArgs": "loc-args",
    "launchImage": "launch-image",
}
_FOLDER_BY_KIND: Final = {"user": "users", "thing": "things"}
ADMIN_URI: Final = "kiicloud://admins/APP_ADMIN"
_SCOPE_OWNER_FIELD: Final = {
    ScopeType.USER: "objectScopeUserID",
    ScopeType.GROUP: "objectScopeGroupID",
    ScopeType.THING: "objectScopeThingID",
}
# The other events have no modification time to tell (spec kii 9.1).
_MODIFYING: Final = frozenset(
    {ObjectEventType.CREATED, ObjectEventType.UPDATED, ObjectEventType.BODY_UPDATED}
)


def render_event(event: ObjectEvent, when_ms: int) -> bytes:
    """The Push to App payload on MQTT (spec kii 9.1, 9.2). when_ms: the time of sending."""
    source = event.source
    fields: Json = {
        "appID": source.scope.app_id,
        "origin": "EVENT",
        "type": event.type.value,
        "when": when_ms,
        "bucketID": source.id,
        "bucketType": "rw",
        "sourceURI": source.uri,
        "senderURI": _subject_uri(event.sender),
    }
    _add_scope(fields, source.scope)
    if event.object_id:
        fields["objectID"] = event.object_id
        fields["sourceURI"] += f"/objects/{event.object_id}"
    sender_id = event.sender.partition(":")[2]
    if sender_id:
        fields["sender"] = sender_id
    if event.type in _MODIFYING:
        fields["modifiedAt"] = event.modified_ms
    return orjson.dumps(fields)


def render_topic_message(
    message: Message, topic: Source, sender: Principal, when_ms: int
) -> dict[str, bytes]:
    """Push to User: the payload of every enabled network; raises InvalidRequest if one is too big.

    On MQTT `when` is always there, as in every payload seen of the service (spec kii 9.2).
    """
    control: Json = {}
    if message.sends_topic_id:
        control["topic"] = topic.id
    if message.sends_object_scope:
        _add_scope(control, topic.scope)
    on_mqtt = {"sourceURI": topic.uri, "when": when_ms}
    return _render_message(message, sender, when_ms, control, on_mqtt)


def render_direct_message(
    message: Message, target: Owner, sender: Principal, when_ms: int
) -> dict[str, bytes]:
    """Direct Push: the payload of every enabled network; raises InvalidRequest for its size."""
    on_mqtt = {"sourceURI": _subject_uri(target.subject)}
    return _render_message(message, sender, when_ms, {}, on_mqtt)


def render_command_result(command: Command, issuer: Owner) -> bytes:
    """What the issuer of a command gets when its thing has answered: a Direct Push (10.6)."""
    fields = {
        "commandID": command.command_id,
        "thingID": command.thing.id,
        "sender": command.thing.id,
        "senderURI": _subject_uri(command.thing.subject),
        "sourceURI": _subject_uri(issuer.subject),
    }
    return sized("mqtt", fields)


def render_presence(topic: Source, thing: Owner, is_online: bool, when_ms: int) -> bytes:
    """What subscribers of a thing's presence get: a Push to User of its topic (extension)."""
    fields: Json = {
        "online": is_online,
        "thingID": thing.id,
        "sender": thing.id,
        "senderURI": _subject_uri(thing.subject),
        "sourceURI": topic.uri,
        "topic": topic.id,
        "when": when_ms,
    }
    _add_scope(fields, topic.scope)
    return sized("mqtt", fields)


def _render_message(
    message: Message, sender: Principal, when_ms: int, control: Json, on_mqtt: Json
) -> dict[str, bytes]:
    control = {**control, **_sender_fields(message, sender, when_ms)}
    on_mqtt = {**on_mqtt, "senderURI": _subject_uri(sender.subject)}
    payloads: dict[str, bytes] = {}
    for network, part in message.networks.items():
        # Data of both levels, then control fields, which win over data of the same name (8.4).
        data = {**message.data, **(part.get("data") or {})}
        if network == "mqtt":
            payload = {**data, **control, **on_mqtt}
        elif network == "apns":
            payload = {**data, **_shortened(control), "aps": _aps(part)}
        else:
            payload = {key: _as_text(value) for key, value in {**data, **control}.items()}
        encoded = sized(network, payload)
        if part.get("dryRun") is not True:  # a dry run is checked like any other, and not sent
            payloads[network] = encoded
    return payloads


def _sender_fields(message: Message, sender: Principal, when_ms: int) -> Json:
    fields: Json = {}
    if message.sends_sender and sender.id:
        fields["sender"] = sender.id
    if message.sends_app_id:
        fields["appID"] = sender.app_id
    if message.sends_origin:
        fields["origin"] = "EXPLICIT"
    if message.sends_when:
        fields["when"] = when_ms
    if message.message_type is not None:
        fields["type"] = message.message_type
    return fields


def _aps(part: Mapping[str, Any]) -> Json:
    """Apple's own dictionary from the `apns` object of a message (spec kii 8.2, 9.4)."""
    fields: Json = {}
    alert = part.get("alert")
    if isinstance(alert, dict):
        fields["alert"] = {_APS_ALERT.get(key, key): value for key, value in alert.items()}
    elif alert is not None:
        fields["alert"] = alert
    for key in ("sound", "badge", "category"):
        if part.get(key) is not None:
            fields[key] = part[key]
    for key, name in (
        ("contentAvailable", "content-available"),
        ("mutableContent", "mutable-content"),
    ):
        if part.get(key):
            fields[name] = 1
    return fields or {"content-available": 1}


def _shortened(control: Json) -> Json:
    return {SHORT_NAMES[key]: value for key, value in control.items()}


def _as_text(value: object) -> str:
    """FCM carries texts only (spec kii 9.3); booleans as JSON writes them."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _add_scope(fields: Json, scope: Scope) -> None:
    fields["objectScopeType"] = scope.type.value
    fields["objectScopeAppID"] = scope.app_id
    owner_field = _SCOPE_OWNER_FIELD.get(scope.type)
    if owner_field:
        fields[owner_field] = scope.owner_id


def _subject_uri(subject: str) -> str:
    kind, _, identifier = subject.partition(":")
    folder = _FOLDER_BY_KIND.get(kind)
    return f"kiicloud://{folder}/{identifier}" if folder else ADMIN_URI


def sized(network: str, fields: Mapping[str, Any]) -> bytes:
    """The payload as JSON; raises InvalidRequest if it is too big for the network."""
    payload = orjson.dumps(fields)
    limit_bytes = LIMITS_BYTES[network]
    if len(payload) > limit_bytes:
        raise InvalidRequest(
            f"the {network} payload has {len(payload)} bytes, {limit_bytes} are allowed",
            field="data",
        )
    return payload
