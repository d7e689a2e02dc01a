"""Connections of the REST listener that end, with time and the peer's pace in the test's hand."""

from __future__ import annotations

import asyncio

import uvicorn
from uvicorn.server import ServerState

from mqttpush.config import HttpSettings
from mqttpush.metrics import Metrics
from mqttpush.rest.admission import HttpAdmission
from mqttpush.rest.listener import BoundedProtocol, Bounds
from tests.support.loop import in_loop


class StuckTransport(asyncio.Transport):
    """To a client that takes nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711), "sockname": ("192.0.2.2", 80)})
        self.written = b""
        self.is_closed = self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def pause_reading(self) -> None:
        """Bytes come when the test brings them."""

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


class World:
    """One connection."""

    def __init__(self) -> None:
        self.now = 0.0
        self.metrics = Metrics()
        settings = HttpSettings(head_timeout_s=10, write_timeout_s=60)
        admission = HttpAdmission(settings, self.metrics, clock=lambda: self.now)
        self.bounds = Bounds(settings, admission, self.metrics, lambda: self.now)
        config = uvicorn.Config(self._answer, log_config=None, lifespan="off")
        self.transport = StuckTransport()
        loop = asyncio.get_running_loop()
        state = ServerState()
        self.protocol = BoundedProtocol(config, state, {}, loop, bounds=self.bounds)
        self.protocol.connection_made(self.transport)

    @staticmethod
    async def _answer(scope: object, receive: object, send: object) -> None:
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.bounds.sweep()

    def met(self, limit: str) -> int:
        return self.metrics.limits_reached.values.get((limit,), 0)


@in_loop
async def test_a_closing_connection_whose_client_takes_nothing_is_cut_off() -> None:
    world = World()
    world.protocol.data_received(b"GET / HTTP/1.1\r\nHost")
    world.pass_time(9.9)
    assert not world.transport.is_closed
    world.pass_time(0.2)
    assert world.transport.written.startswith(b"HTTP/1.1 408 ")
    assert world.transport.is_closed
    world.pass_time(59)
    assert not world.transport.is_aborted
    world.pass_time(2)
    assert world.transport.is_aborted
    assert (world.met("http.head_timeout_s"), world.met("http.write_timeout_s")) == (1, 1)
    world.protocol.connection_lost(None)
    assert world.metrics.http_connections.read() == 0


@in_loop
async def test_a_connection_that_rested_too_long_does_not_stay_because_of_its_answers() -> None:
    world = World()
    world.transport.written = b"of an answer"
    world.protocol.timeout_keep_alive_handler()
    assert world.transport.is_closed
    world.pass_time(61)
    assert world.transport.is_aborted
    world.protocol.connection_lost(None)


@in_loop
async def test_the_size_of_a_head_is_not_that_of_the_body_it_came_with() -> None:
    world = World()
    text = b"x" * 200_000
    head = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 400000\r\n"
    world.protocol.data_received(head)
    world.protocol.data_received(b"\r\n" + text)
    world.protocol.data_received(text + head)
    assert world.transport.written == b""
    world.protocol.connection_lost(None)


@in_loop
async def test_a_connection_that_is_gone_is_not_waited_for() -> None:
    world = World()
    world.protocol.data_received(b"GET /")
    world.protocol.connection_lost(None)
    assert not world.bounds.deadlines
    world.pass_time(100)
    assert world.transport.written == b""
