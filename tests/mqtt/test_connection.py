"""Connections of every version: what may come when, and what is answered."""

from __future__ import annotations

import pytest

from mqttpush.mqtt.connection import State
from mqttpush.mqtt.happenings import Closed, ConnectReceived, RequestReceived, SubscriptionChanged
from mqttpush.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingReq,
    PingResp,
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
from tests.mqtt.support import (
    TOPIC,
    VERSIONS,
    Link,
    clause,
    is_closed,
    open_link,
    settings,
    subscribe,
)

every_version = pytest.mark.parametrize("version", VERSIONS)
REQUEST = f"p/{TOPIC}/thing-if/apps/app/commands"
# What a stranger may ask for instead of his own topic.
FOREIGN_FILTERS = (
    "#",
    "+",
    "+/+",
    f"{TOPIC}/#",
    f"+/{TOPIC}",
    "$SYS/#",
    f"$share/g/{TOPIC}",
    f"$queue/{TOPIC}",
    TOPIC.lower(),
    TOPIC[:-1],
    f"{TOPIC}x",
    f"/{TOPIC}",
    f"{TOPIC}/",
    f" {TOPIC}",
    "another-client",
    "x" * 65535,
    f"p/{TOPIC}/#",
)


@every_version
@clause("3.1.1", "MQTT-3.1.4-4")
@clause("3.1.1", "MQTT-3.2.0-1")
@clause("3.1.1", "MQTT-3.2.2-1")
@clause("5.0", "MQTT-3.1.4-5")
@clause("5.0", "MQTT-3.2.0-1")
@clause("5.0", "MQTT-3.2.2-1")
@clause("5.0", "MQTT-3.2.2-2")
def test_an_admitted_connect_is_answered_with_success_and_no_session(version: Version) -> None:
    link = Link(version)
    link.connect()
    (answer,) = link.replies()
    assert isinstance(answer, ConnAck)
    assert (answer.reason_code, answer.is_session_present) == (0, False)


@every_version
@clause("3.1.1", "MQTT-3.1.2-6")
@clause("3.1.1", "MQTT-3.1.4-3")
@clause("3.1.1", "MQTT-3.2.2-3")
@clause("5.0", "MQTT-3.1.2-4")
@clause("5.0", "MQTT-3.1.2-6")
@clause("5.0", "MQTT-3.1.4-4")
@clause("5.0", "MQTT-3.2.2-3")
def test_a_kept_session_is_a_new_one_since_none_outlives_its_connection(version: Version) -> None:
    link = Link(version)
    link.connect(is_clean_start=False)
    (answer,) = link.replies()
    assert isinstance(answer, ConnAck)
    assert not answer.is_session_present
    assert not link.connection.is_subscribed


def test_the_first_client_of_the_field_gets_its_suback_as_it_expects() -> None:
    link = open_link(Version.V3_1)
    link.send(subscribe())
    assert link.connection.take_output() == b"\x90\x03\x00\x01\x00"


@every_version
@clause("3.1.1", "MQTT-3.8.4-1")
@clause("3.1.1", "MQTT-3.8.4-2")
@clause("3.1.1", "MQTT-2.3.1-7")
@clause("5.0", "MQTT-3.8.4-1")
@clause("5.0", "MQTT-3.8.4-2")
@clause("5.0", "MQTT-2.2.1-6")
def test_the_own_topic_is_granted_at_qos_0(version: Version) -> None:
    link = open_link(version)
    assert link.send(subscribe(packet_id=77, qos=2)) == [SubscriptionChanged()]
    assert link.replies() == [SubAck(77, (0,))]
    assert link.connection.is_subscribed


@every_version
@pytest.mark.parametrize("topic_filter", FOREIGN_FILTERS, ids=lambda text: text[:30])
@clause("3.1.1", "MQTT-3.8.3-2")
@clause("3.1.1", "MQTT-3.9.3-2")
@clause("3.1.1", "MQTT-4.7.3-4")
@clause("5.0", "MQTT-3.9.3-2")
@clause("5.0", "MQTT-4.7.3-4")
def test_a_foreign_filter_is_refused(version: Version, topic_filter: str) -> None:
    link = open_link(version)
    assert link.send(subscribe(topic_filter)) == []
    refused = 0x87 if version is Version.V5 else 0x80
    assert link.replies() == [SubAck(1, (refused,))]
    assert not link.connection.is_subscribed


