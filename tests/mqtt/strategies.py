"""Hypothesis strategies: packets of every kind, as each version can say them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mqttpush.mqtt.packets import (
    NEVER_ZERO,
    PROPERTY_TABLE,
    WILL,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Kind,
    Packet,
    PacketType,
    PingReq,
    PingResp,
    Properties,
    Property,
    PropertyValue,
    Publish,
    PublishReply,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
    Version,
    Will,
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = texts.filter(bool)
topic_names = names.filter(lambda text: "+" not in text and "#" not in text)
binaries = st.binary(max_size=20)
packet_ids = st.integers(1, 65535)
reason_codes = st.integers(0, 255)
_REPLIES = (PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP)
_VALUES = {
    Kind.BYTE: st.integers(0, 255),
    Kind.FLAG: st.integers(0, 1),
    Kind.TWO_BYTES: st.integers(0, 65535),
    Kind.FOUR_BYTES: st.integers(0, 2**32 - 1),
    Kind.VARIABLE: st.integers(1, 268_435_455),
    Kind.TEXT: texts,
    Kind.BINARY: binaries,
    Kind.PAIR: st.lists(st.tuples(texts, texts), min_size=1, max_size=3).map(tuple),
}


@st.composite
def properties_of(draw: st.DrawFn, version: Version, place: int) -> Properties:
    if version is not Version.V5:
        return {}
    allowed = [key for key, (_, places) in PROPERTY_TABLE.items() if place in places]
    if not allowed:
        return {}
    chosen = draw(st.lists(st.sampled_from(allowed), unique=True, max_size=4))
    properties: dict[Property, PropertyValue] = {}
    for key in chosen:
        value: Any = draw(_VALUES[PROPERTY_TABLE[key][0]])
        if key in NEVER_ZERO:
            value = value or 1
        if key is Property.SUBSCRIPTION_IDENTIFIER:
            value = (value,)
        properties[key] = value
    return properties


@st.composite
def _connects(draw: st.DrawFn, version: Version) -> Connect:
    username = draw(st.none() | texts)
    password = draw(st.none() | binaries)
    if username is None and version is not Version.V5:
        password = None
    if version is Version.V3_1 and password is None and username is not None:
        password = b""
    will = None
    if draw(st.booleans()):
        will = Will(
            draw(topic_names),
            draw(binaries),
            draw(st.integers(0, 2)),
            draw(st.booleans()),
            draw(properties_of(version, WILL)),
        )
    return Connect(
        version,
        draw(texts),
        draw(st.booleans()),
        draw(st.integers(0, 65535)),
        username,
        password,
        will,
        draw(properties_of(version, PacketType.CONNECT)),
    )


@st.composite
def _publishes(draw: st.DrawFn, version: Version) -> Publish:
    qos = draw(st.integers(0, 2))
    return Publish(
        draw(texts),
        draw(binaries),
        qos,
        draw(packet_ids) if qos else None,
        draw(st.booleans()),
        draw(st.booleans()) if qos else False,
        draw(properties_of(version, PacketType.PUBLISH)),
    )


@st.composite
def _replies(draw: st.DrawFn, version: Version) -> PublishReply:
    kind = draw(st.sampled_from(_REPLIES))
    code = draw(reason_codes) if version is Version.V5 else 0
    return PublishReply(kind, draw(packet_ids), code, draw(properties_of(version, kind)))


@st.composite
def _subscribes(draw: st.DrawFn, version: Version) -> Subscribe:
    def request() -> SubscriptionRequest:
        topic_filter, qos = draw(names), draw(st.integers(0, 2))
        if version is not Version.V5:
            return SubscriptionRequest(topic_filter, qos)
        is_no_local = draw(st.booleans()) and not topic_filter.startswith("$share/")
        handling = draw(st.integers(0, 2))
        return SubscriptionRequest(topic_filter, qos, is_no_local, draw(st.booleans()), handling)

    requests = tuple(request() for _ in range(draw(st.integers(1, 4))))
    return Subscribe(draw(packet_ids), requests, draw(properties_of(version, PacketType.SUBSCRIBE)))


@st.composite
def versioned_packets(draw: st.DrawFn) -> tuple[Version, Packet]:
    """A version and any packet it can express."""
    version = draw(st.sampled_from(list(Version)))
    is_v5 = version is Version.V5

    def properties(place: PacketType) -> st.SearchStrategy[Properties]:
        return properties_of(version, place)

    codes = st.lists(reason_codes, min_size=1, max_size=4).map(tuple)
    reason = reason_codes if is_v5 else st.just(0)
    strategies: list[st.SearchStrategy[Packet]] = [
        _connects(version),
        _publishes(version),
        _replies(version),
        _subscribes(version),
        st.builds(ConnAck, reason_codes, st.booleans(), properties(PacketType.CONNACK)),
        st.builds(SubAck, packet_ids, codes, properties(PacketType.SUBACK)),
        st.builds(
            Unsubscribe,
            packet_ids,
            st.lists(names, min_size=1, max_size=3).map(tuple),
            properties(PacketType.UNSUBSCRIBE),
        ),
        st.builds(
            UnsubAck, packet_ids, codes if is_v5 else st.just(()), properties(PacketType.UNSUBACK)
        ),
        st.just(PingReq()),
        st.just(PingResp()),
        st.builds(Disconnect, reason, properties(PacketType.DISCONNECT)),
    ]
    if is_v5:
        strategies.append(st.builds(Auth, reason_codes, properties(PacketType.AUTH)))
    return version, draw(st.one_of(strategies))
