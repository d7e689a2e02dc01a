"""Numbers become verdicts: medians, tails and bars."""

from __future__ import annotations

from .cases import Metric, Samples
from .results import Result, verdicts


def result(
    server: str, *samples: Samples, metric: Metric | None = None, is_held: bool = True
) -> Result:
    metric = metric or Metric("cpu", "µs", "cost", bar=3.0)
    return Result("case", metric, server, is_held, is_held, samples, 0.0)


def test_the_median_is_over_all_runs() -> None:
    found = result("ours", Samples((1.0, 2.0)), Samples((9.0,)))
    assert (found.median, found.p99) == (2.0, 9.0)
    assert verdicts(found, [found]) == [("≤ 3", True)]


def test_a_bar_is_held_against_the_tail_of_times() -> None:
    found = result("ours", Samples((1.0,), (4.0,)))
    assert verdicts(found, [found]) == [("≤ 3", False)]


def test_a_rate_must_reach_its_bar() -> None:
    metric = Metric("rate", "writes/s", "rate", bar=6000, is_more_better=True)
    found = result("ours", Samples((5999.0,)), metric=metric)
    assert verdicts(found, [found]) == [("≥ 6000", False)]


def test_a_relative_bar_needs_the_other_server_in_the_same_run() -> None:
    metric = Metric("cpu", "µs", "cost", relative_bars=((0.5, "theirs"),))
    ours = result("ours", Samples((1.0,)), metric=metric)
    theirs = result("theirs", Samples((3.0,)), metric=metric, is_held=False)
    assert verdicts(ours, [ours]) == []
    assert verdicts(ours, [ours, theirs]) == [("≤ 0.5 x theirs = 1.5", True)]
    assert verdicts(theirs, [ours, theirs]) == []
