"""Worker: the program of one killable process that runs scripts, one run at a time.

Owns the JavaScript engine, its limits and the process's own; knows no server: frames come in on
standard input and go out on standard output. It imports nothing of the package, so that it starts
fast and holds little. The one idea: a script is never trusted, and neither is this process; the
server counts and bounds whatever comes out of it, and kills it when in doubt.

A frame is its length in 4 bytes, a letter for its kind, and UTF-8 text (`FRAMES` in `process.py`).
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from _quickjs import Context, JSException, StackOverflow  # `quickjs` itself starts a thread

HERE = Path(__file__).parent
LIBRARIES = {
    **{name: HERE / f"{name}.js" for name in ("kinvey", "kii")},
    **{file.stem: file for folder in ("modules", "vendor") for file in HERE.glob(f"{folder}/*.js")},
}
# Below this line a script begins, above it end our own sources: so an error tells them apart.
PADDING_LINES = 1000
FRAME = re.compile(r"<input>:(\d+)")
LONE_SURROGATE = re.compile(r"((?<!\\)(?:\\\\)*)\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
DEBUG_LIMIT = 2000
# What the process needs beside the engine's heap: Python 30 MB, a run's texts in both forms.
ADDRESS_SPACE_FACTOR = 4
ADDRESS_SPACE_EXTRA = 192 * 1024 * 1024
# Left over for the state of a run that was stopped: its log, and what it asked for before.
LAST_WORDS_S = 0.1
JOBS_BETWEEN_LOOKS = 64
NOBODY = 65534


class Failed(Exception):
    """The run is over.

    is_fatal: this process has had enough of it, too. is_missing: the script lacks the function.
    """

    def __init__(self, kind: str, debug: str, *, is_fatal: bool, is_missing: bool = False) -> None:
        self.kind = kind
        self.debug = debug
        self.is_fatal = is_fatal
        self.is_missing = is_missing
        super().__init__(debug)


class State(NamedTuple):
    """Of a run between two steps. wait_s: until its next timer, None without one."""

    outstanding: int
    wait_s: float | None
    output: str


class Channel:
    """Frames over a pair of files."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, kind: str, text: str = "") -> None:
        body = text.encode("utf-8", "replace")
        data = memoryview(len(body).to_bytes(4, "big") + kind.encode() + body)
        while data:
            data = data[os.write(self._writer, data) :]

    def receive(self, wait_s: float | None = None) -> tuple[str, bytes] | None:
        """The next frame; None when `wait_s` are over. The end of the input ends the process."""
        if wait_s is not None and not select.select([self._reader], [], [], wait_s)[0]:
            return None
        head = self._exactly(5)
        return chr(head[4]), self._exactly(int.from_bytes(head[:4], "big"))

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._reader, min(size, 1 << 20))
            if not part:
                raise SystemExit
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Machine:
    """An engine with our modules in it, for one run; made before the run comes."""

    def __init__(self, settings: dict[str, Any], sources: dict[str, str]) -> None:
        self._cpu_limit_s: float = settings["cpu_limit_s"]
        self._context = Context()
        self._context.set_memory_limit(settings["memory_limit_bytes"])
        self._context.set_max_stack_size(settings["stack_limit_bytes"])
        make_loader = self._context.eval(
            "(function (prelude) {"
            " const libraries = { __proto__: null };"
            " return (name, source) => {"
            "  if (name) libraries[name] = source;"
            "  else return (0, eval)(prelude)(libraries);"
            " }; })"
        )
        loader = make_loader(sources["prelude"])
        for name in LIBRARIES:
            loader(name, sources[name])
        self._enter = loader(None, None)
        self._started_s = time.process_time()

    def begin(self) -> None:
        """Start counting; the kernel ends the process where the engine cannot be interrupted."""
        self._started_s = time.process_time()
        ceiling = int(self._started_s + self._cpu_limit_s) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (ceiling, resource.RLIM_INFINITY))

    def evaluate(self, source: str) -> None:
        """Run the script's top level."""
        if "\0" in source:
            raise Failed("BLSyntaxError", "SyntaxError: the script holds a NUL", is_fatal=False)
        self._guarded(lambda: self._context.eval("\n" * PADDING_LINES + source))

    def parse(self, source: str) -> None:
        """Raises Failed (BLSyntaxError) without running anything."""
        directive = re.match(r"\s*(['\"])use strict\1", source)
        first = f"{directive[0].strip()};" if directive else ""
        # Thrown only when all of it was parsed. A name no script defines tells it from the rest.
        self._enter_parsed(f"{first}throw 'parsed-{os.getpid()}';{source}")

    def _enter_parsed(self, source: str) -> None:
        try:
            self.evaluate(source)
        except Failed as failure:
            if failure.debug != f"parsed-{os.getpid()}":
                raise

    def enter(self, command: str, text: str = "") -> State:
        """One step: the call, then every job it left. Raises Failed."""
        if self._guarded(lambda: self._enter(command, text)) == "missing":
            raise Failed("BLRuntimeError", "", is_fatal=False, is_missing=True)
        self._run_jobs()
        return self.drain()

    def defines(self, function: str) -> bool:
        return bool(self._guarded(lambda: self._enter("defines", function)))

    def drain(self) -> State:
        text: str = self._guarded(lambda: self._enter("drain", ""))
        numbers, violation, output = text.split("\n", 2)
        if violation:
            raise Failed("BLViolationError", violation, is_fatal=False)
        outstanding, wait_ms = numbers.split(" ")
        wait_s = float(wait_ms) / 1000
        return State(int(outstanding), None if wait_s < 0 else wait_s, output)

    def last_words(self) -> tuple[str, str]:
        """Of a run that failed: the limit it met, if any, and what it had said and asked for."""
        self._context.set_time_limit(LAST_WORDS_S)
        try:
            _, violation, output = self._enter("drain", "").split("\n", 2)
        except (JSException, MemoryError):
            return "", ""
        return violation, output

    def _run_jobs(self) -> None:
        count = 0
        while self._guarded(self._context.execute_pending_job, arm=count % JOBS_BETWEEN_LOOKS == 0):
            count += 1

    def _guarded(self, step: Callable[[], Any], *, arm: bool = True) -> Any:
        if arm:
            left_s = self._cpu_limit_s - (time.process_time() - self._started_s)
            if left_s <= 0:
                raise self._out_of_time()
            self._context.set_time_limit(left_s)
        try:
            return step()
        except StackOverflow:
            raise Failed("BLViolationError", "the stack is used up", is_fatal=False) from None
        except MemoryError:
            raise Failed("BLViolationError", "out of memory", is_fatal=True) from None
        except JSException as exc:
            raise self._failure(str(exc)) from None

    def _failure(self, text: str) -> Failed:
        if text.startswith("InternalError: interrupted"):
            return self._out_of_time()
        # An engine that finds no memory for the error throws null. A script's own looks the same:
        # what used the memory up may be free again by now, so the engine's count does not tell.
        if text.startswith("InternalError: out of memory") or text == "null\n":
            return Failed("BLViolationError", "out of memory", is_fatal=True)
        if text.startswith("InternalError: string too long"):
            return Failed("BLViolationError", "a string is too long", is_fatal=False)
        kind = "BLSyntaxError" if _is_of_parser(text) else "BLRuntimeError"
        return Failed(kind, _described(text), is_fatal=False)

    def _out_of_time(self) -> Failed:
        # The engine was interrupted where it could be, so nothing is wrong with it.
        text = f"more than {self._cpu_limit_s:g} s of processor time"
        return Failed("BLTimeoutError", text, is_fatal=False)


