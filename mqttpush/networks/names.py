"""Names: the system's resolver, asked in a few threads of its own.

Owns those threads. Knows no push service. The one idea: the resolver blocks, and whoever owns a
name says for how long; so strangers' names get a few threads that nothing else needs and nobody
waits for at the end of the process, and a name that is still asked for is not asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

# Blocks until it has the addresses of a host name. Raises OSError or UnicodeError.
Ask = Callable[[str, int], list[str]]

# A few push services need one look-up a minute each; a thread is there only while it asks.
THREADS: Final = 8


def ask_system(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system's resolver gives them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class _LookUp:
    """A name that a thread asks for. found: set without an answer too; then `error` says why."""

    __slots__ = ("addresses", "error", "found")

    def __init__(self) -> None:
        self.found = asyncio.Event()
        self.addresses: list[str] = []
        self.error: Exception | None = None


class Names:
    """Names to addresses, at most `threads` at once and then as they come."""

    def __init__(self, *, ask: Ask = ask_system, threads: int = THREADS) -> None:
        self._ask = ask
        self._room = asyncio.Semaphore(threads)
        self._under_way: dict[tuple[str, int], _LookUp] = {}

    async def find(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name. Cancelling leaves a thread that asks to itself.

        The time limit is the caller's; it holds for the wait for a thread too.
        """
        look_up = self._under_way.get((host, port))
        if look_up is None:
            await self._room.acquire()
            look_up = self._under_way.get((host, port))
            if look_up is None:
                look_up = self._begin(host, port)
            else:
                self._room.release()
        await look_up.found.wait()
        if look_up.error is not None:
            raise look_up.error
        return look_up.addresses

    def _begin(self, host: str, port: int) -> _LookUp:
        look_up = _LookUp()
        loop = asyncio.get_running_loop()

        def serve() -> None:
            try:
                look_up.addresses = self._ask(host, port)
            except Exception as exc:
                look_up.error = exc
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._ended, host, port, look_up)

        try:
            threading.Thread(target=serve, name="names", daemon=True).start()
        except RuntimeError as exc:
            self._room.release()
            raise OSError(f"no thread to ask: {exc}") from exc
        self._under_way[host, port] = look_up
        return look_up

    def _ended(self, host: str, port: int, look_up: _LookUp) -> None:
        del self._under_way[host, port]
        self._room.release()
        look_up.found.set()
