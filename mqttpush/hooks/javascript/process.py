"""Worker processes seen from the server: start one, exchange frames with it, kill it.

Owns the process and its two pipes; knows no script, call or app. The one idea: what comes out of a
worker is input from a stranger, so a frame is bounded before it is read and parsed before it is
believed.

| frame | direction | text |
| --- | --- | --- |
| `U` | out | up: the first run may come |
| `R` | in | run: length of the script, the script, the call |
| `C` | in | check: function, line end, script |
| `O` | out | output: `{"asks", "log", "done"}` |
| `A` | in | answer: `[id, error, result]` |
| `E` | out | the end, with the last output |
| `F` | out | failure: `[kind, debug, is_fatal]`, line end, the last output |
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import orjson

from mqttpush.config import HookSettings
from mqttpush.hooks import FailureKind, HookFailed

PROGRAM = Path(__file__).parent / "worker.py"
# 8 MiB of module calls and what JSON adds, beside a response and a request body at their limits.
EXTRA_FRAME_BYTES = 14 * 1024 * 1024
STACK_BYTES = 512 * 1024  # spec kinvey 11
START_LIMIT_S = 10.0
# The engine could not be interrupted, and the kernel stepped in.
CPU_TIME_OVER = -signal.SIGXCPU


class Worker:
    """One process. `start` it, then `send` and `receive`; `kill` may come at any time."""

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        self._max_frame_bytes = 2 * settings.max_result_bytes + EXTRA_FRAME_BYTES
        self._process: Process | None = None

    async def start(self) -> None:
        """Raises HookFailed (INTERNAL) when it does not come up."""
        settings = {
            "memory_limit_bytes": self._settings.script_memory_bytes,
            "stack_limit_bytes": STACK_BYTES,
            "cpu_limit_s": self._settings.script_cpu_s,
        }
        arguments = ("-I", "-B", str(PROGRAM), orjson.dumps(settings).decode())
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={},
            cwd="/",
            # Not in a session of its own: Linux shares time between sessions, and the nice value
            # would only count among scripts.
        )
        with contextlib.suppress(ProcessLookupError):
            # From here, so that its own start stands back, too.
            os.setpriority(os.PRIO_PROCESS, self._process.pid, self._settings.script_nice)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                kind, _ = await self.receive()
        except TimeoutError:
            kind = ""
        if kind != "U":
            raise HookFailed(FailureKind.INTERNAL, "the runner did not start")

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send(self, kind: str, *parts: bytes) -> None:
        """Queue one frame; `drained` waits until the process has taken it."""
        assert self._process is not None
        assert self._process.stdin is not None
        size = sum(map(len, parts))
        self._process.stdin.write(b"".join((size.to_bytes(4, "big"), kind.encode(), *parts)))

    async def drained(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()

    async def receive(self) -> tuple[str, bytes]:
        """The next frame. Raises HookFailed when the process died or sends what it never may."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            head = await self._process.stdout.readexactly(5)
            size = int.from_bytes(head[:4], "big")
            if size > self._max_frame_bytes:
                raise HookFailed(FailureKind.VIOLATION, "an answer that is too large")
            return chr(head[4]), await self._process.stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._death() from None

    async def _death(self) -> HookFailed:
        assert self._process is not None
        status = await self._process.wait()
        if status == CPU_TIME_OVER:
            text = f"more than {self._settings.script_cpu_s:g} s of processor time"
            return HookFailed(FailureKind.TIMEOUT, text)
        return HookFailed(FailureKind.INTERNAL, "the runner died")

    async def kill(self) -> None:
        """End it, whatever it does; returns when it is gone."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.wait_closed()
