"""The REST listener's end: in time whatever requests do, and without a traceback in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from mqttpush.config import Settings
from mqttpush.metrics import Metrics
from mqttpush.rest.admission import HttpAdmission
from mqttpush.rest.app import Application
from mqttpush.rest.listener import HttpListener, bind_http
from tests.support.loop import in_loop

Handler = Callable[..., Awaitable[None]]
REQUEST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"


class World:
    """A listener with an application of the test's, and a client that sent a request."""

    def __init__(self, listener: HttpListener) -> None:
        self.listener = listener
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def request(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(*self.listener.address)
        self.writer.write(REQUEST)

    async def stop(self) -> float:
        """How long it took, seconds."""
        began = time.monotonic()
        await self.listener.stop()
        return time.monotonic() - began

    async def answer(self) -> bytes:
        answer = await self.reader.read()
        self.writer.close()
        await self.writer.wait_closed()
        return answer


@asynccontextmanager
async def open_world(handler: Handler, *, timeout_s: float) -> AsyncIterator[World]:
    settings = Settings.model_validate(
        {"http": {"host": "127.0.0.1", "port": 0}, "shutdown": {"timeout_s": timeout_s}}
    )
    metrics = Metrics()
    admission = HttpAdmission(settings.http, metrics, clock=time.monotonic)
    application, sockets = cast("Application", handler), bind_http(settings)
    listener = HttpListener(application, settings, sockets, admission, metrics)
    await listener.start()
    world = World(listener)
    try:
        yield world
    finally:
        await listener.stop()


def no_traceback(caplog: pytest.LogCaptureFixture) -> bool:
    return not [record for record in caplog.records if record.exc_info]


@in_loop
async def test_a_request_that_takes_too_long_is_cut_off_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = asyncio.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with open_world(hang, timeout_s=0.2) as world:
        await world.request()
        await begun.wait()
        assert await world.stop() < 0.9  # it was a second at least, whatever the setting
        assert (await world.answer()).startswith(b"HTTP/1.1 500 ")
    assert no_traceback(caplog)
    assert "cut off" in caplog.text


@in_loop
async def test_a_request_that_ends_in_time_is_answered_and_the_stop_goes_on_at_once() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with open_world(answer, timeout_s=60) as world:
        await world.request()
        await begun.wait()
        world.listener.close()
        go_on.set()
        assert await world.stop() < 20
        assert (await world.answer()).startswith(b"HTTP/1.1 204 ")


@in_loop
async def test_a_fault_of_a_request_keeps_its_traceback_during_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = asyncio.Event()

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        async with open_world(fail, timeout_s=0.2) as world:
            await world.request()
            await begun.wait()
            await world.stop()
            await world.answer()
    assert not no_traceback(caplog)


@in_loop
async def test_a_client_that_only_connected_holds_up_nothing() -> None:
    async def unasked(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    async with open_world(unasked, timeout_s=60) as world:
        world.reader, world.writer = await asyncio.open_connection(*world.listener.address)
        assert await world.stop() < 20
        assert await world.answer() == b""
