"""Ordinary topics: what the clients of one app say to each other, beside their private topics.

Owns which topics are ordinary and whose they are, and what of one link passes to a general-purpose
broker and back. Knows no socket and no broker: messages and subscriptions leave through an
`Exchange`, packets come back through `relay`. The one idea: the private topic never leaves
`connection.py`; only what stands below the app's own prefix passes, so no filter that broker knows
can match a private topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

from mqttpush.errors import ProtocolError
from mqttpush.mqtt.connection import Connection, Rules, State
from mqttpush.mqtt.happenings import NO_EVENTS, ConnectionEvent, SubscriptionChanged
from mqttpush.mqtt.packets import (
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
    Will,
)

DISCONNECT_WITH_WILL = 0x04  # v5 table 3-10
# Each answers one PUBLISH of ours (others end the connection), so they are bounded without a rate.
_ANSWERS = {PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBCOMP}


class Exchange(Protocol):
    """One link's way to the general-purpose broker, which speaks MQTT 3.1.1."""

    @property
    def app_id(self) -> str:
        """Whose ordinary topics the link may use; known once it is authenticated."""
        ...

    def publish(self, message: Publish) -> ReasonCode | None:
        """Hand a message over; or why not, and then it is not."""
        ...

    def send(self, packet: Packet) -> None:
        """A subscription or an acknowledgement; the first one connects the link to the broker."""
        ...

    def close(self) -> None: ...


class _Dealings:
    """What a link has going on with the broker; most links never have."""

    __slots__ = ("due_replies", "filters", "pending")

    def __init__(self) -> None:
        self.due_replies: dict[int, PacketType] = {}  # what the client must answer, by identifier
        self.filters: set[str] = set()
        # Codes of a SUBSCRIBE or UNSUBSCRIBE by packet identifier; None: the broker's to say.
        self.pending: dict[int, list[tuple[str, int | None]]] = {}


