"""What is kept between sends: made once, for the credentials it was made of."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from mqttpush.networks import Keys, Network
from mqttpush.networks.kept import Pause, PerApp, SharedWork
from tests.support.loop import in_loop


def keys(app_id: str, value: str = "one") -> Keys:
    return Keys(app_id, Network.JPUSH, {"secret": value}, {})


def test_what_was_made_of_an_app_s_keys_is_made_once() -> None:
    numbers = itertools.count(1)
    per_app = PerApp(lambda each: next(numbers))
    assert [per_app.of(keys(app)) for app in ("a", "b", "a", "b")] == [1, 2, 1, 2]
    assert per_app.of(keys("a", "two")) == 3
    assert per_app.of(keys("a", "two")) == 3
    assert per_app.of(keys("a")) == 4  # the old ones again are not remembered


def test_what_is_not_used_for_long_or_was_replaced_is_dropped() -> None:
    dropped: list[str] = []
    per_app = PerApp(lambda each: each.app_id, dropped=dropped.append, limit=2)
    for app in ("a", "b", "a", "c"):
        per_app.of(keys(app))
    assert dropped == ["b"]
    per_app.of(keys("a", "two"))
    assert dropped == ["b", "a"]
    assert sorted(per_app.clear()) == ["a", "c"]


def test_a_pause_ends_by_itself_and_when_the_clock_is_set_back() -> None:
    pause = Pause(10.0)
    assert not pause.lasts(100.0)
    pause.begin(100.0)
    assert pause.lasts(100.0)
    assert pause.lasts(109.9)
    assert not pause.lasts(110.0)
    assert not pause.lasts(99.0)


@in_loop
async def test_one_makes_it_and_all_get_it() -> None:
    work: SharedWork[int] = SharedWork()
    calls = 0

    async def make() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return calls

    assert await asyncio.gather(*(work.run(make) for _ in range(10))) == [1] * 10
    assert await work.run(make) == 2


@in_loop
async def test_a_failure_is_everybody_s_and_not_kept() -> None:
    work: SharedWork[int] = SharedWork()
    calls = 0

    async def fail() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        raise ConnectionError

    results = await asyncio.gather(*(work.run(fail) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, ConnectionError) for result in results)
    assert calls == 1
    with pytest.raises(ConnectionError):
        await work.run(fail)
    assert calls == 2


@in_loop
async def test_who_is_cancelled_hands_the_work_on() -> None:
    work: SharedWork[int] = SharedWork()
    is_begun = asyncio.Event()

    async def never() -> int:
        is_begun.set()
        await asyncio.Event().wait()
        return 0

    async def make() -> int:
        return 7

    first = asyncio.create_task(work.run(never))
    await is_begun.wait()
    second, third = (asyncio.create_task(work.run(make)) for _ in range(2))
    await asyncio.sleep(0)
    third.cancel()  # one who waits takes nobody with it
    await asyncio.sleep(0)
    assert not first.done()
    first.cancel()
    assert await second == 7
