"""Payloads of Kinvey's messages: one message -> what each platform and framework reads.

Owns the shapes of spec kinvey 5.3 and their sizes. Knows no receiver. The one idea: a device takes
the payload of its variant, so what a platform or framework reads in its own way is rendered once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mqttpush import phone_payloads
from mqttpush.errors import InvalidRequest
from mqttpush.kinvey import KinveyMessage
from mqttpush.models import Json, PhonePayload

OUT_OF_RANGE: Final = "ParameterValueOutOfRange"
NOTHING: Final = PhonePayload(b"")
# Names FCM refuses in `data`; Kinvey's own example has `from`.
_RESERVED: Final = frozenset({"from", "message_type", "collapse_key"})
_RESERVED_PREFIXES: Final = ("google.", "gcm.")
_SHOWN: Final = ("alert", "badge", "sound")
TTL_S: Final = 86_400  # spec kinvey 5.4


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """payloads: of live connections, `mqtt` or none. phone_payloads: by variant.

    has_reserved_names: pairs were left out that FCM refuses; all of them go as one JSON text too.
    """

    payloads: dict[str, bytes]
    phone_payloads: dict[str, PhonePayload]
    has_reserved_names: bool


def render(message: KinveyMessage, apns_limit_bytes: int) -> RenderedMessage:
    """Raises InvalidRequest for what a network would find too large."""
    ios = _ios_body(message)
    android = {"msg": message.text} if message.text is not None else message.android
    phones: dict[str, PhonePayload] = {}
    payloads: dict[str, bytes] = {}
    has_reserved_names = False
    if ios is not None:
        phones["apns"] = _apns(ios, apns_limit_bytes)
        phones["fcm:ios"] = _fcm_of_ios(ios)
    if android is not None:
        flat = _allowed(android)
        has_reserved_names = len(flat) < len(android)
        whole = {"payload": orjson.dumps(android).decode()}
        phones["fcm"] = _fcm({**flat, **whole} if has_reserved_names else flat)
        phones["fcm:titanium"] = _fcm(whole)
        if message.text is not None:
            phones["fcm:phonegap"] = _fcm({"message": message.text, "msg": message.text})
        payloads["mqtt"] = orjson.dumps(android)
        phones.setdefault("fcm:ios", NOTHING)  # else it would get Android's
    return RenderedMessage(payloads, phones, has_reserved_names)


def _ios_body(message: KinveyMessage) -> Json | None:
    if message.text is not None:
        return {"aps": {"alert": message.text}}
    if message.aps is None and message.extras is None:
        return None
    return {**(message.extras or {}), "aps": dict(message.aps or {})}


def _apns(body: Json, limit_bytes: int) -> PhonePayload:
    data = orjson.dumps(body)
    _require_size("iOS", len(data), limit_bytes)
    is_background = _is_background(body["aps"])
    push_type = "background" if is_background else "alert"
    is_urgent = not is_background
    return PhonePayload(data, ttl_s=TTL_S, is_urgent=is_urgent, push_type=push_type)


def _fcm_of_ios(body: Json) -> PhonePayload:
    """For an iPhone whose app uses Firebase: FCM hands Apple this body."""
    is_background = _is_background(body["aps"])
    headers = {
        "apns-push-type": "background" if is_background else "alert",
        "apns-priority": "5" if is_background else "10",
    }
    _require_size("iOS", len(orjson.dumps(body)), phone_payloads.LIMITS_BYTES["fcm"])
    message = {"apns": {"headers": headers, "payload": body}}
    is_urgent = not is_background
    return PhonePayload(orjson.dumps(message), ttl_s=TTL_S, is_urgent=is_urgent, push_type="")


def _is_background(aps: Mapping[str, Any]) -> bool:
    """Woken without anything to show: Apple wants the lower priority for it."""
    return aps.get("content-available") == 1 and not any(name in aps for name in _SHOWN)


def _allowed(android: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in android.items()
        if name.lower() not in _RESERVED and not name.lower().startswith(_RESERVED_PREFIXES)
    }


def _fcm(data: Mapping[str, Any]) -> PhonePayload:
    try:
        return phone_payloads.fcm(data, {"timeToLive": TTL_S})
    except InvalidRequest as exc:
        raise InvalidRequest(exc.problem, field="messageContent", code=OUT_OF_RANGE) from exc


def _require_size(platform: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise InvalidRequest(
            f"the {platform} payload has {size_bytes} bytes, {limit_bytes} are allowed",
            field="messageContent",
            code=OUT_OF_RANGE,
        )