@clause("3.1.1", "MQTT-4.7.3-4")
@clause("5.0", "MQTT-4.7.3-4")
def test_a_unicode_twin_of_the_own_topic_is_another_topic() -> None:
    link = Link()
    link.connect("caf\u00e9")
    link.connection.take_output()
    link.send(subscribe("cafe\u0301"))
    assert link.replies() == [SubAck(1, (0x80,))]


@every_version
@clause("3.1.1", "MQTT-3.8.4-4")
@clause("3.1.1", "MQTT-3.8.4-5")
@clause("3.1.1", "MQTT-3.9.3-1")
@clause("5.0", "MQTT-3.8.4-5")
@clause("5.0", "MQTT-3.8.4-6")
@clause("5.0", "MQTT-3.8.4-7")
@clause("5.0", "MQTT-3.9.3-1")
def test_of_many_filters_each_is_answered_in_order(version: Version) -> None:
    link = open_link(version)
    filters = ("#", TOPIC, "other", *["x"] * 9)
    link.send(Subscribe(9, tuple(map(SubscriptionRequest, filters))))
    refused = 0x87 if version is Version.V5 else 0x80
    assert link.replies() == [SubAck(9, (refused, 0, refused, *[refused] * 9))]


@every_version
def test_ten_thousand_filters_end_the_connection(version: Version) -> None:
    link = open_link(version)
    events = link.send(Subscribe(9, (SubscriptionRequest("#"),) * 10_000))
    assert is_closed(events)
    expected = [ReasonCode.QUOTA_EXCEEDED] if version is Version.V5 else []
    assert [packet.reason_code for packet in link.replies()] == expected  # type: ignore[union-attr]


@every_version
@clause("3.1.1", "MQTT-3.8.4-3")
@clause("5.0", "MQTT-3.8.4-3")
def test_a_repeated_subscribe_replaces_the_subscription(version: Version) -> None:
    link = open_link(version)
    assert link.send(subscribe()) == [SubscriptionChanged()]
    assert link.send(subscribe(packet_id=2)) == []
    assert link.replies() == [SubAck(1, (0,)), SubAck(2, (0,))]
    assert link.connection.is_subscribed


@every_version
@clause("3.1.1", "MQTT-3.10.4-1")
@clause("3.1.1", "MQTT-3.10.4-4")
@clause("3.1.1", "MQTT-3.10.4-6")
@clause("5.0", "MQTT-3.10.4-1")
@clause("5.0", "MQTT-3.10.4-4")
@clause("5.0", "MQTT-3.10.4-6")
@clause("5.0", "MQTT-3.11.3-1")
@clause("5.0", "MQTT-3.11.3-2")
def test_unsubscribe_ends_the_subscription(version: Version) -> None:
    link = open_link(version)
    link.send(subscribe())
    link.connection.take_output()
    assert link.send(Unsubscribe(3, (TOPIC.lower(), TOPIC))) == [SubscriptionChanged()]
    assert not link.connection.is_subscribed
    codes = (0x11, 0) if version is Version.V5 else ()
    assert link.replies() == [UnsubAck(3, codes)]


@every_version
@clause("3.1.1", "MQTT-3.10.4-5")
@clause("5.0", "MQTT-3.10.4-5")
def test_unsubscribe_from_nothing_is_answered(version: Version) -> None:
    link = open_link(version)
    assert link.send(Unsubscribe(4, (TOPIC,))) == []
    assert link.replies() == [UnsubAck(4, (0x11,) if version is Version.V5 else ())]


@every_version
@clause("3.1.1", "MQTT-3.12.4-1")
@clause("5.0", "MQTT-3.12.4-1")
def test_a_ping_is_answered(version: Version) -> None:
    link = open_link(version)
    link.send(PingReq())
    assert link.replies() == [PingResp()]


