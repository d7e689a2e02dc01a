"""Payloads: an event or a message -> the JSON a network carries; size rules.

Owns the field names of spec kii 9 and the limits of 12. Knows no receiver: every client of a source
gets the same bytes, so they are rendered once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mqttpush.errors import InvalidRequest
from mqttpush.models import (
    Json,
    Message,
    ObjectEvent,
    ObjectEventType,
    Owner,
    Principal,
    Scope,
    ScopeType,
    Source,
)

MQTT_LIMIT_BYTES: Final = 4096  # spec kii 12
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


def render_topic_message(message: Message, topic: Source, sender: Principal, when_ms: int) -> bytes:
    """The Push to User payload on MQTT; raises InvalidRequest over 4096 bytes.

    `when` is always there, as in every payload seen of the service (spec kii 9.2).
    """
    fields = _message_fields(message, sender)
    fields["sourceURI"] = topic.uri
    fields["when"] = when_ms
    if message.sends_topic_id:
        fields["topic"] = topic.id
    if message.sends_object_scope:
        _add_scope(fields, topic.scope)
    return _sized(fields)


def render_direct_message(
    message: Message, target: Owner, sender: Principal, when_ms: int
) -> bytes:
    """The Direct Push payload on MQTT; raises InvalidRequest over 4096 bytes."""
    fields = _message_fields(message, sender)
    fields["sourceURI"] = _subject_uri(target.subject)
    if message.sends_when:
        fields["when"] = when_ms
    return _sized(fields)


def _message_fields(message: Message, sender: Principal) -> Json:
    """Data of both levels, then control fields, which win over data of the same name (8.4)."""
    own_data: Mapping[str, Any] = message.networks["mqtt"].get("data") or {}
    fields: Json = {**message.data, **own_data, "senderURI": _subject_uri(sender.subject)}
    if message.sends_sender and sender.id:
        fields["sender"] = sender.id
    if message.sends_app_id:
        fields["appID"] = sender.app_id
    if message.sends_origin:
        fields["origin"] = "EXPLICIT"
    if message.message_type is not None:
        fields["type"] = message.message_type
    return fields


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


def _sized(fields: Json) -> bytes:
    payload = orjson.dumps(fields)
    if len(payload) > MQTT_LIMIT_BYTES:
        raise InvalidRequest(
            f"the MQTT payload has {len(payload)} bytes, {MQTT_LIMIT_BYTES} are allowed",
            field="data",
        )
    return payload
