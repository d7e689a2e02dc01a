"""The REST API's listener: uvicorn inside our loop, on sockets of ours.

Owns the sockets, and starting and stopping uvicorn without its signal handling. Knows no route.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvicorn

from mqttpush.config import Settings
from mqttpush.errors import ConfigError
from mqttpush.rest.app import Application

DATE_EVERY_S: Final = 1.0


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
        self, application: Application, settings: Settings, sockets: list[socket.socket]
    ) -> None:
        self.address: tuple[str, int] = sockets[0].getsockname()[:2]
        self._sockets = sockets
        self._server = _Uvicorn(
            uvicorn.Config(
                application,
                http="httptools",
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

    async def stop(self) -> None:
        self._server.end()
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
