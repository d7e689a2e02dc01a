"""Ordinary topics of one connection: what passes to the general broker, what comes back, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.config import MqttSettings
from mqttpush.mqtt.codec import encode
from mqttpush.mqtt.connection import Rules
from mqttpush.mqtt.happenings import ConnectionEvent, ConnectReceived, RequestReceived
from mqttpush.mqtt.ordinary import OrdinaryConnection, matches
from mqttpush.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Properties,
    Property,
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
from tests.mqtt.strategies import topic_names, versioned_packets
from tests.mqtt.support import NOBODY, TOPIC, VERSIONS, Link, is_closed, settings, subscribe

ROOT = "apps/app-1/"
FOREIGN = (
    "#",
    "+",
    "+/app-1/#",
    "apps/#",
    "apps/+/x",
    "apps/app-1",
    "apps/app-10/x",
    "apps/app-2/#",
    "Apps/app-1/x",
    "/apps/app-1/x",
    "$SYS/#",
    f"$share/group/{ROOT}x",
    "another-private-topic",
    f"{TOPIC}/#",
    "p/another/x",
)


class FakeExchange:
    """Keeps what passes; whether there is room is the test's."""

    app_id = "app-1"

    def __init__(self) -> None:
        self.sent: list[Packet] = []
        self.published: list[Publish] = []
        self.is_closed = False
        self.refusal: ReasonCode | None = None

    def publish(self, message: Publish) -> ReasonCode | None:
        assert not self.is_closed
        if self.refusal is None:
            self.published.append(message)
        return self.refusal

    def send(self, packet: Packet) -> None:
        assert not self.is_closed
        self.sent.append(packet)

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> list[Packet]:
        sent, self.sent = self.sent, []
        return sent

    @property
    def is_untouched(self) -> bool:
        return not self.sent and not self.published


class OrdinaryLink(Link):
    """A link of a client that has ordinary topics."""

    connection: OrdinaryConnection

    def __init__(
        self,
        version: Version = Version.V3_1_1,
        limits: MqttSettings = NOBODY,
        properties: Properties | None = None,
    ) -> None:
        super().__init__(version, limits)
        self.exchange = FakeExchange()
        self.connection = OrdinaryConnection(Rules(limits), self.now)
        self.connection.exchange = self.exchange
        self.properties = properties or {}

    def opened(self, client_id: str = TOPIC) -> OrdinaryLink:
        self.connect(client_id, properties=self.properties)
        self.connection.take_output()
        return self

    def with_will(self, will: Will) -> list[ConnectionEvent]:
        [event] = self.send(Connect(self.version, TOPIC, keep_alive_s=60, will=will))
        assert isinstance(event, ConnectReceived)
        return self.admit()

    def hear(self, *topic_filters: str, qos: int = 0) -> None:
        """Subscribe, as a broker that grants it."""
        requests = tuple(SubscriptionRequest(f, qos) for f in topic_filters)
        self.send(Subscribe(9, requests))
        self.connection.relay(SubAck(9, (qos,) * len(requests)))
        self.connection.take_output()
        self.exchange.take()

    def relayed(self, packet: Packet) -> list[Packet]:
        self.connection.relay(packet)
        return self.replies()


# -- what passes --


@pytest.mark.parametrize("version", VERSIONS)
def test_a_filter_of_the_own_app_passes_and_is_answered_by_the_broker(version: Version) -> None:
    link = OrdinaryLink(version).opened()
    link.send(subscribe(f"{ROOT}room/#", 5, qos=1))
    assert link.exchange.take() == [subscribe(f"{ROOT}room/#", 5, qos=1)]
    assert link.replies() == []
    assert link.relayed(SubAck(5, (1,))) == [SubAck(5, (1,))]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("topic_filter", FOREIGN)
def test_no_other_filter_passes(version: Version, topic_filter: str) -> None:
    link = OrdinaryLink(version).opened()
    link.send(subscribe(topic_filter))
    refused = ReasonCode.NOT_AUTHORIZED if version is Version.V5 else 0x80
    assert link.replies() == [SubAck(1, (refused,))]
    assert link.exchange.is_untouched


