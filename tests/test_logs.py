"""Log lines: one format for every logger, and no secret in any."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.config import LogSettings
from mqttpush.logs import is_secret_name, redact, redact_text, setup_logging


@pytest.fixture
def quiet_afterwards() -> Iterator[None]:
    """Undo what setup_logging does to the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.usefixtures("quiet_afterwards")
def test_every_logger_speaks_json_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LogSettings(format="json"))
    structlog.get_logger("ours").info("started", port=1883)
    logging.getLogger("uvicorn.error").warning("theirs %d", 1)
    ours, theirs = logged(capsys)
    assert (ours["event"], ours["port"], ours["level"]) == ("started", 1883, "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == (
        "theirs 1",
        "uvicorn.error",
        "warning",
    )


@pytest.mark.usefixtures("quiet_afterwards")
def test_what_is_below_the_level_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LogSettings(format="json", level="warning"))
    structlog.get_logger("ours").info("not this")
    logging.getLogger("asyncio").info("nor this")
    structlog.get_logger("ours").warning("this")
    assert [line["event"] for line in logged(capsys)] == ["this"]


@pytest.mark.usefixtures("quiet_afterwards")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_says_no_secret(capsys: pytest.CaptureFixture[str], form: Any) -> None:
    setup_logging(LogSettings(format=form))
    try:
        raise ValueError("client_secret=canary-1 in Authorization: Bearer canary-22222")
    except ValueError:
        structlog.get_logger("ours").exception("failed", password="canary-3")
        logging.getLogger("theirs").exception("failed")
    said = capsys.readouterr().err
    assert said.count("ValueError") >= 2
    assert "canary" not in said


@pytest.mark.usefixtures("quiet_afterwards")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_strangers_text_cannot_begin_a_line(
    capsys: pytest.CaptureFixture[str], form: Any
) -> None:
    setup_logging(LogSettings(format=form))
    structlog.get_logger("ours").info("first\nforged", client="a\r\nforged\x1b[31m")
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "\x1b[31m" not in said


SECRETS = {
    "Authorization: Bearer canary-token": "bearer",
    "authorization:bearer canary-token": "any case, no blank",
    "Authorization: Basic Y2FuYXJ5OmNhbmFyeQ==canary": "basic",
    '{"password": "canary"}': "JSON",
    "{'clientSecret': 'canary'}": "repr",
    "grant_type=password&password=canary&x=1": "form",
    "X-Kii-AppKey: canary": "header",
    "access_token=canary": "query",
    "postgres://me:canary@db/x": "URL",
}


@pytest.mark.parametrize("text", SECRETS, ids=SECRETS.get)
def test_a_secret_inside_a_text_is_blotted_out(text: str) -> None:
    assert "canary" not in redact_text(text)


@pytest.mark.parametrize(
    "text", ["took 3 s", "topic news has no subscriber", "wrong password", "https://a.example/x"]
)
def test_other_text_is_left_alone(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name", ["password", "X-Kii-AppKey", "app_key", "clientSecret", "Authorization", "_accessToken"]
)
def test_a_fields_name_tells_a_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["path", "status", "app_id", "keep_alive_s", "mqtt_topic"])
def test_a_harmless_name_is_shown(name: str) -> None:
    assert not is_secret_name(name)


LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(VALUES)
def test_any_value_becomes_something_json_can_say(value: Any) -> None:
    json.dumps(redact(None, "info", {"event": "x", "value": value}))


@given(VALUES)
def test_a_secret_field_is_blotted_out_however_deep(value: Any) -> None:
    nested = {"a": [{"b": {"refresh_token": "canary-deep"}}], "value": value}
    assert "canary-deep" not in json.dumps(redact(None, "info", {"event": "x", "n": nested}))
