"""Engine `amqtt`: the native broker, and an amqtt broker behind it for ordinary topics.

Owns the amqtt broker of this process and each connection's link to it. Knows no users, buckets or
SQL. The one idea: amqtt sees no socket. Clients connect to our listeners, under all our bounds and
our authentication; who subscribes to an ordinary topic gets a link, a stream in memory that amqtt
serves as it would a socket. Pushes take the native way, so they cost and behave the same on both
engines.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from itertools import count
from typing import Any

from amqtt.adapters import StreamReaderAdapter, WriterAdapter
from amqtt.broker import Broker as AmqttBroker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from mqttpush.mqtt.broker import Broker
from mqttpush.mqtt.codec import decode, encode, frame
from mqttpush.mqtt.connection import NO_PACKET_LIMIT, Connection, State
from mqttpush.mqtt.handle import Handle, Transport
from mqttpush.mqtt.ordinary import OrdinaryConnection
from mqttpush.mqtt.packets import (
    Connect,
    Packet,
    Publish,
    ReasonCode,
    UnsubAck,
    Unsubscribe,
    Version,
)

logger = logging.getLogger(__name__)

LISTENER = "default"
# Longest wait for amqtt's own tasks at the end.
STOP_TIMEOUT_S = 2.0


class GeneralBroker(AmqttBroker):  # type: ignore[misc]  # amqtt has no type information
    """amqtt with one listener that accepts nothing by itself, and two of its habits mended."""

    def __init__(self) -> None:
        # Whoever has a link was authenticated by us. "Anonymous" sessions end with their links.
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        listeners = {LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)}
        super().__init__(BrokerConfig(listeners=listeners, plugins=plugins))

    @property
    def waiting_count(self) -> int:
        """Messages published and not yet spread."""
        return int(self._broadcast_queue.qsize())

    def forget_unused(self, topic_filters: tuple[str, ...]) -> None:
        """amqtt keeps a filter nobody is subscribed to any more; a client could make many."""
        for topic_filter in topic_filters:
            if not self._subscriptions.get(topic_filter, True):
                del self._subscriptions[topic_filter]

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Any
    ) -> None:
        """amqtt 0.12 calls this for a new session with the filters of all others, too."""
        holders = self._subscriptions.get(subscription[0], ())
        if any(holder is session for holder, _ in holders):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class AmqttEngine(Broker):
    """See the module; the same interface as the native broker."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.general = GeneralBroker()
        self.links: set[asyncio.Task[None]] = set()
        self.numbers = count(1)
        self.is_ready = asyncio.Event()
        self._messages: asyncio.Queue[Publish] = asyncio.Queue()  # bounded by `publish`
        self._task: asyncio.Task[None] | None = None
        self._retained_by_app: dict[str, set[str]] = {}

    def open(self, transport: Transport, address: str, *, is_proxy: bool = False) -> Handle | None:
        handle = super().open(transport, address, is_proxy=is_proxy)
        if handle is not None:
            assert isinstance(handle.connection, OrdinaryConnection)
            handle.connection.exchange = Link(self, handle)
        return handle

    def start(self) -> None:
        super().start()
        self._task = self._loop.create_task(self._run(), name="amqtt")

    async def stop(self) -> None:
        await super().stop()
        if self._task is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.gather(*self.links, return_exceptions=True)
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
        except TimeoutError:
            logger.warning("amqtt did not stop in time")
        for link in self.links:
            link.cancel()

    def relay(self, handle: Handle, packet: Packet) -> None:
        """A packet of amqtt's for a client; a slow reader misses ordinary messages first."""
        limit = self._rules.settings.max_outbox_bytes
        if isinstance(packet, Publish) and handle.is_paused and self._unsent(handle) > limit:
            self.metrics.pushes_dropped.add("outbox_full", handle.app_id)
            return
        assert isinstance(handle.connection, OrdinaryConnection)
        self._apply(handle, handle.connection.relay(packet))

    def publish(self, app_id: str, message: Publish) -> ReasonCode | None:
        """Spread a message, and keep it if it is to be retained; or say why not."""
        waiting_count = self._messages.qsize() + self.general.waiting_count
        if waiting_count >= self._rules.settings.max_waiting_messages:
            self.metrics.limits_reached.add("mqtt.max_waiting_messages")
            return ReasonCode.MESSAGE_RATE_TOO_HIGH
        if message.is_retained and not self._may_retain(app_id, message):
            self.metrics.limits_reached.add("mqtt.max_retained_messages")
            return ReasonCode.QUOTA_EXCEEDED
        self._messages.put_nowait(message)
        return None

    def _may_retain(self, app_id: str, message: Publish) -> bool:
        """Count what an app retains; an empty message removes what was retained."""
        topics = self._retained_by_app.setdefault(app_id, set())
        if not message.payload:
            topics.discard(message.mqtt_topic)
        elif message.mqtt_topic not in topics:
            if len(topics) >= self._rules.settings.max_retained_messages:
                return False
            topics.add(message.mqtt_topic)
        return True

    async def _run(self) -> None:
        """amqtt's life; when it fails, ordinary topics fail alone."""
        try:
            await self.general.start()
            self.is_ready.set()
            try:
                while True:
                    await self._spread(await self._messages.get())
            finally:
                await self.general.shutdown()
        except Exception:
            logger.exception("amqtt failed: ordinary topics are not served any more")

    async def _spread(self, message: Publish) -> None:
        await self.general.internal_message_broadcast(message.mqtt_topic, message.payload)
        if message.is_retained:
            await self.general.retain_message(
                None, message.mqtt_topic, message.payload, message.qos
            )

    def _new_connection(self) -> Connection:
        return OrdinaryConnection(self._rules, self._clock())