@pytest.mark.parametrize("topic_filter", [f for f in FOREIGN if not {*f} & {*"+#"}])
def test_no_publish_on_another_topic_passes(topic_filter: str) -> None:
    link = OrdinaryLink().opened()
    assert is_closed(link.send(Publish(topic_filter, b"x")))
    assert link.exchange.is_untouched


def test_the_private_topic_is_granted_here_and_never_passes() -> None:
    link = OrdinaryLink().opened()
    link.send(subscribe(TOPIC, 1, qos=2))
    assert link.replies() == [SubAck(1, (0,))]
    assert link.connection.is_subscribed
    assert link.exchange.is_untouched
    assert is_closed(link.send(Publish(TOPIC, b"x")))


def test_a_packet_with_filters_of_both_kinds_is_answered_once_in_order() -> None:
    link = OrdinaryLink().opened()
    requests = [TOPIC, "#", f"{ROOT}a", f"{ROOT}b"]
    link.send(Subscribe(3, tuple(SubscriptionRequest(f, 1) for f in requests)))
    passed = tuple(SubscriptionRequest(f, 1) for f in requests[2:])
    assert link.exchange.take() == [Subscribe(3, passed)]
    assert not link.connection.is_subscribed
    assert link.relayed(SubAck(3, (1, 0x80))) == [SubAck(3, (0, 0x80, 1, 0x80))]
    assert link.connection.is_subscribed


def test_an_unsubscribe_of_both_kinds_is_answered_once() -> None:
    link = OrdinaryLink(Version.V5).opened()
    link.hear(f"{ROOT}a")
    link.send(subscribe(TOPIC))
    link.replies()
    link.send(Unsubscribe(4, (f"{ROOT}a", f"{ROOT}b", TOPIC)))
    assert not link.connection.is_subscribed
    assert link.exchange.take() == [Unsubscribe(4, (f"{ROOT}a",))]
    expected = (0, ReasonCode.NO_SUBSCRIPTION_EXISTED, 0)
    assert link.relayed(UnsubAck(4)) == [UnsubAck(4, expected)]


def test_an_onboarding_connection_has_no_ordinary_topics() -> None:
    link = OrdinaryLink().opened("anonymous")
    link.send(subscribe(f"{ROOT}a"))
    assert link.replies() == [SubAck(1, (0x80,))]
    assert is_closed(link.send(Publish(f"{ROOT}a", b"")))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publish_passes_once_and_is_acknowledged(version: Version, qos: int) -> None:
    link = OrdinaryLink(version).opened()
    packet_id = 7 if qos else None
    message = Publish(f"{ROOT}a", b"x", qos, packet_id, True)
    link.send(message)
    assert link.exchange.published == [message]
    if qos == 1:
        assert link.replies() == [PublishReply(PacketType.PUBACK, 7)]
    elif qos == 2:
        link.send(Publish(f"{ROOT}a", b"x", 2, 7, True, True), PublishReply(PacketType.PUBREL, 7))
        kinds = (PacketType.PUBREC, PacketType.PUBREC, PacketType.PUBCOMP)
        assert link.replies() == [PublishReply(kind, 7) for kind in kinds]
        assert link.exchange.published == [message]


def test_requests_are_still_taken_here() -> None:
    link = OrdinaryLink().opened()
    assert link.send(Publish(f"p/{TOPIC}/x", b"x")) == [RequestReceived(f"p/{TOPIC}/x", b"x")]
    assert link.exchange.is_untouched


def test_connack_no_longer_rules_out_wildcards_and_retained_messages() -> None:
    link = OrdinaryLink(Version.V5)
    link.connect()
    [answer] = link.replies()
    assert isinstance(answer, ConnAck)
    assert Property.RETAIN_AVAILABLE not in answer.properties
    assert Property.WILDCARD_SUBSCRIPTION_AVAILABLE not in answer.properties
    assert answer.properties[Property.SHARED_SUBSCRIPTION_AVAILABLE] == 0