def _is_of_parser(text: str) -> bool:
    """Is it the script itself that does not parse? Then its place is all there is of a trace."""
    trace = text.rstrip("\n").split("\n    at ")
    return text.startswith("SyntaxError: ") and len(trace) == 2 and trace[1].startswith("<input>:")


def _described(text: str) -> str:
    """`Name: message (line N)`, of an error as the engine prints it."""
    message, _, trace = text.partition("\n    at ")
    message = message.removesuffix("\nundefined").strip("\n")
    if message.startswith("(Failed obtaining"):
        message = "an exception that has no text"
    frames = trace.split("\n    at ")
    if len(frames) > 1 and frames[0].startswith("<input>:"):
        del frames[0]  # a place in what was parsed (JSON, a pattern), not in the script
    lines = (int(found[1]) for frame in frames if (found := FRAME.search(frame)))
    line = next((line for line in lines if line > PADDING_LINES), 0)
    return message[:DEBUG_LIMIT] + (f" (line {line - PADDING_LINES})" if line else "")


def serve(channel: Channel, settings: dict[str, Any], sources: dict[str, str]) -> None:
    """Run what comes, until the input ends or a run was too much."""
    channel.send("U")
    while True:
        machine = Machine(settings, sources)  # before the frame: outside the run's time
        while True:
            frame = channel.receive()
            assert frame is not None
            if frame[0] in "RC":  # an answer to a run that failed is of no use any more
                break
        try:
            machine.begin()
            (run if frame[0] == "R" else check)(channel, machine, frame[1])
        except Failed as failure:
            violation, output = machine.last_words()
            if violation:
                failure = Failed("BLViolationError", violation, is_fatal=failure.is_fatal)
            head = json.dumps([failure.kind, failure.debug, failure.is_fatal, failure.is_missing])
            channel.send("F", f"{head}\n{_mended(output)}")
            if failure.is_fatal:
                return


