"""When schedules are due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mqttpush.models import NEVER_MS
from mqttpush.operations.hook_documents import next_cron_ms, next_interval_ms


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("0 * * * *", "2026-03-01T10:00:00", "2026-03-01T11:00:00"),
        ("*/15 * * * *", "2026-03-01T10:01:00", "2026-03-01T10:15:00"),
        ("30 4 1,15 * 5", "2026-03-01T10:00:00", "2026-03-06T04:30:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
    ],
)
def test_a_cron_expression_is_due_in_utc(cron: str, after: str, due: str) -> None:
    assert next_cron_ms(cron, ms(after)) == ms(due)


def test_a_day_that_never_comes_is_never_due() -> None:
    assert next_cron_ms("0 0 30 2 *", ms("2026-01-01T00:00:00")) == NEVER_MS


def test_what_was_missed_is_not_caught_up() -> None:
    start, now = ms("2026-03-01T10:00:00"), ms("2026-03-01T12:07:30")
    assert next_interval_ms(start, "5-minutes", now) == ms("2026-03-01T12:10:00")
    assert next_interval_ms(start, None, now) == NEVER_MS
    assert next_interval_ms(start, None, start - 1) == start
