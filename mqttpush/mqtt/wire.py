"""Wire: the data representations of MQTT, and the property sets made of them (sections 1.5, 2.2.2).

Owns integers, strings, binary data and properties as bytes. Knows no packet but by number. The one
idea: a `Reader` walks a body once and raises `MalformedPacket` at the first byte that does not fit,
so nothing above it ever looks past an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mqttpush.errors import MalformedPacket, ProtocolError
from mqttpush.mqtt.packets import (
    NEVER_ZERO,
    NO_PROPERTIES,
    PROPERTY_TABLE,
    Kind,
    PacketType,
    Properties,
    Property,
    PropertyValue,
    ReasonCode,
)

MAX_VARIABLE = 268_435_455  # four bytes of seven bits (1.5.5)
# Bytes of user text per packet are bounded by the packet size; this bounds the Python objects.
MAX_USER_PROPERTIES = 64

_PROPERTY_BY_NUMBER = {int(key): key for key in Property}
_SINGLE_BYTE = {Kind.BYTE, Kind.FLAG}


def encode_variable(value: int) -> bytes:
    """Variable byte integer, always in its shortest form [MQTT-1.5.5-1]."""
    assert 0 <= value <= MAX_VARIABLE
    if value < 128:
        return bytes((value,))
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_binary(value: bytes) -> bytes:
    """Two bytes of length, then the bytes."""
    return len(value).to_bytes(2, "big") + value


def encode_text(value: str) -> bytes:
    """A UTF-8 encoded string (1.5.4)."""
    return encode_binary(value.encode())


class Reader:
    """Walks the body of one packet from `position` to `end`."""

    __slots__ = ("body", "end", "position")

    def __init__(self, body: bytes, position: int = 0, end: int | None = None) -> None:
        self.body = body
        self.position = position
        self.end = len(body) if end is None else end

    @property
    def remaining(self) -> int:
        return self.end - self.position

    def take(self, size: int) -> bytes:
        start = self.position
        stop = start + size
        if stop > self.end:
            raise MalformedPacket("the packet ends inside a field")
        self.position = stop
        return self.body[start:stop]

    def rest(self) -> bytes:
        return self.take(self.end - self.position)

    def byte(self) -> int:
        position = self.position
        if position >= self.end:
            raise MalformedPacket("the packet ends inside a field")
        self.position = position + 1
        return self.body[position]

    def two_bytes(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def variable(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            digit = self.byte()
            value |= (digit & 127) << shift
            if digit < 128:
                if digit == 0 and shift:  # [MQTT-1.5.5-1]
                    raise MalformedPacket("a variable byte integer is longer than needed")
                return value
        raise MalformedPacket("a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        return self.take(int.from_bytes(self.take(2), "big"))

    def text(self) -> str:
        raw = self.binary()
        if b"\0" in raw:  # [MQTT-1.5.4-2]
            raise MalformedPacket("a string holds U+0000")
        try:
            return raw.decode()  # strict: refuses U+D800 to U+DFFF too [MQTT-1.5.4-1]
        except UnicodeDecodeError:
            raise MalformedPacket("a string is not UTF-8") from None

    def finish(self) -> None:
        if self.position != self.end:
            raise MalformedPacket("bytes are left after the last field")


def decode_properties(
    reader: Reader, place: int, max_user_properties: int = MAX_USER_PROPERTIES
) -> Properties:
    """A property set at `place` (a packet type, or WILL); `MalformedPacket` or `ProtocolError`."""
    size = reader.variable()
    if size == 0:
        return NO_PROPERTIES
    if size > reader.remaining:
        raise MalformedPacket("the property length passes the end of the packet")
    end = reader.position + size
    inner = Reader(reader.body, reader.position, end)
    reader.position = end
    found: dict[Property, PropertyValue] = {}
    repeated: dict[Property, list[object]] = {}
    while inner.position < end:
        key = _PROPERTY_BY_NUMBER.get(inner.variable())
        if key is None:
            raise MalformedPacket("a property identifier is not known")
        kind, places = PROPERTY_TABLE[key]
        if place not in places:  # v5 2.2.2.2
            raise MalformedPacket(f"{key.name} must not stand in this packet")
        value = _decode_value(inner, kind)
        if value == 0 and key in NEVER_ZERO:
            raise ProtocolError(f"{key.name} is 0")
        if kind is Kind.PAIR or (
            key is Property.SUBSCRIPTION_IDENTIFIER and place == PacketType.PUBLISH
        ):
            values = repeated.setdefault(key, [])
            values.append(value)
            if len(values) > max_user_properties:
                raise ProtocolError(
                    "too many properties", ReasonCode.QUOTA_EXCEEDED, bound="max_user_properties"
                )
        elif key in found:
            raise ProtocolError(f"{key.name} stands twice")
        else:
            found[key] = (cast("int", value),) if key is Property.SUBSCRIPTION_IDENTIFIER else value
    for key, many in repeated.items():
        found[key] = cast("PropertyValue", tuple(many))
    return found


def encode_properties(properties: Properties) -> bytes:
    """A property set with its length."""
    if not properties:
        return b"\0"
    encoded = bytearray()
    for key, value in properties.items():
        kind = PROPERTY_TABLE[key][0]
        many: Sequence[object] = value if isinstance(value, tuple) else (value,)
        for single in many:
            encoded.append(key)
            encoded += _encode_value(kind, single)
    return encode_variable(len(encoded)) + bytes(encoded)


def _decode_value(reader: Reader, kind: Kind) -> PropertyValue:
    if kind in _SINGLE_BYTE:
        value = reader.byte()
        if kind is Kind.FLAG and value > 1:
            raise ProtocolError("a flag property is neither 0 nor 1")
        return value
    if kind is Kind.TWO_BYTES:
        return reader.two_bytes()
    if kind is Kind.FOUR_BYTES:
        return int.from_bytes(reader.take(4), "big")
    if kind is Kind.VARIABLE:
        return reader.variable()
    if kind is Kind.TEXT:
        return reader.text()
    if kind is Kind.BINARY:
        return reader.binary()
    return cast("PropertyValue", (reader.text(), reader.text()))


def _encode_value(kind: Kind, value: object) -> bytes:
    if kind is Kind.PAIR:
        name, text = cast("tuple[str, str]", value)
        return encode_text(name) + encode_text(text)
    if kind is Kind.TEXT:
        return encode_text(cast("str", value))
    if kind is Kind.BINARY:
        return encode_binary(cast("bytes", value))
    number = cast("int", value)
    if kind is Kind.VARIABLE:
        return encode_variable(number)
    size = {Kind.TWO_BYTES: 2, Kind.FOUR_BYTES: 4}.get(kind, 1)
    return number.to_bytes(size, "big")
