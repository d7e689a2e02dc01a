"""Helpers of the listener tests: real sockets, paho-mqtt as the client, a trivial authenticator."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec

import paho.mqtt.client as paho
import uvloop
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from mqttpush.metrics import Metrics
from mqttpush.mqtt.broker import (
    Admitted,
    Broker,
    ConnectAttempt,
    Handle,
    RefusalReason,
    Refused,
)
from mqttpush.mqtt.listeners import Listeners
from mqttpush.mqtt.tls import CERTIFICATE_NAME
from tests.mqtt.support import settings

LIMIT_S = 20.0
KINDS = ("tcp", "tls", "ws", "wss")
Parameters = ParamSpec("Parameters")


def in_uvloop(test: Callable[Parameters, Coroutine[Any, Any, None]]) -> Callable[Parameters, None]:
    """Make an ordinary test of an `async def`, on the loop the server runs on."""

    @functools.wraps(test)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(limited())

    return run


class Net:
    """A broker behind its listeners; requests are answered with their own payload."""

    def __init__(self, folder: Path, changes: dict[str, object]) -> None:
        self.folder = folder
        self.metrics = Metrics()
        self.handle_by_client_id: dict[str, Handle] = {}
        self.addresses: list[str] = []
        self.settings = settings(**changes)
        self._changed = asyncio.Event()
        self.broker = Broker(
            settings=self.settings,
            metrics=self.metrics,
            clock=time.monotonic,
            random=random.Random(1),
            authenticate=self._authenticate,
            on_closed=self._on_closed,
            on_request=self._on_request,
        )
        self.listeners = Listeners(settings=self.settings, broker=self.broker, data_folder=folder)

    async def _authenticate(self, attempts: Sequence[ConnectAttempt]) -> list[Admitted | Refused]:
        return [self._check(attempt) for attempt in attempts]

    def _check(self, attempt: ConnectAttempt) -> Admitted | Refused:
        self.addresses.append(attempt.address)
        if attempt.password == b"wrong":
            return Refused(RefusalReason.BAD_CREDENTIALS)
        self.handle_by_client_id[attempt.client_id] = attempt.handle
        return Admitted(attempt.client_id, "app")

    def _on_request(self, handle: Handle, mqtt_topic: str, payload: bytes) -> None:
        self.broker.respond(handle, mqtt_topic, payload)

    def _on_closed(self, handle: Handle) -> None:
        for client_id, held in list(self.handle_by_client_id.items()):
            if held is handle:
                del self.handle_by_client_id[client_id]
        self._changed.set()

    def push(self, client_id: str, payload: bytes) -> int:
        return self.broker.fan_out([self.handle_by_client_id[client_id]], payload)

    async def until_gone(self, client_id: str) -> None:
        while client_id in self.handle_by_client_id:
            self._changed.clear()
            await self._changed.wait()

    def client_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / CERTIFICATE_NAME))

    @asynccontextmanager
    async def dial(
        self, kind: str = "tcp", *, tls: bool = True
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A raw connection; over TLS for `tls` and `wss` unless told otherwise."""
        host, port = self.listeners.addresses[kind]
        secured = tls and kind in ("tls", "wss")
        context = self.client_tls() if secured else None
        name = "localhost" if secured else None
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname=name
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def serving(folder: Path, *kinds: str, **changes: object) -> AsyncIterator[Net]:
    """A server on free ports for these kinds of listeners, TCP if none is named."""
    ports = {f"{kind}_port": 0 for kind in kinds or ("tcp",)}
    net = Net(folder, {**ports, **changes})
    await net.listeners.start()
    try:
        yield net
    finally:
        await net.listeners.stop()


class Paho:
    """A paho-mqtt client; its events come through `next` as tuples, in order."""

    def __init__(
        self, net: Net, kind: str, version: MQTTProtocolVersion, client_id: str, **options: Any
    ) -> None:
        self._events: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.client_id = client_id
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            transport="websockets" if kind in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
        )
        if kind in ("tls", "wss"):
            self.client.tls_set_context(net.client_tls())
        self.client.username_pw_set("user", options.get("password", "secret"))
        put = self._events.put
        self.client.on_connect = lambda _c, _u, _f, code, _p: put(("connect", str(code)))
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: put(
            ("subscribe", *[code.value for code in codes])
        )
        self.client.on_message = lambda _c, _u, message: put(
            ("message", message.topic, message.payload)
        )
        self.client.on_publish = lambda _c, _u, _m, _r, _p: put(("published",))
        self.client.on_disconnect = lambda _c, _u, _f, code, _p: put(("disconnect", str(code)))
        self._address = net.listeners.addresses[kind]

    async def __aenter__(self) -> Paho:
        await asyncio.to_thread(self.client.connect, *self._address)
        self.client.loop_start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)

    async def next(self) -> tuple[Any, ...]:
        return await asyncio.to_thread(self._events.get, timeout=LIMIT_S)

    async def next_of(self, kind: str) -> tuple[Any, ...]:
        """The next event of a kind; others before it are let go."""
        while (event := await self.next())[0] != kind:
            pass
        return event

    async def subscribe(self) -> None:
        assert await self.next() == ("connect", "Success")
        self.client.subscribe(self.client_id)
        assert await self.next() == ("subscribe", 0)


async def is_closed_by_peer(reader: asyncio.StreamReader) -> bool:
    """Read to the end; True when the server closed or reset the connection."""
    try:
        while await reader.read(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True
