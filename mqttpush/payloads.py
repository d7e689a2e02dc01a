"""Payloads: an event or a message -> what each network carries.

Owns the field names of spec kii 9 and who gets which. Knows no receiver: every client of a source
gets the same bytes, so they are rendered once. What a push network makes of the fields is the
business of `phone_payloads`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from mqttpush import phone_payloads
from mqttpush.commands import Command
from mqttpush.errors import InvalidRequest
from mqttpush.events import ObjectEvent
from mqttpush.models import (
    Json,
    Message,
    ObjectEventType,
    Owner,
    PhonePayload,
    Principal,
    Scope,
    ScopeType,
    Source,
)

# Of the payload as JSON (spec kii 8.5.9, 12).
LIMITS_BYTES: Final = {"mqtt": 4096, **phone_payloads.LIMITS_BYTES}
PHONE_NETWORKS: Final = ("fcm", "apns", "jpush", "webpush")
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
# Of an event's fields, what Apple's devices get (spec kii 9.4).
_EVENT_ON_APNS: Final = SHORT_NAMES.keys() - {"appID", "sender", "origin", "topic"}
_ON_MQTT_ONLY: Final = ("sourceURI", "senderURI")
_NOTHING_SHOWN: Final = {"alert": "", "contentAvailable": True}


class Rendered(NamedTuple):
    """A message, ready for every network it is for.

    payloads: of live connections, so `mqtt` or none. phone_payloads: by push network.
    """

    payloads: dict[str, bytes]
    phone_payloads: dict[str, PhonePayload]


def render_event(event: ObjectEvent, when_ms: int) -> bytes:
    """The Push to App payload on MQTT (spec kii 9.1, 9.2). when_ms: the time of sending."""
    return orjson.dumps(_event_fields(event, when_ms))


def render_event_for_phones(
    event: ObjectEvent, when_ms: int, networks: Iterable[str] = PHONE_NETWORKS
) -> dict[str, PhonePayload]:
    """The same for phones and browsers (spec kii 9.3, 9.4), by network.

    A device that was away gets the last event of a bucket; there is nothing to show.
    """
    fields = _event_fields(event, when_ms)
    return {network: _EVENT_RENDERERS[network](fields, event.source) for network in networks}


def _event_fields(event: ObjectEvent, when_ms: int) -> Json:
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
    return fields


def _without_uris(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if key not in _ON_MQTT_ONLY}


def _event_for_fcm(fields: Json, bucket: Source) -> PhonePayload:
    # A bucket's ID is the collapse key whatever its scope (9.3); nobody waits for it to show.
    part = {"collapseKey": bucket.id, "priority": "normal"}
    return phone_payloads.fcm(_without_uris(fields), part)


def _event_for_apns(fields: Json, bucket: Source) -> PhonePayload:
    known = {key: fields[key] for key in fields if key in _EVENT_ON_APNS}
    collapse_key = phone_payloads.short_collapse_key(bucket.path)
    part = {**_NOTHING_SHOWN, "collapseKey": collapse_key}
    return phone_payloads.apns(_shortened(known), part)


def _event_for_jpush(fields: Json, _: Source) -> PhonePayload:
    return phone_payloads.jpush(_without_uris(fields), {})


def _event_for_webpush(fields: Json, bucket: Source) -> PhonePayload:
    part = {"collapseKey": phone_payloads.short_collapse_key(bucket.path)}
    return phone_payloads.webpush(fields, part)


_EVENT_RENDERERS: Final = {
    "fcm": _event_for_fcm,
    "apns": _event_for_apns,
    "jpush": _event_for_jpush,
    "webpush": _event_for_webpush,
}


def render_topic_message(
    message: Message, topic: Source, sender: Principal, when_ms: int, *, is_apns_small: bool = False
) -> Rendered:
    """Push to User, for every enabled network; raises InvalidRequest for what one would refuse.

    is_apns_small: Apple's old limit holds for the app.
    On MQTT `when` is always there, as in every payload seen of the service (spec kii 9.2).
    """
    control: Json = {}
    if message.sends_topic_id:
        control["topic"] = topic.id
    if message.sends_object_scope:
        _add_scope(control, topic.scope)
    on_mqtt = {"sourceURI": topic.uri, "when": when_ms}
    control |= _sender_fields(message, sender, when_ms)
    return _render_message(message, sender, control, on_mqtt, is_apns_small)


def render_direct_message(
    message: Message, target: Owner, sender: Principal, when_ms: int, *, is_apns_small: bool = False
) -> Rendered:
    """Direct Push, for every enabled network; raises InvalidRequest for what one would refuse."""
    on_mqtt = {"sourceURI": _subject_uri(target.subject)}
    control = _sender_fields(message, sender, when_ms)
    return _render_message(message, sender, control, on_mqtt, is_apns_small)


def render_command_result(command: Command, issuer: Owner) -> Rendered:
    """What the issuer of a command gets when its thing has answered: a Direct Push (10.6)."""
    fields = {
        "commandID": command.command_id,
        "thingID": command.thing.id,
        "sender": command.thing.id,
        "senderURI": _subject_uri(command.thing.subject),
        "sourceURI": _subject_uri(issuer.subject),
    }
    return _render_silent(fields)


def render_presence(topic: Source, thing: Owner, is_online: bool, when_ms: int) -> Rendered:
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
    return _render_silent(fields)


def _render_silent(fields: Json) -> Rendered:
    """For every network, with nothing to show."""
    for_phones = _without_uris(fields)
    phones = {
        "fcm": phone_payloads.fcm(for_phones, {}),
        "apns": phone_payloads.apns(_shortened(for_phones), {}),
        "jpush": phone_payloads.jpush(for_phones, {}),
        "webpush": phone_payloads.webpush(fields, {}),
    }
    return Rendered({"mqtt": sized("mqtt", fields)}, phones)


def _render_message(
    message: Message, sender: Principal, control: Json, on_mqtt: Json, is_apns_small: bool
) -> Rendered:
    on_mqtt = {**control, **on_mqtt, "senderURI": _subject_uri(sender.subject)}
    rendered = Rendered({}, {})
    for network, part in message.networks.items():
        # Data of both levels, then control fields, which win over data of the same name (8.4).
        data = {**message.data, **(part.get("data") or {})}
        is_dry_run = part.get("dryRun") is True  # checked like any other, and not sent
        if network == "mqtt":
            payload = sized("mqtt", {**data, **on_mqtt})
            if not is_dry_run:
                rendered.payloads["mqtt"] = payload
            continue
        if network == "webpush":
            phone_payload = phone_payloads.webpush({**data, **on_mqtt}, part)
        elif network == "apns":
            fields = {**data, **_shortened(control)}
            phone_payload = phone_payloads.apns(fields, part, is_small=is_apns_small)
        elif network == "jpush":
            phone_payload = phone_payloads.jpush({**data, **control}, part)
        else:
            phone_payload = phone_payloads.fcm({**data, **control}, part, name=network)
        # The old name of FCM; with both, the new one wins (8.3).
        key = "fcm" if network == "gcm" else network
        if not is_dry_run and not (network == "gcm" and "fcm" in message.networks):
            rendered.phone_payloads[key] = phone_payload
    return rendered


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


def _shortened(control: Json) -> Json:
    return {SHORT_NAMES.get(key, key): value for key, value in control.items()}


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