@pytest.mark.parametrize(
    "request_",
    [
        SubscriptionRequest(f"{ROOT}a", is_no_local=True),
        SubscriptionRequest(f"{ROOT}a", is_retain_as_published=True),
        SubscriptionRequest(f"{ROOT}a", retain_handling=2),
    ],
)
def test_an_option_the_broker_does_not_know_is_refused(request_: SubscriptionRequest) -> None:
    link = OrdinaryLink(Version.V5).opened()
    link.send(Subscribe(1, (request_,)))
    assert link.replies() == [SubAck(1, (ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR,))]


def test_a_client_with_a_receive_maximum_is_granted_qos_0() -> None:
    link = OrdinaryLink(Version.V5, properties={Property.RECEIVE_MAXIMUM: 5}).opened()
    link.send(subscribe(f"{ROOT}a", qos=2))
    assert link.exchange.take() == [subscribe(f"{ROOT}a", qos=0)]


# -- wills and the end --


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_published_when_the_connection_is_lost(version: Version) -> None:
    link = OrdinaryLink(version)
    link.with_will(Will(f"{ROOT}gone", b"x", 1, True))
    [answer] = link.replies()
    assert isinstance(answer, ConnAck)
    assert answer.reason_code == 0
    assert link.exchange.is_untouched
    link.connection.abandon()
    assert link.exchange.published == [Publish(f"{ROOT}gone", b"x", 1, is_retained=True)]
    assert link.exchange.is_closed


