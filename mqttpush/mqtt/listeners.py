"""Listeners: the sockets of the MQTT server, over TCP, TLS and WebSocket.

Owns what lies between a kernel socket and the broker: accepting, the PROXY header, the layers, and
telling the broker when a socket takes nothing more. Knows nothing about packets. The one idea: all
listeners accept plain TCP and stack byte layers on it, so each stage of a handshake runs under the
broker's bounds and deadlines from the first byte on.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, cast

from mqttpush.config import MqttSettings
from mqttpush.errors import ConfigError, ProtocolError
from mqttpush.mqtt.broker import Broker
from mqttpush.mqtt.connection import State
from mqttpush.mqtt.handle import Handle, Transport
from mqttpush.mqtt.parking import Parking
from mqttpush.mqtt.proxy import parse_proxy_header
from mqttpush.mqtt.tls import TlsLayer, build_context
from mqttpush.mqtt.websocket import TOO_MANY_FRAMES, WebSocketLayer
from mqttpush.peers import Networks

# TLS handshake, upgrade request (16 KiB at most), CONNECT and what comes before its answer: what a
# stranger may send in all through the layers, which buffer it. Plain TCP is bounded by the packet
# size.
MAX_EARLY_BYTES = 65_536
# Below this many free file descriptors a new connection is closed at once; with none left at all,
# libuv accepts and closes by itself, so no listener spins.
RESERVED_FILES = 64
# Who has sent so much at once is read on when the others have had their turn: libuv would read 8 MB
# from one socket, and a TLS record may hold a single byte.
TURN_BYTES = 16_384
PORT_SETTINGS = {"tcp": "tcp_port", "tls": "tls_port", "ws": "ws_port", "wss": "wss_port"}


class Layer(Protocol):
    """Takes bytes from below, hands what it makes of them up."""

    def receive(self, data: bytes) -> None: ...


class Socket(asyncio.Protocol):
    """One accepted socket and the layers on it."""

    __slots__ = (
        "_early_bytes",
        "_handle",
        "_is_silent",
        "_kind",
        "_layer",
        "_listeners",
        "_parked_at",
        "_transport",
        "_web",
    )

    def __init__(self, listeners: Listeners, kind: str) -> None:
        self._listeners = listeners
        self._kind = kind
        self._transport: asyncio.Transport | None = None
        self._handle: Handle | None = None
        self._layer: Layer | None = None  # the lowest; None: bytes are MQTT
        self._web: WebSocketLayer | None = None
        self._early_bytes = 0
        self._is_silent = False  # it only pinged or subscribed, and is parked
        self._parked_at = -1  # its file descriptor, once it has been parked

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", base)  # uvloop's does not inherit from it
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        listeners = self._listeners
        handle = None
        is_proxy = bool(listeners.proxies) and listeners.proxies.contains(address)
        if listeners.may_open():
            handle = listeners.broker.open(transport, address, is_proxy=is_proxy)
        if handle is None:
            transport.abort()
            return
        self._handle = handle
        self._transport = transport
        transport.set_write_buffer_limits(high=listeners.settings.write_buffer_bytes)
        if is_proxy:
            self._layer = ProxyLayer(on_header=self._on_proxy_header, on_end=self._on_end)
            listeners.broker.begin_stage(handle, "connect_timeout_s")
        else:
            self._start()

    def data_received(self, data: bytes) -> None:
        handle = self._handle
        if handle is None:
            return
        self._is_silent = False
        if self._layer is None:
            self._is_silent = self._listeners.broker.receive(handle, data)
        else:
            if handle.connection.state < State.OPEN:
                self._early_bytes += len(data)
                if self._early_bytes > MAX_EARLY_BYTES:
                    self._listeners.broker.abort(handle, "too_much_before_connect")
                    return
            self._layer.receive(data)
        if self._is_silent:
            self._park()
        elif len(data) >= TURN_BYTES:
            self._end_turn()

    def _end_turn(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing() and not self._is_silent:
            transport.resume_reading()

    def is_unwatched(self) -> bool:
        transport = self._transport
        if not self._is_silent or transport is None or transport.is_closing():
            return False
        return transport.get_write_buffer_size() == 0

    def wake(self) -> None:
        """Something has come while the socket was parked; fine if it is not."""
        if self._is_silent and self._transport is not None:
            self._is_silent = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        if self._handle is not None:
            self._listeners.broker.pause(self._handle)

    def resume_writing(self) -> None:
        if self._handle is not None:
            self._listeners.broker.resume(self._handle)

    def connection_lost(self, exc: Exception | None) -> None:
        handle, self._handle = self._handle, None
        web, self._web = self._web, None
        self._layer = None
        self._transport = None
        if web is not None:
            web.lost()
        if handle is not None:
            self._listeners.broker.lost(handle)

    def _park(self) -> None:
        listeners, transport = self._listeners, self._transport
        is_open = listeners.parking.is_open(listeners.broker.socket_count)
        if transport is None or transport.is_closing() or not is_open:
            self._is_silent = False
            return
        is_known = self._parked_at >= 0
        if not is_known:
            self._parked_at = transport.get_extra_info("socket").fileno()
        transport.pause_reading()
        listeners.parking.add(self._parked_at, self, is_known=is_known)

    def _on_proxy_header(self, address: str | None, rest: bytes) -> None:
        assert self._handle is not None
        assert self._transport is not None
        self._layer = None
        if address is not None and not self._listeners.broker.change_address(self._handle, address):
            self._handle = None
            self._transport.abort()
            return
        self._start()
        if rest:
            self.data_received(rest)

    def _start(self) -> None:
        if self._kind in ("tls", "wss"):
            self._start_tls()
        elif self._kind == "ws":
            assert self._transport is not None
            self._start_websocket(self._transport)
        else:
            self._begin("connect_timeout_s")

    def _start_tls(self) -> None:
        assert self._transport is not None
        context = self._listeners.tls_context
        assert context is not None
        layer = TlsLayer(context, self._transport, on_data=self._on_plain, on_end=self._on_end)
        self._layer = layer
        self._begin("tls_handshake_timeout_s", layer)

    def _start_websocket(self, lower: asyncio.Transport | TlsLayer) -> None:
        self._web = WebSocketLayer(
            lower,
            settings=self._listeners.settings,
            clock=self._listeners.clock,
            on_data=self._on_message,
            on_end=self._on_end,
        )
        if self._layer is None:
            self._layer = self._web
        self._begin("websocket_handshake_timeout_s")

    def _on_plain(self, data: bytes) -> None:
        """From the TLS layer."""
        if self._web is not None:
            self._web.receive(data)
        elif data:
            self._on_message(data)
        elif self._kind == "wss":
            assert isinstance(self._layer, TlsLayer)
            self._start_websocket(self._layer)
        else:
            self._begin("connect_timeout_s")

    def _on_message(self, data: bytes) -> None:
        """MQTT's bytes, from whatever layer is the highest."""
        if self._handle is None:
            return
        if data:
            self._is_silent = self._listeners.broker.receive(self._handle, data)
        else:
            self._begin("connect_timeout_s", self._web)

    def _on_end(self, reason: str) -> None:
        """A layer has nothing more to give."""
        if self._handle is not None:
            broker = self._listeners.broker
            if reason == TOO_MANY_FRAMES:
                broker.metrics.limits_reached.add("mqtt.max_websocket_frames_per_s")
            broker.end(self._handle, reason)

    def _begin(self, setting: str, transport: Transport | None = None) -> None:
        if self._handle is not None:
            if transport is not None:
                self._handle.transport = transport
            self._listeners.broker.begin_stage(self._handle, setting)


