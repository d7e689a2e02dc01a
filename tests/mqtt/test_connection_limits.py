"""Connections: keep-alive, rates and sizes, and what holds for any bytes whatever."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.mqtt.codec import encode
from mqttpush.mqtt.connection import State
from mqttpush.mqtt.happenings import BoundMet, Closed, ConnectReceived
from mqttpush.mqtt.packets import (
    Auth,
    Connect,
    Packet,
    PingReq,
    Property,
    Publish,
    Unsubscribe,
    Version,
)
from tests.mqtt.strategies import versioned_packets
from tests.mqtt.support import (
    TOPIC,
    VERSIONS,
    Link,
    clause,
    is_closed,
    open_link,
    settings,
)

every_version = pytest.mark.parametrize("version", VERSIONS)
REQUEST = f"p/{TOPIC}/thing-if/apps/app/commands"


@every_version
@clause("3.1.1", "MQTT-3.1.2-24")
@clause("5.0", "MQTT-3.1.2-24")
@clause("5.0", "MQTT-3.2.2-22")
def test_the_keep_alive_deadline_is_one_and_a_half_times_the_clients(version: Version) -> None:
    link = Link(version)
    link.connect(keep_alive_s=60)
    assert link.connection.keep_alive_deadline() == link.now + 90
    link.now += 50
    link.send(PingReq())
    assert link.connection.keep_alive_deadline() == link.now + 90


@every_version
def test_a_part_of_a_packet_does_not_keep_a_connection_alive(version: Version) -> None:
    link = open_link(version)
    deadline = link.connection.keep_alive_deadline()
    link.now += 50
    link.feed(b"\x30\x50p")
    assert link.connection.keep_alive_deadline() == deadline


@every_version
@pytest.mark.parametrize("keep_alive_s", [0, 1201, 65535])
def test_no_keep_alive_and_a_very_long_one_are_capped(version: Version, keep_alive_s: int) -> None:
    link = Link(version)
    link.connect(keep_alive_s=keep_alive_s)
    assert link.connection.keep_alive_s == 1200


@every_version
def test_a_flood_of_pings_ends_the_connection(version: Version) -> None:
    link = open_link(version, settings(max_control_packets_per_s=2))
    for _ in range(10):
        assert link.send(PingReq()) == []
    bound = BoundMet("max_control_packets_per_s")
    assert link.send(PingReq()) == [bound, Closed("message_rate_too_high")]


@every_version
def test_a_rate_of_less_than_one_packet_in_five_seconds_is_a_rate(version: Version) -> None:
    link = open_link(version, settings(max_control_packets_per_s=0.1, max_publishes_per_s=0.1))
    for _ in range(3):
        assert link.send(PingReq()) == []
        assert not is_closed(link.send(Publish(REQUEST, b"x")))
        link.now += 10.01
    link.send(PingReq())
    assert is_closed(link.send(PingReq()))


PUBLISH_WITH_PAIRS = Publish(REQUEST, b"", properties={Property.USER_PROPERTY: (("a", "b"),) * 3})
SMALL = settings(
    max_packet_before_auth_bytes=512,
    max_packet_bytes=1024,
    max_filters_per_packet=2,
    max_user_properties=2,
    max_inflight_publishes=1,
    max_publishes_per_s=4,
)


@pytest.mark.parametrize(
    ("bound", "packets"),
    [
        ("max_packet_bytes", [Publish(REQUEST, bytes(1024))]),
        ("max_filters_per_packet", [Unsubscribe(1, ("a", "b", "c"))]),
        ("max_user_properties", [PUBLISH_WITH_PAIRS]),
        ("max_inflight_publishes", [Publish(REQUEST, b"", 2, 1), Publish(REQUEST, b"", 2, 2)]),
        ("max_publishes_per_s", [Publish(REQUEST, b"")] * 21),
    ],
)
def test_a_bound_is_named_when_it_is_met(bound: str, packets: list[Packet]) -> None:
    events = open_link(Version.V5, SMALL).send(*packets)
    assert events[-2] == BoundMet(bound)
    assert is_closed(events)


def test_the_bounds_before_authentication_are_named_when_they_are_met() -> None:
    too_large, too_much = Link(limits=SMALL), Link(limits=SMALL)
    assert too_large.feed(b"\x10\x80\x08")[0] == BoundMet("max_packet_before_auth_bytes")
    too_much.send(Connect(Version.V3_1_1, TOPIC))
    assert too_much.feed(bytes(1000))[0] == BoundMet("max_packet_before_auth_bytes")


@every_version
def test_pings_within_the_rate_go_on_for_ever(version: Version) -> None:
    link = open_link(version, settings(max_control_packets_per_s=2))
    for _ in range(100):
        link.now += 0.5
        assert link.send(PingReq()) == []


@every_version
def test_a_flood_of_requests_ends_the_connection(version: Version) -> None:
    link = open_link(version, settings(max_publishes_per_s=4))
    for _ in range(20):
        assert not is_closed(link.send(Publish(REQUEST, b"x")))
    assert is_closed(link.send(Publish(REQUEST, b"x")))


@every_version
def test_a_packet_over_the_limit_ends_the_connection(version: Version) -> None:
    link = open_link(version, settings(max_packet_bytes=1024))
    assert is_closed(link.feed(b"\x30\x80\x10"))
    expected = [0x95] if version is Version.V5 else []
    assert [packet.reason_code for packet in link.replies()] == expected  # type: ignore[union-attr]


def test_auth_is_unknown_to_mqtt_3() -> None:
    assert is_closed(open_link().feed(encode(Version.V5, Auth())))


@given(st.lists(versioned_packets(), max_size=6), st.data())
@clause("5.0", "MQTT-6.0.0-2")
def test_any_split_of_the_bytes_gives_the_same_events(
    cases: list[tuple[Version, Packet]], data: st.DataObject
) -> None:
    version = data.draw(st.sampled_from(VERSIONS))
    packets = [packet for of, packet in cases if of is version]
    stream = encode(version, Connect(version, TOPIC))
    stream += b"".join(encode(version, packet) for packet in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    results = []
    for borders in ([0, len(stream)], [0, *cuts, len(stream)]):
        link = Link(version)
        events = []
        for start, end in pairwise(borders):
            for event in link.feed(stream[start:end]):
                events.append(event)
                if isinstance(event, ConnectReceived):
                    events += link.admit()
        results.append((events, link.connection.output, link.connection.state))
    assert results[0] == results[1]


@given(st.sampled_from(VERSIONS), st.lists(st.binary(max_size=40), max_size=8), st.booleans())
def test_no_bytes_raise_or_are_read_after_a_close(
    version: Version, chunks: list[bytes], is_open: bool
) -> None:
    link = open_link(version) if is_open else Link(version)
    closed_count = 0
    for chunk in chunks:
        events = link.feed(chunk)
        closed_count += sum(isinstance(event, Closed) for event in events)
        assert not closed_count or link.connection.state is State.CLOSED
    assert closed_count <= 1