@pytest.mark.parametrize("topic", ["another-private-topic", TOPIC, "apps/app-2/x"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_on_another_topic_is_refused(version: Version, topic: str) -> None:
    link = OrdinaryLink(version)
    assert is_closed(link.with_will(Will(topic, b"x")))
    [answer] = link.replies()
    assert isinstance(answer, ConnAck)
    assert answer.reason_code == (ReasonCode.NOT_AUTHORIZED if version is Version.V5 else 5)
    assert link.exchange.is_untouched


@pytest.mark.parametrize(
    ("version", "reason", "is_published"),
    [(Version.V3_1_1, 0, False), (Version.V5, 0, False), (Version.V5, 0x04, True)],
)
def test_a_disconnect_drops_the_will_unless_it_asks_for_it(
    version: Version, reason: int, is_published: bool
) -> None:
    link = OrdinaryLink(version)
    link.with_will(Will(f"{ROOT}gone", b"x"))
    link.send(Disconnect(reason))
    assert bool(link.exchange.published) is is_published
    assert link.exchange.is_closed


def test_a_lost_connection_closes_the_way_to_the_broker() -> None:
    link = OrdinaryLink().opened()
    link.hear(f"{ROOT}a")
    link.connection.abandon()
    assert link.exchange.is_closed
    assert link.relayed(Publish(f"{ROOT}a", b"late")) == []


# -- what comes back --


def test_only_what_an_own_filter_matches_is_delivered() -> None:
    link = OrdinaryLink().opened()
    link.hear(f"{ROOT}a/+")
    message = Publish(f"{ROOT}a/b", b"x")
    assert link.relayed(message) == [message]
    for mqtt_topic in (f"{ROOT}a", f"{ROOT}c", "apps/app-2/a/b", TOPIC):
        assert link.relayed(Publish(mqtt_topic, b"x", is_retained=True)) == []


def test_nothing_is_delivered_after_unsubscribing() -> None:
    link = OrdinaryLink().opened()
    link.hear(f"{ROOT}a")
    link.send(Unsubscribe(2, (f"{ROOT}a",)))
    assert link.relayed(Publish(f"{ROOT}a", b"x")) == []


@pytest.mark.parametrize("qos", [1, 2])
def test_each_answer_of_the_client_passes_once(qos: int) -> None:
    link = OrdinaryLink().opened()
    link.hear(f"{ROOT}a", qos=qos)
    assert link.relayed(Publish(f"{ROOT}a", b"x", qos, 3)) == [Publish(f"{ROOT}a", b"x", qos, 3)]
    kinds = [PacketType.PUBACK] if qos == 1 else [PacketType.PUBREC, PacketType.PUBCOMP]
    for kind in kinds:
        link.send(PublishReply(kind, 3))
    assert link.exchange.take() == [PublishReply(kind, 3) for kind in kinds]
    assert is_closed(link.send(PublishReply(kinds[0], 3)))


def test_answers_to_messages_are_not_counted_as_control_packets() -> None:
    link = OrdinaryLink(limits=settings(max_control_packets_per_s=1)).opened()
    link.hear(f"{ROOT}a", qos=1)
    for packet_id in range(1, 101):
        link.relayed(Publish(f"{ROOT}a", b"x", 1, packet_id))
        assert link.send(PublishReply(PacketType.PUBACK, packet_id)) == []


# -- bounds --


def test_filters_of_one_client_are_bounded() -> None:
    link = OrdinaryLink(Version.V5, settings(max_ordinary_filters=2)).opened()
    link.hear(f"{ROOT}a", f"{ROOT}b")
    link.send(subscribe(f"{ROOT}c"))
    assert link.replies() == [SubAck(1, (ReasonCode.QUOTA_EXCEEDED,))]
    link.send(subscribe(f"{ROOT}a"))
    assert link.exchange.take() == [subscribe(f"{ROOT}a")]


def test_messages_the_client_does_not_acknowledge_are_bounded() -> None:
    link = OrdinaryLink(limits=settings(max_outbox_packets=2)).opened()
    link.hear(f"{ROOT}a", qos=1)
    got = [link.relayed(Publish(f"{ROOT}a", b"x", 1, packet_id)) for packet_id in (1, 2, 3)]
    assert [len(packets) for packets in got] == [1, 1, 0]


def test_unreleased_publishes_are_bounded() -> None:
    link = OrdinaryLink(limits=settings(max_inflight_publishes=2)).opened()
    results = [link.send(Publish(f"{ROOT}a", b"x", 2, packet_id)) for packet_id in (1, 2, 3)]
    assert [is_closed(events) for events in results] == [False, False, True]


def test_a_publish_there_is_no_room_for_ends_the_connection() -> None:
    link = OrdinaryLink(Version.V5).opened()
    link.exchange.refusal = ReasonCode.QUOTA_EXCEEDED
    assert is_closed(link.send(Publish(f"{ROOT}a", b"x", 1, 7, is_retained=True)))
    [answer] = link.replies()
    assert isinstance(answer, Disconnect)
    assert answer.reason_code == ReasonCode.QUOTA_EXCEEDED


# -- properties --

levels = st.sampled_from(["apps", "app-1", "app-2", "a", "", "+", "#", "p", TOPIC, "$share"])
names = st.lists(levels, min_size=1, max_size=4).map("/".join) | topic_names
filters = names.filter(bool)


@given(st.lists(filters, max_size=8), st.lists(names, max_size=8))
def test_whatever_is_asked_only_the_own_app_passes(asked: list[str], said: list[str]) -> None:
    link = OrdinaryLink().opened()
    for number, topic_filter in enumerate(asked, 1):
        link.send(subscribe(topic_filter, number))
    for packet in link.exchange.take():
        assert isinstance(packet, Subscribe)
        assert all(request.topic_filter.startswith(ROOT) for request in packet.requests)
    for mqtt_topic in said:
        again = OrdinaryLink().opened()
        again.send(Publish(mqtt_topic, b"x"))
        assert all(message.mqtt_topic.startswith(ROOT) for message in again.exchange.published)


@given(st.sampled_from(VERSIONS), st.lists(versioned_packets(), max_size=12))
def test_any_packets_raise_nothing(version: Version, sent: list[tuple[Version, Packet]]) -> None:
    link = OrdinaryLink(version).opened()
    for own, packet in sent:
        link.feed(encode(own, packet))


@pytest.mark.parametrize(
    ("topic_filter", "mqtt_topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/+", "a/b", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
    ],
)
def test_a_filter_matches_as_the_specification_says(
    topic_filter: str, mqtt_topic: str, expected: bool
) -> None:
    assert matches(topic_filter, mqtt_topic) is expected
