"""The JSON of an FCM HTTP v1 request: which fields there are, and of which type.

Owns that table and the walk through it. Knows no credentials and no device. Names are those of the
REST reference of `projects.messages`; as in every Google API, `camelCase` and `snake_case` are both
taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mqttpush.provider_simulator.provider import Refusal

Check = Callable[[Any, str], None]

TTL_LIMIT_S = 2_419_200  # four weeks
_DURATION = re.compile(r"(\d{1,12})(\.\d{1,9})?s")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_RESERVED_KEYS = frozenset({"from", "message_type"})
_RESERVED_PREFIXES = ("google.", "gcm.")


def refuse_value(field: str, kind: str, value: Any) -> Refusal:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    message = f"Invalid value at '{field}' ({kind}), {shown}"
    return Refusal("INVALID_ARGUMENT", message, field=field)


def _typed(kind: str, *types: type) -> Check:
    def check(value: Any, field: str) -> None:
        if type(value) not in types:
            raise refuse_value(field, kind, value)

    return check


STRING = _typed("TYPE_STRING", str)
BOOL = _typed("TYPE_BOOL", bool)
NUMBER = _typed("TYPE_FLOAT", int, float)
INTEGER = _typed("TYPE_INT32", int)


def STRUCT(value: Any, field: str) -> None:  # noqa: N802 - a type, as those above
    """Any JSON object."""
    if not isinstance(value, dict):
        raise refuse_value(field, "type.googleapis.com/google.protobuf.Struct", value)


def STRINGS_BY_NAME(value: Any, field: str) -> None:  # noqa: N802
    """A map of strings."""
    if not isinstance(value, dict):
        raise refuse_value(field, "map", value)
    for index, text in enumerate(value.values()):
        if type(text) is not str:
            raise refuse_value(f"{field}[{index}].value", "TYPE_STRING", text)


def DATA(value: Any, field: str) -> None:  # noqa: N802
    """A map of strings without the keys FCM keeps to itself."""
    STRINGS_BY_NAME(value, field)
    for key in value:
        lowered = key.lower()
        if lowered in _RESERVED_KEYS or lowered.startswith(_RESERVED_PREFIXES):
            message = f"Invalid data payload key: {key}"
            raise Refusal("INVALID_ARGUMENT.both", message, field="message.data")


def DURATION(value: Any, field: str) -> None:  # noqa: N802
    """Seconds with an `s`: "3.5s"."""
    if type(value) is not str or not _DURATION.fullmatch(value):
        raise refuse_value(field, "type.googleapis.com/google.protobuf.Duration", value)


def TTL(value: Any, field: str) -> None:  # noqa: N802
    """A duration of at most four weeks."""
    DURATION(value, field)
    if float(value[:-1]) > TTL_LIMIT_S:
        message = "Invalid TTL: must be between 0 and 2419200 seconds"
        raise Refusal("INVALID_ARGUMENT.both", message, field=field)


def TIMESTAMP(value: Any, field: str) -> None:  # noqa: N802
    """RFC 3339."""
    if type(value) is not str or not _TIMESTAMP.fullmatch(value):
        raise refuse_value(field, "type.googleapis.com/google.protobuf.Timestamp", value)


def one_of(*names: str) -> Check:
    """An enum; FCM does not mind the case."""

    def check(value: Any, field: str) -> None:
        if type(value) is not str or value.upper() not in names:
            raise refuse_value(field, "TYPE_ENUM", value)

    return check


def each(check: Check) -> Check:
    """A list."""

    def check_all(value: Any, field: str) -> None:
        if not isinstance(value, list):
            raise refuse_value(field, "TYPE_LIST", value)
        for index, item in enumerate(value):
            check(item, f"{field}[{index}]")

    return check_all


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def shape(**fields: Any) -> dict[str, Any]:
    """An object with these fields, under both of their spellings."""
    return {**fields, **{_camel(name): kind for name, kind in fields.items()}}


OPTIONS = shape(analytics_label=STRING)
COLOR = shape(red=NUMBER, green=NUMBER, blue=NUMBER, alpha=NUMBER)
ANDROID_NOTIFICATION = shape(
    title=STRING,
    body=STRING,
    icon=STRING,
    color=STRING,
    sound=STRING,
    tag=STRING,
    click_action=STRING,
    body_loc_key=STRING,
    body_loc_args=each(STRING),
    title_loc_key=STRING,
    title_loc_args=each(STRING),
    channel_id=STRING,
    ticker=STRING,
    sticky=BOOL,
    event_time=TIMESTAMP,
    local_only=BOOL,
    notification_priority=one_of(
        *("PRIORITY_UNSPECIFIED", "PRIORITY_MIN", "PRIORITY_LOW", "PRIORITY_DEFAULT"),
        *("PRIORITY_HIGH", "PRIORITY_MAX"),
    ),
    default_sound=BOOL,
    default_vibrate_timings=BOOL,
    default_light_settings=BOOL,
    vibrate_timings=each(DURATION),
    visibility=one_of("VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
    notification_count=INTEGER,
    light_settings=shape(color=COLOR, light_on_duration=DURATION, light_off_duration=DURATION),
    image=STRING,
    bypass_proxy_notification=BOOL,
    proxy=one_of("PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
)
MESSAGE = shape(
    name=STRING,
    data=DATA,
    notification=shape(title=STRING, body=STRING, image=STRING),
    android=shape(
        collapse_key=STRING,
        priority=one_of("NORMAL", "HIGH"),
        ttl=TTL,
        restricted_package_name=STRING,
        data=DATA,
        notification=ANDROID_NOTIFICATION,
        fcm_options=OPTIONS,
        direct_boot_ok=BOOL,
        bandwidth_constrained_ok=BOOL,
        restricted_satellite_ok=BOOL,
    ),
    webpush=shape(
        headers=STRINGS_BY_NAME,
        data=DATA,
        notification=STRUCT,
        fcm_options=shape(link=STRING, analytics_label=STRING),
    ),
    apns=shape(
        headers=STRINGS_BY_NAME,
        payload=STRUCT,
        fcm_options=shape(analytics_label=STRING, image=STRING),
        live_activity_token=STRING,
    ),
    fcm_options=OPTIONS,
    token=STRING,
    topic=STRING,
    condition=STRING,
)
REQUEST = shape(message=MESSAGE, validate_only=BOOL)


def check_shape(document: Any, kind: Any = REQUEST, field: str = "") -> None:
    """Raises Refusal as the gateway before FCM words it."""
    if callable(kind):
        kind(document, field)
        return
    if not isinstance(document, dict):
        raise refuse_value(field or "body", "object", document)
    for name, value in document.items():
        inner = kind.get(name)
        if inner is None:
            place = f" at '{field}'" if field else ""
            message = (
                f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.'
            )
            raise Refusal("INVALID_ARGUMENT", message, field=field)
        if value is not None:
            check_shape(value, inner, f"{field}.{name}" if field else name)


def size_bytes(message: Mapping[str, Any]) -> int:
    """What counts towards the 4,096 bytes: keys and values of data and of the notification."""
    android = message.get("android") or {}
    parts = (
        android.get("data") or message.get("data"),
        message.get("notification"),
        android.get("notification"),
    )
    return sum(
        len(key.encode()) + len(str(value).encode())
        for part in parts
        if part
        for key, value in part.items()
    )