@every_version
@clause("3.1.1", "MQTT-3.3.4-1")
@clause("3.1.1", "MQTT-4.3.2-2")
@clause("3.1.1", "MQTT-2.3.1-6")
@clause("5.0", "MQTT-3.3.4-1")
@clause("5.0", "MQTT-4.3.2-4")
@clause("5.0", "MQTT-2.2.1-5")
@clause("5.0", "MQTT-3.4.2-1")
def test_a_request_at_qos_1_is_acknowledged(version: Version) -> None:
    link = open_link(version)
    events = link.send(Publish(REQUEST, b"GET", 1, 5))
    assert events == [RequestReceived(REQUEST, b"GET")]
    assert link.replies() == [PublishReply(PacketType.PUBACK, 5)]


@every_version
@clause("5.0", "MQTT-4.3.2-5")
def test_a_request_after_its_puback_is_a_new_one(version: Version) -> None:
    link = open_link(version)
    for is_duplicate in (False, True):
        packet = Publish(REQUEST, b"GET", 1, 5, is_duplicate=is_duplicate)
        assert link.send(packet) == [RequestReceived(REQUEST, b"GET")]


@every_version
@clause("3.1.1", "MQTT-4.3.3-2")
@clause("5.0", "MQTT-4.3.3-8")
@clause("5.0", "MQTT-4.3.3-10")
@clause("5.0", "MQTT-4.3.3-11")
@clause("5.0", "MQTT-4.3.3-12")
@clause("5.0", "MQTT-3.5.2-1")
@clause("5.0", "MQTT-3.7.2-1")
def test_a_request_at_qos_2_arrives_once(version: Version) -> None:
    link = open_link(version)
    first = Publish(REQUEST, b"GET", 2, 5)
    again = Publish(REQUEST, b"GET", 2, 5, is_duplicate=True)
    release = PublishReply(PacketType.PUBREL, 5)
    assert link.send(first, again, release, first) == [RequestReceived(REQUEST, b"GET")] * 2
    received = PublishReply(PacketType.PUBREC, 5)
    completed = PublishReply(PacketType.PUBCOMP, 5)
    assert link.replies() == [received, received, completed, received]


@every_version
def test_a_release_of_nothing_is_completed(version: Version) -> None:
    link = open_link(version)
    link.send(PublishReply(PacketType.PUBREL, 8))
    code = 0x92 if version is Version.V5 else 0
    assert link.replies() == [PublishReply(PacketType.PUBCOMP, 8, code)]


@every_version
@pytest.mark.parametrize(
    "packet",
    [
        Publish(TOPIC, b"x"),
        Publish("another", b"x"),
        Publish("$SYS/x", b"x"),
        Publish("p/other/thing-if/apps/app/x", b"x"),
        Publish(f"p/{TOPIC}", b"x"),
        Publish(f"P/{TOPIC}/x", b"x"),
        Publish(REQUEST, b"x", is_retained=True),
        Publish(f"p/{TOPIC}/+", b"x"),
        Publish(f"p/{TOPIC}/#", b"x"),
        Publish("", b"x"),
        PublishReply(PacketType.PUBACK, 1),
        PublishReply(PacketType.PUBREC, 1),
        PublishReply(PacketType.PUBCOMP, 1),
        ConnAck(),
        SubAck(1, (0,)),
        UnsubAck(1),
        PingResp(),
    ],
    ids=repr,
)
@clause("3.1.1", "MQTT-3.3.5-2")
@clause("3.1.1", "MQTT-3.3.2-2")
@clause("3.1.1", "MQTT-4.7.1-1")
@clause("3.1.1", "MQTT-4.8.0-1")
@clause("5.0", "MQTT-3.3.2-2")
@clause("5.0", "MQTT-4.7.0-1")
@clause("5.0", "MQTT-4.13.1-1")
@clause("5.0", "MQTT-4.13.2-1")
def test_what_a_client_must_not_send_ends_the_connection(version: Version, packet: Packet) -> None:
    link = open_link(version)
    events = link.send(packet)
    assert is_closed(events)
    replies = link.replies()
    if version is Version.V5:
        assert isinstance(replies[0], Disconnect)
        assert replies[0].reason_code >= 0x80
    else:
        assert replies == []
    assert link.send(PingReq()) == []
    assert link.replies() == []


