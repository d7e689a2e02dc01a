"""Connections of MQTT 5: what CONNACK declares, what a client may ask, and every reason code."""

from __future__ import annotations

import pytest

from mqttpush.mqtt.happenings import Closed, RequestReceived
from mqttpush.mqtt.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PacketType,
    PingReq,
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
from tests.mqtt.support import TOPIC, Link, clause, is_closed, open_link, settings, subscribe

REQUEST = f"p/{TOPIC}/thing-if/apps/app/commands"


def link_with(limits: dict[str, object] | None = None, **properties: int) -> Link:
    """A connected MQTT 5 link that sent these properties, by the names of `Property`."""
    link = Link(Version.V5, settings(**(limits or {})))
    link.connect(properties={Property[name.upper()]: value for name, value in properties.items()})
    return link


def test_connack_declares_what_this_server_is() -> None:
    (answer,) = link_with().replies()
    assert isinstance(answer, ConnAck)
    assert answer.properties == {
        Property.RECEIVE_MAXIMUM: 16,
        Property.MAXIMUM_PACKET_SIZE: 262_144,
        Property.TOPIC_ALIAS_MAXIMUM: 0,
        Property.RETAIN_AVAILABLE: 0,
        Property.WILDCARD_SUBSCRIPTION_AVAILABLE: 0,
        Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
        Property.SHARED_SUBSCRIPTION_AVAILABLE: 0,
    }


@clause("5.0", "MQTT-4.1.0-2")
def test_a_session_expiry_the_client_asks_for_is_answered_with_0() -> None:
    (answer,) = link_with(session_expiry_interval=3600).replies()
    assert isinstance(answer, ConnAck)
    assert answer.properties[Property.SESSION_EXPIRY_INTERVAL] == 0


@pytest.mark.parametrize("keep_alive_s", [0, 65535])
def test_a_capped_keep_alive_is_told(keep_alive_s: int) -> None:
    link = Link(Version.V5)
    link.connect(keep_alive_s=keep_alive_s)
    (answer,) = link.replies()
    assert isinstance(answer, ConnAck)
    assert answer.properties[Property.SERVER_KEEP_ALIVE] == 1200


@clause("5.0", "MQTT-3.1.3-6")
@clause("5.0", "MQTT-3.1.3-7")
@clause("5.0", "MQTT-3.2.2-16")
def test_an_empty_client_id_is_assigned_and_told() -> None:
    link = Link(Version.V5)
    link.connect("")
    (answer,) = link.replies()
    assert isinstance(answer, ConnAck)
    assert answer.properties[Property.ASSIGNED_CLIENT_IDENTIFIER] == TOPIC


@clause("5.0", "MQTT-4.12.0-1")
def test_an_authentication_method_is_refused() -> None:
    link = Link(Version.V5)
    properties = {Property.AUTHENTICATION_METHOD: "SCRAM-SHA-256"}
    assert is_closed(link.connect(properties=properties))
    (answer,) = link.replies()
    assert isinstance(answer, ConnAck)
    assert answer.reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD


def test_authentication_data_without_a_method_is_a_protocol_error() -> None:
    link = Link(Version.V5)
    assert is_closed(link.connect(properties={Property.AUTHENTICATION_DATA: b"x"}))
    assert isinstance(answer := link.replies()[0], ConnAck)
    assert answer.reason_code == ReasonCode.PROTOCOL_ERROR


@clause("5.0", "MQTT-4.12.0-6")
@clause("5.0", "MQTT-4.12.0-7")
def test_auth_ends_the_connection() -> None:
    link = open_link(Version.V5)
    assert link.send(Auth(0x18)) == [Closed("protocol_error")]
    assert isinstance(answer := link.replies()[0], Disconnect)
    assert answer.reason_code == 0x82


