"""The simulated APNs takes what Apple's servers take and gives their reasons."""

from __future__ import annotations

from typing import Any

import pytest

from mqttpush.provider_simulator import Fault, Providers
from mqttpush.provider_simulator.apns import PROVIDER_TOKENS_LIMIT, REASONS, ApnsKey
from tests.provider_simulator.support import (
    NOW_S,
    TOPIC,
    FakeClock,
    error_of,
    provider_token,
    send_apns,
)

ID = "123E4567-E89B-12D3-A456-4266554400A0"


@pytest.fixture
def key(providers: Providers) -> ApnsKey:
    return providers.apns.make_key()


@pytest.fixture
def signed(key: ApnsKey) -> str:
    return provider_token(key)


@pytest.fixture
def token(providers: Providers) -> str:
    [token] = providers.apns.make_tokens()
    return token


def reason(providers: Providers, token: str, signed: str = "", **given: Any) -> str:
    reply = send_apns(providers, token, signed, **given)
    if reply.status == 200:
        return ""
    found: str = error_of(reply)["reason"]
    assert REASONS[found] == reply.status
    return found


def test_a_push_is_taken_and_its_id_given_back(
    providers: Providers, token: str, signed: str
) -> None:
    reply = send_apns(providers, token, signed, apns_id=ID)
    assert (reply.status, reply.body) == (200, b"")
    assert dict(reply.headers)["apns-id"] == ID
    last = providers.apns.last(token.upper())
    assert last
    assert last.payload == b'{"aps":{"alert":"hello"}}'
    assert last.headers["apns-topic"] == TOPIC


def test_both_environments_take_a_device_that_is_bound_to_none(
    providers: Providers, token: str, signed: str
) -> None:
    assert dict(send_apns(providers, token, signed).headers).get("apns-unique-id") is None
    reply = send_apns(providers, token, signed, is_sandbox=True)
    assert dict(reply.headers)["apns-unique-id"]
    assert providers.apns.count(token) == 2


def test_a_device_of_the_other_environment_is_a_bad_token(
    providers: Providers, signed: str
) -> None:
    [token] = providers.apns.make_tokens(environment="sandbox")
    assert reason(providers, token, signed) == "BadDeviceToken"
    assert reason(providers, token, signed, is_sandbox=True) == ""


def test_a_device_of_another_app_is_not_for_the_topic(providers: Providers, signed: str) -> None:
    [token] = providers.apns.make_tokens(topic="com.example.other")
    assert reason(providers, token, signed) == "DeviceTokenNotForTopic"


@pytest.mark.parametrize("token", ["", "xyz", "ab" * 31, "ab" * 101, "ab" * 32 + "\n", "0" * 64])
def test_a_malformed_or_nobodys_device_token_is_refused(
    providers: Providers, signed: str, token: str
) -> None:
    assert reason(providers, token, signed) == ("BadDeviceToken" if token else "MissingDeviceToken")


@pytest.mark.parametrize(
    ("code", "since_ms"), [("Unregistered", 1_700_000_000_000), ("ExpiredToken", 5)]
)
def test_a_dead_device_is_told_with_its_time(
    providers: Providers, token: str, signed: str, code: str, since_ms: int
) -> None:
    providers.apns.kill([token], code=code, since_ms=since_ms)
    reply = send_apns(providers, token, signed)
    assert reply.status == 410
    assert error_of(reply) == {"reason": code, "timestamp": since_ms}


# --- credentials ---


def test_no_credentials_are_named(providers: Providers, token: str) -> None:
    assert reason(providers, token) == "MissingProviderToken"


@pytest.mark.parametrize(
    "claims",
    [{"iss": "OTHERTEAM1"}, {"iat": int(NOW_S) + 600}, {"iat": "now"}, {"iat": True}],
    ids=["team", "clock ahead", "no number", "boolean"],
)
def test_wrong_claims_are_an_invalid_token(
    providers: Providers, key: ApnsKey, token: str, claims: dict[str, Any]
) -> None:
    assert reason(providers, token, provider_token(key, **claims)) == "InvalidProviderToken"


