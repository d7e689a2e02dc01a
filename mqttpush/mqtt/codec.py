"""Codec: bytes to packets and packets to bytes, for MQTT 3.1, 3.1.1 and 5.0.

Owns the wire form of every control packet, in both directions. Knows no state: whether a packet may
come now is `connection.py`'s to say. The one idea: `frame` cuts a packet out of a buffer without
looking inside, so a packet is decoded once, whole, and any split of the bytes reads the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mqttpush.errors import MalformedPacket, PacketTooLarge, ProtocolError
from mqttpush.mqtt.packets import (
    NO_PROPERTIES,
    PROTOCOL_NAME_BY_VERSION,
    WILL,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingReq,
    PingResp,
    Properties,
    Publish,
    PublishReply,
    ReasonCode,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
)
from mqttpush.mqtt.wire import (
    MAX_USER_PROPERTIES,
    Reader,
    decode_properties,
    encode_binary,
    encode_properties,
    encode_text,
    encode_variable,
)

_SECOND_NIBBLE_2 = {PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE}
_VERSION_5_ONLY = {PacketType.AUTH}


def frame(buffer: bytes | bytearray, start: int, max_size: int) -> tuple[int, int] | None:
    """Where the body of the packet at `start` begins and ends; None: more bytes are needed.

    `PacketTooLarge` as soon as the length is known to pass `max_size` bytes in all;
    `MalformedPacket` for a length of more than four bytes.
    """
    available = len(buffer)
    length = 0
    position = start + 1
    for shift in (0, 7, 14, 21):
        if position >= available:
            return None
        digit = buffer[position]
        position += 1
        length |= (digit & 127) << shift
        if digit < 128:
            end = position + length
            if end - start > max_size:
                raise PacketTooLarge(f"a packet of {end - start} bytes, at most {max_size} allowed")
            return (position, end) if end <= available else None
    raise MalformedPacket("the remaining length has more than four bytes")


def decode(
    version: Version, first_byte: int, body: bytes, max_user_properties: int = MAX_USER_PROPERTIES
) -> Packet:
    """The packet in `body`. `version` is that of CONNECT, which itself says its own.

    Raises `ProtocolError` (or its child `MalformedPacket`), nothing else.
    """
    packet_type = first_byte >> 4
    flags = first_byte & 15
    reader = Reader(body)
    if packet_type == PacketType.PUBLISH:
        packet: Packet = _decode_publish(version, flags, reader, max_user_properties)
        return packet
    _check_flags(version, packet_type, flags)
    decoder = _DECODERS.get(packet_type)
    if decoder is None or (version is not Version.V5 and packet_type in _VERSION_5_ONLY):
        raise MalformedPacket("a packet of a reserved type")
    packet = decoder(version, PacketType(packet_type), reader, max_user_properties)
    reader.finish()
    return packet


# What idle clients send, and its answer: the same bytes in every version.
PINGREQ: Final = bytes((PacketType.PINGREQ << 4, 0))
PINGRESP: Final = bytes((PacketType.PINGRESP << 4, 0))


def encode(version: Version, packet: Packet) -> bytes:
    """The whole packet as bytes."""
    first_byte, body = _ENCODERS[type(packet)](version, packet)
    return bytes((first_byte,)) + encode_variable(len(body)) + body


def push_parts(
    version: Version, topic_size_bytes: int, payload: bytes, properties: bytes = b"\0"
) -> tuple[bytes, bytes]:
    """A QoS 0 PUBLISH in two parts: put the topic name's bytes between them.

    properties: an encoded property set, left out in MQTT 3. Hot: once per variant of a fan-out.
    """
    if version is Version.V5:
        payload = properties + payload
    head = encode_variable(2 + topic_size_bytes + len(payload))
    return b"\x30" + head + topic_size_bytes.to_bytes(2, "big"), payload


def is_topic_name(name: str) -> bool:
    """May `name` stand in a PUBLISH [MQTT-3.3.2-2, MQTT-4.7.3-1]?"""
    return bool(name) and "+" not in name and "#" not in name


def _check_flags(version: Version, packet_type: int, flags: int) -> None:
    expected = 2 if packet_type in _SECOND_NIBBLE_2 else 0
    if flags == expected:  # [MQTT-2.2.2-2]
        return
    if version is Version.V3_1:
        # MQTT 3.1 sets DUP on a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE and calls the other bits
        # unused (3.1, 2.1); a reader that insisted would lock out clients that were right then.
        return
    raise MalformedPacket("reserved flags of the fixed header are wrong")


def _decode_connect(_: Version, __: PacketType, reader: Reader, max_pairs: int) -> Connect:
    version = _decode_protocol(reader)
    flags = reader.byte()
    if flags & 1 and version is not Version.V3_1:  # [MQTT-3.1.2-3]; not used in 3.1
        raise MalformedPacket("the reserved flag of CONNECT is set")
    has_will, will_qos, is_will_retained = flags & 4, flags >> 3 & 3, bool(flags & 32)
    has_username, has_password = flags & 128, flags & 64
    if will_qos == 3 or (not has_will and flags & 0b00111000):
        raise MalformedPacket("the will flags of CONNECT contradict")  # [MQTT-3.1.2-11 to 3.1.2-15]
    if version is Version.V3_1_1 and has_password and not has_username:  # [MQTT-3.1.2-22]
        raise MalformedPacket("CONNECT has a password flag without a user name flag")
    keep_alive_s = reader.two_bytes()
    is_v5 = version is Version.V5
    properties = (
        decode_properties(reader, PacketType.CONNECT, max_pairs) if is_v5 else NO_PROPERTIES
    )
    client_id = reader.text()
    will = None
    if has_will:
        will_properties = decode_properties(reader, WILL, max_pairs) if is_v5 else NO_PROPERTIES
        will_topic = reader.text()
        if not is_topic_name(will_topic):
            raise MalformedPacket("the will topic is no topic name")
        will = Will(will_topic, reader.binary(), will_qos, is_will_retained, will_properties)
    # MQTT 3.1, 3.1: the remaining length takes precedence over these two flags.
    is_lenient = version is Version.V3_1
    username = reader.text() if has_username and (reader.remaining or not is_lenient) else None
    password = reader.binary() if has_password and (reader.remaining or not is_lenient) else None
    return Connect(
        version, client_id, bool(flags & 2), keep_alive_s, username, password, will, properties
    )


def _decode_protocol(reader: Reader) -> Version:
    name = reader.binary()
    if name not in PROTOCOL_NAME_BY_VERSION.values():  # [MQTT-3.1.2-1]
        raise MalformedPacket("not an MQTT protocol name")
    level = reader.byte()
    try:
        version = Version(level)
    except ValueError:
        version = None
    if version is None or PROTOCOL_NAME_BY_VERSION[version] != name:
        raise ProtocolError(  # [MQTT-3.1.2-2]
            f"protocol level {level} is not spoken", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
        )
    return version


def _encode_connect(_: Version, packet: Connect) -> tuple[int, bytes]:
    version, will = packet.version, packet.will
    flags = packet.is_clean_start << 1
    flags |= (packet.username is not None) << 7 | (packet.password is not None) << 6
    if will is not None:
        flags |= 4 | will.qos << 3 | will.is_retained << 5
    body = encode_binary(PROTOCOL_NAME_BY_VERSION[version]) + bytes((version, flags))
    body += packet.keep_alive_s.to_bytes(2, "big") + _tail(version, packet.properties)
    body += encode_text(packet.client_id)
    if will is not None:
        body += _tail(version, will.properties) + encode_text(will.topic)
        body += encode_binary(will.payload)
    if packet.username is not None:
        body += encode_text(packet.username)
    if packet.password is not None:
        body += encode_binary(packet.password)
    return PacketType.CONNECT << 4, body


def _decode_connack(version: Version, kind: PacketType, reader: Reader, max_pairs: int) -> ConnAck:
    flags, reason_code = reader.byte(), reader.byte()
    if flags > 1:  # [MQTT-3.2.2-1]
        raise MalformedPacket("reserved flags of CONNACK are set")
    properties = _decode_tail(version, kind, reader, max_pairs)
    return ConnAck(reason_code, bool(flags), properties)


def _encode_connack(version: Version, packet: ConnAck) -> tuple[int, bytes]:
    body = bytes((packet.is_session_present, packet.reason_code))
    return PacketType.CONNACK << 4, body + _tail(version, packet.properties)


def _decode_publish(version: Version, flags: int, reader: Reader, max_pairs: int) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3:  # [MQTT-3.3.1-4]
        raise MalformedPacket("QoS 3")
    if qos == 0 and flags & 8:  # [MQTT-3.3.1-2]
        raise MalformedPacket("DUP is set at QoS 0")
    mqtt_topic = reader.text()
    packet_id = _decode_packet_id(reader) if qos else None
    properties = _decode_tail(version, PacketType.PUBLISH, reader, max_pairs)
    return Publish(
        mqtt_topic, reader.rest(), qos, packet_id, bool(flags & 1), bool(flags & 8), properties
    )


def _encode_publish(version: Version, packet: Publish) -> tuple[int, bytes]:
    body = encode_text(packet.mqtt_topic)
    if packet.packet_id is not None:
        body += packet.packet_id.to_bytes(2, "big")
    flags = packet.is_duplicate << 3 | packet.qos << 1 | packet.is_retained
    return PacketType.PUBLISH << 4 | flags, body + _tail(
        version, packet.properties
    ) + packet.payload


def _decode_reply(
    version: Version, kind: PacketType, reader: Reader, max_pairs: int
) -> PublishReply:
    packet_id = _decode_packet_id(reader)
    reason_code, properties = _decode_short(version, kind, reader, max_pairs)
    return PublishReply(kind, packet_id, reason_code, properties)


def _encode_reply(version: Version, packet: PublishReply) -> tuple[int, bytes]:
    flags = 2 if packet.packet_type is PacketType.PUBREL else 0
    body = packet.packet_id.to_bytes(2, "big")
    body += _encode_short(version, packet.reason_code, packet.properties)
    return packet.packet_type << 4 | flags, body


def _decode_subscribe(
    version: Version, kind: PacketType, reader: Reader, max_pairs: int
) -> Subscribe:
    packet_id = _decode_packet_id(reader)
    properties = _decode_tail(version, kind, reader, max_pairs)
    requests: list[SubscriptionRequest] = []
    reserved = 0b11000000 if version is Version.V5 else 0b11111100
    while reader.remaining:
        topic_filter, options = _decode_filter(reader), reader.byte()
        qos, handling = options & 3, options >> 4 & 3
        if version is Version.V3_1:
            options &= 3
        if options & reserved or qos == 3 or handling == 3:  # [MQTT-3.8.3-4, v5 MQTT-3.8.3-5]
            raise MalformedPacket("subscription options out of range")
        is_no_local, as_published = bool(options & 4), bool(options & 8)
        if is_no_local and topic_filter.startswith("$share/"):  # v5 [MQTT-3.8.3-4]
            raise ProtocolError("No Local on a shared subscription")
        requests.append(
            SubscriptionRequest(topic_filter, qos, is_no_local, as_published, options >> 4)
        )
    if not requests:  # [MQTT-3.8.3-3]
        raise ProtocolError("SUBSCRIBE without a topic filter")
    return Subscribe(packet_id, tuple(requests), properties)


def _encode_subscribe(version: Version, packet: Subscribe) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big") + _tail(version, packet.properties)
    for request in packet.requests:
        options = request.qos | request.is_no_local << 2 | request.is_retain_as_published << 3
        options |= request.retain_handling << 4
        body += encode_text(request.topic_filter) + bytes((options,))
    return PacketType.SUBSCRIBE << 4 | 2, body


def _decode_suback(version: Version, kind: PacketType, reader: Reader, max_pairs: int) -> SubAck:
    packet_id = _decode_packet_id(reader)
    properties = _decode_tail(version, kind, reader, max_pairs)
    return SubAck(packet_id, tuple(reader.rest()), properties)


def _encode_suback(version: Version, packet: SubAck) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big") + _tail(version, packet.properties)
    return PacketType.SUBACK << 4, body + bytes(packet.reason_codes)


def _decode_unsubscribe(
    version: Version, kind: PacketType, reader: Reader, max_pairs: int
) -> Unsubscribe:
    packet_id = _decode_packet_id(reader)
    properties = _decode_tail(version, kind, reader, max_pairs)
    topic_filters: list[str] = []
    while reader.remaining:
        topic_filters.append(_decode_filter(reader))
    if not topic_filters:  # [MQTT-3.10.3-2]
        raise ProtocolError("UNSUBSCRIBE without a topic filter")
    return Unsubscribe(packet_id, tuple(topic_filters), properties)


def _encode_unsubscribe(version: Version, packet: Unsubscribe) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big") + _tail(version, packet.properties)
    body += b"".join(map(encode_text, packet.topic_filters))
    return PacketType.UNSUBSCRIBE << 4 | 2, body


def _decode_unsuback(
    version: Version, kind: PacketType, reader: Reader, max_pairs: int
) -> UnsubAck:
    packet_id = _decode_packet_id(reader)
    properties = _decode_tail(version, kind, reader, max_pairs)
    codes = tuple(reader.rest()) if version is Version.V5 else ()
    return UnsubAck(packet_id, codes, properties)


def _encode_unsuback(version: Version, packet: UnsubAck) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big")
    if version is Version.V5:
        body += encode_properties(packet.properties) + bytes(packet.reason_codes)
    return PacketType.UNSUBACK << 4, body


def _decode_disconnect(
    version: Version, kind: PacketType, reader: Reader, max_pairs: int
) -> Disconnect:
    return Disconnect(*_decode_short(version, kind, reader, max_pairs))


def _encode_disconnect(version: Version, packet: Disconnect) -> tuple[int, bytes]:
    return PacketType.DISCONNECT << 4, _encode_short(version, packet.reason_code, packet.properties)


def _decode_auth(version: Version, kind: PacketType, reader: Reader, max_pairs: int) -> Auth:
    return Auth(*_decode_short(version, kind, reader, max_pairs))


def _encode_auth(version: Version, packet: Auth) -> tuple[int, bytes]:
    return PacketType.AUTH << 4, _encode_short(version, packet.reason_code, packet.properties)


def _decode_packet_id(reader: Reader) -> int:
    packet_id = reader.two_bytes()
    if packet_id == 0:  # [MQTT-2.3.1-1], v5 [MQTT-2.2.1-3]
        raise ProtocolError("packet identifier 0")
    return packet_id


def _decode_filter(reader: Reader) -> str:
    topic_filter = reader.text()
    if not topic_filter:  # [MQTT-4.7.3-1]
        raise ProtocolError("a topic filter of no characters")
    return topic_filter


def _decode_tail(version: Version, kind: PacketType, reader: Reader, max_pairs: int) -> Properties:
    return decode_properties(reader, kind, max_pairs) if version is Version.V5 else NO_PROPERTIES


def _tail(version: Version, properties: Properties) -> bytes:
    return encode_properties(properties) if version is Version.V5 else b""


def _decode_short(
    version: Version, kind: PacketType, reader: Reader, max_pairs: int
) -> tuple[int, Properties]:
    """Reason code and properties, each of which may be left out from the end (3.4.2.1)."""
    if version is not Version.V5 or not reader.remaining:
        return 0, NO_PROPERTIES
    reason_code = reader.byte()
    if not reader.remaining:
        return reason_code, NO_PROPERTIES
    return reason_code, decode_properties(reader, kind, max_pairs)


def _encode_short(version: Version, reason_code: int, properties: Properties) -> bytes:
    if version is not Version.V5 or (reason_code == 0 and not properties):
        return b""
    if not properties:
        return bytes((reason_code,))
    return bytes((reason_code,)) + encode_properties(properties)


_DECODERS: dict[int, Callable[[Version, PacketType, Reader, int], Packet]] = {
    PacketType.CONNECT: _decode_connect,
    PacketType.CONNACK: _decode_connack,
    PacketType.PUBACK: _decode_reply,
    PacketType.PUBREC: _decode_reply,
    PacketType.PUBREL: _decode_reply,
    PacketType.PUBCOMP: _decode_reply,
    PacketType.SUBSCRIBE: _decode_subscribe,
    PacketType.SUBACK: _decode_suback,
    PacketType.UNSUBSCRIBE: _decode_unsubscribe,
    PacketType.UNSUBACK: _decode_unsuback,
    PacketType.PINGREQ: lambda *_: PingReq(),
    PacketType.PINGRESP: lambda *_: PingResp(),
    PacketType.DISCONNECT: _decode_disconnect,
    PacketType.AUTH: _decode_auth,
}
# Each takes the packet class that is its key, which the type system cannot say.
_ENCODERS: dict[type, Callable[[Version, Any], tuple[int, bytes]]] = {
    Connect: _encode_connect,
    ConnAck: _encode_connack,
    Publish: _encode_publish,
    PublishReply: _encode_reply,
    Subscribe: _encode_subscribe,
    SubAck: _encode_suback,
    Unsubscribe: _encode_unsubscribe,
    UnsubAck: _encode_unsuback,
    PingReq: lambda _, __: (PacketType.PINGREQ << 4, b""),
    PingResp: lambda _, __: (PacketType.PINGRESP << 4, b""),
    Disconnect: _encode_disconnect,
    Auth: _encode_auth,
}
