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
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path

import orjson

from mqttpush.hooks import FailureKind, HookFailed

PROGRAM = Path(__file__).parent / "worker.py"
# A response and a request body of 5 MiB each, 8 MiB of module calls, and what JSON adds.
MAX_FRAME_BYTES = 24 * 1024 * 1024
START_LIMIT_S = 10.0
# The engine could not be interrupted, and the kernel stepped in.
CPU_TIME_OVER = -signal.SIGXCPU


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run, spec kinvey 11. nice: of the processes, so that scripts wait for the server."""

    memory_bytes: int = 64 * 1024 * 1024
    stack_bytes: int = 512 * 1024
    cpu_s: float = 2.0
    log_bytes: int = 64 * 1024
    body_bytes: int = 5 * 1024 * 1024
    calls: int = 10_000
    nice: int = 10


class Worker:
    """One process. `start` it, then `send` and `receive`; `kill` may come at any time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: Process | None = None

    async def start(self) -> None:
        """Raises HookFailed (INTERNAL) when it does not come up."""
        settings = {
            "memory_limit_bytes": self._limits.memory_bytes,
            "stack_limit_bytes": self._limits.stack_bytes,
            "cpu_limit_s": self._limits.cpu_s,
            "nice": self._limits.nice,
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
            start_new_session=True,
        )
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
            if size > MAX_FRAME_BYTES:
                raise HookFailed(FailureKind.VIOLATION, "an answer that is too large")
            return chr(head[4]), await self._process.stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._death() from None

    async def _death(self) -> HookFailed:
        assert self._process is not None
        status = await self._process.wait()
        if status == CPU_TIME_OVER:
            text = f"more than {self._limits.cpu_s:g} s of processor time"
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
