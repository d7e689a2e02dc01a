"""The C tools of the benchmark: compiled when first needed, then driven line by line.

Owns the load generator's and the yardstick's processes. Knows no server: `LoadGen` opens the
connections it is told to open and counts what arrives. The idea: C does everything that happens
while a clock runs, Python only says what and reads one line of JSON at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from . import measure

SOURCE_FOLDER = Path(__file__).parent
CACHE_FOLDER = SOURCE_FOLDER.parents[1] / ".cache" / "bench"
COMPILER_OPTIONS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
Answer = dict[str, Any]


class ToolError(Exception):
    """A tool could not be compiled or stopped in the middle of a command."""


@dataclass(frozen=True)
class Device:
    """What a device needs to connect: its own credentials and its own topic."""

    client_id: str
    username: str
    password: str
    mqtt_topic: str


def compiled(name: str, pattern: str) -> Path:
    """Path of the tool made of the sources that match `pattern`; compiled if they changed."""
    sources = sorted(SOURCE_FOLDER.glob(pattern))
    digest = hashlib.sha256("".join(COMPILER_OPTIONS).encode())
    for path in sorted([*sources, *SOURCE_FOLDER.glob("*.h")]):
        digest.update(path.read_bytes())
    binary = CACHE_FOLDER / f"{name}-{digest.hexdigest()[:16]}"
    if binary.exists():
        return binary
    CACHE_FOLDER.mkdir(parents=True, exist_ok=True)
    unfinished = binary.with_suffix(f".{os.getpid()}")
    compiler = os.environ.get("CC", "cc")
    command = [compiler, *COMPILER_OPTIONS, "-o", str(unfinished), *map(str, sources)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise ToolError(f"no C compiler: `{compiler}` not found; install gcc or set CC") from exc
    if done.returncode != 0:
        raise ToolError(f"{name} does not compile:\n{done.stderr}")
    unfinished.rename(binary)
    return binary


class LoadGen:
    """One load generator process: devices, writers and publishers on one clock.

    Every method waits until the command is done and returns the tool's answer, whose fields the
    comments in the C sources name.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="loadgen-")
        binary = compiled("loadgen", "loadgen*.c")
        with measure.on_core(measure.LOAD_CORE):
            self._process = subprocess.Popen(
                [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and with it every connection."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def run(self, command: str, **options: object) -> Answer:
        """Run any command; raises ToolError if the tool ends instead of answering."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = [f"{name}={value}" for name, value in options.items() if value is not None]
        try:
            self._process.stdin.write(" ".join([command, *words]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the empty answer below says it
        line = self._process.stdout.readline()
        if not line:
            raise ToolError(f"the load generator stopped during `{command}`: see its message above")
        answer: Answer = json.loads(line)
        return answer

    def connect(self, port: int, devices: Sequence[Device], **options: object) -> Answer:
        """Connect and subscribe devices on top of those already held."""
        path = Path(self._folder.name) / "devices"
        path.write_text(
            "".join(f"{d.client_id}\t{d.username}\t{d.password}\t{d.mqtt_topic}\n" for d in devices)
        )
        answer = self.run("connect", port=port, file=path, **options)
        if answer["failed"]:
            raise ToolError(f"{answer['failed']:.0f} devices did not connect: {answer}")
        return answer

    def http(self, port: int, requests: Sequence[bytes], **options: object) -> Answer:
        """Send prepared requests; fails unless every one of them ended in 2xx."""
        path = Path(self._folder.name) / "requests"
        with path.open("wb") as file:
            for request in requests:
                file.write(b"%d\n" % len(request))
                file.write(request)
        answer = self.run("http", port=port, file=path, **options)
        if answer["succeeded"] != len(requests):
            raise ToolError(f"not every request succeeded: {answer}")
        return answer

    def fetch(self, port: int, requests: Sequence[bytes], **options: object) -> list[bytes]:
        """Send prepared requests and return the bodies of their answers, in order."""
        out = Path(self._folder.name) / "answers"
        self.http(port, requests, out=out, **options)
        return [line.split(b"\t", 1)[1] for line in out.read_bytes().splitlines()]
