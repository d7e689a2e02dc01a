"""Hooks in Python: functions of modules that the operator has named, or of entry points.

Owns finding the function, running it within its time and telling how it failed. Knows no request of
any dialect. Such code is trusted: it runs in this process, so the limits are against mistakes. The
one idea: an `async` function is awaited in the server's loop, a plain one runs in a thread, and
both are given the same objects.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Final

import orjson

from mqttpush.config import HookSettings
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Host, Result
from mqttpush.hooks.surface import Ask, Logger, Modules, Request, Response
from mqttpush.hooks.threads import Threads
from mqttpush.models import Json

GROUP: Final = "mqttpush.hooks"
_ENTRY_POINT: Final = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<function>[A-Za-z_]\w*)")
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*")

Function = Callable[..., Any]


class PythonRunner:
    """`Runner` for functions of this process."""

    def __init__(self, settings: HookSettings, *, threads: Threads) -> None:
        self._settings = settings
        self._threads = threads
        self._functions: dict[str, Function] = {}

    async def check(self, code: Code) -> None:
        """Raises HookFailed for a function that is not there or not allowed."""
        await self._load(code.entry_point)

    async def run(self, code: Code, call: Call, host: Host) -> Result:
        function = self._functions.get(code.entry_point) or await self._load(code.entry_point)
        run = _Run(function, call, host, self._settings)
        try:
            async with asyncio.timeout(call.wall_limit_s):
                if inspect.iscoroutinefunction(function):
                    await run.awaited()
                elif self._threads.is_exhausted:
                    raise run.failed(FailureKind.INTERNAL, "too many runs never ended")
                else:
                    await self._threads.run(run.blocking)
        except TimeoutError as exc:
            problem = f"not done after {call.wall_limit_s:g} s"
            raise run.failed(FailureKind.TIMEOUT, problem) from exc
        finally:
            run.is_over = True
        return run.result()

    async def close(self) -> None:
        self._threads.close()

    async def _load(self, entry_point: str) -> Function:
        """In a thread: a module may take its time."""
        try:
            async with asyncio.timeout(self._settings.wall_limit_s):
                function: Function = await self._threads.run(partial(self._find, entry_point))
        except TimeoutError as exc:
            problem = f"{entry_point} could not be imported in time"
            raise HookFailed(FailureKind.SYNTAX, problem) from exc
        self._functions[entry_point] = function
        return function

    def _find(self, entry_point: str) -> Function:
        try:
            function = self._import(entry_point)
        except HookFailed:
            raise
        except Exception as exc:
            problem = f"{entry_point} cannot be imported: {type(exc).__name__}: {exc}"
            if isinstance(exc, ModuleNotFoundError) and exc.name == entry_point.partition(":")[0]:
                problem += " (hooks.python_folders says where to look)"
            raise HookFailed(FailureKind.SYNTAX, problem) from exc
        if not callable(function):
            raise HookFailed(FailureKind.SYNTAX, f"{entry_point} is not a function")
        found: Function = function
        return found

    def _import(self, entry_point: str) -> Any:
        match = _ENTRY_POINT.fullmatch(entry_point)
        if match is None:
            found = tuple(entry_points(group=GROUP, name=entry_point))
            if _NAME.fullmatch(entry_point) and found:
                return found[0].load()  # who installed the package has allowed it
            raise HookFailed(
                FailureKind.SYNTAX,
                f"{entry_point!r} is neither package.module:function nor an entry point of {GROUP}",
            )
        self._refuse_others(match["module"], entry_point)
        for folder in self._settings.python_folders:
            path = str(Path(folder).resolve())
            if path not in sys.path:  # at the end: nothing of ours can be taken for it
                sys.path.append(path)
        function = getattr(importlib.import_module(match["module"]), match["function"])
        # What a module has only imported is not its own to offer.
        self._refuse_others(getattr(function, "__module__", ""), entry_point)
        return function

    def _refuse_others(self, module: str, entry_point: str) -> None:
        allowed = self._settings.python_modules
        if not any(module == each or module.startswith(f"{each}.") for each in allowed):
            raise HookFailed(
                FailureKind.SYNTAX,
                f"{entry_point}: hooks.python_modules does not name the module {module}",
            )


class _Run:
    """One run: what the function is given, and what it leaves."""

    def __init__(self, function: Function, call: Call, host: Host, settings: HookSettings) -> None:
        self._function = function
        self._call = call
        self._host = host
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._logger = Logger(settings.max_log_bytes)
        self._request = Request(call.request)
        self._response = Response(call.response)
        self._modules: Modules | None = None
        self._asked_count = 0
        self._returned: Any = None
        self.is_over = False

    async def awaited(self) -> None:
        """Run an `async` function."""
        try:
            self._returned = await self._function(*self._arguments(self._ask))
        except HookFailed:
            raise
        except (Exception, SystemExit) as exc:
            raise self._explained(exc) from exc

    def blocking(self) -> None:
        """Run a plain function, in a thread of its own."""
        try:
            self._returned = self._function(*self._arguments(self._ask_and_wait))
        except HookFailed:
            raise
        except (Exception, SystemExit) as exc:
            raise self._explained(exc) from exc

    def result(self) -> Result:
        """What came of it; raises HookFailed for `response.error` and for what is no JSON."""
        response, request = self._response, self._request
        if response.problem is not None:
            raise self.failed(FailureKind.RUNTIME, f"UserDefinedError: {response.problem}")
        is_final = response.is_complete
        if self._call.hook_type in ("customEndpoint", "serverCode"):
            is_final = True
            if self._returned is not None or self._call.hook_type == "serverCode":
                response.body = self._returned
        left = {
            "body": request.body,
            "params": request.params,
            "tempObjectStore": self._modules.temp if self._modules else {},
            "customRequestProperties": self._custom_properties(),
        }
        answer = {"status": response.status, "headers": response.headers, "body": response.body}
        self._check_size(left, answer)
        return Result(is_final, {**self._call.request, **left}, answer, tuple(self._logger.lines))

    def failed(self, kind: FailureKind, debug: str) -> HookFailed:
        return HookFailed(kind, debug, log=tuple(self._logger.lines))

    def _arguments(self, ask: Ask) -> tuple[Any, ...]:
        call = self._call
        self._modules = Modules(call.request, dict(call.app), ask, self._logger)
        if call.hook_type == "serverCode":
            return call.request.get("body"), self._modules
        return self._request, self._response, self._modules

    def _custom_properties(self) -> Json:
        return self._modules.request_context.custom_properties if self._modules else {}

    async def _ask(self, module: str, function: str, arguments: list[Any]) -> Any:
        if self.is_over:
            raise self.failed(FailureKind.TIMEOUT, "the run is over")
        self._asked_count += 1
        if self._asked_count > self._settings.max_module_calls:
            problem = f"more than {self._settings.max_module_calls} module calls"
            raise self.failed(FailureKind.VIOLATION, problem)
        return await self._host.ask(self._call, module, function, arguments)

    def _ask_and_wait(self, module: str, function: str, arguments: list[Any]) -> Any:
        asking = self._ask(module, function, arguments)
        return asyncio.run_coroutine_threadsafe(asking, self._loop).result()

    def _check_size(self, *values: object) -> None:
        try:
            size_bytes = sum(len(orjson.dumps(value)) for value in values)
        except (orjson.JSONEncodeError, TypeError) as exc:
            raise self.failed(FailureKind.RUNTIME, f"the result is not JSON: {exc}") from exc
        if size_bytes > self._settings.max_result_bytes:
            problem = f"the result has {size_bytes} bytes (hooks.max_result_bytes)"
            raise self.failed(FailureKind.VIOLATION, problem)

    def _explained(self, error: BaseException) -> HookFailed:
        """The error with the line of the hook's own code, without its folder."""
        place = _last_place(error.__traceback__, self._function)
        return self.failed(FailureKind.RUNTIME, f"{type(error).__name__}: {error}{place}")


def _last_place(traceback: TracebackType | None, function: Function) -> str:
    """` (hooks.py, line 7)`: the deepest frame in the function's own file."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    place = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == file:
            place = f" ({PurePath(code.co_filename).name}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return place
