"""Device registration: what is stored, whose a token is, what is refused (spec kinvey 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.collections import Environment, Member, assert_error
from tests.support.operating import choose
from tests.support.rest import Account, Api, unique
from tests.support.server import Server

REGISTER, UNREGISTER = "push/register-device", "push/unregister-device"
ANDROID_TOKEN = "ex6x-QzVTsKm:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"
IOS_TOKEN = "01c5b7ee" * 8


def tokens_of(kinvey: Environment, member: Member) -> list[dict[str, Any]]:
    own = kinvey.ok("GET", "user/_me", member.authorization)
    tokens: list[dict[str, Any]] = own["_messaging"]["pushTokens"]
    return tokens


def shown(platform: str, token: str, **more: str) -> dict[str, Any]:
    return {"token": token, "platform": platform, "arn": None, **more}


def device(token: str, platform: str = "android", **more: Any) -> dict[str, Any]:
    return {"platform": platform, "deviceId": token, **more}


@pytest.mark.spec("kinvey 13.1")
def test_the_requests_of_the_push_guide(kinvey: Environment, joe: Member) -> None:
    """By the user himself, and with the master secret for a user."""
    android, ios = unique(ANDROID_TOKEN), unique(IOS_TOKEN)
    by_master = {**device(ios, "ios"), "userId": joe.id}
    for body, who in ((device(android), joe.authorization), (by_master, kinvey.master)):
        for _ in range(2):
            done = kinvey.call("POST", REGISTER, who, body)
            assert (done.status_code, done.content) == (204, b"")
    assert tokens_of(kinvey, joe) == [shown("android", android), shown("ios", ios)]
    for body, who in ((device(android), joe.authorization), (by_master, kinvey.master)):
        for _ in range(2):
            done = kinvey.call("POST", UNREGISTER, who, body)
            assert (done.status_code, done.content) == (204, b"")
    assert tokens_of(kinvey, joe) == []


@pytest.mark.spec("kinvey 13.1")
def test_who_may_not_register(kinvey: Environment, joe: Member) -> None:
    body = device(unique("t"))
    for path in (REGISTER, UNREGISTER):
        refused = kinvey.call("POST", path, kinvey.app, body)
        assert_error(refused, 401, "InsufficientCredentials")
        refused = kinvey.call("POST", path, kinvey.master, body)
        problem = assert_error(refused, 400, "MissingRequestParameter")
        assert "userId" in problem["debug"]
        refused = kinvey.call("POST", path, kinvey.master, {**body, "userId": "nobody"})
        assert_error(refused, 404, "UserNotFound")
        assert_error(kinvey.call("POST", path, "", body), 401, "InvalidCredentials")


@pytest.mark.spec("kinvey 13.2")
def test_a_token_moves_to_who_registers_it(kinvey: Environment, joe: Member, sue: Member) -> None:
    token = unique("moves")
    kinvey.ok("POST", REGISTER, joe.authorization, device(token))
    kinvey.ok("POST", REGISTER, sue.authorization, device(token, framework="phonegap"))
    assert tokens_of(kinvey, joe) == []
    assert tokens_of(kinvey, sue) == [shown("android", token, framework="phonegap")]
    kinvey.ok("POST", UNREGISTER, joe.authorization, device(token))
    assert len(tokens_of(kinvey, sue)) == 1


@pytest.fixture
def own(server: Server) -> Iterator[Environment]:
    """An app of the test's own, to change what is chosen for it."""
    environment = Environment(server.url, server.create_app(unique("own")))
    yield environment
    environment.close()


@pytest.mark.spec("kinvey 13.2")
def test_a_token_is_shared_if_the_app_says_so(server: Server, own: Environment) -> None:
    choose(server, own.key, shares_device_tokens=True)
    joe, sue = own.member(), own.member()
    body = device(unique("shared"))
    own.ok("POST", REGISTER, joe.authorization, body)
    own.ok("POST", REGISTER, sue.authorization, {**body, "framework": "titanium"})
    assert [len(tokens_of(own, each)) for each in (joe, sue)] == [1, 1]
    assert "framework" not in tokens_of(own, joe)[0]
    choose(server, own.key, shares_device_tokens=False)
    own.ok("POST", REGISTER, joe.authorization, body)
    assert [len(tokens_of(own, each)) for each in (joe, sue)] == [1, 0]


