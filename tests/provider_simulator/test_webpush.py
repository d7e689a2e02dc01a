"""The simulated push service takes what real ones take, and decrypts as a browser does."""

from __future__ import annotations

import os
from typing import Any

import http_ece
import orjson
import pytest

from mqttpush.provider_simulator import Fault, Providers
from mqttpush.provider_simulator.keys import from_base64url, make_ec_key, public_point
from mqttpush.provider_simulator.provider import Reply, Request
from mqttpush.provider_simulator.webpush import ERRORS, VapidKey
from tests.provider_simulator.support import NOW_S, FakeClock, error_of, vapid_header


@pytest.fixture
def key(providers: Providers) -> VapidKey:
    return providers.webpush.make_vapid()


@pytest.fixture
def token(providers: Providers) -> str:
    [token] = providers.webpush.make_tokens()
    return token


def encrypted(token: str, plaintext: bytes = b'{"text":"hello"}', **changes: Any) -> bytes:
    keys = orjson.loads(token)["keys"]
    arguments = {
        "private_key": make_ec_key(),
        "dh": from_base64url(keys["p256dh"]),
        "auth_secret": from_base64url(keys["auth"]),
        **changes,
    }
    body: bytes = http_ece.encrypt(plaintext, **arguments)
    return body


def send(
    providers: Providers, token: str, key: VapidKey, body: bytes | None = None, **changes: Any
) -> Reply:
    """changes: headers, `content_encoding`; None leaves one out."""
    headers = {
        "ttl": "60",
        "content_encoding": "aes128gcm",
        "authorization": vapid_header(key, "https://push.test"),
        **changes,
    }
    sent = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    path = orjson.loads(token)["endpoint"].removeprefix("https://push.test")
    body = encrypted(token) if body is None else body
    return providers.webpush.receive(Request("POST", path, sent, body)).reply


def refused(reply: Reply) -> str:
    name: str = error_of(reply)["error"]
    assert (reply.status, error_of(reply)["errno"]) == ERRORS[name][:2]
    return name


def test_a_push_is_decrypted_and_located(providers: Providers, token: str, key: VapidKey) -> None:
    reply = send(providers, token, key, urgency="high", topic="a-Topic_1")
    assert reply.status == 201
    assert dict(reply.headers) == {"location": "https://push.test/m/1", "ttl": "60"}
    last = providers.webpush.last(token)
    assert last
    assert last.payload == b'{"text":"hello"}'
    assert providers.webpush.count(orjson.loads(token)["endpoint"]) == 1


def test_a_push_may_be_empty(providers: Providers, token: str, key: VapidKey) -> None:
    assert send(providers, token, key, b"", content_encoding=None).status == 201


def test_a_long_ttl_is_shortened_and_told(providers: Providers, token: str, key: VapidKey) -> None:
    assert dict(send(providers, token, key, ttl="9999999").headers)["ttl"] == "2592000"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ttl": None}, "missing_ttl"),
        ({"ttl": "-1"}, "bad_ttl"),
        ({"ttl": "soon"}, "bad_ttl"),
        ({"urgency": "extreme"}, "bad_urgency"),
        ({"topic": "x" * 33}, "bad_topic"),
        ({"topic": "a b"}, "bad_topic"),
        ({"authorization": None}, "unauthorized"),
        ({"authorization": "Bearer x"}, "bad_vapid"),
        ({"authorization": "vapid t=x, k=y"}, "bad_vapid"),
        ({"content_encoding": "aesgcm"}, "bad_encryption"),
    ],
)
def test_headers_are_checked(
    providers: Providers, token: str, key: VapidKey, headers: dict[str, Any], expected: str
) -> None:
    assert refused(send(providers, token, key, **headers)) == expected
    assert providers.webpush.count(token) == 0


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.test"},
        {"exp": int(NOW_S) + 90_000},
        {"exp": int(NOW_S) - 100},
        {"exp": None},
        {"sub": None},
        {"sub": "push@example.com"},
    ],
    ids=["aud", "longer than a day", "expired", "no exp", "no sub", "sub no URL"],
)
def test_claims_of_the_application_server_are_checked(
    providers: Providers, token: str, key: VapidKey, claims: dict[str, Any]
) -> None:
    given = {"aud": "https://push.test", **claims}
    header = vapid_header(key, given.pop("aud"), **given)
    assert refused(send(providers, token, key, authorization=header)) == "bad_vapid"


def test_anothers_signature_is_refused(providers: Providers, token: str, key: VapidKey) -> None:
    other = providers.webpush.make_vapid()
    forged = VapidKey(other.pem, key.public_key, key.subject)
    assert refused(send(providers, token, forged)) == "bad_vapid"


def test_a_vapid_token_that_was_good_expires(
    providers: Providers, token: str, key: VapidKey, clock: FakeClock
) -> None:
    header = vapid_header(key, "https://push.test")
    assert send(providers, token, key, authorization=header).status == 201
    clock.now += 3700
    assert refused(send(providers, token, key, authorization=header)) == "bad_vapid"


def test_a_subscription_takes_only_the_key_it_was_made_with(
    providers: Providers, key: VapidKey
) -> None:
    [token] = providers.webpush.make_tokens(vapid_public_key=key.public_key)
    assert send(providers, token, key).status == 201
    assert refused(send(providers, token, providers.webpush.make_vapid())) == "vapid_mismatch"


def test_what_the_browser_cannot_decrypt_is_refused(
    providers: Providers, token: str, key: VapidKey
) -> None:
    good = encrypted(token)
    for body in (
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:50],
        b"x" * 200,
        os.urandom(20) + b"\x41" + b"\x04" * 65 + b"x" * 40,
        encrypted(token, dh=public_point(make_ec_key())),
        encrypted(token, b"x" * 300, rs=100),
    ):
        assert refused(send(providers, token, key, body)) == "bad_encryption"
    assert providers.webpush.count(token) == 0


def test_the_largest_push_is_taken(providers: Providers, token: str, key: VapidKey) -> None:
    largest = encrypted(token, b"x" * 3993)
    assert len(largest) == 4096
    assert send(providers, token, key, largest).status == 201
    assert refused(send(providers, token, key, largest + b"x")) == "too_large"


def test_unknown_and_dead_subscriptions_are_told_apart(providers: Providers, key: VapidKey) -> None:
    never, gone = providers.webpush.make_tokens(2)
    providers.webpush.forget([never])
    providers.webpush.kill([gone])
    assert send(providers, never, key).status == 404
    assert send(providers, gone, key).status == 410


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_can_be_asked_for(
    providers: Providers, token: str, key: VapidKey, code: str
) -> None:
    providers.add_faults(Fault(network="webpush", code=code))
    assert refused(send(providers, token, key)) == code


@pytest.mark.parametrize(("status", "code"), [(403, "BadJwtToken"), (400, "101")])
def test_codes_of_other_push_services_can_be_asked_for(
    providers: Providers, token: str, key: VapidKey, status: int, code: str
) -> None:
    providers.add_faults(Fault(network="webpush", status=status, code=code))
    reply = send(providers, token, key)
    assert reply.status == status
    assert code in map(str, error_of(reply).values())
