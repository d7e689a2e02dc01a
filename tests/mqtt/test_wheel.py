"""The timer wheel: every item is looked at when its deadline has passed, and not before."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from weakref import ref

from hypothesis import given
from hypothesis import strategies as st

from mqttpush.mqtt.wheel import TimerWheel


@dataclass(eq=False)
class Item:
    at: float
    wheel_slice: int = -1

    def deadline(self) -> float:
        return self.at


def wheel() -> TimerWheel:
    return TimerWheel(now=0.0, slice_s=0.25, slice_count=16)


def test_an_item_comes_once_after_its_deadline() -> None:
    timer, item = wheel(), Item(1.0)
    timer.schedule(item)
    assert list(timer.advance(0.9)) == []
    assert list(timer.advance(1.5)) == [item]
    assert list(timer.advance(99)) == []


def test_a_deadline_put_off_costs_nothing_and_holds() -> None:
    timer, item = wheel(), Item(1.0)
    timer.schedule(item)
    item.at = 3.0
    assert list(timer.advance(2.5)) == []
    assert list(timer.advance(3.5)) == [item]


def test_a_deadline_that_comes_nearer_is_scheduled_again_and_comes_once() -> None:
    timer, item = wheel(), Item(3.0)
    timer.schedule(item)
    item.at = 1.0
    timer.schedule(item)
    assert list(timer.advance(1.5)) == [item]
    assert list(timer.advance(10)) == []


def test_a_deadline_beyond_the_wheel_goes_round() -> None:
    timer, item = wheel(), Item(100.0)
    timer.schedule(item)
    for step in range(399):
        assert list(timer.advance(step / 4)) == []
    assert list(timer.advance(100.5)) == [item]


def test_an_item_without_deadline_never_comes() -> None:
    timer, item = wheel(), Item(inf)
    timer.schedule(item)
    assert [found for step in range(100) for found in timer.advance(step)] == []


def test_an_item_that_lost_its_deadline_is_forgotten() -> None:
    timer, item = wheel(), Item(1.0)
    timer.schedule(item)
    item.at = inf
    last_sign = ref(item)
    del item
    assert list(timer.advance(1.5)) == []
    assert last_sign() is None


def test_an_item_that_gets_a_deadline_again_comes_once() -> None:
    timer, item = wheel(), Item(1.0)
    timer.schedule(item)
    item.at = inf
    assert list(timer.advance(1.5)) == []
    item.at = 2.0
    timer.schedule(item)
    assert list(timer.advance(2.5)) == [item]
    assert list(timer.advance(99)) == []


def test_a_suspended_process_looks_at_everything_that_is_due() -> None:
    timer, items = wheel(), [Item(i / 3) for i in range(20)]
    for item in items:
        timer.schedule(item)
    assert set(timer.advance(10_000)) == set(items)


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 40)), max_size=20))
def test_every_item_comes_within_two_slices_of_its_deadline(
    deadlines: list[tuple[float, float]],
) -> None:
    timer = wheel()
    items = [Item(first) for first, _ in deadlines]
    for item in items:
        timer.schedule(item)
    for item, (_, second) in zip(items, deadlines, strict=True):
        item.at = second
        timer.schedule(item)
    came: dict[Item, float] = {}
    for step in range(200):
        now = step * 0.25
        for found in timer.advance(now):
            assert isinstance(found, Item)
            assert found not in came
            came[found] = now
    for item in items:
        assert item.at <= came[item] <= item.at + 0.5
