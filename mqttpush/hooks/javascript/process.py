"""Worker processes seen from the server: start one, exchange frames with it, kill it.

Owns the process and the socket to it; knows no script, call or app. The one idea: what comes out
of a worker is input from a stranger, so a frame is bounded before it is read and parsed before it
is believed.

| frame | direction | text |
| --- | --- | --- |
| `U` | out | up: the first run may come |
| `R` | in | run: length of the script, the script, the call |
| `C` | in | check: function, line end, script |
| `O` | out | output: `{"asks", "log", "done"}` |
| `A` | in | answer: `[id, error, result]` |
| `E` | out | the end, with the last output |
| `F` | out | failure: `[kind, debug, is_fatal, is_missing]`, line end, the last output |
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from subprocess import DEVNULL, Popen

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
        self._process: Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        """Raises HookFailed (INTERNAL) when it does not come up."""
        ours, theirs = socket.socketpair()
        try:
            self._process = await self._started(theirs)
            self._reader, self._writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
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

    async def _started(self, theirs: socket.socket) -> Popen[bytes]:
        """In a thread, by `vfork`; the event loop's own way copies the server's page tables first,
        which holds up every connection for 10 ms.
        """
        settings = {
            "memory_limit_bytes": self._settings.script_memory_bytes,
            "stack_limit_bytes": STACK_BYTES,
            "cpu_limit_s": self._settings.script_cpu_s,
        }
        arguments = (sys.executable, "-I", "-B", str(PROGRAM), orjson.dumps(settings).decode())
        # Not in a session of its own: Linux shares time between sessions, and the nice value would
        # only count among scripts.

        def start() -> Popen[bytes]:
            end = theirs.fileno()
            return Popen(  # noqa: S603 - our own program
                arguments, stdin=end, stdout=end, stderr=DEVNULL, env={}, cwd="/"
            )

        starting = asyncio.get_running_loop().run_in_executor(None, start)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._process = await starting  # so that `kill` knows it
            raise

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send(self, kind: str, *parts: bytes) -> None:
        """Queue one frame; `drained` waits until the process has taken it."""
        assert self._writer is not None
        size = sum(map(len, parts))
        self._writer.write(b"".join((size.to_bytes(4, "big"), kind.encode(), *parts)))

    async def drained(self) -> None:
        assert self._writer is not None
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def receive(self) -> tuple[str, bytes]:
        """The next frame. Raises HookFailed when the process died or sends what it never may."""
        assert self._reader is not None
        try:
            head = await self._reader.readexactly(5)
            size = int.from_bytes(head[:4], "big")
            if size > self._max_frame_bytes:
                raise HookFailed(FailureKind.VIOLATION, "an answer that is too large")
            return chr(head[4]), await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._death() from None

    async def _death(self) -> HookFailed:
        assert self._process is not None
        status = await asyncio.to_thread(self._process.wait)
        if status == CPU_TIME_OVER:
            text = f"more than {self._settings.script_cpu_s:g} s of processor time"
            return HookFailed(FailureKind.TIMEOUT, text)
        return HookFailed(FailureKind.INTERNAL, "the runner died")

    async def kill(self) -> None:
        """End it, whatever it does; returns when it is gone."""
        if self._process is not None:
            self._process.kill()  # of one that is gone already, nothing happens
            await asyncio.to_thread(self._process.wait)
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
