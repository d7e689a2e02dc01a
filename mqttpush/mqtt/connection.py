"""Connections: the MQTT rules of one network link, from CONNECT to close.

Owns the protocol state of one link: what may come when, and what is answered. Knows no socket,
clock or user: bytes and `now` come in, bytes and events go out, so a test can live a week in 1 ms.
The one idea: this server only pushes, so a client has one subscription (its private topic) and one
place to publish (its request topics), and everything else has one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from math import inf
from typing import Any, ClassVar

from mqttpush.config import MqttSettings
from mqttpush.errors import PacketTooLarge, ProtocolError
from mqttpush.mqtt.codec import decode, encode, frame, is_topic_name
from mqttpush.mqtt.happenings import (
    NO_EVENTS,
    BoundMet,
    Closed,
    ConnectionEvent,
    ConnectReceived,
    RequestReceived,
    SubscriptionChanged,
)
from mqttpush.mqtt.packets import (
    NO_PROPERTIES,
    RETURN_CODE_BY_REASON,
    SUBACK_FAILURE_V3,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingReq,
    PingResp,
    Properties,
    Property,
    PropertyValue,
    Publish,
    PublishReply,
    ReasonCode,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Version,
    number_of,
)
from mqttpush.peers import charged

ANONYMOUS_CLIENT_ID = "anonymous"  # the onboarding connection's, shared by all (spec kii 10.1)
NO_PACKET_LIMIT = 268_435_460  # the largest packet MQTT can express: 5 + 268 435 455 bytes


class State(IntEnum):
    """Where a connection stands."""

    NEW = 0  # no CONNECT yet
    CHECKING = 1  # CONNECT is being authenticated; what follows it waits in the buffer
    OPEN = 2
    CLOSED = 3  # nothing is read any more; what is left in the output goes out first


class Rules:
    """The limits of all connections of a server, replaced as a whole at a reload."""

    __slots__ = ("settings",)

    def __init__(self, settings: MqttSettings) -> None:
        self.settings = settings


class Connection:
    """One link's protocol state. Cost when idle: about 250 bytes."""

    # What a client may send once connected; anything else is a protocol error.
    HANDLERS: ClassVar[Mapping[type, Callable[[Any, Any, list[ConnectionEvent]], None]]]

    __slots__ = (
        "_buffer",
        "_connect",
        "_control_due",
        "_publish_due",
        "_rules",
        "_unreleased_ids",
        "client_id",
        "is_onboarding",
        "is_subscribed",
        "keep_alive_s",
        "last_packet_at",
        "max_packet_bytes",
        "mqtt_topic",
        "output",
        "packet_deadline",
        "state",
        "topic_alias_maximum",
        "version",
    )

    def __init__(self, rules: Rules, now: float) -> None:
        self._rules = rules
        self._buffer: bytearray | None = None
        self._connect: Connect | None = None
        self._control_due = self._publish_due = 0.0  # when the rate so far would have been spent
        self._unreleased_ids: set[int] | None = None
        self.client_id = ""
        self.is_onboarding = self.is_subscribed = False
        self.keep_alive_s = 0
        self.last_packet_at = now
        self.max_packet_bytes = NO_PACKET_LIMIT  # what the client takes
        self.mqtt_topic = ""
        self.output = b""  # take it after every call
        self.packet_deadline = inf  # when a packet that has begun must be whole
        self.state = State.NEW
        self.topic_alias_maximum = 0  # what the client takes
        self.version = Version.V3_1_1

    def receive(self, data: bytes, now: float) -> Sequence[ConnectionEvent]:
        """Bytes from the peer, in any portions. Raises nothing: a broken peer is a `Closed`."""
        if self.state is State.CLOSED:
            return NO_EVENTS
        buffer: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            buffer = self._buffer
        if self.state is State.CHECKING:
            return self._hold(buffer)
        return self._consume(buffer, now)

    def take_ping(self, now: float) -> bool:
        """A lone PINGREQ, most of what idle clients send; False: `receive` it as anything else.

        True: answer it [MQTT-3.12.4-1]. Half of what a ping costs the long way.
        """
        if self.state is not State.OPEN or self._buffer is not None:
            return False
        due = charged(self._control_due, self._rules.settings.max_control_packets_per_s, now)
        if due == inf:
            return False
        self._control_due = due
        self.last_packet_at = now
        return True

    def admit(
        self, *, client_id: str, mqtt_topic: str, is_onboarding: bool, now: float
    ) -> Sequence[ConnectionEvent]:
        """Answer CONNECT with success, then read what the client sent after it."""
        assert self.state is State.CHECKING
        assert self._connect is not None
        connect, self._connect = self._connect, None
        self.client_id = client_id
        self.mqtt_topic = mqtt_topic
        self.is_onboarding = is_onboarding
        longest_s = self._rules.settings.max_keep_alive_s
        self.keep_alive_s = min(connect.keep_alive_s or longest_s, longest_s)
        self.last_packet_at = now
        self.state = State.OPEN
        self._send(ConnAck(properties=self._declared(connect)))
        buffer, self._buffer = self._buffer, None
        return self._consume(buffer, now) if buffer else NO_EVENTS

    def refuse(self, reason: ReasonCode, problem: str = "") -> Sequence[ConnectionEvent]:
        """Answer CONNECT with a refusal and close."""
        if self.state is State.CLOSED:
            return NO_EVENTS
        code: int | None = reason
        if self.version is not Version.V5:
            code = RETURN_CODE_BY_REASON.get(reason)
        if code is not None:  # [MQTT-3.2.2-6]: close without CONNACK if no return code fits
            self._send(ConnAck(code, properties=self._explanation(problem)))
        return self._close(reason.name.lower())

    def disconnect(
        self, reason: ReasonCode, *, problem: str = "", server_reference: str = ""
    ) -> Sequence[ConnectionEvent]:
        """Close from our side; MQTT 5 clients are told why (MQTT 3 has no words for it)."""
        if self.state is State.CLOSED:
            return NO_EVENTS
        if self.state is not State.OPEN:
            if self.state is State.CHECKING:
                return self.refuse(reason, problem)
            return self._close(reason.name.lower())
        if self.version is Version.V5:
            properties = dict(self._explanation(problem))
            if server_reference:
                properties[Property.SERVER_REFERENCE] = server_reference
            self._send(Disconnect(reason, properties))
        return self._close(reason.name.lower())

    def abandon(self) -> None:
        """The socket is gone: nothing is read or written any more."""
        self._close("connection_lost")
        self.output = b""

    def take_output(self) -> bytes:
        """What must be written now; empty most of the time."""
        output, self.output = self.output, b""
        return output

    def keep_alive_deadline(self) -> float:
        """When a silent client is closed: 1.5 times the keep-alive [MQTT-3.1.2-24]."""
        return self.last_packet_at + 1.5 * self.keep_alive_s

    # -- reading --

    def _hold(self, buffer: bytes | bytearray) -> Sequence[ConnectionEvent]:
        """Keep what a client sends before its CONNACK (v5 3.1.4 allows it to), bounded."""
        if len(buffer) > self._rules.settings.max_packet_before_auth_bytes:
            refused = self.refuse(ReasonCode.QUOTA_EXCEEDED, "too much sent before CONNACK")
            return (BoundMet("max_packet_before_auth_bytes"), *refused)
        if self._buffer is None:
            self._buffer = bytearray(buffer)
        return NO_EVENTS

    def _consume(self, buffer: bytes | bytearray, now: float) -> Sequence[ConnectionEvent]:
        start = 0
        events: list[ConnectionEvent] = []
        try:
            while self.state in (State.OPEN, State.NEW):
                settings = self._rules.settings
                limit = settings.max_packet_bytes
                if self.state is State.NEW:
                    limit = settings.max_packet_before_auth_bytes
                    if start < len(buffer) and buffer[start] != PacketType.CONNECT << 4:
                        # [MQTT-3.1.0-1]; said before the length, so that a stranger's 256 MB are
                        # not waited for.
                        raise ProtocolError("the first packet is not CONNECT")
                framed = frame(buffer, start, limit)
                if framed is None:
                    break
                body_start, end = framed
                first_byte, body = buffer[start], bytes(buffer[body_start:end])
                start = end
                self._read_packet(first_byte, body, now, events)
        except ProtocolError as exc:
            events += self._fail(exc)
        if self.state is State.CLOSED or start == len(buffer):
            self._buffer, self.packet_deadline = None, inf
        elif start or self._buffer is None:
            self._buffer = bytearray(buffer[start:])
            self.packet_deadline = now + self._rules.settings.stall_timeout_s
        if self.state is State.CHECKING and self._buffer is not None:
            events += self._hold(self._buffer)
        return events

    def _read_packet(
        self, first_byte: int, body: bytes, now: float, events: list[ConnectionEvent]
    ) -> None:
        if self.state is State.NEW and body[:7] == b"\0\4MQTT\5":
            self.version = Version.V5  # so that even a malformed CONNECT is answered in its version
        settings = self._rules.settings
        packet = decode(self.version, first_byte, body, settings.max_user_properties)
        self.last_packet_at = now
        if self.state is State.NEW:
            assert isinstance(packet, Connect)
            self._on_connect(packet, events)
            return
        if isinstance(packet, Publish):
            bound = "max_publishes_per_s"
            due = self._publish_due = charged(self._publish_due, settings.max_publishes_per_s, now)
        else:
            bound, rate = "max_control_packets_per_s", settings.max_control_packets_per_s
            due = self._control_due = charged(self._control_due, rate, now)
        if due == inf:
            problem = "too many packets a second"
            raise ProtocolError(problem, ReasonCode.MESSAGE_RATE_TOO_HIGH, bound=bound)
        handler = self.HANDLERS.get(type(packet))
        if handler is None:  # [MQTT-3.1.0-2] for CONNECT; the others only a server may send
            raise ProtocolError(f"a client must not send {type(packet).__name__} here")
        handler(self, packet, events)

    def _on_connect(self, connect: Connect, events: list[ConnectionEvent]) -> None:
        self.version = connect.version
        properties = connect.properties
        self.max_packet_bytes = number_of(properties, Property.MAXIMUM_PACKET_SIZE, NO_PACKET_LIMIT)
        self.topic_alias_maximum = number_of(properties, Property.TOPIC_ALIAS_MAXIMUM, 0)
        self._connect = connect
        self.state = State.CHECKING
        refusal = self._refusal(connect)
        if refusal is not None:
            events += self.refuse(*refusal)
            return
        events.append(ConnectReceived(connect))

    def _refusal(self, connect: Connect) -> tuple[ReasonCode, str] | None:
        """Why a CONNECT is refused before anybody looks at its credentials."""
        if connect.will is not None:
            if connect.will.is_retained:  # v5 [MQTT-3.2.2-13]
                return ReasonCode.RETAIN_NOT_SUPPORTED, "no retained messages here"
            return ReasonCode.NOT_AUTHORIZED, "no will messages here"  # allowed by [MQTT-3.1.4-2]
        if Property.AUTHENTICATION_METHOD in connect.properties:  # v5 [MQTT-4.12.0-1]
            return ReasonCode.BAD_AUTHENTICATION_METHOD, "user name and password only"
        if Property.AUTHENTICATION_DATA in connect.properties:  # v5 3.1.2.11.10
            return ReasonCode.PROTOCOL_ERROR, "authentication data without a method"
        is_nameless_allowed = connect.version is Version.V5 or (
            connect.version is Version.V3_1_1 and connect.is_clean_start
        )
        # [MQTT-3.1.3-8]; 3.1: 1 to 23 characters
        if not connect.client_id and not is_nameless_allowed:
            return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "no client identifier"
        return None

    def _on_publish(self, packet: Publish, events: list[ConnectionEvent]) -> None:
        self._check_publish(packet)
        is_allowed = packet.mqtt_topic.startswith(f"p/{self.client_id}/")
        if not is_allowed and (self.version is not Version.V5 or packet.qos == 0):
            # [MQTT-3.3.5-2]: acknowledge as if all were well, or close; a close is the honest one.
            raise ProtocolError("not your request topic", ReasonCode.NOT_AUTHORIZED)
        reason = ReasonCode.SUCCESS if is_allowed else ReasonCode.NOT_AUTHORIZED
        is_new = True
        if packet.packet_id is not None:
            if packet.qos == 1:  # [MQTT-4.3.2-2], v5 4.3.2-4
                self._send(PublishReply(PacketType.PUBACK, packet.packet_id, reason))
            else:
                is_new = self._receive_qos_2(packet.packet_id, reason)
        if is_allowed and is_new:
            events.append(RequestReceived(packet.mqtt_topic, packet.payload))

    def _check_publish(self, packet: Publish) -> None:
        if packet.is_retained:  # declared as Retain Available 0 [v5 MQTT-3.2.2-14]
            raise ProtocolError("no retained messages here", ReasonCode.RETAIN_NOT_SUPPORTED)
        properties = packet.properties
        if Property.TOPIC_ALIAS in properties:  # v5 [MQTT-3.3.2-9]: our maximum is 0
            raise ProtocolError("topic aliases are not taken", ReasonCode.TOPIC_ALIAS_INVALID)
        if Property.SUBSCRIPTION_IDENTIFIER in properties:  # v5 [MQTT-3.3.4-6]
            raise ProtocolError("a client's PUBLISH has no subscription identifier")
        response_topic = properties.get(Property.RESPONSE_TOPIC)
        if not is_topic_name(packet.mqtt_topic):  # [MQTT-3.3.2-2]
            raise ProtocolError("not a topic name", ReasonCode.TOPIC_NAME_INVALID)
        if isinstance(response_topic, str) and not is_topic_name(response_topic):
            raise ProtocolError("the response topic is no topic name")  # v5 [MQTT-3.3.2-14]

    def _receive_qos_2(self, packet_id: int, reason: ReasonCode) -> bool:
        """Answer PUBREC; False for an identifier that is still held (method B of figure 4.3)."""
        held = self._unreleased_ids or set()
        if packet_id in held:
            self._send(PublishReply(PacketType.PUBREC, packet_id))
            return False
        if reason is ReasonCode.SUCCESS:  # a refused identifier is free again (v5 4.3.3)
            if len(held) >= self._rules.settings.max_inflight_publishes:
                raise ProtocolError(
                    "more QoS 2 publishes than Receive Maximum",
                    ReasonCode.RECEIVE_MAXIMUM_EXCEEDED,
                    bound="max_inflight_publishes",
                )
            held.add(packet_id)
            self._unreleased_ids = held
        self._send(PublishReply(PacketType.PUBREC, packet_id, reason))
        return True

    def _on_publish_reply(self, packet: PublishReply, _: list[ConnectionEvent]) -> None:
        if packet.packet_type is not PacketType.PUBREL:
            # We publish at QoS 0 only, so there is nothing a client could acknowledge.
            raise ProtocolError(f"{packet.packet_type.name} for nothing we sent")
        reason = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        if self._unreleased_ids and packet.packet_id in self._unreleased_ids:
            reason = ReasonCode.SUCCESS
            self._unreleased_ids.remove(packet.packet_id)
            self._unreleased_ids = self._unreleased_ids or None
        # [MQTT-4.3.3-2], v5 4.3.3-11
        self._send(PublishReply(PacketType.PUBCOMP, packet.packet_id, reason))

    def _on_subscribe(self, packet: Subscribe, events: list[ConnectionEvent]) -> None:
        self._check_subscribe(packet)
        # One answer for every filter that is not the client's own, wildcards and shared ones too:
        # a stranger learns nothing about which topics exist.
        refused = self._refused_filter(ReasonCode.NOT_AUTHORIZED)
        filters = [request.topic_filter for request in packet.requests]
        codes = tuple(0 if self._may_hear(each) else refused for each in filters)
        self._send(SubAck(packet.packet_id, codes))  # [MQTT-3.8.4-1, 3.8.4-5]; granted QoS 0
        if any(map(self._is_own_topic, filters)) and not self.is_subscribed:
            self.is_subscribed = True
            events.append(SubscriptionChanged())

    def _check_subscribe(self, packet: Subscribe) -> None:
        self._check_filter_count(len(packet.requests))
        if Property.SUBSCRIPTION_IDENTIFIER in packet.properties:  # declared as not available
            raise ProtocolError(
                "no subscription identifiers here",
                ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
            )

    def _refused_filter(self, reason: ReasonCode) -> int:
        return reason if self.version is Version.V5 else SUBACK_FAILURE_V3

    def _on_unsubscribe(self, packet: Unsubscribe, events: list[ConnectionEvent]) -> None:
        self._check_filter_count(len(packet.topic_filters))
        codes: list[int] = []
        for topic_filter in packet.topic_filters:
            if self.is_subscribed and self._is_own_topic(topic_filter):
                self.is_subscribed = False
                events.append(SubscriptionChanged())
                codes.append(ReasonCode.SUCCESS)
            else:
                codes.append(ReasonCode.NO_SUBSCRIPTION_EXISTED)
        self._send(UnsubAck(packet.packet_id, tuple(codes)))  # [MQTT-3.10.4-4, 3.10.4-5]

    def _on_ping(self, _: PingReq, __: list[ConnectionEvent]) -> None:
        self._send(PingResp())  # [MQTT-3.12.4-1]

    def _on_disconnect(self, packet: Disconnect, events: list[ConnectionEvent]) -> None:
        if packet.properties.get(Property.SESSION_EXPIRY_INTERVAL):
            # v5 3.14.2.2.2: not 0 after 0 in CONNECT. Ours is always 0, as CONNACK said.
            raise ProtocolError("sessions do not outlive connections here")
        events += self._close("client")

    def _on_auth(self, _: Auth, __: list[ConnectionEvent]) -> None:
        raise ProtocolError("no authentication method was agreed")  # v5 [MQTT-4.12.0-7]

    # -- answering --

    def _check_filter_count(self, count: int) -> None:
        if count > self._rules.settings.max_filters_per_packet:
            problem, bound = "too many topic filters in a packet", "max_filters_per_packet"
            raise ProtocolError(problem, ReasonCode.QUOTA_EXCEEDED, bound=bound)

    def _is_own_topic(self, topic_filter: str) -> bool:
        return topic_filter == self.mqtt_topic and bool(self.mqtt_topic)

    def _may_hear(self, topic_filter: str) -> bool:
        """Answers come anyway, but many a client library wants a subscription for them."""
        if topic_filter.startswith(f"p/{self.client_id}/"):
            return is_topic_name(topic_filter)
        return self._is_own_topic(topic_filter)

    def _declared(self, connect: Connect) -> Properties:
        """What this server is, in CONNACK's words (v5 3.2.2.3)."""
        if connect.version is not Version.V5:
            return NO_PROPERTIES
        settings = self._rules.settings
        declared: dict[Property, PropertyValue] = {
            Property.RECEIVE_MAXIMUM: settings.max_inflight_publishes,
            Property.MAXIMUM_PACKET_SIZE: settings.max_packet_bytes,
            Property.TOPIC_ALIAS_MAXIMUM: 0,
            Property.RETAIN_AVAILABLE: 0,
            Property.WILDCARD_SUBSCRIPTION_AVAILABLE: 0,
            Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
            Property.SHARED_SUBSCRIPTION_AVAILABLE: 0,
        }
        if connect.properties.get(Property.SESSION_EXPIRY_INTERVAL):
            declared[Property.SESSION_EXPIRY_INTERVAL] = 0
        if not connect.client_id:  # v5 [MQTT-3.1.3-7, MQTT-3.2.2-16]
            declared[Property.ASSIGNED_CLIENT_IDENTIFIER] = self.client_id
        if self.keep_alive_s != connect.keep_alive_s:  # v5 [MQTT-3.2.2-21, 3.2.2-22]
            declared[Property.SERVER_KEEP_ALIVE] = self.keep_alive_s
        return declared

    def _explanation(self, problem: str) -> Properties:
        if not problem or self.version is not Version.V5:
            return NO_PROPERTIES
        return {Property.REASON_STRING: problem}

    def _fail(self, exc: ProtocolError) -> Sequence[ConnectionEvent]:
        bound = exc.bound
        if isinstance(exc, PacketTooLarge):
            is_new = self.state is State.NEW
            bound = "max_packet_before_auth_bytes" if is_new else "max_packet_bytes"
        return (BoundMet(bound), *self._end(exc)) if bound else self._end(exc)

    def _end(self, exc: ProtocolError) -> Sequence[ConnectionEvent]:
        reason = ReasonCode(exc.reason_code)
        if self.state is State.NEW:
            if reason is ReasonCode.UNSUPPORTED_PROTOCOL_VERSION or self.version is Version.V5:
                return self.refuse(reason, exc.problem)  # [MQTT-3.1.2-2]
            return self._close(reason.name.lower())  # [MQTT-3.1.4-1]: close without CONNACK
        return self.disconnect(reason, problem=exc.problem)

    def _send(self, packet: Packet) -> None:
        encoded = encode(self.version, packet)
        if len(encoded) <= self.max_packet_bytes:
            self.output += encoded
        elif isinstance(packet, ConnAck | Disconnect) and packet.properties:
            # v5 [MQTT-3.2.2-19, 3.14.2-3]: the reason without its words.
            self._send(type(packet)(packet.reason_code))
        # else v5 [MQTT-3.1.2-28]: act as if it had been sent.

    def _close(self, reason: str) -> Sequence[ConnectionEvent]:
        if self.state is State.CLOSED:
            return NO_EVENTS
        self.state = State.CLOSED
        self.is_subscribed = False
        self._buffer = None
        self._connect = None
        self._unreleased_ids = None
        return (Closed(reason),)


Connection.HANDLERS = {
    Publish: Connection._on_publish,
    PublishReply: Connection._on_publish_reply,
    Subscribe: Connection._on_subscribe,
    Unsubscribe: Connection._on_unsubscribe,
    PingReq: Connection._on_ping,
    Disconnect: Connection._on_disconnect,
    Auth: Connection._on_auth,
}
