"""Helpers of the MQTT tests: one connection or broker with a clock and transports of the test's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from mqttpush.config import MqttSettings
from mqttpush.metrics import Metrics
from mqttpush.mqtt.broker import Admitted, Broker, ConnectAttempt, Refused
from mqttpush.mqtt.codec import decode, encode, frame
from mqttpush.mqtt.connection import NO_PACKET_LIMIT, Connection, Rules
from mqttpush.mqtt.handle import Handle
from mqttpush.mqtt.happenings import Closed, ConnectionEvent, ConnectReceived
from mqttpush.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Subscribe,
    SubscriptionRequest,
    Version,
)

clause = pytest.mark.clause
VERSIONS = (Version.V3_1, Version.V3_1_1, Version.V5)
TOPIC = "hJrBrz5bosv3pLFUDmtd0xT"
NOBODY = MqttSettings(tcp_port=None, tls_port=None, ws_port=None, wss_port=None)


def settings(**changes: object) -> MqttSettings:
    """Settings without listeners, with `changes`."""
    return MqttSettings.model_validate({**NOBODY.model_dump(), **changes})


def packets_of(version: Version, data: bytes) -> list[Packet]:
    """The packets in `data`, which must be whole."""
    packets = []
    start = 0
    while start < len(data):
        framed = frame(data, start, NO_PACKET_LIMIT)
        assert framed is not None
        packets.append(decode(version, data[start], data[framed[0] : framed[1]]))
        start = framed[1]
    return packets


class Link:
    """A connection under test, driven by packets or bytes at a time of the test's choice."""

    def __init__(
        self, version: Version = Version.V3_1_1, limits: MqttSettings = NOBODY, now: float = 1000.0
    ) -> None:
        self.version = version
        self.now = now
        self.connection = Connection(Rules(limits), now)

    def feed(self, data: bytes) -> list[ConnectionEvent]:
        return list(self.connection.receive(data, self.now))

    def send(self, *packets: Packet) -> list[ConnectionEvent]:
        return self.feed(b"".join(encode(self.version, packet) for packet in packets))

    def replies(self) -> list[Packet]:
        return packets_of(self.version, self.connection.take_output())

    def connect(
        self,
        client_id: str = TOPIC,
        *,
        properties: Properties | None = None,
        is_clean_start: bool = True,
        keep_alive_s: int = 60,
    ) -> list[ConnectionEvent]:
        """Send CONNECT; admit it if it gets so far, as an authenticator would."""
        connect = Connect(
            self.version,
            client_id,
            is_clean_start,
            keep_alive_s,
            "app-user",
            b"secret",
            properties=properties or {},
        )
        events = self.send(connect)
        if events and isinstance(events[0], ConnectReceived):
            return self.admit(client_id or TOPIC)
        return events

    def admit(self, client_id: str = TOPIC) -> list[ConnectionEvent]:
        is_onboarding = client_id == "anonymous"
        return list(
            self.connection.admit(
                client_id=client_id,
                mqtt_topic="" if is_onboarding else client_id,
                is_onboarding=is_onboarding,
                now=self.now,
            )
        )


def open_link(version: Version = Version.V3_1_1, limits: MqttSettings = NOBODY) -> Link:
    """A link whose CONNACK is out."""
    link = Link(version, limits)
    link.connect()
    link.connection.take_output()
    return link


def subscribe(topic_filter: str = TOPIC, packet_id: int = 1, qos: int = 0) -> Subscribe:
    return Subscribe(packet_id, (SubscriptionRequest(topic_filter, qos),))


def is_closed(events: Sequence[ConnectionEvent]) -> bool:
    return bool(events) and isinstance(events[-1], Closed)