@every_version
@clause("3.1.1", "MQTT-3.1.0-1")
@clause("5.0", "MQTT-3.1.0-1")
@clause("5.0", "MQTT-3.14.0-1")
def test_a_first_packet_that_is_not_connect_ends_the_connection(version: Version) -> None:
    for packet in (PingReq(), subscribe(), Publish(REQUEST, b""), Disconnect()):
        link = Link(version)
        assert link.send(packet) == [Closed("protocol_error")]
        assert link.connection.output == b""


def test_a_first_packet_of_256_megabytes_is_not_waited_for() -> None:
    link = Link()
    assert is_closed(link.feed(b"\x30\xff\xff\xff\x7f"))
    link = Link()
    assert is_closed(link.feed(b"\x10\xff\xff\xff\x7f"))


@every_version
@clause("3.1.1", "MQTT-3.1.0-2")
@clause("5.0", "MQTT-3.1.0-2")
@clause("5.0", "MQTT-3.2.0-2")
def test_a_second_connect_ends_the_connection(version: Version) -> None:
    link = open_link(version)
    assert link.send(Connect(version, TOPIC)) == [Closed("protocol_error")]
    expected = [0x82] if version is Version.V5 else []
    assert [packet.reason_code for packet in link.replies()] == expected  # type: ignore[union-attr]


@every_version
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("is_retained", [False, True])
@clause("5.0", "MQTT-3.2.2-13")
def test_a_will_is_refused(version: Version, qos: int, is_retained: bool) -> None:
    link = Link(version)
    will = Will("p/x/y", b"bye", qos, is_retained)
    assert is_closed(link.send(Connect(version, TOPIC, will=will)))
    (answer,) = link.replies()
    assert isinstance(answer, ConnAck)
    v5_code = 0x9A if is_retained else 0x87
    assert answer.reason_code == (v5_code if version is Version.V5 else 5)


@every_version
@pytest.mark.parametrize(
    ("reason", "return_code"),
    [
        (ReasonCode.BAD_USER_NAME_OR_PASSWORD, 4),
        (ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, 2),
        (ReasonCode.NOT_AUTHORIZED, 5),
        (ReasonCode.SERVER_UNAVAILABLE, 3),
        (ReasonCode.SERVER_BUSY, 3),
        (ReasonCode.BANNED, 5),
    ],
)
@clause("3.1.1", "MQTT-3.1.3-9")
@clause("3.1.1", "MQTT-3.1.4-5")
@clause("3.1.1", "MQTT-3.2.2-4")
@clause("3.1.1", "MQTT-3.2.2-5")
@clause("5.0", "MQTT-3.1.3-8")
@clause("5.0", "MQTT-3.1.4-2")
@clause("5.0", "MQTT-3.1.4-6")
@clause("5.0", "MQTT-3.2.2-6")
@clause("5.0", "MQTT-3.2.2-7")
@clause("5.0", "MQTT-3.2.2-8")
def test_a_refusal_says_why_and_reads_nothing_more(
    version: Version, reason: ReasonCode, return_code: int
) -> None:
    link = Link(version)
    events = link.send(Connect(version, TOPIC), subscribe(), Publish(REQUEST, b"GET"))
    assert [type(event) for event in events] == [ConnectReceived]
    assert list(link.connection.refuse(reason)) == [Closed(reason.name.lower())]
    code = reason if version is Version.V5 else return_code
    assert link.replies() == [ConnAck(code)]


@clause("3.1.1", "MQTT-3.2.2-6")
def test_a_refusal_without_a_return_code_closes_without_connack() -> None:
    link = Link()
    link.send(Connect(Version.V3_1_1, TOPIC))
    assert is_closed(list(link.connection.refuse(ReasonCode.ADMINISTRATIVE_ACTION)))
    assert link.replies() == []


