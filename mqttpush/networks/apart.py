"""Apart: key files read in a process of their own.

Owns that process and its time. Knows no network. The one idea: a key file says itself how long it
takes to read (the rounds of a .p12's password, the primes of an RSA key), and OpenSSL holds the
whole interpreter meanwhile, so that a thread is no help; a process can be ended.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

_PROGRAM: Final = Path(__file__).parent / "key_program.py"
# A key chain's own .p12 takes 0.1 s, an RSA key of 4,096 bits 0.7 s.
LIMIT_S: Final = 10.0


class TooMuchWork(Exception):
    """The file was not read in time."""


def read_apart(question: Mapping[str, str], *, limit_s: float = LIMIT_S) -> Mapping[str, str]:
    """What `key_program` says of a file. Raises TooMuchWork. Waits: not for the event loop."""
    try:
        done = subprocess.run(  # noqa: S603 - our own program, its input is on stdin
            (sys.executable, "-I", "-B", str(_PROGRAM)),
            input=orjson.dumps(question),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=limit_s,
            env={},
            cwd="/",
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as exc:
        raise TooMuchWork(f"not read within {limit_s:g} s") from exc
    answer: Mapping[str, str] = orjson.loads(done.stdout)
    return answer
