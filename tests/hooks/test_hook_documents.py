"""When schedules are due."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from mqttpush.config import HookSettings
from mqttpush.errors import InvalidRequest
from mqttpush.models import NEVER_MS
from mqttpush.operations.hook_documents import (
    SCHEDULES_LIMIT,
    names_endpoint,
    next_cron_ms,
    next_interval_ms,
    read_document,
    require_allowed,
)


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


@pytest.mark.parametrize(
    "cron", ["0-59/1," * 20_000 + "1 * * * *", "* * * * * *", "@daily", "H H * * *", "*/0 * * * *"]
)
def test_what_is_no_cron_expression_is_refused_at_once(cron: str) -> None:
    entry = {"cron": cron, "endpoint": "f"}
    started = time.process_time()
    with pytest.raises(InvalidRequest):
        read_document({"kiicloud://scheduler": {"x": entry}})
    assert time.process_time() - started < 0.1


def test_a_document_has_only_so_many_schedules() -> None:
    entries = {str(n): {"cron": "0 0 29 2 *", "endpoint": "f"} for n in range(SCHEDULES_LIMIT + 1)}
    started = time.process_time()
    with pytest.raises(InvalidRequest, match="schedules"):
        read_document({"kiicloud://scheduler": entries})
    assert time.process_time() - started < 0.2


def test_an_endpoint_is_found_where_the_document_names_it() -> None:
    document = {
        "kiicloud://users": [{"when": "USER_CREATED", "endpoint": "m:f"}],
        "kiicloud://scheduler": {"x": {"cron": "* * * * *", "endpoint": "m:g"}},
    }
    assert names_endpoint(document, "m:f")
    assert names_endpoint(document, "m:g")
    assert not names_endpoint(document, "m:h")
    assert not names_endpoint({}, "m:f")


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://h.example/hooks/a", True),
        ("https://h.example/hooks/a?b=../c", True),
        ("https://h.example/hooks", False),
        ("https://h.example/hooksmith/a", False),
        ("https://h.example/hooks/../admin", False),
        ("https://h.example/hooks/%2e%2E/admin", False),
        ("https://h.example/hooks/..%5cadmin", False),
        ("https://h.example@elsewhere.example/hooks/a", False),
        ("http://h.example/hooks/a", False),
        ("http://169.254.169.254/latest", False),
    ],
)
def test_an_endpoint_lies_below_a_start_that_the_operator_named(url: str, is_allowed: bool) -> None:
    settings = HookSettings(endpoint_urls=["https://h.example/hooks"])
    with nullcontext() if is_allowed else pytest.raises(InvalidRequest):
        require_allowed(url, settings)


def test_what_was_missed_is_not_caught_up() -> None:
    start, now = ms("2026-03-01T10:00:00"), ms("2026-03-01T12:07:30")
    assert next_interval_ms(start, "5-minutes", now) == ms("2026-03-01T12:10:00")
    assert next_interval_ms(start, None, now) == NEVER_MS
    assert next_interval_ms(start, None, start - 1) == start
