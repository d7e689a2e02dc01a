"""The REST API's listener: uvicorn inside our loop, on sockets of ours.

Owns the sockets, the deadlines of what comes over them, and starting and stopping uvicorn without
its signal handling. Knows no route.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mqttpush.config import HttpSettings, Settings
from mqttpush.errors import ConfigError
from mqttpush.metrics import Metrics
from mqttpush.rest.admission import HttpAdmission
from mqttpush.rest.app import TOO_SLOW, Application

Clock = Callable[[], float]

DATE_EVERY_S: Final = 1.0
# Of `shutdown.timeout_s`: how long requests under way may take once the server stops.
SHARE_OF_STOP: Final = 0.5
# Of that time: when those that still wait for their bodies are answered.
_SHARE_FOR_BODIES: Final = 0.9
_LOOK_EVERY_S: Final = 0.02
_CUT_OFF_S: Final = 0.1
# The parser takes 64 KiB of a path and query; as much again is for headers.
HEAD_LIMIT_BYTES: Final = 131_072
# Less of a body in `http.body_timeout_s` is no progress.
LEAST_BODY_BYTES: Final = 1024
# What of a request a connection waits for; plain numbers, because every request compares them.
_HEAD: Final = 1  # some of it has come, or the connection is new
_BODY: Final = 2  # the rest of it
_NOTHING: Final = 3
_JUST_BEGUN: Final = -1  # size of a head before the piece in which it begins is counted
_TOO_LATE_A_HEAD: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)
_TOO_LARGE_A_HEAD: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


_log = logging.getLogger(__name__)


class Bounds:
    """What all connections share: settings, counts, and which of them must do something by when.

    Connections that keep their pace are not in it longer than a moment, so looking through it now
    and then costs nothing, where a timer for each request would.
    """

    def __init__(
        self, settings: HttpSettings, admission: HttpAdmission, metrics: Metrics, now: Clock
    ) -> None:
        self.settings = settings
        self.admission = admission
        self.limits_reached = metrics.limits_reached
        self.now = now
        self.deadlines: dict[BoundedProtocol, float] = {}

    def sweep(self) -> None:
        now = self.now()
        for late in [each for each, deadline in self.deadlines.items() if deadline <= now]:
            del self.deadlines[late]
            late.overdue()
        self.admission.sweep()


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose requests come in time and have an end, and whose client takes its answers.

    The parser keeps a head, and copies it as it grows. What comes with the piece in which a head
    begins is not counted; that is one read at most. A client that takes no byte of what waits for
    it is aborted after `http.write_timeout_s`: closing would wait for it for ever.
    """

    def __init__(self, *given: Any, bounds: Bounds, **more: Any) -> None:
        super().__init__(*given, **more)
        self._bounds = bounds
        self._peer: str | None = None  # once it is counted
        self._stage = _HEAD
        self._head_bytes = _JUST_BEGUN
        self._body_bytes = 0
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        peer = self.client[0] if self.client else ""
        if not self._bounds.admission.open(peer):
            self.connections.discard(self)
            self.transport.abort()
            return
        self._peer = peer
        self._expect_within(self._bounds.settings.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._bounds.deadlines.pop(self, None)
        if self._peer is not None:
            self._bounds.admission.closed(self._peer)
            self._peer = None
        super().connection_lost(exc)

    # --- what comes in ---

    def data_received(self, data: bytes) -> None:
        if self._stage == _NOTHING:
            self._stage = _HEAD  # even blank lines are no way to stay for ever
            self._head_bytes = _JUST_BEGUN
        super().data_received(data)
        if self._stage == _NOTHING:
            if self in self._bounds.deadlines:
                del self._bounds.deadlines[self]
        elif self._stage == _HEAD:
            self._count_head(len(data))
        elif not self.cycle.response_complete:
            self._body_bytes += len(data)
            if self not in self._bounds.deadlines:
                self._expect_within(self._bounds.settings.body_timeout_s)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stage, self._head_bytes = _HEAD, _JUST_BEGUN

    def on_headers_complete(self) -> None:
        self._stage, self._body_bytes = _BODY, 0
        bounds = self._bounds
        limit = bounds.settings.max_connections
        self.limit_concurrency = None
        # A task that has answered may still be there when the next request of its client comes.
        if len(self.connections) > limit or len(self.tasks) > limit:
            bounds.limits_reached.add("http.max_connections")
            self.limit_concurrency = limit  # uvicorn looks for itself, and answers 503
        if self in bounds.deadlines:
            del bounds.deadlines[self]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stage = _NOTHING
        super().on_message_complete()

    def _count_head(self, size_bytes: int) -> None:
        if self._head_bytes == _JUST_BEGUN:
            self._head_bytes = 0
            self._expect_within(self._bounds.settings.head_timeout_s)
            return
        self._head_bytes += size_bytes
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._refuse(_TOO_LARGE_A_HEAD)

    # --- what goes out ---

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_end()
        elif self._stage == _BODY and self.cycle.response_complete:
            # Nobody reads the rest of that body any more.
            self._expect_within(self._bounds.settings.body_timeout_s)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_end()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._unwatch()
        super().resume_writing()

    def _watch(self, waiting_bytes: int) -> None:
        self._unwatch()
        timeout_s = self._bounds.settings.write_timeout_s
        self._stall = self.loop.call_later(timeout_s, self._look, waiting_bytes)

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _look(self, waiting_bytes: int) -> None:
        now_bytes = self.transport.get_write_buffer_size()
        if now_bytes < waiting_bytes:
            self._watch(now_bytes)
            return
        self._bounds.limits_reached.add("http.write_timeout_s")
        self.transport.abort()

    # --- what is late ---

    def overdue(self) -> None:
        """What the connection should have done by now it has not."""
        bounds = self._bounds
        if self.transport.is_closing():
            bounds.limits_reached.add("http.write_timeout_s")
            self.transport.abort()
        elif self._stage == _HEAD:
            self._overdue_head()
        elif self._stage == _BODY:
            self._overdue_body()

    def _overdue_head(self) -> None:
        bounds = self._bounds
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        if cycle is not None and not cycle.response_complete:
            self._expect_within(bounds.settings.head_timeout_s)  # it has an answer to wait for
            return
        bounds.limits_reached.add("http.head_timeout_s")
        # A browser's spare connection, on which nothing ever came, is closed without a word.
        self._refuse(b"" if self._head_bytes == _JUST_BEGUN else _TOO_LATE_A_HEAD)

    def _overdue_body(self) -> None:
        bounds = self._bounds
        if self.cycle.response_complete:
            bounds.limits_reached.add("http.body_timeout_s")
            self._refuse(b"")
        elif self._body_bytes >= LEAST_BODY_BYTES or self.flow.read_paused:
            self._body_bytes = 0
            self._expect_within(bounds.settings.body_timeout_s)
        else:
            self._give_up_body()

    def end_body(self) -> None:
        """The server stops: what has not come of a body by now is too late."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if self._stage == _BODY and cycle is not None and not cycle.response_complete:
            self._give_up_body()

    def _give_up_body(self) -> None:
        self.scope["state"][TOO_SLOW] = True
        self.cycle.message_event.set()  # whoever reads the body hears it and answers

    def _refuse(self, answer: bytes) -> None:
        if answer:
            self.transport.write(answer)
        self.transport.close()
        self._expect_end()

    def _expect_within(self, timeout_s: float) -> None:
        self._bounds.deadlines[self] = self._bounds.now() + timeout_s

    def _expect_end(self) -> None:
        """A closing connection ends when its client has taken what waits for it."""
        if self.transport.get_write_buffer_size():
            self._expect_within(self._bounds.settings.write_timeout_s)
        else:
            self._bounds.deadlines.pop(self, None)


class _NoCancellations(logging.Filter):
    """Without the tracebacks of requests that were ended on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to us, says when it is open and ends when it should.

    grace_s: how long requests under way may take when it stops.
    """

    def __init__(
        self, config: uvicorn.Config, sweep: Callable[[], None], *, grace_s: float
    ) -> None:
        super().__init__(config)
        self._sweep = sweep
        self._grace_s = grace_s
        self.is_open = asyncio.Event()
        self._is_ending = asyncio.Event()

    def end(self) -> None:
        """Stop serving: what is under way is finished first."""
        self.should_exit = True
        self._is_ending.set()

    async def main_loop(self) -> None:
        """Look once a second (for the Date header), where uvicorn does ten times: idle is idle."""
        while not await self.on_tick(0):
            self._sweep()
            with suppress(TimeoutError):
                async with asyncio.timeout(DATE_EVERY_S):
                    await self._is_ending.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_open.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let requests end, answer those without their bodies, cut off the rest."""
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        if await self._have_ended(self._grace_s * _SHARE_FOR_BODIES):
            return
        for connection in list(self.server_state.connections):
            cast("BoundedProtocol", connection).end_body()
        if not await self._have_ended(self._grace_s * (1 - _SHARE_FOR_BODIES)):
            await self._cut_off()

    async def _have_ended(self, within_s: float) -> bool:
        state = self.server_state
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while state.connections or state.tasks:
                    for connection in list(state.connections):
                        connection.shutdown()  # it closes when its answer is out
                    await asyncio.sleep(_LOOK_EVERY_S)
        return not (state.connections or state.tasks)

    async def _cut_off(self) -> None:
        tasks = list(self.server_state.tasks)
        if tasks:
            _log.warning("requests cut off, they took longer than the stop may: %d", len(tasks))
            uvicorn_log, quiet = logging.getLogger("uvicorn.error"), _NoCancellations()
            uvicorn_log.addFilter(quiet)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CUT_OFF_S)
            uvicorn_log.removeFilter(quiet)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # its client takes nothing

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpListener:
    """The REST API's listener: uvicorn inside our loop, on sockets of ours."""

    def __init__(
        self,
        application: Application,
        settings: Settings,
        sockets: list[socket.socket],
        admission: HttpAdmission,
        metrics: Metrics,
    ) -> None:
        self.address: tuple[str, int] = sockets[0].getsockname()[:2]
        self._sockets = sockets
        now = asyncio.get_running_loop().time
        self._bounds = bounds = Bounds(settings.http, admission, metrics, now)
        self._server = _Uvicorn(
            uvicorn.Config(
                application,
                http=cast(
                    "type[asyncio.Protocol]",
                    partial(BoundedProtocol, bounds=bounds),
                ),
                ws="none",
                lifespan="off",
                loop="none",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=settings.http.keep_alive_s,
            ),
            sweep=bounds.sweep,
            grace_s=settings.shutdown.timeout_s * SHARE_OF_STOP,
        )
        self._task: asyncio.Task[None] | None = None

    def reload(self, settings: HttpSettings) -> None:
        """Take new limits; what is waited for already has its old deadline."""
        self._bounds.settings = settings

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets), name="http")
        await self._server.is_open.wait()

    def close(self) -> None:
        """Accept no more; what is under way is finished."""
        self._server.end()

    async def stop(self) -> None:
        self.close()
        if self._task is not None:
            await self._task


def bind_http(settings: Settings) -> list[socket.socket]:
    host, port = settings.http.host, settings.http.port
    if port is None:
        return []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return [socket.create_server((host, port), family=family, backlog=1024)]
    except OSError as exc:
        problem = f"cannot listen on {host_port(host, port)}: {os.strerror(exc.errno or 0)}"
        setting = "http.host" if isinstance(exc, socket.gaierror) else "http.port"
        raise ConfigError(setting, "settings", problem, "port = 0 for any free port") from exc


def host_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
