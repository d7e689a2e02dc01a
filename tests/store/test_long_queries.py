"""A query that takes too long is broken off alone; one that is too complex is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from mqttpush.errors import InvalidRequest, LimitReached
from mqttpush.models import App, Object, ObjectQuery, Scope, SourceKind
from mqttpush.store import Transaction
from tests.support.loop import in_loop
from tests.support.stores import opened

ALL = {"type": "all"}


def fill(tx: Transaction) -> int:
    tx.apps.insert(App("app-1", "name", "key", "client", b"hash", 1))
    bucket = tx.sources.insert(SourceKind.BUCKET, Scope("app-1"), "bucket", "user:anna", 1)
    for number in range(3000):
        item = Object(f"o{number}", 1, 1, 1, "user:anna", "application/json", '{"n": 1}')
        assert tx.objects.insert(bucket.key, item)
    return bucket.key


@in_loop
async def test_a_query_that_takes_too_long_is_broken_off_alone(
    file_dsn: str,
) -> None:
    async with opened(file_dsn, query_timeout_s=0.001) as store:
        key = await store.store.write(fill)
        slow = ObjectQuery(ALL, 10, order_by="n")
        with pytest.raises(LimitReached) as caught:
            await store.store.read(lambda tx: [tx.objects.query(key, slow) for _ in range(1000)])
        assert caught.value.limit == "store.query_timeout_s"
        quick = ObjectQuery(ALL, 1)
        assert len(await store.store.read(lambda tx: tx.objects.query(key, quick))) == 1


@in_loop
async def test_a_query_of_too_many_values_is_refused_and_nothing_else() -> None:
    async with opened() as store:
        key = await store.store.write(fill)
        many = {"type": "in", "field": "n", "values": list(range(150))}
        clause = {"type": "and", "clauses": [many, many, many]}
        with pytest.raises(InvalidRequest, match="conditions"):
            await store.store.read(lambda tx: tx.objects.count(key, clause))
        assert await store.store.read(lambda tx: tx.objects.count(key, ALL)) == 3000


@in_loop
async def test_slow_searches_hold_up_neither_reads_nor_the_store(file_dsn: str) -> None:
    def slow(_: Transaction) -> str:
        threading.Event().wait(0.1)  # as a query that reads very much
        return "found"

    def seen(tx: Transaction) -> bool:
        return tx.apps.get("app-1") is None

    async with opened(file_dsn, query_timeout_s=0.5, commit_timeout_s=0.5) as store:
        searches = [asyncio.ensure_future(store.store.search(slow)) for _ in range(40)]
        begun = time.monotonic()
        assert await store.store.read(seen)
        assert time.monotonic() - begun < 0.5
        results = await asyncio.gather(*searches, return_exceptions=True)
        found = [each for each in results if each == "found"]
        late = [each for each in results if isinstance(each, LimitReached)]
        assert 1 <= len(found) <= 10
        assert len(found) + len(late) == 40, "none is told that the store is away"
        assert await store.store.search(seen)


@in_loop
async def test_slow_writes_that_came_together_are_no_reason_to_call_the_store_away(
    file_dsn: str,
) -> None:
    order: list[int] = []

    def slow(number: int) -> Callable[[Transaction], None]:
        def unit(_: Transaction) -> None:
            threading.Event().wait(0.05)  # as a document with very many rules
            order.append(number)

        return unit

    async with opened(file_dsn, commit_timeout_s=0.5) as store:
        await asyncio.gather(*(store.store.write(slow(number)) for number in range(30)))
    assert order == list(range(30))
