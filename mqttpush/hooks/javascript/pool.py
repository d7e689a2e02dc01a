"""The pool: a few workers, shared fairly by the apps.

Owns which app's run gets the next free worker; knows no script. The one idea: apps that wait take
turns, and while there are several workers no app has all of them, so a script that eats its whole
time delays the runs of its own app only.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from mqttpush.config import HookSettings
from mqttpush.hooks import FailureKind, HookFailed
from mqttpush.hooks.javascript.process import Worker

# Runs of one app that wait; more mean that its scripts cannot keep up, and waiting would not help.
MAX_WAITING = 1000


class Pool:
    """At most `script_workers` of them, started when they are needed and kept."""

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        self._free = settings.script_workers
        self._app_limit = max(1, settings.script_workers - 1)
        self._idle: deque[Worker] = deque()  # the next to run has had most time to prepare
        self._all: set[Worker] = set()
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of turns
        self._is_closed = False

    async def acquire(self, app_id: str) -> Worker:
        """Wait for a turn. The caller owns the worker until `release`.

        Raises HookFailed when the app has too many runs waiting, or no worker comes up.
        """
        if self._is_closed:
            raise HookFailed(FailureKind.INTERNAL, "the server is stopping")
        if self._free and self._running[app_id] < self._app_limit:
            self._take(app_id)
        else:
            await self._turn(app_id)
        try:
            return await self._worker()
        except BaseException:
            self._give_back(app_id)
            raise

    async def release(self, app_id: str, worker: Worker, *, is_fit: bool) -> None:
        """Hand a worker back; one that is not fit for another run ends here."""
        try:
            if is_fit and worker.is_alive and not self._is_closed:
                self._idle.append(worker)
            else:
                await self._end(worker)
        finally:
            self._give_back(app_id)

    async def close(self) -> None:
        """End every worker, busy ones too; their runs fail."""
        self._is_closed = True
        await asyncio.gather(*(self._end(worker) for worker in tuple(self._all)))

    async def _worker(self) -> Worker:
        while self._idle:
            worker = self._idle.popleft()
            if worker.is_alive:
                return worker
            await self._end(worker)
        worker = Worker(self._settings)
        self._all.add(worker)
        try:
            await worker.start()
        except BaseException:
            await self._end(worker)
            raise
        return worker

    async def _end(self, worker: Worker) -> None:
        await worker.kill()  # cancelled here, it is still one for `close` to end
        self._all.discard(worker)

    async def _turn(self, app_id: str) -> None:
        waiting = self._waiting.setdefault(app_id, deque())
        if len(waiting) >= MAX_WAITING:
            raise HookFailed(FailureKind.TIMEOUT, f"{MAX_WAITING} runs of this app are waiting")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(app_id)  # the turn had come already
            raise

    def _take(self, app_id: str) -> None:
        self._free -= 1
        self._running[app_id] += 1

    def _give_back(self, app_id: str) -> None:
        self._free += 1
        self._running[app_id] -= 1
        if not self._running[app_id]:
            del self._running[app_id]
        self._let_next()

    def _let_next(self) -> None:
        """Give free places to the apps that wait, in turns."""
        while self._free and (app_id := self._next_app()) is not None:
            waiting = self._waiting.pop(app_id)
            turn = waiting.popleft()
            if waiting:
                self._waiting[app_id] = waiting  # at the end: the others come first
            if not turn.done():  # else it was cancelled
                self._take(app_id)
                turn.set_result(None)

    def _next_app(self) -> str | None:
        return next((a for a in self._waiting if self._running[a] < self._app_limit), None)
