"""Timer wheel: deadlines of very many items on one timer.

Owns which items to look at in which slice of time. Knows no clock and no meaning. The one idea: an
item is looked at when its slice comes round and moves on if its deadline has moved meanwhile, so a
packet that puts a deadline off costs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Protocol


class Timed(Protocol):
    """What the wheel keeps on an item: the slice that holds it, or -1."""

    wheel_slice: int

    def deadline(self) -> float:
        """When to act, in seconds on the clock `advance` is called with; inf: never."""
        ...


class TimerWheel:
    """Slices of `slice_s` seconds, `slice_count` of them; longer deadlines go round again."""

    __slots__ = ("_next", "_slice_s", "_slices")

    def __init__(self, *, now: float, slice_s: float = 0.25, slice_count: int = 512) -> None:
        self._slice_s = slice_s
        self._slices: list[list[Timed]] = [[] for _ in range(slice_count)]
        self._next = int(now / slice_s) + 1

    def schedule(self, item: Timed) -> None:
        """Look at `item` at its deadline; call again only if the deadline came nearer.

        An item without a deadline is not kept: it may be gone for good.
        """
        deadline = item.deadline()
        if deadline == inf:
            return
        number = int(deadline / self._slice_s) + 1
        number = max(self._next, min(number, self._next + len(self._slices) - 1))
        if item.wheel_slice < self._next or number < item.wheel_slice:
            item.wheel_slice = number
            self._slices[number % len(self._slices)].append(item)

    def advance(self, now: float) -> Iterator[Timed]:
        """The items whose deadline has passed, each once; they are not in the wheel any more."""
        last = int(now / self._slice_s)
        if last - self._next >= len(self._slices):  # the process was suspended: one whole round
            self._next = last - len(self._slices) + 1
        while self._next <= last:
            number = self._next
            index = number % len(self._slices)
            items, self._slices[index] = self._slices[index], []
            self._next = number + 1
            for item in items:
                if not 0 <= item.wheel_slice <= number:
                    continue  # left from before it moved: it came already, or is elsewhere
                item.wheel_slice = -1
                if item.deadline() <= now:
                    yield item
                else:
                    self.schedule(item)
