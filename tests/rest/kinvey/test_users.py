"""Users: sign up, log in and out, look at, find, change, suspend (spec kinvey 3)."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.support.collections import Environment, Member, assert_error
from tests.support.rest import Account, Api, unique

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def sign_up(kinvey: Environment, **fields: Any) -> dict[str, Any]:
    body = {"username": unique("joe"), "password": "secret", **fields}
    user: dict[str, Any] = kinvey.ok("POST", "user", kinvey.app, body)
    return user


def session_of(user: dict[str, Any]) -> str:
    return f"Kinvey {user['_kmd']['authtoken']}"


def find(kinvey: Environment, who: str, query: Any, **parameters: Any) -> list[dict[str, Any]]:
    text = httpx.QueryParams({"query": json.dumps(query), **parameters})
    found: list[dict[str, Any]] = kinvey.ok("GET", f"user/?{text}", who)
    return found


@pytest.mark.spec("kinvey 3")
def test_signing_up_gives_a_document_and_a_session(kinvey: Environment) -> None:
    body = {"username": unique("Joe"), "password": "secret", "email": "a@b", "team": {"a": [1]}}
    answer = kinvey.call("POST", "user/", kinvey.app, body)
    user = answer.json()
    assert answer.status_code == 201
    assert re.fullmatch("[0-9a-f]{24}", user["_id"])
    assert answer.headers["location"] == f"{kinvey.url}/user/{kinvey.key}/{user['_id']}"
    assert {name: user[name] for name in ("username", "email", "team")} == {
        name: body[name] for name in ("username", "email", "team")
    }
    assert user.pop("password") == "secret"
    assert user["_acl"] == {"creator": user["_id"]}
    assert set(user["_kmd"]) == {"ect", "lmt", "llt", "authtoken"}
    assert TIME.fullmatch(user["_kmd"]["ect"])
    assert user["_messaging"] == {"pushTokens": []}
    assert kinvey.ok("GET", "user/_me", session_of(user)) == user


@pytest.mark.spec("kinvey 3")
def test_a_user_without_a_name_gets_one_and_a_password_shown_once(kinvey: Environment) -> None:
    for body in (None, {}, {"team": "a"}):
        user = kinvey.ok("POST", "user", kinvey.app, body)
        credentials = {name: user[name] for name in ("username", "password")}
        again = kinvey.ok("POST", "user/login", kinvey.app, credentials)
        assert again["_id"] == user["_id"]
        assert "password" not in again
        assert "mfaRequired" not in again


@pytest.mark.spec("kinvey 3")
def test_a_user_name_is_taken_once_and_its_case_counts(kinvey: Environment) -> None:
    name = unique("Taken")
    sign_up(kinvey, username=name)
    taken = kinvey.call("POST", "user", kinvey.app, {"username": name, "password": "x"})
    assert_error(taken, 409, "UserAlreadyExists")
    sign_up(kinvey, username=name.lower())
    for asked, exists in ((name, True), (name.upper(), False)):
        answer = kinvey.ok("POST", "rpc/check-username-exists", kinvey.app, {"username": asked})
        assert answer == {"usernameExists": exists}


@pytest.mark.spec("kinvey 3")
@pytest.mark.parametrize(
    "body",
    [
        {"username": 5, "password": "x"},
        {"username": "", "password": "x"},
        {"username": "a\nb", "password": "x"},
        {"username": "x" * 201, "password": "x"},
        {"username": "bad", "password": ["x"]},
        {"username": "bad", "password": ""},
        {"username": "bad", "_messaging": {"pushTokens": {"token": "t"}}},
        {"username": "bad", "text": "x" * 70_000},
        {"username": "bad", "_id": "chosen"},
    ],
)
def test_a_bad_sign_up_is_refused_and_makes_nobody(
    kinvey: Environment, body: dict[str, Any]
) -> None:
    refused = kinvey.call("POST", "user", kinvey.app, body)
    assert_error(refused, 400, "ParameterValueOutOfRange")
    assert find(kinvey, kinvey.master, {"username": "bad"}) == []


def test_with_the_master_secret_one_chooses_the_id(kinvey: Environment) -> None:
    body = {"_id": unique("kept"), "username": unique("kept"), "password": "x"}
    assert kinvey.ok("POST", "user", kinvey.master, body)["_id"] == body["_id"]
    again = kinvey.call("POST", "user", kinvey.master, {**body, "username": unique("kept")})
    assert_error(again, 409, "UserAlreadyExists")


@pytest.mark.spec("kinvey 3")
def test_logging_in_takes_the_right_pair(kinvey: Environment) -> None:
    user = sign_up(kinvey)
    pair = {"username": user["username"], "password": "secret"}
    session = kinvey.ok("POST", "user/login", kinvey.app, pair)
    assert session["_id"] == user["_id"]
    assert session["_kmd"]["authtoken"] != user["_kmd"]["authtoken"]
    assert session["_kmd"]["llt"] >= user["_kmd"]["llt"]
    assert kinvey.ok("GET", "user/_me", session_of(session)) == session
    for wrong in ({**pair, "password": "x"}, {**pair, "username": unique("nobody")}):
        refused = kinvey.call("POST", "user/login", kinvey.app, wrong)
        assert_error(refused, 401, "InvalidCredentials")
    for part in ({"username": "x"}, {"password": "x"}, {**pair, "password": 5}, {}):
        refused = kinvey.call("POST", "user/login", kinvey.app, part)
        assert_error(refused, 400, "IncompleteRequestBody")
    social = kinvey.call("POST", "user/login", kinvey.app, {"_socialIdentity": {}})
    assert_error(social, 400, "FeatureUnavailable")
    refused = kinvey.call("POST", "user/login", session_of(user), pair)
    assert_error(refused, 401, "InsufficientCredentials")


@pytest.mark.spec("kinvey 3")
def test_logging_out_ends_one_session_and_leaves_the_devices(kinvey: Environment) -> None:
    user = sign_up(kinvey)
    pair = {"username": user["username"], "password": "secret"}
    other = session_of(kinvey.ok("POST", "user/login", kinvey.app, pair))
    device = {"platform": "ios", "deviceId": unique("a1")}
    kinvey.ok("POST", "push/register-device", other, device)
    assert kinvey.call("POST", "user/_logout", session_of(user)).status_code == 204
    ended = kinvey.call("GET", "user/_me", session_of(user))
    assert_error(ended, 401, "InvalidCredentials")
    own = kinvey.ok("GET", "user/_me", other)
    assert [each["token"] for each in own["_messaging"]["pushTokens"]] == [device["deviceId"]]
    assert_error(kinvey.call("POST", "user/_logout", kinvey.app), 401, "InsufficientCredentials")


@pytest.mark.spec("kinvey 3")
def test_others_see_a_user_but_not_his_devices_and_may_not_change_him(
    kinvey: Environment, joe: Member, sue: Member
) -> None:
    device = {"platform": "android", "deviceId": unique("secret-token")}
    kinvey.ok("POST", "push/register-device", joe.authorization, device)
    path = f"user/{joe.id}"
    seen = kinvey.call("GET", path, sue.authorization)
    assert seen.json()["_id"] == joe.id
    assert "_messaging" not in seen.json()
    assert "authtoken" not in seen.text
    found = find(kinvey, sue.authorization, {"_id": joe.id})
    assert ["_messaging" in each for each in found] == [False]
    for method in ("PUT", "DELETE"):
        refused = kinvey.call(method, path, sue.authorization, {} if method == "PUT" else None)
        assert_error(refused, 401, "InsufficientCredentials")
    assert kinvey.ok("GET", path, kinvey.master)["_messaging"]["pushTokens"]
    for path in (f"user/{joe.id}", "user", "user/_count", "user/_me"):
        refused = kinvey.call("GET", path, kinvey.app)
        assert_error(refused, 401, "InsufficientCredentials")


@pytest.mark.spec("kinvey 3")
@pytest.mark.parametrize(
    "query",
    [
        {"_messaging.pushTokens.token": "secret"},
        {"_messaging": {"$exists": True}},
        {"password": {"$exists": True}},
        {"_kmd.authtoken": {"$exists": True}},
        {"password_hash": {"$regex": "."}},
    ],
)
def test_a_query_is_no_way_to_ask_for_secrets(
    kinvey: Environment, joe: Member, sue: Member, query: dict[str, Any]
) -> None:
    device = {"platform": "android", "deviceId": "secret"}
    kinvey.ok("POST", "push/register-device", joe.authorization, device)
    assert find(kinvey, sue.authorization, query) == []


def test_a_user_of_the_other_dialect_is_seen_by_nobody_but_himself_and_the_administrator(
    kinvey: Environment, joe: Member, api: Api, user: Account
) -> None:
    address = f"{unique('private')}@example.com"
    api.ok("PATCH", "/users/me", token=user.token, json={"emailAddress": address, "a": 1})
    path = f"user/{user.id}"
    assert_error(kinvey.call("GET", path, joe.authorization), 404, "UserNotFound")
    refused = kinvey.call("PUT", path, joe.authorization, {})
    assert_error(refused, 404, "UserNotFound")
    for query in ({"_id": user.id}, {"email": address}, {"a": 1}):
        assert find(kinvey, joe.authorization, query) == []
    looked_up = kinvey.ok("POST", "user/_lookup", joe.authorization, {"email": address})
    assert looked_up == []
    for who in (f"Kinvey {user.token}", kinvey.master):
        own = kinvey.ok("GET", path, who)
        assert (own["_id"], own["email"], own["a"]) == (user.id, address, 1)


@pytest.mark.spec("kinvey 7.5")
def test_users_are_found_by_query_sorted_and_counted(kinvey: Environment, joe: Member) -> None:
    team = unique("team")
    users = [sign_up(kinvey, team=team, score=score) for score in (3, 1, 2)]
    who = joe.authorization
    found = find(kinvey, who, {"team": team}, sort='{"score":-1}', limit=2)
    assert [each["score"] for each in found] == [3, 2]
    found = find(kinvey, who, {"team": team, "score": {"$lt": 3}}, sort="score", skip=1)
    assert [each["score"] for each in found] == [2]
    found = find(kinvey, who, {"username": users[1]["username"]}, fields="score")
    assert [each["score"] for each in found] == [1]
    assert "username" not in found[0]
    by_time = find(kinvey, who, {"team": team, "_kmd.ect": {"$gte": users[0]["_kmd"]["ect"]}})
    assert len(by_time) == 3
    text = httpx.QueryParams({"query": json.dumps({"team": team})})
    assert kinvey.ok("GET", f"user/_count?{text}", who) == {"count": 3}
    for bad in ("{", "[]", '{"a":{"$near":1}}'):
        refused = kinvey.call("GET", f"user/?{httpx.QueryParams({'query': bad})}", who)
        assert_error(refused, 400, "InvalidQuerySyntax")


@pytest.mark.spec("kinvey 3")
def test_looking_up_shows_public_fields_only(kinvey: Environment, joe: Member) -> None:
    user = sign_up(kinvey, first_name="Ann", email="ann@example.com", salary=5)
    wanted = {"username": user["username"], "first_name": "Ann"}
    found = kinvey.ok("POST", "user/_lookup", joe.authorization, wanted)
    assert found == [{"_id": user["_id"], "email": "ann@example.com", **wanted}]
    refused = kinvey.call("POST", "user/_lookup", joe.authorization, {"salary": 5})
    assert_error(refused, 400, "ParameterValueOutOfRange")
    refused = kinvey.call("POST", "user/_lookup", joe.authorization, {})
    assert_error(refused, 400, "MissingRequestParameter")


@pytest.mark.spec("kinvey 3")
def test_a_change_replaces_the_document(kinvey: Environment) -> None:
    user = sign_up(kinvey, team="a", score=1)
    own = session_of(user)
    path = f"user/{user['_id']}"
    changed = kinvey.ok("PUT", path, own, {"username": user["username"], "score": 2})
    assert ("team" in changed, changed["score"]) == (False, 2)
    assert changed["_kmd"]["ect"] == user["_kmd"]["ect"]
    assert changed["_kmd"]["lmt"] >= user["_kmd"]["lmt"]
    renamed = kinvey.ok("PUT", path, kinvey.master, {**changed, "username": unique("renamed")})
    assert kinvey.ok("GET", path, kinvey.master) == renamed
    assert renamed["_kmd"]["ect"] == user["_kmd"]["ect"]
    other = sign_up(kinvey)
    taken = kinvey.call("PUT", path, own, {"username": other["username"]})
    assert_error(taken, 409, "UserAlreadyExists")
    gone = kinvey.call("PUT", "user/nobody", kinvey.master, {})
    assert_error(gone, 404, "UserNotFound")


@pytest.mark.spec("kinvey 2")
def test_a_new_password_ends_the_other_sessions(kinvey: Environment) -> None:
    user = sign_up(kinvey)
    pair = {"username": user["username"], "password": "secret"}
    other = session_of(kinvey.ok("POST", "user/login", kinvey.app, pair))
    path, own = f"user/{user['_id']}", session_of(user)
    kinvey.ok("PUT", path, own, {**user, "password": "another"})
    assert kinvey.ok("GET", "user/_me", own)["_id"] == user["_id"]
    assert_error(kinvey.call("GET", "user/_me", other), 401, "InvalidCredentials")
    refused = kinvey.call("POST", "user/login", kinvey.app, pair)
    assert_error(refused, 401, "InvalidCredentials")
    kinvey.ok("POST", "user/login", kinvey.app, {**pair, "password": "another"})


@pytest.mark.spec("kinvey 3")
def test_the_password_one_has_is_not_new(kinvey: Environment) -> None:
    user = sign_up(kinvey)
    pair = {name: user[name] for name in ("username", "password")}
    other = session_of(kinvey.ok("POST", "user/login", kinvey.app, pair))
    kinvey.ok("PUT", f"user/{user['_id']}", session_of(user), {**user, "team": "b"})
    assert kinvey.ok("GET", "user/_me", other)["team"] == "b"


@pytest.mark.spec("kinvey 3")
def test_a_user_finds_the_token_of_his_session_in_his_document(
    kinvey: Environment, joe: Member
) -> None:
    user = sign_up(kinvey)
    path, token = f"user/{user['_id']}", user["_kmd"]["authtoken"]
    for answer in (
        kinvey.ok("GET", "user/_me", session_of(user)),
        kinvey.ok("GET", path, session_of(user)),
        kinvey.ok("PUT", path, session_of(user), {"team": "a"}),
    ):
        assert answer["_kmd"]["authtoken"] == token
        assert answer["_kmd"]["llt"] == user["_kmd"]["llt"]
    for authorization in (joe.authorization, kinvey.master):
        assert not {"authtoken", "llt"} & set(kinvey.ok("GET", path, authorization)["_kmd"])


@pytest.mark.spec("kinvey 3")
@pytest.mark.parametrize(
    ("version", "parameters", "is_gone"),
    [
        (0, "", True),
        (1, "", True),
        (1, "?soft=true", False),
        (2, "", False),
        (2, "?hard=true", True),
        (6, "", False),
        (6, "?hard=true", True),
    ],
)
def test_deleting_is_for_good_or_suspends_by_version(
    kinvey: Environment, version: int, parameters: str, is_gone: bool
) -> None:
    user = sign_up(kinvey)
    path, own = f"user/{user['_id']}", session_of(user)
    deleted = kinvey.call("DELETE", path + parameters, own, version=version)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert_error(kinvey.call("GET", "user/_me", own), 401, "InvalidCredentials")
    pair = {"username": user["username"], "password": "secret"}
    refused = kinvey.call("POST", "user/login", kinvey.app, pair)
    assert_error(refused, 401, "InvalidCredentials")
    seen = kinvey.call("GET", path, kinvey.master)
    assert seen.status_code == (404 if is_gone else 200)
    name = {"username": user["username"]}
    assert kinvey.ok("POST", "user/_lookup", kinvey.master, name) == []
    known = kinvey.ok("POST", "rpc/check-username-exists", kinvey.app, name)
    assert known == {"usernameExists": not is_gone}
    restored = kinvey.call("POST", f"{path}/_restore", kinvey.master)
    assert restored.status_code == (404 if is_gone else 204)
    if not is_gone:
        assert seen.json()["_kmd"]["status"]["val"] == "disabled"
        assert_error(kinvey.call("GET", "user/_me", own), 401, "InvalidCredentials")
        assert kinvey.ok("POST", "user/login", kinvey.app, pair)["_id"] == user["_id"]
        assert "status" not in kinvey.ok("GET", path, kinvey.master)["_kmd"]


@pytest.mark.spec("kinvey 3")
def test_only_the_administrator_restores(kinvey: Environment, joe: Member, sue: Member) -> None:
    for who in (joe.authorization, sue.authorization, kinvey.app):
        refused = kinvey.call("POST", f"user/{joe.id}/_restore", who)
        assert_error(refused, 401, "InsufficientCredentials")


def test_a_user_is_the_same_in_both_dialects(kinvey: Environment, api: Api) -> None:
    user = sign_up(kinvey, team="a")
    body = {"username": user["username"], "password": "secret"}
    token = api.ok("POST", "/oauth2/token", json=body)["access_token"]
    seen = api.ok("GET", "/users/me", token=token)
    assert (seen["userID"], seen["loginName"], seen["team"]) == (
        user["_id"],
        user["username"],
        "a",
    )
    assert kinvey.ok("GET", "user/_me", f"Kinvey {token}")["_id"] == user["_id"]
    assert api.ok("GET", "/users/me", token=user["_kmd"]["authtoken"])["userID"] == user["_id"]
