"""Packets: the control packets of MQTT 3.1, 3.1.1 and 5.0 as values, and their numbers.

Owns packet classes, reason codes and the property table. Knows no wire format: `codec.py` turns
these into bytes and back. The one idea: one class serves all versions; what a version does not have
(properties, reason codes) keeps its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import MappingProxyType


class Version(IntEnum):
    """Protocol level in CONNECT."""

    V3_1 = 3
    V3_1_1 = 4
    V5 = 5


# [MQTT-3.1.2-1]: the name that belongs to each level.
PROTOCOL_NAME_BY_VERSION = {
    Version.V3_1: b"MQIsdp",
    Version.V3_1_1: b"MQTT",
    Version.V5: b"MQTT",
}


class PacketType(IntEnum):
    """High nibble of the first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class ReasonCode(IntEnum):
    """MQTT 5 reason codes this server sends or tells apart (2.4)."""

    SUCCESS = 0x00
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    RETAIN_NOT_SUPPORTED = 0x9A
    SERVER_MOVED = 0x9D
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1


# MQTT 3 CONNACK return codes (3.1.1 table 3.1).
RETURN_CODE_BY_REASON = {
    ReasonCode.SUCCESS: 0,
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 1,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
    ReasonCode.SERVER_UNAVAILABLE: 3,
    ReasonCode.SERVER_BUSY: 3,
    ReasonCode.CONNECTION_RATE_EXCEEDED: 3,
    ReasonCode.QUOTA_EXCEEDED: 3,
    ReasonCode.SERVER_SHUTTING_DOWN: 3,
    ReasonCode.SERVER_MOVED: 3,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: 4,
    ReasonCode.NOT_AUTHORIZED: 5,
    ReasonCode.BANNED: 5,
    ReasonCode.RETAIN_NOT_SUPPORTED: 5,
}
SUBACK_FAILURE_V3 = 0x80  # [MQTT-3.9.3-2]


class Kind(Enum):
    """Wire type of a property (2.2.2.2)."""

    BYTE = "byte"
    FLAG = "flag"  # a byte that is 0 or 1
    TWO_BYTES = "two bytes"
    FOUR_BYTES = "four bytes"
    VARIABLE = "variable byte integer"
    TEXT = "UTF-8 string"
    BINARY = "binary data"
    PAIR = "UTF-8 string pair"