@dataclass(eq=False)
class FakeTransport:
    """Takes what is written; `is_stalled` makes it keep everything unsent."""

    written: bytearray = field(default_factory=bytearray)
    write_count: int = 0
    is_stalled: bool = False
    unsent_bytes: int = 0
    is_closing: bool = False
    is_aborted: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, data: bytes) -> None:
        assert not self.is_closing, "a write after close"
        self.written += data
        self.write_count += 1
        if self.is_stalled:
            self.unsent_bytes += len(data)

    def close(self) -> None:
        self.is_closing = True
        self.closed.set()

    def abort(self) -> None:
        self.is_closing = self.is_aborted = True
        self.closed.set()

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data


@dataclass(eq=False)
class Client:
    """A client of a broker under test."""

    broker: Broker
    version: Version
    transport: FakeTransport
    handle: Handle

    def send(self, *packets: Packet) -> None:
        self.broker.receive(
            self.handle, b"".join(encode(self.version, packet) for packet in packets)
        )

    def packets(self) -> list[Packet]:
        return packets_of(self.version, self.transport.take())


def reason_of(client: Client) -> int:
    """The code in the last packet the client got, a CONNACK or DISCONNECT."""
    last = client.packets()[-1]
    assert isinstance(last, ConnAck | Disconnect)
    return last.reason_code


Answer = Callable[[ConnectAttempt], Admitted | Refused]


class World:
    """A broker with an authenticator, a clock and a router that are the test's."""

    def __init__(self, **changes: object) -> None:
        self.now = 1000.0
        self.metrics = Metrics()
        self.batches: list[list[ConnectAttempt]] = []
        self.closed: list[Handle] = []
        self.requests: list[tuple[Handle, str, bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.answer: Answer = lambda attempt: Admitted(attempt.client_id or TOPIC, "app")
        self.settings = settings(**changes)
        self.broker = Broker(
            settings=self.settings,
            metrics=self.metrics,
            clock=lambda: self.now,
            random=random.Random(1),
            authenticate=self._authenticate,
            on_closed=self.closed.append,
            on_request=lambda *request: self.requests.append(request),
        )

    async def _authenticate(self, attempts: Sequence[ConnectAttempt]) -> list[Admitted | Refused]:
        self.batches.append(list(attempts))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [self.answer(attempt) for attempt in attempts]

    def open(self, version: Version = Version.V3_1_1, address: str = "192.0.2.1") -> Client | None:
        transport = FakeTransport()
        handle = self.broker.open(transport, address)
        if handle is None:
            return None
        self.broker.begin_stage(handle, "connect_timeout_s")
        return Client(self.broker, version, transport, handle)

    def knock(
        self,
        client_id: str = TOPIC,
        version: Version = Version.V3_1_1,
        address: str = "192.0.2.1",
        *,
        properties: Properties | None = None,
        keep_alive_s: int = 60,
    ) -> Client:
        """A client that has sent CONNECT."""
        client = self.open(version, address)
        assert client is not None
        client.send(
            Connect(
                version,
                client_id,
                True,
                keep_alive_s,
                "user",
                b"secret",
                properties=properties or {},
            )
        )
        return client

    async def connect(
        self,
        client_id: str = TOPIC,
        version: Version = Version.V3_1_1,
        address: str = "192.0.2.1",
        *,
        properties: Properties | None = None,
        keep_alive_s: int = 60,
        is_subscribed: bool = True,
    ) -> Client:
        """A client that is connected, and subscribed to its topic."""
        client = self.knock(
            client_id, version, address, properties=properties, keep_alive_s=keep_alive_s
        )
        await self.settle()
        if is_subscribed:
            client.send(subscribe(client_id))
        client.transport.take()
        return client

    async def settle(self) -> None:
        """Let everything run that is due in the loop."""
        for _ in range(6):
            await asyncio.sleep(0)

    def dropped(self, reason: str, app_id: str = "app") -> int:
        return self.metrics.pushes_dropped.values.get((reason, app_id), 0)

    def reached(self, setting: str) -> int:
        return self.metrics.limits_reached.values.get((f"mqtt.{setting}",), 0)

    def pass_time(self, seconds: float) -> None:
        """Move the clock and look at the deadlines, as the broker's timer would."""
        self.now += seconds
        self.broker.check_deadlines()