class ProxyLayer:
    """Reads the PROXY header of a listed peer."""

    __slots__ = ("_buffer", "_on_end", "_on_header")

    def __init__(
        self, *, on_header: Callable[[str | None, bytes], None], on_end: Callable[[str], None]
    ) -> None:
        self._buffer = b""
        self._on_header = on_header
        self._on_end = on_end

    def receive(self, data: bytes) -> None:
        self._buffer += data
        try:
            parsed = parse_proxy_header(self._buffer)
        except ProtocolError:
            self._on_end("proxy_header")
            return
        if parsed is not None:
            address, size_bytes = parsed
            self._on_header(address, self._buffer[size_bytes:])


class Listeners:
    """All listening sockets of the MQTT server."""

    def __init__(self, *, settings: MqttSettings, broker: Broker, data_folder: Path | None) -> None:
        """data_folder: where a self-signed certificate is kept; None: it ends with the process."""
        self.settings = settings
        self.broker = broker
        self.clock = asyncio.get_running_loop().time
        self.tls_context: ssl.SSLContext | None = None
        self._data_folder = data_folder
        self.proxies = Networks(settings.proxy_protocol_from)
        self.parking = Parking()
        self.parking.apply(settings)
        self.addresses: dict[str, tuple[str, int]] = {}
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []

    async def start(self) -> None:
        """Listen on every port that is set. Raises `ConfigError`, and then nothing is left open."""
        if self.settings.tls_port is not None or self.settings.wss_port is not None:
            self.tls_context = build_context(self.settings, self._data_folder)
        bound: list[tuple[str, socket.socket]] = []
        loop = asyncio.get_running_loop()
        try:
            for kind, setting in PORT_SETTINGS.items():
                port = getattr(self.settings, setting)
                if port is not None:
                    bound += [(kind, sock) for sock in await self._bind(setting, port)]
            for kind, sock in bound:
                server = await loop.create_server(
                    partial(Socket, self, kind),
                    sock=sock,
                    backlog=self.settings.listen_backlog,
                )
                self._servers.append(server)
        except BaseException:
            for _, sock in bound:
                sock.close()
            await self.stop()
            raise
        for kind, sock in bound:
            self._sockets.append(sock)
            self.addresses.setdefault(kind, sock.getsockname()[:2])
        self.broker.start()

    @property
    def is_listening(self) -> bool:
        """Is every listener open? The loop closes one whose accept fails for good."""
        return bool(self._servers) and all(sock.fileno() >= 0 for sock in self._sockets)

    def may_open(self) -> bool:
        """Are files left for one more socket? The last ones belong to the store and the log."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if self.broker.socket_count < files - max(RESERVED_FILES, files // 20):
            return True
        self.broker.metrics.limits_reached.add("open_files")
        return False

    def close(self) -> None:
        """Accept no more; connections stay."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def drain(self, timeout_s: float) -> None:
        """Accept no more and close every connection, within `timeout_s` seconds."""
        self.close()
        await self.broker.drain(timeout_s)

    async def stop(self) -> None:
        """Close everything at once; call `drain` first to be polite."""
        self.close()
        await self.broker.stop()
        self.parking.close()

    def reload(self, settings: MqttSettings) -> None:
        """Take new limits and certificates; ports and hosts stay as they are until a restart.

        Raises `ConfigError`, and then everything stays as it was.
        """
        if self.tls_context is not None:
            self.tls_context = build_context(settings, self._data_folder)
        self.settings = settings
        self.proxies = Networks(settings.proxy_protocol_from)
        self.parking.apply(settings)
        self.broker.reload(settings)

    async def _bind(self, setting: str, port: int) -> list[socket.socket]:
        """One socket for each address of the host, all on one port."""
        host = self.settings.host
        loop = asyncio.get_running_loop()
        sockets: list[socket.socket] = []
        try:
            infos = await loop.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as exc:
            raise ConfigError("mqtt.host", "settings", f"{host}: {exc}", '"0.0.0.0"') from exc
        try:
            for family, kind, protocol, _, address in sorted(infos, key=lambda info: info[0]):
                sock = socket.socket(family, kind, protocol)
                sockets.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address[0], port, *address[2:]))
                port = port or sock.getsockname()[1]
        except OSError as exc:
            for sock in sockets:
                sock.close()
            problem = f"cannot listen on {host}:{port}: {exc.strerror}"
            raise ConfigError(
                f"mqtt.{setting}", "settings", problem, "0 for any free port"
            ) from exc
        return sockets
