"""Parking: sockets of silent clients, looked at by a timer instead of the event loop.

Owns the kernel's list of what silent clients have sent, and the timer that asks for it. Knows no
packet. The one idea: with 10,000 clients a lone ping comes every 5 ms, and waking up for it costs
ten times what answering it does. So the loop does not watch a client that has only pinged; many
times a second, all that sent something meanwhile are read together. Pushes to it go out as ever;
what it sends next, and its going, are seen up to one interval later.
"""

from __future__ import annotations

import asyncio
import os
import select
from contextlib import suppress
from typing import Final, Protocol

from mqttpush.config import MqttSettings

# The edge is kept while the socket is watched by the loop: it is told once it is parked.
_EVENTS: Final = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLET", 0)


class Parked(Protocol):
    """A socket that can be left alone."""

    def is_unwatched(self) -> bool:
        """Does the loop neither read it nor wait to write to it?"""
        ...

    def wake(self) -> None:
        """Let the loop watch it again; fine if it is closed or was not parked."""
        ...


class Parking:
    """What is parked of all listeners."""

    def __init__(self) -> None:
        self._interval_s = 0.0
        self._min_sockets = 0
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        # By file descriptor. A closed socket stays until its number is used again.
        self._parked: list[Parked | None] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loops_epoll: select.epoll | None = None
        self._newly_parked: list[tuple[int, Parked]] = []

    def apply(self, settings: MqttSettings) -> None:
        """Take new settings; they hold from the next look on."""
        self._interval_s = settings.idle_read_interval_ms / 1000
        self._min_sockets = settings.idle_read_from_connections

    def is_open(self, socket_count: int) -> bool:
        """Is parking worth it with so many sockets? Fewer ping too seldom to be worth a delay."""
        is_wanted = self._interval_s > 0 and socket_count >= self._min_sockets
        return is_wanted and self._epoll is not None

    def add(self, descriptor: int, parked: Parked, *, is_known: bool) -> None:
        """Look at it from here on. is_known: it has been parked before."""
        assert self._epoll is not None
        if not is_known:
            self._parked.extend([None] * (descriptor + 1 - len(self._parked)))
            self._parked[descriptor] = parked
            self._epoll.register(descriptor, _EVENTS)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval_s or 1.0, self._look, loop)
            self._loops_epoll = _epoll_of(loop)
        self._newly_parked.append((descriptor, parked))

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        for epoll in (self._epoll, self._loops_epoll):
            if epoll is not None:
                epoll.close()
        self._epoll = self._loops_epoll = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._epoll is not None
        self._timer = loop.call_later(self._interval_s or 1.0, self._look, loop)
        self._disarm()
        for descriptor, _ in self._epoll.poll(0):
            parked = self._parked[descriptor]
            if parked is not None:
                parked.wake()

    def _disarm(self) -> None:
        """libuv leaves a socket that it stopped reading in the kernel's list until that wakes it up
        once more, which is what parking is to spare. Only of one that it does not write to either:
        it would miss an entry that it believes to be there.
        """
        newly_parked, self._newly_parked = self._newly_parked, []
        if self._loops_epoll is None:
            return
        for descriptor, parked in newly_parked:
            if parked.is_unwatched():
                with suppress(OSError):  # it is gone from there already
                    self._loops_epoll.unregister(descriptor)


def _epoll_of(loop: asyncio.AbstractEventLoop) -> select.epoll | None:
    """libuv's own list of sockets, where uvloop tells it; closing ours leaves it open."""
    backend_id = getattr(loop, "_get_backend_id", None)
    return None if backend_id is None else select.epoll.fromfd(os.dup(backend_id()))
