"""The REST API's listener: uvicorn inside our loop, on sockets of ours.

Owns the sockets, and starting and stopping uvicorn without its signal handling. Knows no route.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mqttpush.config import Settings
from mqttpush.errors import ConfigError
from mqttpush.metrics import Metrics
from mqttpush.rest.app import Application

DATE_EVERY_S: Final = 1.0
# The parser takes 64 KiB of a path and query; as much again is for headers.
HEAD_LIMIT_BYTES: Final = 131_072
_TOO_LARGE_A_HEAD: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class _BoundedProtocol(HttpToolsProtocol):
    """A connection whose request heads have an end, and whose client takes its answers.

    The parser keeps a head, and copies it as it grows. What comes with the piece in which a head
    begins is not counted; that is one read at most. A client that takes no byte of what waits for
    it is aborted after `write_timeout_s`: closing would wait for it for ever.
    """

    def __init__(self, *given: Any, write_timeout_s: float, metrics: Metrics, **more: Any) -> None:
        super().__init__(*given, **more)
        self._is_in_head = False
        self._head_bytes = 0
        self._write_timeout_s = write_timeout_s
        self._metrics = metrics
        self._stall: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._unwatch()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self, waiting_bytes: int) -> None:
        self._unwatch()
        self._stall = self.loop.call_later(self._write_timeout_s, self._look, waiting_bytes)

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _look(self, waiting_bytes: int) -> None:
        now_bytes = self.transport.get_write_buffer_size()
        if now_bytes < waiting_bytes:
            self._watch(now_bytes)
            return
        self._metrics.limits_reached.add("http.write_timeout_s")
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self.transport.write(_TOO_LARGE_A_HEAD)
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to us and says when it is open."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_open = asyncio.Event()
        self._is_ending = asyncio.Event()

    def end(self) -> None:
        """Stop serving: what is under way is finished first."""
        self.should_exit = True
        self._is_ending.set()

    async def main_loop(self) -> None:
        """Look once a second (for the Date header), where uvicorn does ten times: idle is idle."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(DATE_EVERY_S):
                    await self._is_ending.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_open.set()

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
        metrics: Metrics,
    ) -> None:
        self.address: tuple[str, int] = sockets[0].getsockname()[:2]
        self._sockets = sockets
        self._server = _Uvicorn(
            uvicorn.Config(
                application,
                http=cast(
                    "type[asyncio.Protocol]",
                    partial(
                        _BoundedProtocol,
                        write_timeout_s=settings.http.write_timeout_s,
                        metrics=metrics,
                    ),
                ),
                ws="none",
                lifespan="off",
                loop="none",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=settings.http.max_connections,
                timeout_keep_alive=settings.http.keep_alive_s,
                timeout_graceful_shutdown=max(1, int(settings.shutdown.timeout_s / 2)),
            )
        )
        self._task: asyncio.Task[None] | None = None

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