def test_a_malformed_connect_is_answered_in_its_version() -> None:
    link = Link(Version.V5)
    assert is_closed(link.feed(b"\x10\x0e\0\4MQTT\5\3\0\x3c\0\0\1a"))
    assert isinstance(answer := link.replies()[0], ConnAck)
    assert answer.reason_code == 0x81


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (Publish("another", b"x"), 0x87),
        (Publish(REQUEST, b"x", is_retained=True), 0x9A),
        (Publish(REQUEST, b"x", properties={Property.TOPIC_ALIAS: 1}), 0x94),
        (Publish("", b"x", properties={Property.TOPIC_ALIAS: 1}), 0x94),
        (Publish(REQUEST, b"x", properties={Property.SUBSCRIPTION_IDENTIFIER: (1,)}), 0x82),
        (Publish(REQUEST, b"x", properties={Property.RESPONSE_TOPIC: "a/#"}), 0x82),
        (Publish(f"p/{TOPIC}/#", b"x"), 0x90),
        (Disconnect(0, {Property.SESSION_EXPIRY_INTERVAL: 60}), 0x82),
        (
            Subscribe(1, (SubscriptionRequest(TOPIC),), {Property.SUBSCRIPTION_IDENTIFIER: (7,)}),
            0xA1,
        ),
    ],
    ids=repr,
)
@clause("5.0", "MQTT-3.2.2-14")
@clause("5.0", "MQTT-3.2.2-17")
@clause("5.0", "MQTT-3.2.2-18")
@clause("5.0", "MQTT-3.3.2-9")
@clause("5.0", "MQTT-3.3.2-14")
@clause("5.0", "MQTT-3.3.4-6")
@clause("5.0", "MQTT-3.14.2-1")
@clause("5.0", "MQTT-3.14.4-1")
@clause("5.0", "MQTT-3.14.4-2")
def test_a_packet_against_the_declaration_is_answered_with_its_reason(
    packet: Publish | Disconnect | Subscribe, code: int
) -> None:
    link = open_link(Version.V5)
    assert is_closed(link.send(packet, PingReq()))
    (answer,) = link.replies()
    assert isinstance(answer, Disconnect)
    assert answer.reason_code == code
    assert Property.REASON_STRING in answer.properties
    assert Property.SESSION_EXPIRY_INTERVAL not in answer.properties


@clause("5.0", "MQTT-3.4.2-1")
@clause("5.0", "MQTT-3.5.2-1")
@clause("5.0", "MQTT-4.3.3-9")
def test_a_foreign_publish_above_qos_0_is_refused_and_the_connection_stays() -> None:
    link = open_link(Version.V5)
    assert link.send(Publish("another", b"x", 1, 4), Publish("another", b"x", 2, 5)) == []
    assert link.replies() == [
        PublishReply(PacketType.PUBACK, 4, 0x87),
        PublishReply(PacketType.PUBREC, 5, 0x87),
    ]
    assert link.send(Publish(REQUEST, b"x", 2, 5)) == [RequestReceived(REQUEST, b"x")]


@clause("5.0", "MQTT-3.3.4-7")
def test_more_unreleased_publishes_than_receive_maximum_end_the_connection() -> None:
    link = open_link(Version.V5, settings(max_inflight_publishes=2))
    link.send(Publish(REQUEST, b"x", 2, 1), Publish(REQUEST, b"x", 2, 2))
    link.connection.take_output()
    assert is_closed(link.send(Publish(REQUEST, b"x", 2, 3)))
    assert isinstance(answer := link.replies()[0], Disconnect)
    assert answer.reason_code == 0x93


@clause("5.0", "MQTT-4.9.0-3")
def test_other_packets_go_on_while_the_receive_maximum_is_used_up() -> None:
    link = open_link(Version.V5, settings(max_inflight_publishes=1))
    link.send(Publish(REQUEST, b"x", 2, 1))
    assert link.send(subscribe(), PingReq(), Unsubscribe(5, (TOPIC,))) != []
    assert isinstance(link.replies()[-1], UnsubAck)


