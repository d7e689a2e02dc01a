"""What is kept of an app's credentials between sends: parsed keys, access tokens, connections.

Owns how long it is kept and when it is made anew. Knows no network. The one idea: credentials that
changed are other credentials, so nothing made of the old ones is used again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from mqttpush.networks import Keys

Kept = TypeVar("Kept")
Made = TypeVar("Made")

_MAX_APPS: Final = 1024


class Pause:
    """Something that is not done again for a while, by a clock that may be set right meanwhile."""

    __slots__ = ("_began_at_s", "_length_s")

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._began_at_s: float | None = None

    def begin(self, now_s: float) -> None:
        self._began_at_s = now_s

    def lasts(self, now_s: float) -> bool:
        """Not once the clock is behind the beginning: nobody knows how long ago that was."""
        began_at_s = self._began_at_s
        return began_at_s is not None and 0 <= now_s - began_at_s < self._length_s


class PerApp(Generic[Kept]):
    """One thing per app, made of its credentials. dropped: gets what is no longer used."""

    def __init__(
        self,
        make: Callable[[Keys], Kept],
        *,
        dropped: Callable[[Kept], None] | None = None,
        limit: int = _MAX_APPS,
    ) -> None:
        self._make = make
        self._dropped = dropped
        self._limit = limit
        self._by_app: OrderedDict[str, tuple[Keys, Kept]] = OrderedDict()

    def of(self, keys: Keys) -> Kept:
        """What is kept for these credentials. Cost: one look-up, if they did not change."""
        found = self._by_app.get(keys.app_id)
        if found is not None and (found[0] is keys or found[0].fields == keys.fields):
            self._by_app.move_to_end(keys.app_id)
            return found[1]
        made = self._make(keys)
        if found is not None:
            self._drop(found[1])
        self._by_app[keys.app_id] = (keys, made)
        self._by_app.move_to_end(keys.app_id)
        if len(self._by_app) > self._limit:
            self._drop(self._by_app.popitem(last=False)[1][1])
        return made

    def clear(self) -> list[Kept]:
        """Forget everything, and return it."""
        values = [kept for _, kept in self._by_app.values()]
        self._by_app.clear()
        return values

    def _drop(self, kept: Kept) -> None:
        if self._dropped is not None:
            self._dropped(kept)


class SharedWork(Generic[Made]):
    """A result many wait for and one makes. A failure is everybody's too."""

    def __init__(self) -> None:
        self._under_way: asyncio.Future[Made] | None = None

    @property
    def is_under_way(self) -> bool:
        """Is somebody making it?"""
        return self._under_way is not None

    async def run(self, make: Callable[[], Awaitable[Made]]) -> Made:
        """The result of `make`, or of the call of somebody else that is under way."""
        while self._under_way is not None:
            turn = self._under_way
            await asyncio.wait({turn})  # leaves it alone if the waiter is cancelled
            if not turn.cancelled():
                return turn.result()
        turn = self._under_way = asyncio.get_running_loop().create_future()
        try:
            made = await make()
        except asyncio.CancelledError:
            turn.cancel()  # those who wait make it themselves
            raise
        except Exception as exc:
            turn.set_exception(exc)
            turn.exception()  # seen, even if nobody waits
            raise
        else:
            turn.set_result(made)
            return made
        finally:
            self._under_way = None