@pytest.mark.spec("kinvey 4.5")
def test_a_strict_app_registers_for_configured_networks_only(
    server: Server, own: Environment
) -> None:
    joe = own.member()
    own.ok("POST", REGISTER, joe.authorization, device(unique("early")))
    choose(server, own.key, is_push_strict=True)
    refused = own.call("POST", REGISTER, joe.authorization, device(unique("late")))
    assert_error(refused, 403, "MissingConfiguration")
    assert len(tokens_of(own, joe)) == 1


@pytest.mark.spec("kinvey 13.3")
@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ({"platform": "android", "service": "firebase"}, {"service": "firebase"}),
        (
            {"platform": "android", "framework": "nativescript", "service": "firebase"},
            {"framework": "nativescript", "service": "firebase"},
        ),
        (
            {"platform": "ios", "framework": "nativescript", "service": "firebase"},
            {"framework": "nativescript", "service": "firebase"},
        ),
        (
            {"platform": "ios", "framework": "react-native", "service": "firebase"},
            {"framework": "react-native", "service": "firebase"},
        ),
        ({"platform": "android", "framework": "phonegap"}, {"framework": "phonegap"}),
        ({"platform": "ios", "service": None}, {}),
        ({"platform": "Android", "framework": "Titanium"}, {"framework": "titanium"}),
        ({"platform": "IOS", "framework": "own thing", "more": [1]}, {"framework": "own thing"}),
        ({"platform": "ios", "userId": "ignored"}, {}),
    ],
)
def test_bodies_as_each_library_sends_them(
    kinvey: Environment, joe: Member, body: dict[str, Any], stored: dict[str, str]
) -> None:
    token = unique("sent")
    answer = kinvey.call("POST", REGISTER, joe.authorization, {**body, "deviceId": token})
    assert answer.status_code == 204
    assert tokens_of(kinvey, joe) == [shown(body["platform"].lower(), token, **stored)]


@pytest.mark.spec("kinvey 4.5")
@pytest.mark.parametrize(
    ("body", "error", "named"),
    [
        ({}, "MissingRequestParameter", "platform"),
        ({"platform": "ios"}, "MissingRequestParameter", "deviceId"),
        ({"deviceId": "t"}, "MissingRequestParameter", "platform"),
        ({"platform": "", "deviceId": "t"}, "MissingRequestParameter", "platform"),
        ({"platform": "ios", "deviceId": ""}, "MissingRequestParameter", "deviceId"),
        ({"platform": "ios", "deviceId": None}, "MissingRequestParameter", "deviceId"),
        ({"platform": "windows", "deviceId": "t"}, "ParameterValueOutOfRange", "platform"),
        ({"platform": 5, "deviceId": "t"}, "ParameterValueOutOfRange", "platform"),
        ({"platform": "ios", "deviceId": 5}, "ParameterValueOutOfRange", "deviceId"),
        ({"platform": "ios", "deviceId": ["t"]}, "ParameterValueOutOfRange", "deviceId"),
        ({"platform": "ios", "deviceId": "x" * 4097}, "ParameterValueOutOfRange", "deviceId"),
        ({"platform": "ios", "deviceId": "a\x00b"}, "ParameterValueOutOfRange", "deviceId"),
        (device("t", framework="x" * 65), "ParameterValueOutOfRange", "framework"),
        (device("t", framework={"a": 1}), "ParameterValueOutOfRange", "framework"),
        (device("t", service=7), "ParameterValueOutOfRange", "service"),
    ],
)
def test_a_bad_registration_names_its_field(
    kinvey: Environment, joe: Member, body: dict[str, Any], error: str, named: str
) -> None:
    refused = kinvey.call("POST", REGISTER, joe.authorization, body)
    assert named in assert_error(refused, 400, error)["debug"]
    assert tokens_of(kinvey, joe) == []


