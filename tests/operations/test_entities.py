"""Deleting many entities, and answers that would be too large."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mqttpush.config import LimitSettings, SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.errors import InvalidRequest
from mqttpush.models import Credentials, Object, Scope, SourceKind
from mqttpush.operations import Operations
from mqttpush.operations.entities import ANSWER_LIMIT, DELETE_TRIES
from mqttpush.operations.queries import entity_query
from mqttpush.store import Store, Transaction
from mqttpush.store.blobs import open_blobs
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened


class Between:
    """A store where something happens after each search."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.searches = 0
        self.happens: Callable[[], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def search(self, unit: Callable[[Transaction], Any]) -> Any:
        found = await self._store.search(unit)
        self.searches += 1
        if self.happens is not None:
            await self.happens()
        return found


class Stage:
    def __init__(self, store: Between, operations: Operations, admin: Credentials) -> None:
        self.store = store
        self.entities = operations.entities
        self.admin = admin

    async def fill(self, count: int, text: str = "") -> None:
        await self.entities.create(self.admin, "books", {"_id": "first", "n": -1})

        def unit(tx: Transaction) -> None:
            bucket = tx.sources.get(SourceKind.BUCKET, Scope(self.admin.app_id), "books")
            assert bucket is not None
            for number in range(count):
                document = json.dumps({"n": number, "text": text})
                item = Object(f"b{number}", 1, 1, 1, "user:anna", "application/json", document)
                tx.objects.insert(bucket.key, item)

        await self.store.write(unit)

    async def count(self) -> int:
        return await self.entities.count(self.admin, "books", entity_query())

    async def delete(self, query: Any, **more: Any) -> int:
        return await self.entities.delete_matching(self.admin, "books", entity_query(query, **more))


@asynccontextmanager
async def stage_of() -> AsyncIterator[Stage]:
    passwords = Passwords(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
    async with AsyncExitStack() as stack:
        store = Between((await stack.enter_async_context(opened())).store)
        blobs = stack.enter_context(open_blobs(None))
        limits = LimitSettings(max_answer_bytes=65_536)
        whole: Any = store
        context = make_context(whole, blobs, passwords, now_ms=lambda: 1, limits=limits)
        operations = Operations.over(context)
        app = (await operations.apps.create("test")).app
        token = await operations.apps.issue_admin_token(app.app_id, lifetime_s=3600)
        yield Stage(store, operations, Credentials(app.app_id, token=token))
    passwords.close()


@pytest.mark.spec("kinvey 7.2")
@in_loop
async def test_a_deletion_takes_all_that_match_however_many() -> None:
    async with stage_of() as stage:
        await stage.fill(ANSWER_LIMIT + 50)
        assert await stage.delete({}, sort="n", skip=2, limit=3) == 3
        assert await stage.delete({"n": {"$gte": 0}}) == ANSWER_LIMIT + 50 - 3
        assert await stage.count() == 1


@in_loop
async def test_what_was_changed_meanwhile_is_looked_at_again() -> None:
    async with stage_of() as stage:
        await stage.fill(5)

        async def change() -> None:
            stage.store.happens = None
            await stage.entities.put(stage.admin, "books", "b1", {"n": 100})
            await stage.entities.put(stage.admin, "books", "b2", {"n": 2, "more": 1})

        stage.store.happens = change
        assert await stage.delete({"n": {"$gte": 0, "$lt": 50}}) == 4
        left = await stage.entities.find(stage.admin, "books", entity_query(None, "n"))
        assert [each["_id"] for each in left] == ["first", "b1"]


@in_loop
async def test_what_changes_all_the_time_does_not_keep_a_deletion_busy_for_ever() -> None:
    async with stage_of() as stage:
        await stage.fill(0)

        async def change() -> None:
            await stage.entities.put(stage.admin, "books", "first", {})

        stage.store.happens = change
        assert await stage.delete({}) == 0
        assert stage.store.searches == DELETE_TRIES


@in_loop
async def test_an_answer_that_would_be_too_large_is_refused() -> None:
    async with stage_of() as stage:
        await stage.fill(100, "x" * 1000)
        with pytest.raises(InvalidRequest) as refused:
            await stage.entities.find(stage.admin, "books", entity_query())
        assert refused.value.code == "ResultSetSizeExceeded"
        page = await stage.entities.find(stage.admin, "books", entity_query(limit=20))
        assert len(page) == 20
        assert await stage.delete({}) == 101


@in_loop
async def test_several_entities_wait_for_one_commit_in_their_order() -> None:
    async with stage_of() as stage:
        entities = [{"_id": "same", "n": number} for number in range(3)]
        made = await asyncio.wait_for(
            stage.entities.create_many(stage.admin, "books", [*entities, {"n": 9}]), 10
        )
        assert [type(each).__name__ for each in made] == [
            "Stored",
            "AlreadyExists",
            "AlreadyExists",
            "Stored",
        ]
        [kept] = await stage.entities.find(stage.admin, "books", entity_query({"_id": "same"}))
        assert kept["n"] == 0
