"""Sealing anew what an older key sealed, and counting how that went.

Knows no table. The one idea: what the new key opens stays as it is, so a second run does nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mqttpush.errors import SealBroken
from mqttpush.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many secrets have the new key's seal now, had it before, and cannot be opened."""

    done: int
    unchanged: int
    failed: tuple[str, ...]

    def __add__(self, other: Resealed) -> Resealed:
        return Resealed(
            self.done + other.done, self.unchanged + other.unchanged, self.failed + other.failed
        )


class Resealing:
    """Called with each secret; made anew for each unit of work, which may be tried twice."""

    def __init__(self, sealer: Sealer, old_key: bytes) -> None:
        self._sealer = sealer
        self._old = Sealer(master_key=old_key, random_bytes=os.urandom)
        self._done = self._unchanged = 0
        self._failed: list[str] = []

    def __call__(self, place: str, sealed: bytes) -> bytes | None:
        """The new form, or None where it stays: it is new already, or neither key opens it."""
        try:
            self._sealer.open(place, sealed)
        except SealBroken:
            pass
        else:
            self._unchanged += 1
            return None
        try:
            secret = self._old.open(place, sealed)
        except SealBroken:
            self._failed.append(place)
            return None
        self._done += 1
        return self._sealer.seal(place, secret)

    def result(self) -> Resealed:
        return Resealed(self._done, self._unchanged, tuple(self._failed))