def test_anothers_signature_and_garbage_are_an_invalid_token(
    providers: Providers, key: ApnsKey, token: str
) -> None:
    other = providers.apns.make_key()
    forged = provider_token(ApnsKey(other.pem, key.key_id, key.team_id))
    assert reason(providers, token, forged) == "InvalidProviderToken"
    unknown = provider_token(ApnsKey(key.pem, "UNKNOWNKEY", key.team_id))
    assert reason(providers, token, unknown) == "InvalidProviderToken"
    assert reason(providers, token, "garbage") == "InvalidProviderToken"


def test_a_provider_token_expires_after_an_hour(
    providers: Providers, key: ApnsKey, token: str, signed: str, clock: FakeClock
) -> None:
    assert reason(providers, token, signed) == ""
    clock.now += 3601
    assert reason(providers, token, signed) == "ExpiredProviderToken"
    assert reason(providers, token, provider_token(key, iat=int(clock.now))) == ""


def test_provider_tokens_expire_when_told(
    providers: Providers, key: ApnsKey, token: str, clock: FakeClock
) -> None:
    old = provider_token(key)
    clock.now += 60
    providers.apns.expire_provider_tokens()
    assert reason(providers, token, old) == "ExpiredProviderToken"
    assert reason(providers, token, provider_token(key, iat=int(clock.now))) == ""


def test_signing_for_every_push_is_noticed(
    providers: Providers, key: ApnsKey, token: str, clock: FakeClock
) -> None:
    for _ in range(PROVIDER_TOKENS_LIMIT):
        assert reason(providers, token, provider_token(key)) == ""
    assert reason(providers, token, provider_token(key)) == "TooManyProviderTokenUpdates"
    clock.now += 1300
    assert reason(providers, token, provider_token(key, iat=int(clock.now))) == ""


def test_a_key_of_one_environment_and_of_some_topics_is_good_for_those(
    providers: Providers, token: str
) -> None:
    key = providers.apns.make_key(topics=(TOPIC,), environment="sandbox")
    signed = provider_token(key)
    assert reason(providers, token, signed) == "BadEnvironmentKeyIdInToken"
    assert reason(providers, token, signed, is_sandbox=True) == ""
    assert (
        reason(providers, token, signed, is_sandbox=True, apns_topic="com.x") == "TopicDisallowed"
    )


def test_an_unknown_certificate_is_bad(providers: Providers, token: str) -> None:
    assert reason(providers, token, peer="abc") == "BadCertificate"


# --- headers and payload ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"apns_topic": None}, "MissingTopic"),
        ({"apns_push_type": "loud"}, "InvalidPushType"),
        ({"apns_push_type": None}, ""),
        ({"apns_priority": "11"}, "BadPriority"),
        ({"apns_priority": "1"}, ""),
        ({"apns_push_type": "background", "apns_priority": "10"}, "BadPriority"),
        ({"apns_push_type": "background", "apns_priority": "5"}, ""),
        ({"apns_expiration": "tomorrow"}, "BadExpirationDate"),
        ({"apns_expiration": "1800000000"}, ""),
        ({"apns_collapse_id": "x" * 65}, "BadCollapseId"),
        ({"apns_collapse_id": "x" * 64}, ""),
        ({"apns_id": "12"}, "BadMessageId"),
        ({"repeated": frozenset({"apns-topic"})}, "DuplicateHeaders"),
        ({"method": "GET"}, "MethodNotAllowed"),
        ({"path": "/2/device/ab"}, "BadPath"),
        ({"body": b""}, "PayloadEmpty"),
        ({"body": b"no json"}, "PayloadEmpty"),
        ({"body": b'{"a":"' + b"x" * 4088 + b'"}'}, ""),
        ({"body": b'{"a":"' + b"x" * 4089 + b'"}'}, "PayloadTooLarge"),
        ({"body": b'{"a":"' + b"x" * 5000 + b'"}', "apns_push_type": "voip"}, ""),
    ],
)
def test_headers_and_payload_are_checked(
    providers: Providers, token: str, signed: str, given: dict[str, Any], expected: str
) -> None:
    assert reason(providers, token, signed, **given) == expected
    assert providers.apns.count(token) == (0 if expected else 1)


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_can_be_asked_for(
    providers: Providers, token: str, signed: str, code: str
) -> None:
    providers.add_faults(Fault(network="apns", code=code, retry_after=30))
    reply = send_apns(providers, token, signed)
    assert (reply.status, error_of(reply)["reason"]) == (REASONS[code], code)
    assert dict(reply.headers)["retry-after"] == "30"
    assert ("timestamp" in error_of(reply)) is (reply.status == 410)