@pytest.mark.spec("kinvey 4.5")
def test_errors_come_in_the_order_of_the_table(kinvey: Environment, joe: Member) -> None:
    url = f"{kinvey.url}/push/{kinvey.key}/register-device"

    def post(content: bytes, who: str) -> httpx.Response:
        headers = {"Authorization": who, "Content-Type": "application/json"}
        return kinvey.http.post(url, content=content, headers=headers)

    assert_error(post(b"not json", "Kinvey wrong"), 401, "InvalidCredentials")
    assert_error(post(b"not json", kinvey.app), 401, "InsufficientCredentials")
    assert_error(post(b"", joe.authorization), 400, "IncompleteRequestBody")
    assert_error(post(b"[]", joe.authorization), 400, "IncompleteRequestBody")
    assert_error(post(b"not json", joe.authorization), 400, "JSONParseError")
    nobody = b'{"platform":"windows","deviceId":"t","userId":"nobody"}'
    assert_error(post(nobody, kinvey.master), 400, "ParameterValueOutOfRange")


@pytest.mark.spec("kinvey 4.4")
def test_the_oldest_of_too_many_tokens_goes(kinvey: Environment, joe: Member) -> None:
    tokens = [unique("many") for _ in range(101)]
    for token in tokens[:100]:
        kinvey.ok("POST", REGISTER, joe.authorization, device(token))
    kinvey.ok("POST", REGISTER, joe.authorization, device(tokens[0]))  # used again
    kinvey.ok("POST", REGISTER, joe.authorization, device(tokens[100]))
    kept = {each["token"] for each in tokens_of(kinvey, joe)}
    assert kept == set(tokens) - {tokens[1]}


@pytest.mark.spec("kinvey 3")
def test_saving_one_s_document_writes_its_devices(
    kinvey: Environment, joe: Member, sue: Member
) -> None:
    mine, theirs = unique("mine"), unique("theirs")
    kinvey.ok("POST", REGISTER, joe.authorization, device(mine))
    kinvey.ok("POST", REGISTER, sue.authorization, device(theirs))
    path = f"user/{joe.id}"
    kept = kinvey.ok("PUT", path, joe.authorization, {"score": 1})
    assert kept["_messaging"]["pushTokens"] == [shown("android", mine)]
    items = [{"platform": "android", "token": theirs}] * 2 + [
        {"platform": "ios", "token": IOS_TOKEN, "framework": "phonegap", "arn": "x"}
    ]
    body = {"_messaging": {"pushTokens": items}}
    saved = kinvey.ok("PUT", path, joe.authorization, body)
    assert {(each["platform"], each["token"]) for each in saved["_messaging"]["pushTokens"]} == {
        ("android", theirs),
        ("ios", IOS_TOKEN),
    }
    assert tokens_of(kinvey, sue) == []
    bad = {"_messaging": {"pushTokens": [{"platform": "android"}]}}
    refused = kinvey.call("PUT", path, joe.authorization, bad)
    assert_error(refused, 400, "MissingRequestParameter")


@pytest.mark.spec("kinvey 3")
def test_a_document_read_before_a_device_was_registered_does_not_forget_it(
    kinvey: Environment, joe: Member
) -> None:
    """Libraries keep the user they logged in, and save it whole later."""
    stale = kinvey.ok("GET", "user/_me", joe.authorization)
    kinvey.ok("POST", REGISTER, joe.authorization, device(unique("new")))
    saved = kinvey.ok("PUT", f"user/{joe.id}", joe.authorization, {**stale, "score": 2})
    assert len(saved["_messaging"]["pushTokens"]) == 1
    fresh = {**saved, "_messaging": {"pushTokens": []}}
    emptied = kinvey.ok("PUT", f"user/{joe.id}", joe.authorization, fresh)
    assert emptied["_messaging"]["pushTokens"] == []