class Link:
    """One connection's way to amqtt: an `Exchange` on our side, a socket on amqtt's."""

    __slots__ = ("_engine", "_handle", "_leaving", "_reader", "is_closed")

    def __init__(self, engine: AmqttEngine, handle: Handle) -> None:
        self._engine = engine
        self._handle = handle
        self._leaving: dict[int, tuple[str, ...]] = {}  # filters by packet identifier
        self._reader: asyncio.StreamReader | None = None
        self.is_closed = False

    @property
    def app_id(self) -> str:
        return self._handle.app_id

    def publish(self, message: Publish) -> ReasonCode | None:
        return self._engine.publish(self.app_id, message)

    def send(self, packet: Packet) -> None:
        if self._reader is None:
            self._reader = self._connect()
        if isinstance(packet, Unsubscribe):
            self._leaving[packet.packet_id] = packet.topic_filters
        self._reader.feed_data(encode(Version.V3_1_1, packet))

    def close(self) -> None:
        self.is_closed = True
        if self._reader is not None:
            self._reader.feed_eof()

    def receive(self, data: bytes) -> None:
        """A whole packet from amqtt."""
        framed = frame(data, 0, NO_PACKET_LIMIT)
        assert framed is not None
        packet = decode(Version.V3_1_1, data[0], data[framed[0] :])
        if isinstance(packet, UnsubAck):
            self._engine.general.forget_unused(self._leaving.pop(packet.packet_id, ()))
        self._engine.relay(self._handle, packet)

    def _connect(self) -> asyncio.StreamReader:
        """Under a name of this link's own: takeover is not amqtt's business."""
        engine = self._engine
        reader = asyncio.StreamReader()
        client_id = f"link-{next(engine.numbers)}"
        reader.feed_data(encode(Version.V3_1_1, Connect(Version.V3_1_1, client_id)))
        task = asyncio.get_running_loop().create_task(self._run(reader), name=f"amqtt {client_id}")
        engine.links.add(task)
        task.add_done_callback(engine.links.discard)
        return reader

    async def _run(self, reader: asyncio.StreamReader) -> None:
        """amqtt serves the link as long as the client stays."""
        engine = self._engine
        try:
            await engine.is_ready.wait()
            writer = LinkWriter(self, self._handle.address)
            await engine.general.external_connected(StreamReaderAdapter(reader), writer, LISTENER)
        except Exception:
            logger.exception("amqtt failed on a link")
        finally:
            if not self.is_closed and self._handle.connection.state is State.OPEN:
                engine.close(self._handle, ReasonCode.UNSPECIFIED_ERROR)


class LinkWriter(WriterAdapter):  # type: ignore[misc]  # amqtt has no type information
    """What amqtt takes for the socket of a link; it writes each packet whole."""

    def __init__(self, link: Link, address: str) -> None:
        self._link = link
        self._address = address

    def write(self, data: bytes) -> None:
        if not self._link.is_closed:
            self._link.receive(data)

    async def drain(self) -> None:
        """Bounded when it is written: see `AmqttEngine.relay`."""

    def get_peer_info(self) -> tuple[str, int]:
        return self._address, 0

    def get_ssl_info(self) -> ssl.SSLObject | None:
        return None

    async def close(self) -> None:
        """The client's connection outlives amqtt's side only if amqtt fails: see `Link._run`."""
