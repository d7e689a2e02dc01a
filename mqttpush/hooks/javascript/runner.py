"""JavaScript: scripts run by quickjs-ng in worker processes, behind the interface of all runners.

Owns one run from the server's side: what goes to the worker, what its script asks of the host, when
it is over and how. Knows no engine (`worker.py`) and no server. The one idea: a run answers as soon
as its script completed the request; what it asked for until then is carried out all the same, and
the worker stays with it until nothing is outstanding or its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import orjson

from mqttpush.config import HookSettings
from mqttpush.hooks import (
    Call,
    Code,
    FailureKind,
    FunctionMissing,
    HookFailed,
    Host,
    HostRefused,
    Result,
)
from mqttpush.hooks.javascript.pool import Pool
from mqttpush.hooks.javascript.process import Worker
from mqttpush.models import Json

Log = Sequence[tuple[str, str]]
LateLog = Callable[[Code, Call, Log], None]

CHECK_LIMIT_S = 5.0
CHECKS = ""  # stands for an app in the pool
# Module calls of one run under way at once: enough to fill a commit, few enough not to crowd out.
CALLS_AT_ONCE = 16
# JSON of module calls that wait; the worker may hold back 8 MiB more.
MAX_WAITING_BYTES = 16 * 1024 * 1024
# What a callback may be answered; the script's memory holds it several times.
MAX_ANSWER_BYTES = 16 * 1024 * 1024
# Module calls still under way when their run is over have this long.
LAST_CALLS_S = 5.0
MAX_DEPTH = 64
NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)

_log = logging.getLogger(__name__)


class _Failure(NamedTuple):
    """How a worker says a run failed.

    is_fatal: it ends now. is_missing: the script lacks the function. output: what the script left.
    """

    kind: FailureKind
    debug: str
    is_fatal: bool
    is_missing: bool
    output: bytes

    @classmethod
    def read(cls, payload: bytes) -> _Failure:
        head, _, output = payload.partition(b"\n")
        kind, debug, is_fatal, is_missing = orjson.loads(head)
        return cls(FailureKind(kind), debug, is_fatal, is_missing, output)

    def told(self, function: str) -> HookFailed:
        if self.is_missing:
            problem = f"ReferenceError: the script defines no function {function}"
            return FunctionMissing(self.kind, problem)
        return HookFailed(self.kind, self.debug)


class JavaScriptRunner:
    """`Runner` of scripts. Close it before the loop ends.

    on_late_log: told what a script logs, and how it fails, after its request was answered.
    """

    def __init__(self, settings: HookSettings, *, on_late_log: LateLog | None = None) -> None:
        self._settings = settings
        self._pool = Pool(settings)
        self._on_late_log = on_late_log
        self._runs: set[asyncio.Task[None]] = set()

    async def check(self, code: Code) -> None:
        _require_engine()
        name = code.function
        if name and not NAME.fullmatch(name):
            raise HookFailed(FailureKind.SYNTAX, f"{name!r} is no name of a function")
        worker, is_fit = None, False
        try:
            async with asyncio.timeout(CHECK_LIMIT_S):
                worker = await self._pool.acquire(CHECKS)
                worker.send("C", f"{name}\n{code.source}".encode())
                kind, payload = await worker.receive()
            failed = _Failure.read(payload) if kind == "F" else None
            is_fit = failed is None or not failed.is_fatal
        except TimeoutError:
            raise HookFailed(FailureKind.TIMEOUT, "the check took too long") from None
        finally:
            if worker is not None:
                await self._pool.release(CHECKS, worker, is_fit=is_fit)
        if failed is not None:
            raise HookFailed(failed.kind, failed.debug)

    async def run(self, code: Code, call: Call, host: Host) -> Result:
        _require_engine()
        if not NAME.fullmatch(code.function):
            problem = f"{code.function!r} is no name of a function"
            raise FunctionMissing(FailureKind.SYNTAX, problem)
        run = _Run(code, call, host, self._settings, self._on_late_log)
        task = asyncio.create_task(run.through(self._pool), name=f"hook {call.request_id}")
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        try:
            return await run.outcome
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def settle(self) -> None:
        """Wait until no run is under way, those that were answered included."""
        await asyncio.gather(*self._runs, return_exceptions=True)

    async def close(self) -> None:
        for task in tuple(self._runs):
            if not task.cancelling():  # else it is ending its worker
                task.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)
        await self._pool.close()


class _Run:
    """One call of one script."""

    def __init__(
        self,
        code: Code,
        call: Call,
        host: Host,
        settings: HookSettings,
        on_late_log: LateLog | None,
    ) -> None:
        self._code = code
        self._call = call
        self._host = host
        self._settings = settings
        self._on_late_log = on_late_log
        self.outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._worker: Worker | None = None
        self._log: list[tuple[str, str]] = []
        self._log_room = settings.max_log_bytes
        self._calls = 0
        self._asked: deque[tuple[int, str, str, list[Any]]] = deque()
        self._asked_bytes = 0
        self._askers: set[asyncio.Task[None]] = set()

    async def through(self, pool: Pool) -> None:
        """From the wait for a worker to the last answer; never raises but CancelledError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._call.wall_limit_s
        is_fit = False
        try:
            async with asyncio.timeout_at(deadline):
                self._worker = await pool.acquire(self._call.app_id)
                is_fit = await self._converse(self._worker)
        except HookFailed as failure:
            self._fail(failure)
        except TimeoutError:
            limit = f"{self._call.wall_limit_s:g} s"
            self._fail(HookFailed(FailureKind.TIMEOUT, f"not completed within {limit}"))
        except asyncio.CancelledError:
            self._fail(HookFailed(FailureKind.INTERNAL, "the run was stopped"))
            self._stop_asking()
            raise
        except Exception:
            _log.exception("a script's run failed in the server: %s", self._call.request_id)
            self._fail(HookFailed(FailureKind.INTERNAL, "the runner failed"))
        finally:
            worker, self._worker = self._worker, None
            if worker is not None:
                await pool.release(self._call.app_id, worker, is_fit=is_fit)
        await self._finish_asking()

    async def _converse(self, worker: Worker) -> bool:
        """Until the script has ended; says whether the worker can be used again."""
        source = self._code.source.encode()
        worker.send("R", len(source).to_bytes(4, "big"), source, self._start_text())
        while True:
            kind, payload = await worker.receive()
            if kind == "F":
                failed = _Failure.read(payload)
                # What an exception ended had begun; what broke a limit has lost its say.
                self._take(failed.output, is_asking=failed.kind is FailureKind.RUNTIME)
                self._fail(failed.told(self._code.function))
                return not failed.is_fatal
            self._take(payload)
            if kind == "E":
                if not self.outcome.done():
                    text = "the script ended without completing the request"
                    self._fail(HookFailed(FailureKind.TIMEOUT, text))
                self._tell_late()
                return True
            self._tell_late()

    def _start_text(self) -> bytes:
        call, settings = self._call, self._settings
        return orjson.dumps(
            {
                "hookType": call.hook_type,
                "function": self._code.function,
                "objectName": call.object_name,
                "appId": call.app_id,
                "request": call.request,
                "response": call.response,
                "app": dict(call.app),
                "seed": secrets.token_hex(5),
                "limits": {
                    "asks": settings.max_module_calls,
                    "askSize": MAX_WAITING_BYTES // 2,
                    "log": settings.max_log_bytes,
                    "body": settings.max_result_bytes,
                },
            },
            default=str,
        )

    def _take(self, output: bytes, *, is_asking: bool = True) -> None:
        """What the script said, asked for and answered since the last frame.

        Nothing of it is believed. Raises HookFailed (VIOLATION) for what our own scripts in the
        worker never send.
        """
        if not output:
            return
        try:
            parsed = orjson.loads(output)
        except orjson.JSONDecodeError:
            raise HookFailed(FailureKind.VIOLATION, "an answer that is no JSON") from None
        for level, message in parsed["log"]:
            self._write(str(level), str(message))
        if is_asking and parsed["asks"]:
            self._asked_bytes = len(output) + (self._asked_bytes if self._asked else 0)
            if self._asked_bytes > MAX_WAITING_BYTES:
                raise HookFailed(FailureKind.VIOLATION, "module calls with too much in them")
            for ask_id, module, function, arguments in parsed["asks"]:
                self._ask(ask_id, module, function, arguments)
        if parsed["done"] is not None and not self.outcome.done():
            self._complete(parsed["done"])

    def _write(self, level: str, message: str) -> None:
        self._log_room -= len(message)
        if self._log_room > -len(message):
            self._log.append((level, message))

    def _complete(self, done: Json) -> None:
        if "error" in done:
            self._fail(HookFailed(FailureKind.RUNTIME, done["error"]))
            return
        if _is_deeper(done, MAX_DEPTH):
            text = f"an answer nested deeper than {MAX_DEPTH}"
            raise HookFailed(FailureKind.VIOLATION, text)
        response = {
            "status": done.get("status", 200),
            "headers": done.get("headers") or {},
            "body": done.get("body"),
        }
        request = {**self._call.request, **(done.get("request") or {})}
        log, self._log = tuple(self._log), []
        self.outcome.set_result(Result(bool(done["final"]), request, response, log))

    def _fail(self, failure: HookFailed) -> None:
        if failure.kind is not FailureKind.RUNTIME:
            self._asked.clear()
        if self.outcome.cancelled():
            return
        if self.outcome.done():
            self._log.append(("error", str(failure)))
            self._tell_late()
            return
        failure.log = tuple(self._log)
        self._log = []
        self.outcome.set_exception(failure)

    def _tell_late(self) -> None:
        if self._log and self.outcome.done():
            log, self._log = tuple(self._log), []
            if self._on_late_log is not None:
                self._on_late_log(self._code, self._call, log)

    # What the script asks of the host.

    def _ask(self, ask_id: int, module: str, function: str, arguments: list[Any]) -> None:
        self._calls += 1
        if self._calls > self._settings.max_module_calls:
            text = f"more than {self._settings.max_module_calls} module calls"
            raise HookFailed(FailureKind.VIOLATION, text)
        self._asked.append((ask_id, module, function, arguments))
        if len(self._askers) < CALLS_AT_ONCE:
            asker = asyncio.create_task(self._answer(), name=f"hook call {self._call.request_id}")
            self._askers.add(asker)
            asker.add_done_callback(self._askers.discard)

    async def _answer(self) -> None:
        """Answer what was asked, one after the other, until nothing waits."""
        while self._asked:
            ask_id, module, function, arguments = self._asked.popleft()
            answer = await self._answer_to(module, function, arguments)
            reply = orjson.dumps([ask_id, *answer], default=str)
            if len(reply) > MAX_ANSWER_BYTES:
                reply = orjson.dumps([ask_id, _refusal("ResultSetSizeExceeded", "too much"), None])
            if self._worker is not None:
                self._worker.send("A", reply)
                await self._worker.drained()

    async def _answer_to(self, module: str, function: str, arguments: list[Any]) -> list[Any]:
        try:
            return [None, await self._host.ask(self._call, module, function, arguments)]
        except HostRefused as refused:
            return [_refusal(refused.error, refused.description, refused.debug), None]
        except Exception:
            _log.exception("a script's call of %s failed in the server", module)
            return [_refusal("KinveyInternalErrorRetry", "the server failed"), None]

    async def _finish_asking(self) -> None:
        if self._askers:
            await asyncio.wait(tuple(self._askers), timeout=LAST_CALLS_S)
        self._stop_asking()

    def _stop_asking(self) -> None:
        self._asked.clear()
        for asker in self._askers:
            asker.cancel()


def _refusal(error: str, description: str, debug: str = "") -> Json:
    return {"error": error, "description": description, "debug": debug}


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _require_engine() -> None:
    with contextlib.suppress(ImportError):
        if find_spec("_quickjs") is not None:
            return
    text = "JavaScript is not installed: pip install 'mqttpush[javascript]'"
    raise HookFailed(FailureKind.INTERNAL, text)
