"""The simulated FCM takes what FCM takes and words its refusals as FCM does."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from mqttpush.provider_simulator import Fault, Providers
from mqttpush.provider_simulator.fcm import ERRORS, GOOGLE_AUDIENCE, OAUTH_ERRORS
from tests.provider_simulator.support import (
    NOW_S,
    FakeClock,
    access_token,
    ask_for_token,
    assertion,
    error_of,
    send_fcm,
)


@pytest.fixture
def account(providers: Providers) -> dict[str, str]:
    return providers.fcm.make_service_account()


@pytest.fixture
def bearer(providers: Providers, account: dict[str, str]) -> str:
    return access_token(providers, account)


@pytest.fixture
def token(providers: Providers) -> str:
    [token] = providers.fcm.make_tokens()
    return token


def details_of(error: Any) -> dict[str, Any]:
    """Details by the last part of their type."""
    return {each["@type"].rpartition(".")[2]: each for each in error["error"].get("details", [])}


# --- access tokens ---


@pytest.mark.parametrize("audience", ["http://fcm.test/token", GOOGLE_AUDIENCE])
def test_a_service_account_gets_an_access_token(
    providers: Providers, account: dict[str, str], audience: str
) -> None:
    reply = ask_for_token(providers, assertion(account, aud=audience))
    answer = orjson.loads(reply.body)
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3599)
    assert providers.fcm.oauth_count == 1


@pytest.mark.parametrize(
    ("claims", "error", "words"),
    [
        ({"iss": "stranger@example.com"}, "invalid_grant", "account not found"),
        ({"aud": "https://example.com/token"}, "invalid_grant", "audience"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope", "scope"),
        ({"exp": int(NOW_S) + 3700}, "invalid_grant", "short-lived"),
        ({"exp": int(NOW_S) - 100, "iat": int(NOW_S) - 3600}, "invalid_grant", "reasonable"),
        ({"iat": int(NOW_S) + 600, "exp": int(NOW_S) + 1200}, "invalid_grant", "reasonable"),
        ({"iat": None}, "invalid_grant", "iat"),
    ],
    ids=["iss", "aud", "scope", "long-lived", "expired", "clock ahead", "no iat"],
)
def test_wrong_claims_get_no_access_token(
    providers: Providers, account: dict[str, str], claims: dict[str, Any], error: str, words: str
) -> None:
    reply = ask_for_token(providers, assertion(account, **claims))
    assert reply.status == 400
    assert error_of(reply)["error"] == error
    assert words in error_of(reply)["error_description"]


def test_another_accounts_key_gets_no_access_token(
    providers: Providers, account: dict[str, str]
) -> None:
    other = providers.fcm.make_service_account()
    forged = {**account, "private_key": other["private_key"]}
    assert "Signature" in error_of(ask_for_token(providers, assertion(forged)))["error_description"]


def test_a_deleted_account_gets_no_access_token(
    providers: Providers, account: dict[str, str]
) -> None:
    providers.fcm.delete_service_account(account["client_email"])
    assert ask_for_token(providers, assertion(account)).status == 400


def test_another_grant_type_and_garbage_get_no_access_token(
    providers: Providers, account: dict[str, str]
) -> None:
    reply = ask_for_token(providers, assertion(account), "password")
    assert error_of(reply)["error"] == "unsupported_grant_type"
    assert error_of(ask_for_token(providers, "garbage"))["error"] == "invalid_request"


# --- sends ---


def test_a_message_is_taken_and_counted(providers: Providers, bearer: str, token: str) -> None:
    message = {"token": token, "data": {"text": "hello"}, "android": {"ttl": "3600s"}}
    reply = send_fcm(providers, bearer, {"message": message})
    assert reply.status == 200
    assert orjson.loads(reply.body)["name"].startswith("projects/demo-project/messages/")
    last = providers.fcm.last(token)
    assert last
    assert orjson.loads(last.payload)["message"] == message
    assert providers.fcm.count(token) == 1


@pytest.mark.parametrize("name", ["validate_only", "validateOnly"])
def test_a_dry_run_reaches_nobody(providers: Providers, bearer: str, token: str, name: str) -> None:
    reply = send_fcm(providers, bearer, {"message": {"token": token}, name: True})
    assert orjson.loads(reply.body)["name"].endswith("/fake_message_id")
    assert providers.fcm.count(token) == 0
    assert providers.fcm.ledger.dry_run_count == 1


def test_without_or_with_an_unknown_access_token_nothing_is_sent(
    providers: Providers, token: str
) -> None:
    for bearer, reason in (("", "CREDENTIALS_MISSING"), ("ya29.x", "ACCESS_TOKEN_EXPIRED")):
        reply = send_fcm(providers, bearer, {"message": {"token": token}})
        assert (reply.status, error_of(reply)["error"]["status"]) == (401, "UNAUTHENTICATED")
        assert details_of(error_of(reply))["ErrorInfo"]["reason"] == reason


def test_access_tokens_end(
    providers: Providers, bearer: str, account: dict[str, str], token: str, clock: FakeClock
) -> None:
    providers.fcm.expire_access_tokens()
    assert send_fcm(providers, bearer, {"message": {"token": token}}).status == 401
    renewed = access_token(providers, account)
    assert send_fcm(providers, renewed, {"message": {"token": token}}).status == 200
    clock.now += 3600
    assert send_fcm(providers, renewed, {"message": {"token": token}}).status == 401


def test_another_project_is_refused(providers: Providers, bearer: str, token: str) -> None:
    reply = send_fcm(providers, bearer, {"message": {"token": token}}, project="other")
    assert (reply.status, error_of(reply)["error"]["status"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"data": {"count": 12}}, "message.data[0].value"),
        ({"datta": {}}, "message"),
        ({"android": {"ttl": 60}}, "message.android.ttl"),
        ({"android": {"ttl": "60"}}, "message.android.ttl"),
        ({"android": {"ttl": "2419201s"}}, "message.android.ttl"),
        ({"android": {"priority": "urgent"}}, "message.android.priority"),
        ({"android": {"notification": {"sticky": "yes"}}}, "message.android.notification.sticky"),
        ({"android": {"notification": {"body_loc_args": "x"}}}, None),
        ({"apns": {"payload": []}}, "message.apns.payload"),
        ({"data": {"from": "me"}}, "message.data"),
        ({"data": {"google.x": "y"}}, "message.data"),
        ({"data": {"gcm.x": "y"}}, "message.data"),
        ({"data": {"text": "x" * 4093}}, "message"),
        ({"topic": "news"}, "message"),
    ],
)
def test_a_wrong_message_is_named(
    providers: Providers, bearer: str, token: str, message: dict[str, Any], field: str | None
) -> None:
    reply = send_fcm(providers, bearer, {"message": {"token": token, **message}})
    assert reply.status == 400
    [violation] = details_of(error_of(reply))["BadRequest"]["fieldViolations"]
    if field is not None:
        assert violation["field"] == field
    assert providers.fcm.count(token) == 0


def test_the_largest_message_is_taken(providers: Providers, bearer: str, token: str) -> None:
    message = {"token": token, "data": {"text": "x" * 4092}}
    assert send_fcm(providers, bearer, {"message": message}).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', {}, {"message": {}}])
def test_what_is_no_message_is_refused(providers: Providers, bearer: str, body: Any) -> None:
    assert send_fcm(providers, bearer, body).status == 400


@pytest.mark.parametrize("token", ["short", "with a blank and more of it", "x" * 25 + "\n"])
def test_a_malformed_device_token_is_named(providers: Providers, bearer: str, token: str) -> None:
    reply = send_fcm(providers, bearer, {"message": {"token": token}})
    details = details_of(error_of(reply))
    assert details["FcmError"]["errorCode"] == "INVALID_ARGUMENT"
    assert details["BadRequest"]["fieldViolations"][0]["field"] == "message.token"


def test_a_dead_device_is_unregistered_until_it_is_back(
    providers: Providers, bearer: str, token: str
) -> None:
    providers.fcm.kill([token])
    reply = send_fcm(providers, bearer, {"message": {"token": token}})
    assert reply.status == 404
    assert details_of(error_of(reply))["FcmError"]["errorCode"] == "UNREGISTERED"
    providers.fcm.revive([token])
    assert send_fcm(providers, bearer, {"message": {"token": token}}).status == 200


def test_another_projects_device_is_a_sender_mismatch(providers: Providers, bearer: str) -> None:
    [token] = providers.fcm.make_tokens(project="other")
    reply = send_fcm(providers, bearer, {"message": {"token": token}})
    assert reply.status == 403
    assert details_of(error_of(reply))["FcmError"]["errorCode"] == "SENDER_ID_MISMATCH"


def test_other_paths_and_methods_are_refused(providers: Providers, bearer: str) -> None:
    from mqttpush.provider_simulator.provider import Request

    def status(method: str, path: str) -> int:
        return providers.fcm.receive(Request(method, path, {}, b"")).reply.status

    assert status("GET", "/v1/projects/demo-project/messages:send") == 405
    assert status("POST", "/fcm/send") == 404


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_of_a_send_can_be_asked_for(
    providers: Providers, bearer: str, token: str, code: str
) -> None:
    providers.add_faults(Fault(network="fcm", code=code))
    reply = send_fcm(providers, bearer, {"message": {"token": token}})
    assert (reply.status, error_of(reply)["error"]["status"]) == (
        ERRORS[code].http,
        ERRORS[code].status,
    )
    assert providers.fcm.count(token) == 0


@pytest.mark.parametrize("code", OAUTH_ERRORS)
def test_every_error_of_the_token_endpoint_can_be_asked_for(
    providers: Providers, account: dict[str, str], code: str
) -> None:
    providers.add_faults(Fault(network="fcm", place="oauth", code=code))
    reply = ask_for_token(providers, assertion(account))
    assert (reply.status, error_of(reply)["error"]) == OAUTH_ERRORS[code][:2]
    assert ask_for_token(providers, assertion(account)).status == 200
