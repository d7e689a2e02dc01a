"""The table of answers, by itself: what it must never say, and what is read from headers."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.networks import Ending, Network, TokenFate, answers
from mqttpush.networks import apns as our_apns
from mqttpush.networks import fcm as our_fcm
from mqttpush.networks import jpush as our_jpush
from mqttpush.networks import webpush as our_webpush
from mqttpush.networks.answers import TABLE, meaning
from mqttpush.provider_simulator import apns, fcm, jpush, webpush

NOW_S = 1_800_000_000.0
# Codes of the token endpoint in the simulator that stand for a wording of another code's.
WORDINGS = {"account_not_found", "clock_skew", "wrong_audience"}


def test_every_reason_of_apple_has_a_row() -> None:
    missing = {(status, reason) for reason, status in apns.REASONS.items()} - TABLE[
        Network.APNS
    ].keys()
    assert not missing


def test_every_code_of_jpush_has_a_row() -> None:
    documented = {(status, code) for code, (status, _) in jpush.ERRORS.items() if code != "404"}
    assert not documented - TABLE[Network.JPUSH].keys()


def test_every_error_of_a_push_service_has_a_row() -> None:
    known = {(status, str(number)) for status, number, _ in webpush.ERRORS.values()}
    assert not known - TABLE[Network.WEBPUSH].keys() - {(405, "108")}


def test_every_error_autopush_documents_has_a_row() -> None:
    # autopush-rs, docs/src/errors.md
    documented = {
        *((400, errno) for errno in (101, 108, 110, 111, 112, 113)),
        *((401, 109), (404, 102), (410, 103), (410, 105), (410, 106), (413, 104), (429, 201)),
        *((500, 999), (502, 900), (502, 901), (502, 902), (502, 903), (503, 201), (503, 202)),
    }
    rows = {(status, str(errno)) for status, errno in documented}
    assert not rows - TABLE[Network.WEBPUSH].keys()


def test_every_code_of_fcm_has_a_row() -> None:
    known = {code for _, code in TABLE[Network.FCM]}
    assert {error.status for error in fcm.ERRORS.values()} - known == {"METHOD_NOT_ALLOWED"}
    documented = {code for code, error in fcm.ERRORS.items() if "fcm" in error.details}
    assert {code for code in documented if "." not in code} <= known


@given(
    st.sampled_from(list(Network)),
    st.integers(min_value=0, max_value=999),
    st.text(max_size=30),
)
def test_an_unknown_answer_never_touches_a_token(network: Network, status: int, code: str) -> None:
    rows = TABLE[network]
    if (status, code) in rows or (network is Network.WEBPUSH and (status, "") in rows):
        return
    found = meaning(network, status, code)
    assert found.token is TokenFate.KEEP
    assert not found.renews
    assert (found.ending is Ending.DELIVERED) == (200 <= status < 300)


def test_what_a_row_says_fits_together() -> None:
    for network, rows in TABLE.items():
        for place, found in rows.items():
            where = f"{network} {place}"
            assert (found.token is TokenFate.REMOVE) == (found.ending is Ending.TOKEN_REMOVED), (
                where
            )
            if found.renews:
                assert found.ending is Ending.CREDENTIALS_REFUSED, where


def test_a_code_of_a_stranger_is_not_shown() -> None:
    sent = answers.sent(Network.APNS, 400, "Bad\x1b[31m\r\nX", detail="a\x00b\nc" + "d" * 1000)
    assert sent.code == "400"
    assert sent.detail.startswith("a b c")
    assert len(sent.detail) <= 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("99999999999", 86_400.0),
        ("9" * 63, 86_400.0),
        ("1e999", 86_400.0),
        ("9" * 65, 0.0),
        ("Wed, 99 Foo 2026 00:00:00 GMT", 0.0),
    ],
)
def test_a_pause_in_seconds_is_read_and_capped(value: str, seconds: float) -> None:
    assert answers.retry_after_s(value, now_s=NOW_S) == seconds


@pytest.mark.parametrize(("ahead_s", "seconds"), [(90, 90.0), (-90, 0.0), (90_000, 86_400.0)])
def test_a_pause_until_a_date_is_read_and_capped(ahead_s: int, seconds: float) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW_S + ahead_s, UTC), usegmt=True)
    assert answers.retry_after_s(date, now_s=NOW_S) == seconds


@given(st.text(max_size=80))
def test_any_pause_is_within_its_bounds(value: str) -> None:
    assert 0.0 <= answers.retry_after_s(value, now_s=NOW_S) <= 86_400.0


def test_a_wrong_clock_is_named() -> None:
    date = format_datetime(datetime.fromtimestamp(NOW_S, UTC), usegmt=True)
    assert "3600 s ahead" in answers.clock_hint(date, NOW_S + 3600)
    assert "300 s behind" in answers.clock_hint(date, NOW_S - 300)
    assert not answers.clock_hint(date, NOW_S + 30)
    assert not answers.clock_hint("", NOW_S)


@given(st.integers(0, 10**30), st.integers(-(10**6), 10**6))
def test_any_date_of_a_network_is_read(number: int, zone: int) -> None:
    for date in (
        f"Mon, {number} Jan 2024 00:00:00 GMT",
        f"Mon, 01 Jan {number} 00:00:00 {zone:+05}",
        f"Mon, 01 Jan 2024 {number}:00:00 GMT",
    ):
        assert isinstance(answers.clock_hint(date, NOW_S), str)


# As deep as the JSON library reads, which is deeper than Python writes.
DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b'{"reason":%(deep)s,"errno":%(deep)s,"error":%(deep)s}' % {b"deep": DEEP},
        b'{"error":{"status":%(deep)s,"code":%(deep)s,"message":%(deep)s}}' % {b"deep": DEEP},
        b'{"error":{"details":[{"fieldViolations":[{"field":%s}]}]}}' % DEEP,
        b'{"error":{"details":[{"errorCode":%s}]}}' % DEEP,
    ],
)
def test_no_answer_is_too_strange_to_be_read(body: bytes) -> None:
    assert our_apns.read_error(body) == ("", None)
    assert our_fcm.read_error(body) == ("", "")
    assert our_jpush.read_error(body) == ("", "")
    assert our_webpush.read_error(body) == ""


def test_numbers_and_words_are_codes_and_nothing_else_is() -> None:
    assert our_jpush.read_error(b'{"error":{"code":1011,"message":"m"}}') == ("1011", "m")
    assert our_webpush.read_error(b'{"errno":103}') == "103"
    assert our_webpush.read_error(b'{"errno":true,"reason":"BadJwtToken"}') == "BadJwtToken"
    for since in (b"true", b'"1"', b"1.5", b"null"):
        body = b'{"reason":"Unregistered","timestamp":%s}' % since
        assert our_apns.read_error(body) == ("Unregistered", None)
