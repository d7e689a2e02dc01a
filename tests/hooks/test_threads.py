"""Threads for blocking code: what overruns is left alone and holds nobody up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mqttpush.hooks.threads import LOST_LIMIT, Threads
from tests.support.loop import in_loop


async def overrun(threads: Threads, gate: threading.Event, count: int = 1) -> None:
    """Start runs that hang until `gate` opens, and give them up."""
    tasks = [asyncio.create_task(threads.run(gate.wait)) for _ in range(count)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@in_loop
async def test_what_a_function_returns_and_raises_comes_back() -> None:
    threads = Threads(limit=2)
    assert await threads.run(lambda: 42) == 42
    for error in (ValueError("x"), StopIteration("x"), SystemExit(3)):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises((ValueError, RuntimeError)):
            await threads.run(fail)
    assert await threads.run(threading.current_thread) is not threading.current_thread()
    threads.close()


@in_loop
async def test_runs_that_overran_make_room_for_others() -> None:
    threads, gate = Threads(limit=2), threading.Event()
    for _ in range(5):
        await overrun(threads, gate, 2)
        async with asyncio.timeout(5):
            assert await threads.run(lambda: "next") == "next"
    gate.set()
    threads.close()


@in_loop
async def test_a_run_that_only_waited_is_not_lost() -> None:
    threads, gate = Threads(limit=1), threading.Event()
    running = asyncio.create_task(threads.run(gate.wait))
    await asyncio.sleep(0)
    for _ in range(2 * LOST_LIMIT):
        await overrun(threads, gate)
    assert not threads.is_exhausted
    gate.set()
    assert await running
    threads.close()


@in_loop
async def test_too_many_lost_runs_end_with_a_no_until_they_come_back() -> None:
    threads, gate = Threads(limit=LOST_LIMIT), threading.Event()
    await overrun(threads, gate, LOST_LIMIT)
    assert threads.is_exhausted
    gate.set()
    async with asyncio.timeout(5):
        while await asyncio.to_thread(lambda: threads.is_exhausted):
            pass
    assert await threads.run(lambda: 1) == 1
    threads.close()
