"""Threads for code that blocks: each run in a thread that nobody has to wait for.

Owns a few daemon threads and the queue between them and the event loop. Knows no hook. The one
idea: a thread cannot be killed, so one that overruns is left alone, does no harm at the end of the
process, and another takes its place, until too many are lost. All counting is the event loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

# Each has a stack and holds a module's locks, perhaps; an operator should look at the log by then.
LOST_LIMIT: Final = 32


class _Work:
    """A function on its way through a thread. is_lost: nobody waits for it any more."""

    __slots__ = ("function", "future", "is_lost")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_lost = False


class Threads:
    """Runs functions beside the event loop, at most `limit` at once and then as they come."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._waiting: deque[_Work] = deque()
        self._running_count = 0  # without the lost
        self._idle_count = 0
        self._lost_count = 0

    @property
    def is_exhausted(self) -> bool:
        """So many runs never ended that no other may be tried."""
        return self._lost_count >= LOST_LIMIT

    async def run(self, function: Callable[[], Any]) -> Any:
        """The result of `function`. Cancelling leaves the thread to itself."""
        work = _Work(function)
        self._waiting.append(work)
        self._start()
        try:
            await asyncio.wait([work.future])
        except asyncio.CancelledError:
            if work in self._waiting:
                self._waiting.remove(work)
            elif not work.future.done():
                work.is_lost = True
                self._running_count -= 1
                self._lost_count += 1
                self._start()
            raise
        return work.future.result()

    def close(self) -> None:
        """Idle threads end; the others when they have done."""
        for _ in range(self._idle_count + self._running_count + self._lost_count):
            self._queue.put(None)

    def _start(self) -> None:
        """Hand what waits to threads, as many as there may be."""
        while self._waiting and self._running_count < self._limit:
            self._running_count += 1
            if self._idle_count:
                self._idle_count -= 1
            else:
                threading.Thread(target=self._serve, name="hook", daemon=True).start()
            self._queue.put(self._waiting.popleft())

    def _ended(self, work: _Work, result: Any, error: BaseException | None) -> None:
        if work.is_lost:
            self._lost_count -= 1
        else:
            self._running_count -= 1
        self._idle_count += 1
        if not work.is_lost and not work.future.done():
            if error is None:
                work.future.set_result(result)
            else:
                work.future.set_exception(error)
        self._start()

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            loop = work.future.get_loop()
            result, error = None, None
            try:
                result = work.function()
            except BaseException as exc:  # SystemExit too: it is the hook's, not ours
                error = _storable(exc)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._ended, work, result, error)


def _storable(error: BaseException) -> BaseException:
    """A future takes no StopIteration, and hands a SystemExit to everybody who waits."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
