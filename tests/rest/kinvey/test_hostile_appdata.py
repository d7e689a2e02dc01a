"""Hostile uses of collections: names, queries and rules that should not be."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mqttpush.kinvey import Permission
from tests.support.collections import Environment, Member, assert_error
from tests.support.operating import operate
from tests.support.server import Server


@pytest.fixture(scope="module")
def env(server: Server) -> Iterator[Environment]:
    env = Environment(server.url, server.create_app("hostile"))
    yield env
    env.close()


@pytest.mark.spec("kinvey 7.1")
@pytest.mark.parametrize("entity_id", [".", "..", "_count", "_group", "_subscribe", "a/b", "a\nb"])
def test_an_id_that_no_path_reaches_is_refused(
    env: Environment, ann: Member, books: str, entity_id: str
) -> None:
    body = {"_id": entity_id}
    response = env.call("POST", f"appdata/{books}", ann.authorization, body)
    assert_error(response, 400, "ParameterValueOutOfRange")


@pytest.mark.spec("kinvey 7.2")
@pytest.mark.parametrize("query", ["", " ", "null"])
def test_a_deletion_without_a_query_deletes_nothing(
    env: Environment, ann: Member, books: str, query: str
) -> None:
    env.ok("POST", f"appdata/{books}", ann.authorization, {})
    parameters = httpx.QueryParams({"query": query})
    response = env.call("DELETE", f"appdata/{books}?{parameters}", ann.authorization)
    assert_error(response, 400, "MissingQuery")
    assert env.count(books, ann.authorization, {}) == 1


@pytest.mark.spec("kinvey 7.5")
@pytest.mark.parametrize(
    "query",
    [
        {"$or": [{}] * 1500},
        {"a": {"$regex": "((a{1000}){1000}){1000}"}},
        {"a": {"$regex": "(?R)"}},
    ],
)
def test_a_query_that_would_cost_too_much_is_refused_at_once(
    env: Environment, ann: Member, books: str, query: Any
) -> None:
    env.ok("POST", f"appdata/{books}", ann.authorization, {"a": "a" * 1000})
    parameters = httpx.QueryParams({"query": json.dumps(query, separators=(",", ":"))})
    begun = time.monotonic()
    response = env.call("GET", f"appdata/{books}?{parameters}", ann.authorization)
    assert_error(response, 400, "InvalidQuerySyntax")
    assert time.monotonic() - begun < 1


@pytest.mark.spec("kinvey 7.3")
@pytest.mark.parametrize(
    "acl",
    [
        [],
        "x",
        {"r": "x"},
        {"r": [1]},
        {"r": ["x"] * 1001},
        {"w": {"x": 1}},
        {"groups": []},
        {"groups": {"r": [None]}},
        {"r": ["a/b"]},
        {"r": ["\0"]},
    ],
)
def test_rules_of_a_wrong_kind_are_refused(
    env: Environment, ann: Member, books: str, acl: Any
) -> None:
    response = env.call("POST", f"appdata/{books}", ann.authorization, {"_acl": acl})
    assert_error(response, 400, "ParameterValueOutOfRange")


@pytest.mark.spec("kinvey 7.3")
def test_who_may_only_write_changes_no_rule_and_no_creator(
    env: Environment, ann: Member, bob: Member, books: str
) -> None:
    path = f"appdata/{books}/b1"
    env.ok("PUT", path, ann.authorization, {"n": 1, "_acl": {"w": [bob.id]}})
    grab = {"n": 2, "_acl": {"creator": bob.id, "gw": True, "r": [bob.id], "w": []}}
    changed = env.ok("PUT", path, bob.authorization, grab)
    assert changed["n"] == 2
    assert changed["_acl"] == {"creator": ann.id, "w": [bob.id]}
    taken = env.ok("PUT", path, ann.authorization, {"_acl": {"creator": bob.id}})
    assert taken["_acl"] == {"creator": ann.id}, "a creator stays, his rules are gone"
    assert_error(env.call("PUT", path, bob.authorization, {"n": 3}), 401, "InsufficientCredentials")


@pytest.mark.spec("kinvey 7.3")
def test_nothing_can_be_learnt_of_what_one_may_not_read(
    server: Server, env: Environment, ann: Member, bob: Member, books: str
) -> None:
    operate(server, lambda each: each.entities.declare(env.key, books, Permission.PRIVATE))
    path, secret = f"appdata/{books}", {"_id": "s", "pin": 1234, "_acl": {"w": [bob.id]}}
    env.ok("POST", path, ann.authorization, secret)
    env.ok("POST", path, ann.authorization, {"_id": "t", "pin": 1})
    bobs = bob.authorization
    for query in (
        {},
        {"pin": 1234},
        {"pin": {"$ne": 5}},
        {"$or": [{"pin": {"$gt": 0}}, {"_id": "s"}]},
        {"$nor": [{"pin": 5}]},
        {"_id": "s"},
        {"_acl.w": bob.id},
        {"_acl.creator": ann.id},
        {"pin": {"$exists": True}},
        {"_acl.w": {"$regex": ".*"}},
    ):
        assert env.count(books, bobs, query) == 0, query
        assert env.find(books, bobs, query, sort="pin", fields="_id") == [], query
        parameters = httpx.QueryParams({"query": json.dumps(query)})
        assert env.ok("DELETE", f"{path}?{parameters}", bobs) == {"count": 0}
    assert_error(env.call("GET", f"{path}/t", bobs), 401, "InsufficientCredentials")
    assert_error(env.call("DELETE", f"{path}/t", bobs), 401, "InsufficientCredentials")
    assert env.count(books, ann.authorization, {}) == 2


@pytest.mark.spec("kinvey 7.3")
@pytest.mark.parametrize("version", [2, 6])
def test_an_id_of_somebody_else_is_not_overwritten(
    env: Environment, ann: Member, bob: Member, books: str, version: int
) -> None:
    path, body = f"appdata/{books}", {"_id": "b1", "n": 1}
    env.ok("POST", path, ann.authorization, body)
    response = env.call("POST", path, bob.authorization, {**body, "n": 2}, version=version)
    assert response.status_code == (401 if version == 2 else 409)
    assert env.ok("GET", f"{path}/b1", ann.authorization)["n"] == 1