def test_a_request_with_a_response_topic_is_taken() -> None:
    link = open_link(Version.V5)
    properties: Properties = {Property.RESPONSE_TOPIC: "a/b", Property.CORRELATION_DATA: b"7"}
    events = link.send(Publish(REQUEST, b"GET", properties=properties))
    assert events == [RequestReceived(REQUEST, b"GET")]


@clause("5.0", "MQTT-3.1.2-27")
@clause("5.0", "MQTT-3.1.2-28")
@clause("5.0", "MQTT-3.9.2-1")
@clause("5.0", "MQTT-3.11.2-1")
def test_an_answer_over_the_clients_maximum_packet_size_is_not_sent() -> None:
    link = link_with(maximum_packet_size=40)
    link.connection.take_output()
    link.send(Subscribe(1, (SubscriptionRequest("x"),) * 60), subscribe(packet_id=2))
    assert link.replies() == [SubAck(2, (0,))]


@clause("5.0", "MQTT-3.2.2-19")
@clause("5.0", "MQTT-3.14.2-3")
def test_a_reason_string_that_does_not_fit_is_left_out() -> None:
    link = Link(Version.V5)
    will = Will("a", b"")
    link.send(Connect(Version.V5, TOPIC, will=will, properties={Property.MAXIMUM_PACKET_SIZE: 10}))
    assert link.replies() == [ConnAck(0x87)]
    link = link_with(maximum_packet_size=8)
    link.connection.take_output()
    link.send(Publish("another", b""))
    assert link.replies() == [Disconnect(0x87)]


@clause("5.0", "MQTT-3.1.2-32")
def test_only_connack_and_disconnect_explain_themselves() -> None:
    link = link_with(request_problem_information=0)
    link.connection.take_output()
    link.send(Publish("another", b"", 1, 1), subscribe("another"), Unsubscribe(3, ("x",)))
    assert all(not packet.properties for packet in link.replies())  # type: ignore[union-attr]


@clause("5.0", "MQTT-3.1.2-31")
def test_response_information_is_not_returned() -> None:
    (answer,) = link_with(request_response_information=1).replies()
    assert isinstance(answer, ConnAck)
    assert Property.RESPONSE_INFORMATION not in answer.properties


@clause("5.0", "MQTT-3.14.2-2")
@pytest.mark.parametrize(
    "reason",
    [
        ReasonCode.SESSION_TAKEN_OVER,
        ReasonCode.SERVER_SHUTTING_DOWN,
        ReasonCode.ADMINISTRATIVE_ACTION,
        ReasonCode.KEEP_ALIVE_TIMEOUT,
        ReasonCode.NOT_AUTHORIZED,
    ],
)
def test_a_close_from_our_side_says_why(reason: ReasonCode) -> None:
    link = open_link(Version.V5)
    assert is_closed(list(link.connection.disconnect(reason)))
    assert link.replies() == [Disconnect(reason)]


def test_a_move_names_the_other_server() -> None:
    link = open_link(Version.V5)
    link.connection.disconnect(ReasonCode.SERVER_MOVED, server_reference="mqtt2:8883")
    (answer,) = link.replies()
    assert isinstance(answer, Disconnect)
    assert answer.properties == {Property.SERVER_REFERENCE: "mqtt2:8883"}


@clause("5.0", "MQTT-3.14.0-1")
def test_before_connack_a_close_is_a_refusal() -> None:
    link = Link(Version.V5)
    link.send(Connect(Version.V5, TOPIC))
    link.connection.disconnect(ReasonCode.SERVER_SHUTTING_DOWN)
    assert link.replies() == [ConnAck(ReasonCode.SERVER_SHUTTING_DOWN)]


def test_options_of_a_subscription_are_taken_and_change_nothing() -> None:
    link = open_link(Version.V5)
    link.send(Subscribe(1, (SubscriptionRequest(TOPIC, 2, True, True, 2),)))
    assert link.replies() == [SubAck(1, (0,))]