@clause("3.1.1", "MQTT-3.1.2-2")
@clause("5.0", "MQTT-3.1.2-1")
@clause("5.0", "MQTT-3.1.2-2")
@pytest.mark.parametrize("level", [0, 1, 2, 6, 0x84, 255])
def test_an_unknown_protocol_level_is_answered_with_1(level: int) -> None:
    link = Link()
    assert is_closed(link.feed(b"\x10\x0d\0\4MQTT" + bytes((level,)) + b"\2\0\x3c\0\1a"))
    assert link.connection.output == b"\x20\x02\x00\x01"


@clause("3.1.1", "MQTT-3.1.2-1")
@clause("3.1.1", "MQTT-3.1.4-1")
@clause("5.0", "MQTT-3.1.4-1")
@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x0d\0\4HTTP\4\2\0\x3c\0\1a",
        b"\x10\x0d\0\4MQTT\4\3\0\x3c\0\1a",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 20,
        b"\x10\xff\xff\xff\xff\xff",
    ],
    ids=["name", "reserved flag", "http", "tls", "zeros", "endless length"],
)
def test_what_is_no_connect_is_closed_without_a_word(data: bytes) -> None:
    link = Link()
    assert is_closed(link.feed(data))
    assert link.connection.output == b""


@every_version
@clause("3.1.1", "MQTT-3.1.3-8")
def test_an_empty_client_id_needs_a_clean_session(version: Version) -> None:
    link = Link(version)
    events = link.connect("", is_clean_start=False)
    if version is Version.V5:
        assert events == []
    else:
        assert is_closed(events)
        assert link.replies() == [ConnAck(2)]


@clause("3.1.1", "MQTT-3.1.3-6")
def test_an_empty_client_id_becomes_the_topic() -> None:
    link = Link()
    link.connect("")
    assert link.connection.client_id == TOPIC
    link.connection.take_output()
    assert link.send(subscribe()) == [SubscriptionChanged()]


@every_version
@clause("3.1.1", "MQTT-3.14.4-3")
def test_disconnect_closes_without_an_answer(version: Version) -> None:
    link = open_link(version)
    assert link.send(Disconnect()) == [Closed("client")]
    assert link.connection.output == b""
    assert link.connection.state is State.CLOSED


@every_version
def test_packets_sent_before_connack_are_read_after_it(version: Version) -> None:
    link = Link(version)
    connect = Connect(version, TOPIC)
    events = link.send(connect, subscribe(), Publish(REQUEST, b"GET", 1, 3))
    assert events == [ConnectReceived(connect)]
    assert link.connection.output == b""
    assert link.admit() == [SubscriptionChanged(), RequestReceived(REQUEST, b"GET")]
    assert [type(packet) for packet in link.replies()] == [ConnAck, SubAck, PublishReply]


def test_too_much_before_connack_ends_the_connection() -> None:
    link = Link(limits=settings(max_packet_before_auth_bytes=1024))
    link.send(Connect(Version.V3_1_1, TOPIC))
    assert not is_closed(link.feed(b"\x30" * 1024))
    assert is_closed(link.feed(b"\x30"))
    assert link.replies() == [ConnAck(3)]


@every_version
def test_the_onboarding_connection_publishes_and_hears_answers_alone(version: Version) -> None:
    link = Link(version)
    link.connect("anonymous")
    link.connection.take_output()
    topic = "p/anonymous/thing-if/apps/app/onboardings"
    assert link.send(Publish(topic, b"POST")) == [RequestReceived(topic, b"POST")]
    assert link.send(subscribe("anonymous"), subscribe(topic)) == []
    refused = 0x87 if version is Version.V5 else 0x80
    assert link.replies() == [SubAck(1, (refused,)), SubAck(1, (0,))]
    assert not link.connection.is_subscribed


@every_version
def test_a_subscription_to_answers_is_granted_and_means_nothing(version: Version) -> None:
    link = Link(version)
    link.connect()
    link.connection.take_output()
    assert link.send(subscribe(REQUEST)) == []
    assert link.replies() == [SubAck(1, (0,))]
    assert not link.connection.is_subscribed
