"""The simulated JPush takes what JPush takes and answers with its codes."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from mqttpush.provider_simulator import Fault, Providers
from mqttpush.provider_simulator.jpush import ERRORS, JpushPair
from mqttpush.provider_simulator.provider import Reply, Request
from tests.provider_simulator.support import error_of


@pytest.fixture
def pair(providers: Providers) -> JpushPair:
    return providers.jpush.make_pair()


@pytest.fixture
def token(providers: Providers) -> str:
    [token] = providers.jpush.make_tokens()
    return token


def body_for(*tokens: str, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "platform": "all",
        "audience": {"registration_id": list(tokens)},
        "message": {"msg_content": "hello", "extras": {"a": "b"}},
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def send(providers: Providers, pair: JpushPair | None, body: Any, path: str = "/v3/push") -> Reply:
    headers = {}
    if pair is not None:
        encoded = base64.b64encode(f"{pair.app_key}:{pair.master_secret}".encode()).decode()
        headers["authorization"] = f"Basic {encoded}"
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return providers.jpush.receive(Request("POST", path, headers, content)).reply


def test_a_push_is_taken_and_answered_as_jpush_does(
    providers: Providers, pair: JpushPair, token: str
) -> None:
    reply = send(providers, pair, body_for(token, options={"sendno": 18, "time_to_live": 60}))
    answer = orjson.loads(reply.body)
    assert reply.status == 200
    assert answer["sendno"] == "18"
    assert answer["msg_id"].isdigit()
    assert {"x-rate-limit-limit", "x-rate-limit-remaining"} <= dict(reply.headers).keys()
    assert providers.jpush.count(token) == 1


def test_a_validation_reaches_nobody(providers: Providers, pair: JpushPair, token: str) -> None:
    assert send(providers, pair, body_for(token), "/v3/push/validate").status == 200
    assert providers.jpush.count(token) == 0


def test_the_same_cid_is_pushed_once(providers: Providers, pair: JpushPair, token: str) -> None:
    replies = [send(providers, pair, body_for(token, cid="app-1")) for _ in range(2)]
    assert replies[0] == replies[1]
    assert providers.jpush.count(token) == 1


def test_wrong_credentials_are_refused(providers: Providers, pair: JpushPair, token: str) -> None:
    wrong = JpushPair(pair.app_key, "wrong")
    unknown = JpushPair("0" * 24, pair.master_secret)
    for credentials, status, code in ((None, 401, 1004), (wrong, 401, 1004), (unknown, 400, 1008)):
        reply = send(providers, credentials, body_for(token))
        assert (reply.status, error_of(reply)["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"platform": None}, 1002),
        ({"platform": ["symbian"]}, 1003),
        ({"audience": None}, 1002),
        ({"audience": {"registration_id": []}}, 1002),
        ({"audience": {"registration_id": ["with a blank"]}}, 1003),
        ({"audience": {"registration_id": [""]}}, 1003),
        ({"audience": {"registration_id": ["a" * 10] * 1001}}, 1003),
        ({"audience": {"nobody": ["x"]}}, 1009),
        ({"message": None}, 1002),
        ({"message": {"title": "x"}}, 1002),
        ({"message": {"msg_content": 1}}, 1003),
        ({"message": {"msg_content": "x", "extras": []}}, 1003),
        ({"message": {"msg_content": "x" * 4000}}, 1005),
        ({"notification": {"symbian": {}}}, 1009),
        ({"notification": {"android": {}}}, 1002),
        ({"notification": {"ios": {"alert": "x" * 2000}}}, 1005),
        ({"options": {"time_to_live": 864_001}}, 1003),
        ({"options": {"time_to_live": "1"}}, 1003),
        ({"options": {"apns_production": "yes"}}, 1003),
        ({"options": {"apns_collapse_id": "x" * 65}}, 1003),
        ({"surprise": 1}, 1009),
    ],
)
def test_a_wrong_push_is_refused(
    providers: Providers, pair: JpushPair, token: str, changes: dict[str, Any], code: int
) -> None:
    reply = send(providers, pair, body_for(token, **changes))
    assert (reply.status, error_of(reply)["error"]["code"]) == (400, code)
    assert "msg_id" in error_of(reply)
    assert providers.jpush.count(token) == 0


@pytest.mark.parametrize("body", [b"", b"[", b"[]"])
def test_what_is_no_push_is_refused(providers: Providers, pair: JpushPair, body: bytes) -> None:
    assert error_of(send(providers, pair, body))["error"]["code"] == 1003


def test_dead_devices_are_an_error_only_when_all_are(providers: Providers, pair: JpushPair) -> None:
    dead, alive = providers.jpush.make_tokens(2)
    providers.jpush.kill([dead])
    reply = send(providers, pair, body_for(dead))
    assert (reply.status, error_of(reply)["error"]["code"]) == (400, 1011)
    assert send(providers, pair, body_for(dead, alive)).status == 200
    assert (providers.jpush.count(dead), providers.jpush.count(alive)) == (0, 1)


def test_another_apps_device_is_not_found(providers: Providers, pair: JpushPair) -> None:
    [token] = providers.jpush.make_tokens(app_key="another")
    assert error_of(send(providers, pair, body_for(token)))["error"]["code"] == 1011


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_can_be_asked_for(
    providers: Providers, pair: JpushPair, token: str, code: str
) -> None:
    providers.add_faults(Fault(network="jpush", code=code))
    reply = send(providers, pair, body_for(token))
    assert reply.status == ERRORS[code][0]
    assert error_of(reply)["error"]["code"] == int(code.partition(".")[0])
