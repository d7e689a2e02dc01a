"""Who is online is written down, even where the store refused at first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.errors import StoreUnavailable
from mqttpush.models import App, Audience, Owner, Scope, ScopeType, SourceKind, Thing
from mqttpush.operations.presence import TOPIC_ID, Presence
from mqttpush.store import Result, Store, Transaction
from mqttpush.store.blobs import open_blobs
from tests.support import nouns
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.phones import phones_on
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
            owner = Owner("app", thing.subject)
            await inner.write(lambda tx: tx.things.set_online(owner, True, 5))
            presence = Presence(context, retry_s=0)
            store.refusals = 2
            recording = asyncio.create_task(presence.record())
            await asyncio.wait_for(store.taken.get(), 30)  # at first nobody is online
            found = await inner.read(lambda tx: tx.things.get("app", "th"))
            assert found is not None
            assert not found.is_online
            store.refusals = 2
            presence.changed(owner, is_online=True)
            await store.taken.get()
            found = await inner.read(lambda tx: tx.things.get("app", "th"))
            assert found is not None
            assert (found.is_online, found.online_ms) == (True, 7)
            recording.cancel()
    passwords.close()


@in_loop
async def test_presence_is_written_where_too_many_pushes_to_phones_wait() -> None:
    async with phones_on(max_waiting_jobs=1, once_grace_s=5) as world:
        (anna,) = await world.users(1)
        things = [Thing(nouns.APP_ID, name, name, 1, "hash") for name in ("one", "two")]

        def unit(tx: Transaction) -> None:
            for thing in things:
                tx.things.insert(thing)
            scope = Scope(nouns.APP_ID, ScopeType.THING, "one")
            topic = tx.sources.insert(SourceKind.TOPIC, scope, TOPIC_ID, "admin:", 1)
            tx.subscriptions.insert(topic.key, anna, 1)

        await world.context.store.write(unit)
        await world.send(Audience.of_owners(anna), is_once=True)  # waits, and no more may
        store = RefusingStore(world.context.store)
        presence = Presence(replace(world.context, store=cast(Store, store)), retry_s=0)
        recording = asyncio.create_task(presence.record())
        await store.taken.get()
        for thing in things:
            presence.changed(Owner(nouns.APP_ID, thing.subject), is_online=True)
        await asyncio.wait_for(store.taken.get(), 30)
        for thing in things:
            name = thing.thing_id
            found = await store.read(lambda tx, name=name: tx.things.get(nouns.APP_ID, name))
            assert found.is_online
        recording.cancel()
        refused = world.metrics.limits_reached.values
        assert refused[("delivery.max_waiting_jobs",)] == 1
