"""Phone payloads: what is said to a device, in the JSON of its push network.

Owns the networks' own formats, what they call the parts of a message (spec kii 8.2), and their
limits. Knows no event, sender or receiver: fields come in, a `PhonePayload` goes out. The one idea:
whatever a network would refuse is refused here, before anything is accepted or stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json, PhonePayload

# Bytes of JSON. FCM counts `data` and `notification`, JPush `message` and `notification`; Web Push
# the plain text, so that one record of 4,096 holds it encrypted (RFC 8291 section 4).
LIMITS_BYTES: Final = {"fcm": 4096, "apns": 4096, "jpush": 4000, "webpush": 3993}
# What Apple took before 2016, and Kii to its end (spec kii 8.5.9); an app may still want it.
SMALL_APNS_LIMIT_BYTES: Final = 2048
# How long a network holds a push back at most: FCM 4 weeks, JPush 10 days, the others 30 days.
TTL_LIMITS_S: Final = {"fcm": 2_419_200, "apns": 2_592_000, "jpush": 864_000, "webpush": 2_592_000}
APNS_COLLAPSE_LIMIT_BYTES: Final = 64
COLLAPSE_KEY_LIMIT: Final = 200
URGENCIES: Final = ("very-low", "low", "normal", "high")  # RFC 8030 section 5.3
_PRIORITIES: Final = ("normal", "high")
_ANDROID_NOTIFICATION: Final = {
    "icon": "icon",
    "sound": "sound",
    "tag": "tag",
    "color": "color",
    "clickAction": "click_action",
    "channelID": "channel_id",
}
_COMMON_NOTIFICATION: Final = {"title": "title", "body": "body", "imageURL": "image"}
_APS_ALERT: Final = {
    "actionLocKey": "action-loc-key",
    "locKey": "loc-key",
    "locArgs": "loc-args",
    "launchImage": "launch-image",
}
_APS_SWITCHES: Final = {
    "contentAvailable": "content-available",
    "mutableContent": "mutable-content",
}
_FCM_RESERVED: Final = frozenset({"from", "message_type", "collapse_key"})
_FCM_RESERVED_PREFIXES: Final = ("google.", "gcm.")
_JPUSH_CONTENT: Final = "push"  # a JPush message must have some; ours is in its extras


def fcm(data: Mapping[str, Any], part: Mapping[str, Any], *, name: str = "fcm") -> PhonePayload:
    """The `message` of FCM's HTTP v1 without its token; `data` becomes texts (spec kii 9.3).

    part: `notification`, `collapseKey`, `timeToLive`, `priority`, `restrictedPackageName`. name: of
    the part, for errors. Raises InvalidRequest.
    """
    for key in data:
        lowered = key.lower()
        if lowered in _FCM_RESERVED or lowered.startswith(_FCM_RESERVED_PREFIXES):
            raise InvalidRequest(f"the key {key} is reserved by {name}", field="data")
    message: Json = {}
    if data:
        message["data"] = as_texts(data)
    is_urgent = _choice(part, name, "priority", _PRIORITIES, "high") == "high"
    collapse_key = _collapse_key(part, name)
    ttl_s = _ttl_s(part, name, TTL_LIMITS_S["fcm"])
    android: Json = {"priority": "high" if is_urgent else "normal"}
    if collapse_key:
        android["collapse_key"] = collapse_key
    if ttl_s is not None:
        android["ttl"] = f"{ttl_s}s"
    if package_name := _text(part, name, "restrictedPackageName"):
        android["restricted_package_name"] = package_name
    given = _object(part, name, "notification")
    common = _renamed(given, f"{name}.notification", _COMMON_NOTIFICATION)
    if common:
        message["notification"] = common
    if own := _renamed(given, f"{name}.notification", _ANDROID_NOTIFICATION):
        android["notification"] = own
    counted = (message.get("data"), {**common, **own})
    size_bytes = sum(len(orjson.dumps(each)) for each in counted if each)
    _require_size(name, size_bytes, LIMITS_BYTES["fcm"])
    message["android"] = android
    return PhonePayload(orjson.dumps(message), collapse_key, ttl_s, is_urgent, "")


def apns(
    data: Mapping[str, Any],
    part: Mapping[str, Any],
    *,
    is_small: bool = False,
) -> PhonePayload:
    """Apple's body: `aps` beside the data, whose names are already short (spec kii 9.4).

    part: `alert`, `sound`, `badge`, `category`, `contentAvailable`, `mutableContent`, and
    `collapseKey`, `timeToLive`, `priority`. Nothing to show makes it a background push, which Apple
    takes with priority 5 only. is_small: the old limit holds. Raises InvalidRequest.
    """
    aps = _aps(part)
    is_shown = _is_shown(aps)
    collapse_key = _collapse_key(part, "apns")
    if len(collapse_key.encode()) > APNS_COLLAPSE_LIMIT_BYTES:
        problem = f"must have at most {APNS_COLLAPSE_LIMIT_BYTES} bytes"
        raise InvalidRequest(problem, field="apns.collapseKey")
    is_high = _choice(part, "apns", "priority", _PRIORITIES, "high") == "high"
    body = orjson.dumps({**data, "aps": aps})
    _require_size("apns", len(body), SMALL_APNS_LIMIT_BYTES if is_small else LIMITS_BYTES["apns"])
    return PhonePayload(
        body,
        collapse_key,
        _ttl_s(part, "apns", TTL_LIMITS_S["apns"]),
        is_shown and is_high,
        "alert" if is_shown else "background",
    )


def jpush(data: Mapping[str, Any], part: Mapping[str, Any]) -> PhonePayload:
    """The body of JPush's v3 push without its audience: the data as extras (spec kii 9.3).

    part: `notification` (`title`, `body`) shows something as well; `timeToLive`. Raises
    InvalidRequest.
    """
    extras = as_texts(data)
    content = extras.get("type") or _JPUSH_CONTENT
    body: Json = {"platform": "all", "message": {"msg_content": content, "extras": extras}}
    given = _object(part, "jpush", "notification")
    shown = _renamed(given, "jpush.notification", {"title": "title", "body": "alert"})
    if shown:
        alert, title = shown.get("alert", ""), shown.get("title", "")
        body["notification"] = {
            "android": {**shown, "alert": alert, "extras": extras},
            "ios": {"alert": {"title": title, "body": alert} if title else alert, "extras": extras},
        }
    size_bytes = sum(len(orjson.dumps(body[key])) for key in body if key != "platform")
    _require_size("jpush", size_bytes, LIMITS_BYTES["jpush"])
    ttl_s = _ttl_s(part, "jpush", TTL_LIMITS_S["jpush"])
    if ttl_s is not None:
        body["options"] = {"time_to_live": ttl_s}
    return PhonePayload(orjson.dumps(body), "", ttl_s, True, "")


def webpush(data: Mapping[str, Any], part: Mapping[str, Any]) -> PhonePayload:
    """What a service worker reads with `event.data.json()`: the fields as on MQTT.

    part: `notification`, passed on as it is; `urgency`, `collapseKey`, `timeToLive`. The urgency
    goes in `push_type`. Raises InvalidRequest.
    """
    notification = _object(part, "webpush", "notification")
    body = orjson.dumps({**data, "notification": notification} if notification else data)
    _require_size("webpush", len(body), LIMITS_BYTES["webpush"])
    urgency = _choice(part, "webpush", "urgency", URGENCIES, "normal")
    return PhonePayload(
        body,
        _collapse_key(part, "webpush"),
        _ttl_s(part, "webpush", TTL_LIMITS_S["webpush"]),
        urgency == "high",
        urgency,
    )


def as_texts(data: Mapping[str, Any]) -> dict[str, str]:
    """FCM and JPush carry texts only; anything else as JSON writes it."""
    return {
        key: value if isinstance(value, str) else orjson.dumps(value).decode()
        for key, value in data.items()
    }


def short_collapse_key(place: str) -> str:
    """A collapse key for what happens at `place`, of a length that Apple takes."""
    if len(place.encode()) <= APNS_COLLAPSE_LIMIT_BYTES:
        return place
    return hashlib.sha256(place.encode()).hexdigest()


def _aps(part: Mapping[str, Any]) -> Json:
    fields: Json = {}
    alert = part.get("alert")
    if isinstance(alert, dict):
        fields["alert"] = {_APS_ALERT.get(key, key): value for key, value in alert.items()}
    elif isinstance(alert, str):
        fields["alert"] = alert
    elif alert is not None:
        raise InvalidRequest("must be an object or a text", field="apns.alert")
    badge, sound = part.get("badge"), part.get("sound")
    if badge is not None:
        if type(badge) is not int:
            raise InvalidRequest("must be a whole number", field="apns.badge")
        fields["badge"] = badge
    if sound is not None:
        if not isinstance(sound, str | dict):
            raise InvalidRequest("must be a text or an object", field="apns.sound")
        fields["sound"] = sound
    if category := _text(part, "apns", "category"):
        fields["category"] = category
    for key, name in _APS_SWITCHES.items():
        if part.get(key):
            fields[name] = 1
    if not _is_shown(fields):
        fields["content-available"] = 1  # without it Apple takes no push that shows nothing
    return fields


def _is_shown(aps: Mapping[str, Any]) -> bool:
    """Does the device show, play or count something by itself?"""
    return bool(aps.get("alert")) or "badge" in aps or "sound" in aps


def _renamed(given: Mapping[str, Any], field: str, names: Mapping[str, str]) -> dict[str, str]:
    """The known texts of an object under the network's names; unknown keys are passed over."""
    texts = ((name, _text(given, field, key)) for key, name in names.items())
    return {name: text for name, text in texts if text}