class Property(IntEnum):
    """MQTT 5 properties (table 2-4)."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


WILL = 0  # the place of a property set inside CONNECT's payload; no packet type has the number
_CONNECT, _CONNACK, _PUBLISH = PacketType.CONNECT, PacketType.CONNACK, PacketType.PUBLISH
_ACKS = (PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP)
_DISCONNECT, _AUTH = PacketType.DISCONNECT, PacketType.AUTH
_REASONED = (_CONNACK, *_ACKS, PacketType.SUBACK, PacketType.UNSUBACK, _DISCONNECT, _AUTH)

# Table 2-4: the wire type of each property and the packets it may stand in.
PROPERTY_TABLE: Mapping[Property, tuple[Kind, frozenset[int]]] = {
    key: (kind, frozenset(places))
    for key, kind, places in (
        (Property.PAYLOAD_FORMAT_INDICATOR, Kind.FLAG, (_PUBLISH, WILL)),
        (Property.MESSAGE_EXPIRY_INTERVAL, Kind.FOUR_BYTES, (_PUBLISH, WILL)),
        (Property.CONTENT_TYPE, Kind.TEXT, (_PUBLISH, WILL)),
        (Property.RESPONSE_TOPIC, Kind.TEXT, (_PUBLISH, WILL)),
        (Property.CORRELATION_DATA, Kind.BINARY, (_PUBLISH, WILL)),
        (Property.SUBSCRIPTION_IDENTIFIER, Kind.VARIABLE, (_PUBLISH, PacketType.SUBSCRIBE)),
        (Property.SESSION_EXPIRY_INTERVAL, Kind.FOUR_BYTES, (_CONNECT, _CONNACK, _DISCONNECT)),
        (Property.ASSIGNED_CLIENT_IDENTIFIER, Kind.TEXT, (_CONNACK,)),
        (Property.SERVER_KEEP_ALIVE, Kind.TWO_BYTES, (_CONNACK,)),
        (Property.AUTHENTICATION_METHOD, Kind.TEXT, (_CONNECT, _CONNACK, _AUTH)),
        (Property.AUTHENTICATION_DATA, Kind.BINARY, (_CONNECT, _CONNACK, _AUTH)),
        (Property.REQUEST_PROBLEM_INFORMATION, Kind.FLAG, (_CONNECT,)),
        (Property.WILL_DELAY_INTERVAL, Kind.FOUR_BYTES, (WILL,)),
        (Property.REQUEST_RESPONSE_INFORMATION, Kind.FLAG, (_CONNECT,)),
        (Property.RESPONSE_INFORMATION, Kind.TEXT, (_CONNACK,)),
        (Property.SERVER_REFERENCE, Kind.TEXT, (_CONNACK, _DISCONNECT)),
        (Property.REASON_STRING, Kind.TEXT, _REASONED),
        (Property.RECEIVE_MAXIMUM, Kind.TWO_BYTES, (_CONNECT, _CONNACK)),
        (Property.TOPIC_ALIAS_MAXIMUM, Kind.TWO_BYTES, (_CONNECT, _CONNACK)),
        (Property.TOPIC_ALIAS, Kind.TWO_BYTES, (_PUBLISH,)),
        (Property.MAXIMUM_QOS, Kind.FLAG, (_CONNACK,)),
        (Property.RETAIN_AVAILABLE, Kind.FLAG, (_CONNACK,)),
        (
            Property.USER_PROPERTY,
            Kind.PAIR,
            (
                WILL,
                _CONNECT,
                _PUBLISH,
                PacketType.SUBSCRIBE,
                PacketType.UNSUBSCRIBE,
                *_REASONED,
            ),
        ),
        (Property.MAXIMUM_PACKET_SIZE, Kind.FOUR_BYTES, (_CONNECT, _CONNACK)),
        (Property.WILDCARD_SUBSCRIPTION_AVAILABLE, Kind.FLAG, (_CONNACK,)),
        (Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE, Kind.FLAG, (_CONNACK,)),
        (Property.SHARED_SUBSCRIPTION_AVAILABLE, Kind.FLAG, (_CONNACK,)),
    )
}
# Zero is a Protocol Error for these (3.1.2.11.3, 3.1.2.11.4, 3.3.2.3.4, 3.8.2.1.2).
NEVER_ZERO = frozenset(
    {
        Property.RECEIVE_MAXIMUM,
        Property.MAXIMUM_PACKET_SIZE,
        Property.TOPIC_ALIAS,
        Property.SUBSCRIPTION_IDENTIFIER,
    }
)

# USER_PROPERTY holds a tuple of (name, value) pairs, SUBSCRIPTION_IDENTIFIER a tuple of numbers,
# since both may repeat in a PUBLISH; every other property one value.
PropertyValue = int | str | bytes | tuple[tuple[str, str], ...] | tuple[int, ...]
Properties = Mapping[Property, PropertyValue]
NO_PROPERTIES: Properties = MappingProxyType({})


def _none() -> Properties:
    return NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Will:
    """The will message inside CONNECT."""

    topic: str
    payload: bytes
    qos: int = 0
    is_retained: bool = False
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT; `keep_alive_s` 0 means the client asked for none."""

    version: Version
    client_id: str
    is_clean_start: bool = True
    keep_alive_s: int = 0
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class ConnAck:
    """CONNACK; `reason_code` is a return code in MQTT 3."""

    reason_code: int = 0
    is_session_present: bool = False
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Publish:
    """PUBLISH; `packet_id` is None exactly when `qos` is 0."""

    mqtt_topic: str
    payload: bytes
    qos: int = 0
    packet_id: int | None = None
    is_retained: bool = False
    is_duplicate: bool = False
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class PublishReply:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, as `packet_type` says."""

    packet_type: PacketType
    packet_id: int
    reason_code: int = 0
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """One topic filter of a SUBSCRIBE with its options."""

    topic_filter: str
    qos: int = 0
    is_no_local: bool = False
    is_retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE."""

    packet_id: int
    requests: tuple[SubscriptionRequest, ...]
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class SubAck:
    """SUBACK: one code per filter, in order."""

    packet_id: int
    reason_codes: tuple[int, ...]
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE."""

    packet_id: int
    topic_filters: tuple[str, ...]
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class UnsubAck:
    """UNSUBACK; MQTT 3 has no codes in it."""

    packet_id: int
    reason_codes: tuple[int, ...] = ()
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class PingReq:
    """PINGREQ."""


@dataclass(frozen=True, slots=True)
class PingResp:
    """PINGRESP."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT; in MQTT 3 only clients send it, without a code."""

    reason_code: int = 0
    properties: Properties = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH, MQTT 5 only."""

    reason_code: int = 0
    properties: Properties = field(default_factory=_none)


Packet = (
    Connect
    | ConnAck
    | Publish
    | PublishReply
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)


def number_of(properties: Properties, key: Property, default: int) -> int:
    """The value of a property that is a number."""
    value = properties.get(key, default)
    assert isinstance(value, int)
    return value