class OrdinaryConnection(Connection):
    """A connection that has ordinary topics too; give it an `exchange` before it receives."""

    __slots__ = (
        "_dealings",
        "_max_qos",
        "_prefix",
        "_will",
        "exchange",
    )

    def __init__(self, rules: Rules, now: float) -> None:
        super().__init__(rules, now)
        self.exchange: Exchange | None = None
        self._prefix = ""  # of the app's topics; empty: the link has none
        self._dealings: _Dealings | None = None
        self._max_qos = 2
        self._will: Will | None = None

    def admit(
        self, *, client_id: str, mqtt_topic: str, is_onboarding: bool, now: float
    ) -> Sequence[ConnectionEvent]:
        assert self._connect is not None
        assert self.exchange is not None
        self._prefix = "" if is_onboarding else f"apps/{self.exchange.app_id}/"
        if Property.RECEIVE_MAXIMUM in self._connect.properties:
            self._max_qos = 0  # the broker knows no such bound, so nothing may wait for an answer
        will = self._connect.will
        if will is not None:
            self.client_id = client_id
            if not self._is_ordinary(will.topic):
                return self.refuse(ReasonCode.NOT_AUTHORIZED, "not a topic of your app")
            self._will = will
        return super().admit(
            client_id=client_id, mqtt_topic=mqtt_topic, is_onboarding=is_onboarding, now=now
        )

    def relay(self, packet: Packet) -> Sequence[ConnectionEvent]:
        """A packet of the general-purpose broker, for the client."""
        dealings = self._dealings
        if self.state is not State.OPEN or dealings is None:
            return NO_EVENTS
        events: list[ConnectionEvent] = []
        if isinstance(packet, Publish):
            self._deliver(packet, dealings)
        elif isinstance(packet, SubAck):
            self._answer_subscribe(packet, dealings, events)
        elif isinstance(packet, UnsubAck):
            codes = tuple(code or 0 for _, code in dealings.pending.pop(packet.packet_id))
            self._send(UnsubAck(packet.packet_id, codes))
        elif isinstance(packet, PublishReply):
            self._send(packet)
        return events

    # -- from the client --

    def _read_packet(
        self, first_byte: int, body: bytes, now: float, events: list[ConnectionEvent]
    ) -> None:
        control_due = self._control_due
        super()._read_packet(first_byte, body, now, events)
        if first_byte >> 4 in _ANSWERS:
            self._control_due = control_due

    def _refusal(self, connect: Connect) -> tuple[ReasonCode, str] | None:
        return super()._refusal(replace(connect, will=None))  # `admit` knows whose topic it is

    def _on_publish(self, packet: Publish, events: list[ConnectionEvent]) -> None:
        if not self._is_ordinary(packet.mqtt_topic):
            super()._on_publish(packet, events)
            return
        self._check_publish(replace(packet, is_retained=False))
        if packet.qos == 2:
            assert packet.packet_id is not None
            if not self._receive_qos_2(packet.packet_id, ReasonCode.SUCCESS):
                return
        assert self.exchange is not None
        reason = self.exchange.publish(packet)
        if reason is not None:
            raise ProtocolError("no room for this message", reason)
        if packet.qos == 1:
            assert packet.packet_id is not None
            self._send(PublishReply(PacketType.PUBACK, packet.packet_id))

    def _on_publish_reply(self, packet: PublishReply, events: list[ConnectionEvent]) -> None:
        kind, packet_id = packet.packet_type, packet.packet_id
        due = self._dealings.due_replies if self._dealings is not None else {}
        if due.get(packet_id) is not kind:
            super()._on_publish_reply(packet, events)
            return
        if kind is PacketType.PUBREC:
            due[packet_id] = PacketType.PUBCOMP
        else:
            del due[packet_id]
        self._pass(PublishReply(kind, packet_id))

    def _on_subscribe(self, packet: Subscribe, events: list[ConnectionEvent]) -> None:
        if not any(self._is_ordinary(request.topic_filter) for request in packet.requests):
            super()._on_subscribe(packet, events)
            return
        self._check_subscribe(packet)
        if self._dealings is None:
            self._dealings = _Dealings()
        dealings = self._dealings
        self._check_packet_id(packet.packet_id, dealings)
        codes = [
            (request.topic_filter, self._judge(request, dealings.filters))
            for request in packet.requests
        ]
        dealings.pending[packet.packet_id] = codes
        requests = tuple(
            SubscriptionRequest(request.topic_filter, min(request.qos, self._max_qos))
            for request, (_, code) in zip(packet.requests, codes, strict=True)
            if code is None
        )
        if requests:
            self._pass(Subscribe(packet.packet_id, requests))
        else:
            self._answer_subscribe(SubAck(packet.packet_id, ()), dealings, events)

    def _on_unsubscribe(self, packet: Unsubscribe, events: list[ConnectionEvent]) -> None:
        dealings = self._dealings
        ordinary = tuple(f for f in packet.topic_filters if dealings and f in dealings.filters)
        if dealings is None or not ordinary:
            super()._on_unsubscribe(packet, events)
            return
        self._check_filter_count(len(packet.topic_filters))
        self._check_packet_id(packet.packet_id, dealings)
        codes: list[tuple[str, int | None]] = []
        for topic_filter in packet.topic_filters:
            is_own = self.is_subscribed and self._is_own_topic(topic_filter)
            if is_own:
                self.is_subscribed = False
                events.append(SubscriptionChanged())
            is_known = is_own or topic_filter in dealings.filters
            dealings.filters.discard(topic_filter)
            reason = ReasonCode.SUCCESS if is_known else ReasonCode.NO_SUBSCRIPTION_EXISTED
            codes.append((topic_filter, reason))
        dealings.pending[packet.packet_id] = codes
        self._pass(Unsubscribe(packet.packet_id, ordinary))

    def _on_disconnect(self, packet: Disconnect, events: list[ConnectionEvent]) -> None:
        if packet.reason_code != DISCONNECT_WITH_WILL:
            self._will = None  # [MQTT-3.14.4-3], v5 [MQTT-3.14.4-3]
        super()._on_disconnect(packet, events)

    # -- to the client --

    def _deliver(self, packet: Publish, dealings: _Dealings) -> None:
        if not any(matches(f, packet.mqtt_topic) for f in dealings.filters):
            return  # unsubscribed meanwhile
        if packet.packet_id is not None:
            # A client that acknowledges nothing: what it owes is bounded like what it must take.
            if len(dealings.due_replies) >= self._rules.settings.max_outbox_packets:
                return
            kind = PacketType.PUBACK if packet.qos == 1 else PacketType.PUBREC
            dealings.due_replies[packet.packet_id] = kind
        self._send(packet)

    def _answer_subscribe(
        self, packet: SubAck, dealings: _Dealings, events: list[ConnectionEvent]
    ) -> None:
        granted = iter(packet.reason_codes)
        codes: list[int] = []
        for topic_filter, known in dealings.pending.pop(packet.packet_id):
            code = next(granted) if known is None else known
            if known is None and code > 2:  # it is no topic filter
                dealings.filters.discard(topic_filter)
                code = self._refused_filter(ReasonCode.TOPIC_FILTER_INVALID)
            elif known == 0 and not self.is_subscribed:
                self.is_subscribed = True
                events.append(SubscriptionChanged())
            codes.append(code)
        self._send(SubAck(packet.packet_id, tuple(codes)))

    # -- inside --

    def _is_ordinary(self, mqtt_topic: str) -> bool:
        """Is it a name or filter below the prefix of the client's app?"""
        return bool(self._prefix) and mqtt_topic.startswith(self._prefix)

    def _judge(self, request: SubscriptionRequest, filters: set[str]) -> int | None:
        """The code of one filter; None: it passes, and the broker has the last word."""
        topic_filter = request.topic_filter
        if self._is_own_topic(topic_filter):
            return 0
        if not self._is_ordinary(topic_filter):
            return self._refused_filter(ReasonCode.NOT_AUTHORIZED)
        if request.is_no_local or request.is_retain_as_published or request.retain_handling:
            return self._refused_filter(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)
        limit = self._rules.settings.max_ordinary_filters
        if topic_filter not in filters and len(filters) >= limit:
            return self._refused_filter(ReasonCode.QUOTA_EXCEEDED)
        filters.add(topic_filter)
        return None

    def _check_packet_id(self, packet_id: int, dealings: _Dealings) -> None:
        if packet_id in dealings.pending:  # [MQTT-2.3.1-2]
            raise ProtocolError("the packet identifier is in use")

    def _pass(self, packet: Packet) -> None:
        assert self.exchange is not None
        self.exchange.send(packet)

    def _declared(self, connect: Connect) -> Properties:
        declared = super()._declared(connect)
        if not self._prefix:
            return declared
        offered = (Property.RETAIN_AVAILABLE, Property.WILDCARD_SUBSCRIPTION_AVAILABLE)
        return {key: value for key, value in declared.items() if key not in offered}

    def _close(self, reason: str) -> Sequence[ConnectionEvent]:
        events = super()._close(reason)
        exchange, self.exchange = self.exchange, None
        self._dealings = None
        if exchange is not None:
            will = self._will
            if will is not None:
                exchange.publish(
                    Publish(will.topic, will.payload, will.qos, is_retained=will.is_retained)
                )
            exchange.close()
        return events


def matches(topic_filter: str, mqtt_topic: str) -> bool:
    """Does a filter match a name [MQTT-4.7.1-2, MQTT-4.7.1-3]? Both start with an app's prefix."""
    names = mqtt_topic.split("/")
    levels = topic_filter.split("/")
    for index, level in enumerate(levels):
        if level == "#":
            return True
        if index >= len(names) or level not in ("+", names[index]):
            return False
    return len(levels) == len(names)


_HANDLERS: Mapping[type, Any] = {
    **Connection.HANDLERS,
    Publish: OrdinaryConnection._on_publish,
    PublishReply: OrdinaryConnection._on_publish_reply,
    Subscribe: OrdinaryConnection._on_subscribe,
    Unsubscribe: OrdinaryConnection._on_unsubscribe,
    Disconnect: OrdinaryConnection._on_disconnect,
}
OrdinaryConnection.HANDLERS = MappingProxyType(_HANDLERS)