def _object(part: Mapping[str, Any], name: str, key: str) -> Mapping[str, Any]:
    value = part.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object", field=f"{name}.{key}")
    return value


def _text(part: Mapping[str, Any], name: str, key: str) -> str:
    value = part.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest("must be a text", field=f"{name}.{key}")
    return value


def _collapse_key(part: Mapping[str, Any], name: str) -> str:
    key = _text(part, name, "collapseKey")
    if len(key) > COLLAPSE_KEY_LIMIT:
        problem = f"must have at most {COLLAPSE_KEY_LIMIT} characters"
        raise InvalidRequest(problem, field=f"{name}.collapseKey")
    return key


def _choice(
    part: Mapping[str, Any], name: str, key: str, choices: tuple[str, ...], default: str
) -> str:
    value = part.get(key)
    if value is None:
        return default
    if value not in choices:
        raise InvalidRequest(f"must be one of {', '.join(choices)}", field=f"{name}.{key}")
    return str(value)


def _ttl_s(part: Mapping[str, Any], name: str, limit_s: int) -> int | None:
    value = part.get("timeToLive")
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= limit_s:
        problem = f"must be a whole number of seconds, 0 to {limit_s}"
        raise InvalidRequest(problem, field=f"{name}.timeToLive")
    return value


def _require_size(name: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        problem = f"the {name} payload has {size_bytes} bytes, {limit_bytes} are allowed"
        raise InvalidRequest(problem, field="data")
