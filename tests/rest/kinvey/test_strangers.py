"""What strangers and other people's users try, and programs of the field do by mistake."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.rest.kinvey import samples
from tests.support.collections import Environment, Member, assert_error, basic
from tests.support.rest import unique

REQUEST_ID = re.compile("[0-9a-f]{32}")
TOKENS_KEPT = 100
FOLDERS = ("appdata", "user", "push", "rpc")


@pytest.mark.spec("kinvey 1.2")
@pytest.mark.parametrize("who", ["nobody", "app", "user"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "TRACE"])
def test_any_method_on_any_path_gets_a_named_answer(
    kinvey: Environment, joe: Member, method: str, who: str
) -> None:
    authorization = {"nobody": "", "app": kinvey.app, "user": joe.authorization}[who]
    paths = kinvey.http.get(f"{kinvey.url}/openapi.json").json()["paths"]
    tried = [each for each in paths if each.split("/")[1] in FOLDERS]
    assert len(tried) > 20
    for path in tried:
        url = kinvey.url + samples.path_of(path, {"appKey": kinvey.key})
        headers = {**samples.headers_of(authorization), "Origin": "https://shop.example"}
        answer = kinvey.http.request(method, url, headers=headers)
        assert REQUEST_ID.fullmatch(answer.headers["x-kinvey-request-id"]), path
        assert "www-authenticate" not in answer.headers
        assert answer.status_code < 500, f"{method} {path}: {answer.text}"
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"


@pytest.mark.spec("kinvey 3")
@pytest.mark.parametrize("user_id", ["\u20ac\U0001f600", "with blank", "a?b#c%2F"])
def test_an_exported_id_may_have_any_characters_but_a_slash(
    kinvey: Environment, user_id: str
) -> None:
    user_id = unique(user_id)
    made = kinvey.call("POST", "user", kinvey.master, {"_id": user_id, "username": user_id})
    assert made.status_code == 201
    found = kinvey.http.get(made.headers["location"], headers={"Authorization": kinvey.master})
    assert found.json()["_id"] == user_id


@pytest.mark.spec("kinvey 3")
def test_an_id_is_no_path(kinvey: Environment) -> None:
    body = {"_id": "x/buckets/y", "username": unique("path")}
    refused = kinvey.call("POST", "user", kinvey.master, body)
    assert "_id" in assert_error(refused, 400, "ParameterValueOutOfRange")["debug"]


@pytest.mark.spec("kinvey 3")
def test_one_looks_up_by_a_few_fields_at_once(kinvey: Environment, joe: Member) -> None:
    wide = {f"email.part{number}": 1 for number in range(5000)}
    refused = kinvey.call("POST", "user/_lookup", joe.authorization, wide)
    assert_error(refused, 400, "ParameterValueOutOfRange")
    for criteria in ({"email": {"$gt": ""}}, {"email" + ".a" * 10_000: 1}, {"email.\x00": "x"}):
        assert kinvey.ok("POST", "user/_lookup", joe.authorization, criteria) == []


@pytest.mark.spec("kinvey 4.4")
def test_of_too_many_devices_in_a_document_the_last_are_kept(
    kinvey: Environment, joe: Member
) -> None:
    tokens = [unique("saved") for _ in range(1000)]
    items = [{"platform": "android", "token": token} for token in tokens]
    saved = kinvey.ok(
        "PUT", f"user/{joe.id}", joe.authorization, {"_messaging": {"pushTokens": items}}
    )
    kept = [each["token"] for each in saved["_messaging"]["pushTokens"]]
    assert sorted(kept) == sorted(tokens[-TOKENS_KEPT:])


@pytest.mark.spec("kinvey 2")
@pytest.mark.parametrize("place", ["body", "header"])
def test_guesses_sent_at_once_are_counted_like_those_sent_in_turn(
    kinvey: Environment, place: str
) -> None:
    name = unique("guessed")
    kinvey.ok("POST", "user", kinvey.app, {"username": name, "password": "secret"})

    def guess(number: int) -> httpx.Response:
        pair = {"username": name, "password": f"guess {number}"}
        if place == "body":
            return kinvey.call("POST", "user/login", kinvey.app, pair)
        return kinvey.call("GET", "user/_me", basic(name, pair["password"]), version=3)

    with ThreadPoolExecutor(40) as threads:
        statuses = [answer.status_code for answer in threads.map(guess, range(40))]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) <= 5  # security.max_failed_passwords


@pytest.mark.spec("kinvey 3")
def test_what_a_user_may_not_write_stays_as_it_is(
    kinvey: Environment, joe: Member, sue: Member
) -> None:
    own = kinvey.ok("GET", "user/_me", joe.authorization)
    stolen = {
        "_id": sue.id,
        "_acl": {"creator": sue.id, "gw": True, "w": [sue.id]},
        "_kmd": {"ect": "2001-01-01T00:00:00.000Z", "authtoken": sue.authtoken},
        "username": None,
    }
    saved = kinvey.ok("PUT", f"user/{joe.id}", joe.authorization, stolen)
    for name in ("_id", "username", "_acl"):
        assert saved[name] == own[name]
    assert saved["_kmd"]["ect"] == own["_kmd"]["ect"]
    assert saved["_kmd"]["authtoken"] == joe.authtoken
    name_of_sue = kinvey.ok("GET", "user/_me", sue.authorization)["username"]
    refused = kinvey.call("PUT", f"user/{joe.id}", joe.authorization, {"username": name_of_sue})
    assert_error(refused, 409, "UserAlreadyExists")
    refused = kinvey.call("PUT", f"user/{sue.id}", joe.authorization, {"password": "mine"})
    assert_error(refused, 401, "InsufficientCredentials")


@pytest.mark.spec("kinvey 2")
def test_no_session_is_fixed_or_comes_back(kinvey: Environment) -> None:
    fixed = {"_kmd": {"authtoken": "fixed"}, "username": unique("fixed"), "password": "secret"}
    user = kinvey.ok("POST", "user", kinvey.app, fixed)
    session = f"Kinvey {user['_kmd']['authtoken']}"
    assert_error(kinvey.call("GET", "user/_me", "Kinvey fixed"), 401, "InvalidCredentials")
    kinvey.ok("DELETE", f"user/{user['_id']}", session)
    pair = {"username": user["username"], "password": "secret"}
    refused = kinvey.call("POST", "user/login", kinvey.app, pair)
    assert_error(refused, 401, "InvalidCredentials")
    refused = kinvey.call("GET", "user/_me", basic(user["username"], "secret"), version=3)
    assert_error(refused, 401, "InvalidCredentials")
    kinvey.ok("POST", f"user/{user['_id']}/_restore", kinvey.master)
    assert_error(kinvey.call("GET", "user/_me", session), 401, "InvalidCredentials")
    assert kinvey.ok("POST", "user/login", kinvey.app, pair)["_id"] == user["_id"]
    kinvey.ok("DELETE", f"user/{user['_id']}?hard=true", kinvey.master)
    again = {**pair, "_id": user["_id"]}
    kinvey.ok("POST", "user", kinvey.master, again)
    assert_error(kinvey.call("GET", "user/_me", session), 401, "InvalidCredentials")
