"""Threads for code that blocks: each run in a thread that nobody has to wait for.

Owns a few daemon threads and the queue between them and the event loop. Knows no hook. The one
idea: a thread cannot be killed, so one that overruns is left alone, does no harm at the end of the
process, and another takes its place, until too many are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

# Each has a stack and holds a module's locks, perhaps; an operator should look at the log by then.
LOST_LIMIT: Final = 32

_Work = tuple[Callable[[], Any], asyncio.Future[Any]]


class Threads:
    """Runs functions beside the event loop, at most `limit` at once and then as they come."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._started_count = 0
        self._idle_count = 0
        self._lost_count = 0

    @property
    def is_exhausted(self) -> bool:
        """So many runs never ended that no other may be tried."""
        return self._lost_count >= LOST_LIMIT

    async def run(self, function: Callable[[], Any]) -> Any:
        """The result of `function`. Cancelling leaves the thread to itself."""
        if not self._idle_count and self._started_count - self._lost_count < self._limit:
            self._started_count += 1
            self._idle_count += 1
            threading.Thread(target=self._serve, name="hook", daemon=True).start()
        self._idle_count -= 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put((function, future))
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            self._lost_count += 1
            future.add_done_callback(self._found)
            raise
        self._idle_count += 1
        return future.result()

    def close(self) -> None:
        """Idle threads end; the others when they have done."""
        for _ in range(self._started_count):
            self._queue.put(None)

    def _found(self, future: asyncio.Future[Any]) -> None:
        self._lost_count -= 1
        self._idle_count += 1
        future.exception()  # nobody asks any more

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            function, future = work
            loop = future.get_loop()
            try:
                result = function()
            except BaseException as exc:  # SystemExit too: it is the hook's, not ours
                answer, value = future.set_exception, _storable(exc)
            else:
                answer, value = future.set_result, result
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(answer, value)


def _storable(error: BaseException) -> BaseException:
    """A future takes no StopIteration, and hands a SystemExit to everybody who waits."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
