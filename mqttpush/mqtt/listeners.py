"""Listeners: the sockets of the MQTT server, over TCP, TLS and WebSocket.

Owns what lies between a kernel socket and the broker: accepting, the PROXY header, the layers, and
telling the broker when a socket takes nothing more. Knows nothing about packets. The one idea: all
listeners accept plain TCP and stack byte layers on it, so each stage of a handshake runs under the
broker's bounds and deadlines from the first byte on.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Protocol, cast

from mqttpush.config import MqttSettings
from mqttpush.errors import ConfigError, ProtocolError
from mqttpush.mqtt.admission import Networks
from mqttpush.mqtt.broker import Broker
from mqttpush.mqtt.handle import Handle
from mqttpush.mqtt.proxy import parse_proxy_header

PORT_SETTINGS = {"tcp": "tcp_port", "tls": "tls_port", "ws": "ws_port", "wss": "wss_port"}


class Layer(Protocol):
    """Takes bytes from below, hands what it makes of them up."""

    def receive(self, data: bytes) -> None: ...


class Socket(asyncio.Protocol):
    """One accepted socket and the layers on it."""

    __slots__ = ("_handle", "_kind", "_layer", "_listeners", "_transport")

    def __init__(self, listeners: Listeners, kind: str) -> None:
        self._listeners = listeners
        self._kind = kind
        self._transport: asyncio.Transport | None = None
        self._handle: Handle | None = None
        self._layer: Layer | None = None  # None: bytes are MQTT

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", base)  # uvloop's does not inherit from it
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        listeners = self._listeners
        handle = listeners.broker.open(transport, address)
        if handle is None:
            transport.abort()
            return
        self._handle = handle
        self._transport = transport
        transport.set_write_buffer_limits(high=listeners.settings.write_buffer_bytes)
        if listeners.proxies and listeners.proxies.contains(address):
            self._layer = ProxyLayer(self)
            listeners.broker.begin_stage(handle, "connect_timeout_s")
        else:
            self._start()

    def data_received(self, data: bytes) -> None:
        if self._layer is not None:
            self._layer.receive(data)
        elif self._handle is not None:
            self._listeners.broker.receive(self._handle, data)

    def pause_writing(self) -> None:
        if self._handle is not None:
            self._listeners.broker.pause(self._handle)

    def resume_writing(self) -> None:
        if self._handle is not None:
            self._listeners.broker.resume(self._handle)

    def connection_lost(self, exc: Exception | None) -> None:
        handle, self._handle = self._handle, None
        self._layer = None
        if handle is not None:
            self._listeners.broker.lost(handle)

    def proxied(self, address: str | None, rest: bytes) -> None:
        """The PROXY header is read; `rest` came after it."""
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

    def abort(self, reason: str) -> None:
        """A layer cannot make anything of what the peer sends."""
        if self._handle is not None:
            self._listeners.broker.abort(self._handle, reason)

    def _start(self) -> None:
        assert self._handle is not None
        self._listeners.broker.begin_stage(self._handle, "connect_timeout_s")


class ProxyLayer:
    """Reads the PROXY header, then takes itself away."""

    __slots__ = ("_buffer", "_socket")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._buffer = b""

    def receive(self, data: bytes) -> None:
        self._buffer += data
        try:
            parsed = parse_proxy_header(self._buffer)
        except ProtocolError:
            self._socket.abort("proxy_header")
            return
        if parsed is not None:
            address, size = parsed
            self._socket.proxied(address, self._buffer[size:])


class Listeners:
    """All listening sockets of the MQTT server."""

    def __init__(self, *, settings: MqttSettings, broker: Broker) -> None:
        self.settings = settings
        self.broker = broker
        self.proxies = Networks(settings.proxy_protocol_from)
        self.addresses: dict[str, tuple[str, int]] = {}
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen on every port that is set. Raises `ConfigError`, and then nothing is left open."""
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
            self.addresses.setdefault(kind, sock.getsockname()[:2])
        self.broker.start()

    async def drain(self, timeout_s: float) -> None:
        """Accept no more and close every connection, within `timeout_s` seconds."""
        self._close_servers()
        await self.broker.drain(timeout_s)

    async def stop(self) -> None:
        """Close everything at once; call `drain` first to be polite."""
        self._close_servers()
        await self.broker.stop()

    def reload(self, settings: MqttSettings) -> None:
        """Take new limits. Ports and hosts stay as they are until a restart."""
        self.settings = settings
        self.proxies = Networks(settings.proxy_protocol_from)
        self.broker.reload(settings)

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

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
