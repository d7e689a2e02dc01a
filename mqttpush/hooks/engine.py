"""The engine: runs code of any language within what one app may use of the server.

Owns how many runs of an app there are at once and how many wait, the depth of runs inside runs,
counting and the log. Knows no dialect and no store. The one idea: an app's runs queue behind its
own, so one app's hooks cannot starve another's.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from mqttpush.config import HookSettings
from mqttpush.errors import LimitReached
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Host, Language, Result, Runner
from mqttpush.metrics import Metrics
from mqttpush.server_code import LogLine

DEPTH_LIMIT: Final = 5  # spec kinvey 11
_MINUTE_S: Final = 60.0
_SOURCES_LIMIT: Final = 10_000
# Of the log of one run: a line costs a row, however short it is.
LINES_LIMIT: Final = 1000
LINE_LIMIT_CHARACTERS: Final = 8192

Said = Sequence[tuple[str, str]]


@dataclass(slots=True)
class _Share:
    """What one app uses now."""

    running: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Engine:
    """All runners. on_log: takes what a run said; it must not block. now_ms: the wall clock."""

    def __init__(
        self,
        *,
        runners: Mapping[Language, Runner],
        settings: HookSettings,
        metrics: Metrics,
        now_ms: Callable[[], int],
        on_log: Callable[[list[LogLine]], None],
    ) -> None:
        self._runners = runners
        self._settings = settings
        self._metrics = metrics
        self._now_ms = now_ms
        self._on_log = on_log
        self._share_by_app: dict[str, _Share] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_ending = False
        self._nested_by_source: dict[tuple[str, str], tuple[float, int]] = {}

    async def check(self, code: Code) -> None:
        """Raises HookFailed for code that could never run."""
        await self._runner(code).check(code)

    def wall_limit_s(self, language: Language) -> float:
        """How long a run may take."""
        settings = self._settings
        return settings.service_limit_s if language is Language.FLEX else settings.wall_limit_s

    async def run(self, code: Code, call: Call, host: Host) -> Result:
        """Run it when it is the app's turn.

        Raises HookFailed, LimitReached when too many runs of the app wait. What the code said and
        how it failed goes to the log.
        """
        started = time.monotonic()
        outcome = "stopped"
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self._guard_loops(call)
            self._refuse_while_ending()
            # A run inside a run has its turn already; were it to wait for one, both might for ever.
            with nullcontext() if call.depth else await self._turn(call.app_id):
                result = await self._runner(code).run(code, call, host)
            outcome = "ok"
        except HookFailed as exc:
            outcome = exc.kind.value
            failure = ("error", str(exc))
            self._log(code, call, (*exc.log, failure))
            raise
        except LimitReached:
            outcome = "refused"
            raise
        except asyncio.CancelledError:
            if not self._is_ending or task.uncancel():
                raise
            failed = HookFailed(FailureKind.INTERNAL, "the server is stopping")
            self._log(code, call, [("error", str(failed))])
            raise failed from None
        finally:
            self._tasks.discard(task)
            self._metrics.hook_runs.add(code.language.value, outcome)
            self._metrics.hook_latency.observe(time.monotonic() - started)
        if result.log:
            self._log(code, call, result.log)
        return result

    def end(self) -> None:
        """The server stops: what runs now fails, so that who waits for it gets an answer."""
        self._is_ending = True
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        for runner in self._runners.values():
            await runner.close()

    def say(self, app_id: str, request_id: str, place: str, message: str) -> None:
        """Put a line of the server's own into the app's log."""
        line = LogLine(app_id, request_id, self._now_ms(), place, "", "error", message)
        self._on_log([line])

    def _refuse_while_ending(self) -> None:
        if self._is_ending:
            raise HookFailed(FailureKind.INTERNAL, "the server is stopping")

    def _guard_loops(self, call: Call) -> None:
        """Raises HookFailed for a run that runs have caused too often (spec kinvey 8.8)."""
        if call.depth > DEPTH_LIMIT:
            self._metrics.limits_reached.add("hooks.nesting")
            problem = f"loop guard: {call.depth} runs led to this one, {DEPTH_LIMIT} are allowed"
            raise HookFailed(FailureKind.VIOLATION, problem)
        if call.depth and not self._count_nested((call.app_id, call.object_name)):
            self._metrics.limits_reached.add("hooks.max_nested_runs_per_minute")
            limit = self._settings.max_nested_runs_per_minute
            problem = f"loop guard: runs caused more than {limit} runs of {call.object_name}"
            problem = f"{problem} within a minute"
            raise HookFailed(FailureKind.VIOLATION, problem, retryable=True)

    def _count_nested(self, source: tuple[str, str]) -> bool:
        """One more; False over the rate."""
        now = time.monotonic()
        until, count = self._nested_by_source.pop(source, (0.0, 0))
        if now >= until:
            until, count = now + _MINUTE_S, 0
        self._nested_by_source[source] = (until, count + 1)
        if len(self._nested_by_source) > _SOURCES_LIMIT:
            del self._nested_by_source[next(iter(self._nested_by_source))]
        return count < self._settings.max_nested_runs_per_minute

    async def _turn(self, app_id: str) -> AbstractContextManager[None]:
        share = self._share_by_app.setdefault(app_id, _Share())
        if share.running >= self._settings.max_runs_per_app:
            if len(share.waiting) >= self._settings.max_waiting_runs_per_app:
                raise LimitReached("hooks.max_waiting_runs_per_app", retry_after_s=1)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            share.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._release(app_id)  # it was given the turn as it went
                elif turn in share.waiting:
                    share.waiting.remove(turn)
                raise
        else:
            share.running += 1
        return self._held(app_id)

    @contextmanager
    def _held(self, app_id: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._release(app_id)

    def _release(self, app_id: str) -> None:
        """Hand the turn to the next that waits, or give it back."""
        share = self._share_by_app[app_id]
        while share.waiting:
            turn = share.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        share.running -= 1
        if not share.running:
            del self._share_by_app[app_id]

    def _runner(self, code: Code) -> Runner:
        return self._runners[code.language]

    def _log(self, code: Code, call: Call, said: Said) -> None:
        if len(said) > LINES_LIMIT:
            self._metrics.limits_reached.add("hooks.log_lines")
        self._on_log(lines_of(call, code.function, said, self._now_ms()))


def lines_of(call: Call, function: str, said: Said, now_ms: int) -> list[LogLine]:
    """What a run said, as lines of its app's log; of too many the last, how it failed, is kept."""
    own = (call.app_id, call.request_id, now_ms, call.object_name, function)
    if len(said) > LINES_LIMIT:
        note = ("warn", f"{len(said) - LINES_LIMIT + 1} lines are left out here")
        said = [*said[: LINES_LIMIT - 2], note, said[-1]]
    return [LogLine(*own, level, message[:LINE_LIMIT_CHARACTERS]) for level, message in said]
