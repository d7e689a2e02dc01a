"""Who is online is written down, even where the store refused at first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.errors import StoreUnavailable
from mqttpush.models import App, Owner, Thing
from mqttpush.operations.presence import Presence
from mqttpush.store import Result, Store, Transaction
from mqttpush.store.blobs import open_blobs
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened


class RefusingStore:
    """A store that refuses so many writes, and says when it took one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refusals = 0
        self.taken: asyncio.Queue[None] = asyncio.Queue()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, unit: Callable[[Transaction], Result]) -> Result:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("sqlite", "does not answer in time")
        result = await self._store.write(unit)
        self.taken.put_nowait(None)
        return result


@in_loop
async def test_what_the_store_refused_is_written_later() -> None:
    passwords = Passwords(SecuritySettings())
    async with opened() as place:
        with open_blobs(None) as blobs:
            inner = place.store
            app = App("app", "App", "key", "client", b"hash", 1)
            thing = Thing("app", "th", "lamp", 1, "hash")
            await inner.write(lambda tx: tx.apps.insert(app))
            await inner.write(lambda tx: tx.things.insert(thing))
            store = RefusingStore(inner)
            context = make_context(cast(Store, store), blobs, passwords, now_ms=lambda: 7)
            presence = Presence(context, retry_s=0)
            recording = asyncio.create_task(presence.record())
            await store.taken.get()  # at first nobody is online
            store.refusals = 2
            presence.changed(Owner("app", thing.subject), is_online=True)
            await store.taken.get()
            found = await inner.read(lambda tx: tx.things.get("app", "th"))
            assert found is not None
            assert (found.is_online, found.online_ms) == (True, 7)
            recording.cancel()
    passwords.close()
