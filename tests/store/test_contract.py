"""What every `Store` promises: units are atomic, answered after their commit, told in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from mqttpush.errors import AlreadyExists, LimitReached, StoreUnavailable
from mqttpush.events import AppRemoved, Committed
from mqttpush.store import Transaction
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.stores import Gate, one_batch, opened


class RefusedError(Exception):
    """What a unit of these tests raises."""


def insert_app(tx: Transaction, app_id: str) -> str:
    """Write one row and say so."""
    tx.apps.insert(nouns.app(app_id))
    tx.emit(AppRemoved(app_id))  # any change serves; this one is short
    return app_id


def inserting(app_id: str) -> Callable[[Transaction], str]:
    return lambda tx: insert_app(tx, app_id)


def insert_app_then_refuse(tx: Transaction, app_id: str) -> None:
    insert_app(tx, app_id)
    raise RefusedError(app_id)


def app_ids(tx: Transaction) -> list[str]:
    return sorted(app.app_id for app in tx.apps.list())


def told(committed: Sequence[Committed]) -> list[str]:
    return [change.app_id for change in committed if isinstance(change, AppRemoved)]


@in_loop
async def test_a_write_returns_what_the_unit_returned(dsn: str) -> None:
    async with opened(dsn) as stage:
        assert await stage.store.write(inserting("a")) == "a"


@in_loop
async def test_a_read_sees_every_write_that_was_answered(dsn: str) -> None:
    async with opened(dsn) as stage:
        for number in range(20):
            await stage.store.write(inserting(f"app-{number}"))
            found = await stage.store.read(app_ids)
            assert len(found) == number + 1


@in_loop
async def test_a_unit_reads_its_own_writes(dsn: str) -> None:
    def unit(tx: Transaction) -> list[str]:
        insert_app(tx, "a")
        insert_app(tx, "b")
        tx.apps.delete("a")
        return app_ids(tx)

    async with opened(dsn) as stage:
        assert await stage.store.write(unit) == ["b"]


@in_loop
async def test_a_unit_sees_the_units_before_it_in_its_batch(dsn: str) -> None:
    async with opened(dsn) as stage, asyncio.TaskGroup() as tasks:
        async with one_batch(stage.store):
            tasks.create_task(stage.store.write(inserting("a")))
            seen = tasks.create_task(stage.store.write(app_ids))
        assert await seen == ["a"]


@in_loop
async def test_a_unit_that_raises_leaves_no_trace(dsn: str) -> None:
    async with opened(dsn) as stage:
        with pytest.raises(RefusedError):
            await stage.store.write(lambda tx: insert_app_then_refuse(tx, "a"))
        assert await stage.store.read(app_ids) == []
        assert stage.committed == []


@in_loop
async def test_a_unit_that_raises_does_not_disturb_others_of_its_batch(dsn: str) -> None:
    async with opened(dsn) as stage, asyncio.TaskGroup() as tasks:
        async with one_batch(stage.store):
            before = tasks.create_task(stage.store.write(inserting("a")))
            refused = asyncio.ensure_future(
                stage.store.write(lambda tx: insert_app_then_refuse(tx, "b"))
            )
            after = tasks.create_task(stage.store.write(inserting("c")))
        with pytest.raises(RefusedError):
            await refused
        assert (await before, await after) == ("a", "c")
        assert await stage.store.read(app_ids) == ["a", "c"]
        assert told(stage.committed) == ["a", "c"]


@in_loop
async def test_a_domain_error_of_a_table_undoes_only_its_unit(dsn: str) -> None:
    def twice(tx: Transaction) -> None:
        insert_app(tx, "b")
        insert_app(tx, "b")

    async with opened(dsn) as stage:
        await stage.store.write(inserting("a"))
        with pytest.raises(AlreadyExists):
            await stage.store.write(twice)
        assert await stage.store.read(app_ids) == ["a"]


@in_loop
async def test_units_that_wait_are_committed_together(dsn: str) -> None:
    async with opened(dsn) as stage:
        before = stage.metrics.store_commits.value
        async with asyncio.TaskGroup() as tasks, one_batch(stage.store):
            for number in range(50):
                tasks.create_task(stage.store.write(inserting(f"a{number}")))
        assert stage.metrics.store_commits.value - before == 2  # the gate's, then all the others'


@in_loop
async def test_a_batch_is_bounded(dsn: str) -> None:
    async with opened(dsn, max_batch_writes=10) as stage:
        async with asyncio.TaskGroup() as tasks, one_batch(stage.store):
            for number in range(25):
                tasks.create_task(stage.store.write(inserting(f"a{number}")))
        assert [len(batch) for batch in stage.batches] == [10, 10, 5]


@in_loop
async def test_events_come_in_commit_order(dsn: str) -> None:
    names = [f"app-{number:03}" for number in range(100)]
    async with opened(dsn, max_batch_writes=7) as stage:
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(stage.store.write(inserting(name)))
        assert told(stage.committed) == names


@in_loop
async def test_events_are_handed_on_before_their_writer_is_answered(dsn: str) -> None:
    order: list[str] = []
    async with opened(dsn, on_commit=lambda _: order.append("told")) as stage:
        await stage.store.write(inserting("a"))
        order.append("answered")
    assert order == ["told", "answered"]


@in_loop
async def test_nobody_is_answered_before_the_whole_batch_is_committed(dsn: str) -> None:
    async with opened(dsn) as stage, asyncio.TaskGroup() as tasks:
        inner = Gate()
        async with one_batch(stage.store):
            first = tasks.create_task(stage.store.write(inserting("a")))
            tasks.create_task(stage.store.write(inner))
        await inner.entered()
        assert not first.done()
        assert stage.committed == []
        inner.open()
        assert await first == "a"


@in_loop
async def test_a_receiver_of_events_that_fails_does_not_fail_the_writer(dsn: str) -> None:
    def fail(_: Sequence[Committed]) -> None:
        raise RefusedError

    async with opened(dsn, on_commit=fail) as stage:
        assert await stage.store.write(inserting("a")) == "a"
        assert await stage.store.write(inserting("b")) == "b"
        assert stage.metrics.routing_failures.value == 2


@in_loop
async def test_too_many_waiting_writes_are_refused_by_the_name_of_the_limit(dsn: str) -> None:
    async with opened(dsn, max_queued_writes=3) as stage:
        async with asyncio.TaskGroup() as tasks, one_batch(stage.store):
            for number in range(3):
                tasks.create_task(stage.store.write(inserting(f"a{number}")))
            await asyncio.sleep(0)
            with pytest.raises(LimitReached) as refused:
                await stage.store.write(inserting("late"))
        assert refused.value.limit == "store.max_queued_writes"
        assert refused.value.retryable
        assert await stage.store.read(app_ids) == ["a0", "a1", "a2"]


@in_loop
async def test_a_caller_who_gives_up_does_not_disturb_others(dsn: str) -> None:
    async with opened(dsn) as stage, asyncio.TaskGroup() as tasks:
        async with one_batch(stage.store):
            impatient = asyncio.ensure_future(stage.store.write(inserting("a")))
            patient = tasks.create_task(stage.store.write(inserting("b")))
            await asyncio.sleep(0)
            impatient.cancel()
        assert await patient == "b"
        # Whatever became of the unit, the tables and the events agree about it.
        assert told(stage.committed) == await stage.store.read(app_ids)


@in_loop
async def test_a_stalled_thread_is_told_to_all_who_wait_and_to_those_who_come(dsn: str) -> None:
    async with opened(dsn, commit_timeout_s=0.05) as stage:
        gate = Gate()
        running = asyncio.ensure_future(stage.store.write(gate))
        await gate.entered()
        waiting = asyncio.ensure_future(stage.store.write(inserting("waiting")))
        for caller in (running, waiting):
            with pytest.raises(StoreUnavailable) as refused:
                await caller
            assert refused.value.retryable
        with pytest.raises(StoreUnavailable):
            await stage.store.write(inserting("late"))
        with pytest.raises(StoreUnavailable):
            await stage.store.check()
        gate.open()


@in_loop
async def test_the_store_serves_again_once_its_thread_is_back(dsn: str) -> None:
    back = asyncio.Event()
    async with opened(dsn, commit_timeout_s=0.05, on_commit=lambda _: back.set()) as stage:
        gate = Gate()

        def stall(tx: Transaction) -> None:
            insert_app(tx, "slow")
            gate(tx)

        with pytest.raises(StoreUnavailable):
            await stage.store.write(stall)
        gate.open()
        await back.wait()
        await stage.store.check()
        await stage.store.write(inserting("next"))
        # The slow unit was committed after all: then its event was handed on too, and in order.
        assert await stage.store.read(app_ids) == ["next", "slow"]
        assert told(stage.committed) == ["slow", "next"]


@in_loop
async def test_closing_commits_what_waits_and_takes_no_more(dsn: str) -> None:
    async with opened(dsn) as stage:
        writes = [asyncio.ensure_future(stage.store.write(inserting(f"a{n}"))) for n in range(5)]
        await asyncio.sleep(0)
        await stage.store.close()
        with pytest.raises(StoreUnavailable):
            await stage.store.write(inserting("late"))
        assert await asyncio.gather(*writes) == ["a0", "a1", "a2", "a3", "a4"]
    assert told(stage.committed) == ["a0", "a1", "a2", "a3", "a4"]


@in_loop
async def test_a_store_that_answers_passes_its_check(dsn: str) -> None:
    async with opened(dsn) as stage:
        await stage.store.check()
        assert stage.committed == []
