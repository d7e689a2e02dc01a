"""What a server costs: its CPU time and memory as the kernel counts them, and where it runs.

Owns readings of `/proc` and of process clocks. Knows no server and no case.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import platform
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVER_CORE = 0
LOAD_CORE = 1
QUIET_CORES = 0.1


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process so far, seconds, in nanosecond steps.

    `/proc/PID/stat` counts in steps of 10 ms, more than a whole case may take.
    """
    # CPUCLOCK_SCHED of another process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime((~pid << 3) | 2)


@dataclass(frozen=True)
class Disturbance:
    """How much of the machine others used; starts when made."""

    began: float = field(default_factory=time.monotonic)
    began_busy_s: float = field(default_factory=lambda: _busy_s() - _own_s())

    def cores(self) -> float:
        """Cores in use by others, on average; ask when the processes measured have ended."""
        others_s = _busy_s() - _own_s() - self.began_busy_s
        return max(0.0, others_s / (time.monotonic() - self.began))


def wait_for_quiet(limit_s: float) -> None:
    """Wait until others have left the machine alone for two seconds, at most `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        disturbance = Disturbance()
        time.sleep(2)
        if disturbance.cores() < QUIET_CORES:
            return


def _busy_s() -> float:
    """CPU time of the whole machine since it started, time stolen by its host included."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def memory_kib(pid: int) -> int:
    """Proportional set size of a process, KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise LookupError("Pss")


def can_pin() -> bool:
    """Whether server and load can have a core each."""
    return {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0)


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Wait until no other benchmark runs on this machine: they would share the cores."""
    with (Path(tempfile.gettempdir()) / "mqttpush-bench.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep what is started inside on one core, if there is another for the rest."""
    before = os.sched_getaffinity(0)
    if can_pin():
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> None:
    """Allow as many open files as the kernel lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(hard, 65_536)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@functools.cache
def cpu_model() -> str:
    """Name and number of this machine's processors."""
    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return f"{name} x {os.cpu_count()}"


@functools.cache
def commit() -> str:
    """Short name of the commit measured; `+` behind it when the package differs from it."""
    try:
        name = _git("rev-parse", "--short=10", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--", "mqttpush") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
