"""Codec: what every packet looks like on the wire, and that nothing else is accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqttpush.errors import MalformedPacket, PacketTooLarge, ProtocolError
from mqttpush.mqtt.codec import decode, encode, frame, push_parts
from mqttpush.mqtt.packets import (
    Connect,
    Packet,
    PacketType,
    Property,
    Publish,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Version,
)
from mqttpush.mqtt.wire import MAX_VARIABLE, Reader, encode_variable
from tests.mqtt.strategies import versioned_packets
from tests.mqtt.support import VERSIONS, clause, packets_of

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "mqtt_packets.json").read_text(encoding="utf-8")
)


@given(versioned_packets())
def test_decoding_an_encoded_packet_gives_the_packet(case: tuple[Version, Packet]) -> None:
    version, packet = case
    assert packets_of(version, encode(version, packet)) == [packet]


@given(st.sampled_from(VERSIONS), st.integers(0, 255), st.binary(max_size=200))
@example(Version.V5, 0x10, b"\0\4MQTT\5\0\0\0\5\x26\0\1")
def test_any_bytes_give_a_packet_or_a_protocol_error(
    version: Version, first_byte: int, body: bytes
) -> None:
    try:
        decode(version, first_byte, body)
    except ProtocolError:
        return


@given(versioned_packets(), st.data())
def test_a_mutated_packet_gives_a_packet_or_a_protocol_error(
    case: tuple[Version, Packet], data: st.DataObject
) -> None:
    version, packet = case
    encoded = bytearray(encode(version, packet))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        packets_of(version, bytes(encoded))
    except (ProtocolError, AssertionError):
        return


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["what"])
def test_a_packet_of_the_vectors_reads_and_writes_the_same(vector: dict[str, str]) -> None:
    version = Version(int(vector["level"]))
    data = bytes.fromhex(vector["hex"])
    (packet,) = packets_of(version, data)
    assert type(packet).__name__ == vector["packet"]
    assert encode(version, packet) == data


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["what"])
def test_a_broken_packet_of_the_vectors_is_refused(vector: dict[str, str]) -> None:
    """The clauses stand in the vectors."""
    with pytest.raises(ProtocolError) as caught:
        packets_of(Version(int(vector["level"])), bytes.fromhex(vector["hex"]))
    assert caught.value.reason_code == int(vector["reason"], 16)


@given(st.integers(0, MAX_VARIABLE))
@clause("5.0", "MQTT-1.5.5-1")
def test_a_variable_byte_integer_is_as_short_as_it_can_be(value: int) -> None:
    encoded = encode_variable(value)
    assert Reader(encoded).variable() == value
    assert len(encoded) == 1 + (value >= 128) + (value >= 16384) + (value >= 2097152)


@clause("3.1.1", "MQTT-1.5.3-3")
@clause("5.0", "MQTT-1.5.4-3")
def test_a_byte_order_mark_stays_in_a_string() -> None:
    packet = Publish("p/x/\ufeffa", b"")
    assert packets_of(Version.V5, encode(Version.V5, packet)) == [packet]


def test_the_length_of_a_packet_is_known_before_its_body() -> None:
    with pytest.raises(PacketTooLarge):
        frame(b"\x30\xff\xff\xff\x7f", 0, 1000)
    assert frame(b"\x30\xff\xff", 0, 1000) is None
    assert frame(b"\x30\x02a", 0, 1000) is None
    assert frame(b"\x30\x02ab", 0, 1000) == (2, 4)


def test_a_remaining_length_without_end_is_malformed() -> None:
    with pytest.raises(MalformedPacket):
        frame(b"\x30\xff\xff\xff\xff", 0, 1 << 30)


@pytest.mark.parametrize("version", VERSIONS)
@clause("3.1.1", "MQTT-2.3.1-5")
@clause("3.1.1", "MQTT-4.3.1-1")
@clause("5.0", "MQTT-2.2.1-2")
@clause("5.0", "MQTT-2.2.2-1")
@clause("5.0", "MQTT-4.3.1-1")
def test_a_push_in_two_parts_is_an_ordinary_publish(version: Version) -> None:
    head, tail = push_parts(version, 23, b'{"a":1}')
    packet = Publish("t" * 23, b'{"a":1}')
    assert head + b"t" * 23 + tail == encode(version, packet)


def test_mqtt_3_1_may_leave_out_credentials_its_flags_announce() -> None:
    body = b"\0\6MQIsdp\3\xc2\0\x3c\0\1a"
    packet = decode(Version.V3_1, PacketType.CONNECT << 4, body)
    assert packet == Connect(Version.V3_1, "a", keep_alive_s=60)


def test_mqtt_3_1_may_set_dup_on_a_repeated_subscribe() -> None:
    packet = Subscribe(1, (SubscriptionRequest("a"),))
    encoded = bytearray(encode(Version.V3_1, packet))
    encoded[0] |= 8
    assert packets_of(Version.V3_1, bytes(encoded)) == [packet]
    with pytest.raises(MalformedPacket):
        packets_of(Version.V3_1_1, bytes(encoded))


def test_ten_thousand_user_properties_are_refused() -> None:
    properties = {Property.USER_PROPERTY: tuple(("a", "b") for _ in range(10_000))}
    encoded = encode(Version.V5, Publish("p/a/b", b"", properties=properties))
    with pytest.raises(ProtocolError) as caught:
        packets_of(Version.V5, encoded)
    assert caught.value.reason_code == 0x97


def test_mqtt_3_unsuback_has_no_codes() -> None:
    assert encode(Version.V3_1_1, UnsubAck(5, (0,))) == b"\xb0\x02\x00\x05"