@pytest.mark.spec("kinvey 4.4")
def test_a_deleted_user_s_tokens_are_gone(kinvey: Environment, joe: Member, sue: Member) -> None:
    token = unique("left")
    kinvey.ok("POST", REGISTER, joe.authorization, device(token))
    kinvey.ok("DELETE", f"user/{joe.id}?hard=true", joe.authorization)
    sent = kinvey.ok("POST", "push/sendBroadcast", kinvey.master, {"messageContent": "x"})
    before = sent["devices"]
    kinvey.ok("POST", REGISTER, sue.authorization, device(token))
    sent = kinvey.ok("POST", "push/sendBroadcast", kinvey.master, {"messageContent": "x"})
    assert sent["devices"] == before + 1


def test_a_device_is_an_installation_of_the_other_dialect(
    kinvey: Environment, api: Api, joe: Member, user: Account
) -> None:
    token = unique("both")
    kinvey.ok("POST", REGISTER, joe.authorization, device(token, framework="phonegap"))
    found = api.ok("GET", f"/installations?userID={joe.id}", token=joe.authtoken)
    (installation,) = found["installations"]
    assert installation["deviceType"] == "ANDROID"
    assert installation["installationRegistrationID"] == token
    api.ok("DELETE", f"/installations/{installation['installationID']}", token=joe.authtoken)
    assert tokens_of(kinvey, joe) == []
    body = {"deviceType": "IOS", "installationRegistrationID": unique(IOS_TOKEN)}
    installed = api.call("POST", "/installations", token=user.token, json=body)
    if installed.is_success:
        own = kinvey.ok("GET", "user/_me", f"Kinvey {user.token}")
        tokens = [each["token"] for each in own["_messaging"]["pushTokens"]]
        assert tokens == [body["installationRegistrationID"]]


@pytest.mark.spec("kinvey 7.5")
def test_the_master_secret_finds_users_by_their_devices(kinvey: Environment, joe: Member) -> None:
    android, ios, of_kii = unique("q"), unique("r"), kinvey.member()
    kinvey.call("POST", REGISTER, joe.authorization, device(android, framework="titanium"))
    kinvey.call("POST", REGISTER, of_kii.authorization, device(ios, "ios"))
    known = {"_id": {"$in": [joe.id, of_kii.id, kinvey.member().id]}}
    tokens = "_messaging.pushTokens"
    expected: list[tuple[dict[str, Any], set[str]]] = [
        ({tokens: {"$exists": True}}, {joe.id, of_kii.id}),
        ({"_messaging": {"$exists": True}}, {joe.id, of_kii.id}),
        ({f"{tokens}.token": android}, {joe.id}),
        ({f"{tokens}.token": {"$in": [ios, "x"]}}, {of_kii.id}),
        ({f"{tokens}.platform": "ios"}, {of_kii.id}),
        ({f"{tokens}.framework": {"$exists": True}}, {joe.id}),
        ({tokens: {"$size": 1}}, {joe.id, of_kii.id}),
        ({f"{tokens}.0.arn": None, tokens: {"$exists": True}}, {joe.id, of_kii.id}),
        ({"$or": [{f"{tokens}.token": ios}, {f"{tokens}.token": android}]}, {joe.id, of_kii.id}),
    ]
    for query, ids in expected:
        found = kinvey.find("user", kinvey.master, {**known, **query})
        assert {each["_id"] for each in found} == ids, query
        assert kinvey.count("user", kinvey.master, {**known, **query}) == len(ids)
        for who in (joe, of_kii):
            assert kinvey.find("user", who.authorization, {**known, **query}) == []
    without = {**known, tokens: {"$exists": False}}
    (found,) = kinvey.find("user", kinvey.master, without)
    assert found["_id"] not in (joe.id, of_kii.id)
    assert kinvey.find("user", kinvey.master, known, fields=tokens)[0]["_messaging"]