def run(channel: Channel, machine: Machine, payload: bytes) -> None:
    """payload: the length of the script, the script, the call."""
    size = int.from_bytes(payload[:4], "big")
    machine.evaluate(payload[4 : 4 + size].decode())
    state = machine.enter("start", payload[4 + size :].decode())
    while True:
        if not state.outstanding and state.wait_s is None:
            channel.send("E", _mended(state.output))
            return
        if state.output:
            channel.send("O", _mended(state.output))
        frame = channel.receive(state.wait_s)
        if frame is None:
            state = machine.enter("timer")
        else:
            state = machine.enter("answer", frame[1].decode())


def check(channel: Channel, machine: Machine, payload: bytes) -> None:
    """payload: the name of a function or nothing, a line end, the script."""
    function, _, source = payload.decode().partition("\n")
    machine.parse(source)
    if function:
        try:
            machine.evaluate(source)
            is_defined = machine.defines(function)
        except Failed as failure:
            if failure.is_fatal:
                raise
            is_defined = True  # its top level needs what only a run has
        if not is_defined:
            text = f"the script defines no function {function}"
            raise Failed("BLSyntaxError", text, is_fatal=False)
    channel.send("E")


def _mended(output: str) -> str:
    """A script may leave half a character, which no JSON reader of the server takes."""
    if "\\ud" not in output and "\\uD" not in output:
        return output
    return LONE_SURROGATE.sub(r"\1\\ufffd", output)


def confine(settings: dict[str, Any]) -> None:
    """Give up what a run does not need; a platform without one of the limits has the others."""
    space = ADDRESS_SPACE_FACTOR * settings["memory_limit_bytes"] + ADDRESS_SPACE_EXTRA
    wanted = {
        "RLIMIT_AS": space,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": 8,
        "RLIMIT_NPROC": 0,
    }
    for name, limit in wanted.items():
        try:
            resource.setrlimit(getattr(resource, name), (limit, limit))
        except (AttributeError, OSError, ValueError):
            continue
    if hasattr(os, "getuid") and os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def main() -> None:
    """Arguments: the settings as JSON."""
    settings = json.loads(sys.argv[1])
    sources = {name: path.read_text(encoding="utf-8") for name, path in LIBRARIES.items()}
    sources["prelude"] = (HERE / "prelude.js").read_text(encoding="utf-8")
    confine(settings)
    serve(Channel(0, 1), settings, sources)


if __name__ == "__main__":
    main()
