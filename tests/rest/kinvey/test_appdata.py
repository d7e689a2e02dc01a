"""Entities of collections: written, read, found and deleted (spec kinvey 7)."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from mqttpush.kinvey import Permission
from tests.conftest import StartServer
from tests.support.collections import Environment, Member, assert_error
from tests.support.operating import choose, operate
from tests.support.rest import Account, Api, unique
from tests.support.server import Server

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.mark.spec("kinvey 7.1")
def test_a_new_entity_gets_an_id_its_creator_and_times(
    env: Environment, ann: Member, books: str
) -> None:
    response = env.call("POST", f"appdata/{books}", ann.authorization, {"title": "x", "_kmd": 5})
    entity = response.json()
    assert response.status_code == 201
    assert re.fullmatch("[0-9a-f]{24}", entity["_id"])
    assert entity["title"] == "x"
    assert entity["_acl"] == {"creator": ann.id}
    assert entity["_kmd"]["ect"] == entity["_kmd"]["lmt"]
    assert TIME.fullmatch(entity["_kmd"]["ect"])
    location = f"{env.url}/appdata/{env.key}/{books}/{entity['_id']}"
    assert response.headers["location"] == location
    path = f"appdata/{books}/{entity['_id']}"
    assert env.ok("GET", path, ann.authorization) == entity
    by_master = env.ok("POST", f"appdata/{books}", env.master, {})
    assert by_master["_acl"] == {"creator": env.key}


@pytest.mark.spec("kinvey 7.2")
def test_an_id_that_is_taken_is_replaced_by_old_versions_only(
    env: Environment, ann: Member, books: str
) -> None:
    path, entity = f"appdata/{books}", {"_id": "my id.1", "n": 1}
    assert env.ok("POST", path, ann.authorization, entity)["_id"] == "my id.1"
    again = env.call("POST", path, ann.authorization, {**entity, "n": 2})
    assert_error(again, 409, "BadRequest")
    env.ok("POST", path, ann.authorization, {**entity, "n": 3}, version=2)
    assert env.ok("GET", f"{path}/my%20id.1", ann.authorization)["n"] == 3


@pytest.mark.spec("kinvey 7.2")
def test_several_entities_are_stored_each_by_itself(
    env: Environment, ann: Member, books: str
) -> None:
    path = f"appdata/{books}"
    done = env.call("POST", path, ann.authorization, [{"_id": "a"}, {"_id": "b"}])
    assert done.status_code == 201
    assert [each["_id"] for each in done.json()["entities"]] == ["a", "b"]
    assert done.json()["errors"] == []
    partly = env.call("POST", path, ann.authorization, [{"_id": "c"}, {"_id": "a"}, 5])
    assert partly.status_code == 207
    stored, taken, bad = partly.json()["entities"]
    assert (stored["_id"], taken, bad) == ("c", None, None)
    assert [(each["index"], each["error"]) for each in partly.json()["errors"]] == [
        (1, "BadRequest"),
        (2, "IncompleteRequestBody"),
    ]
    assert env.count(books, ann.authorization, {}) == 3


@pytest.mark.spec("kinvey 7.2")
@pytest.mark.parametrize(
    ("body", "version", "error"),
    [
        ([], 6, "ParameterValueOutOfRange"),
        ([{}] * 101, 6, "ParameterValueOutOfRange"),
        ([{}], 4, "FeatureUnavailable"),
        ("text", 6, "IncompleteRequestBody"),
        ({"_id": 5}, 6, "ParameterValueOutOfRange"),
        ({"_id": "a/b"}, 6, "ParameterValueOutOfRange"),
        ({"_acl": []}, 6, "ParameterValueOutOfRange"),
        ({"_acl": {"r": "x"}}, 6, "ParameterValueOutOfRange"),
        ({"_acl": {"groups": {"w": [5]}}}, 6, "ParameterValueOutOfRange"),
    ],
)
def test_a_body_that_is_no_entity_is_refused(
    env: Environment, ann: Member, books: str, body: Any, version: int, error: str
) -> None:
    response = env.call("POST", f"appdata/{books}", ann.authorization, body, version=version)
    assert_error(response, 400, error)


@pytest.mark.spec("kinvey 7.2")
def test_put_replaces_an_entity_or_creates_it(env: Environment, ann: Member, books: str) -> None:
    path = f"appdata/{books}/b1"
    made = env.call("PUT", path, ann.authorization, {"n": 1, "_id": "other"})
    assert made.status_code == 201
    assert made.json()["_id"] == "b1"
    assert "location" in made.headers
    changed = env.call("PUT", path, ann.authorization, {"m": 2})
    assert changed.status_code == 200
    assert changed.json()["m"] == 2
    assert "n" not in changed.json()
    assert changed.json()["_kmd"]["ect"] == made.json()["_kmd"]["ect"]


@pytest.mark.spec("kinvey 7.2")
def test_entities_are_deleted_one_by_one_by_query_and_with_the_collection(
    env: Environment, ann: Member, books: str
) -> None:
    path = f"appdata/{books}"
    env.ok("POST", path, ann.authorization, [{"_id": f"b{n}", "n": n} for n in range(6)])
    assert env.ok("DELETE", f"{path}/b0", ann.authorization) == {"count": 1}
    assert_error(env.call("DELETE", f"{path}/b0", ann.authorization), 404, "EntityNotFound")
    assert_error(env.call("DELETE", path, ann.authorization), 400, "MissingQuery")
    query = httpx.QueryParams({"query": '{"n": {"$lt": 3}}'})
    assert env.ok("DELETE", f"{path}/?{query}", ann.authorization) == {"count": 2}
    body: dict[str, Any] = {"collectionName": books}
    switched: dict[str, Any] = {"X_Kinvey_Delete_Entire_Collection": "true"}
    call = ("POST", "rpc/remove-collection")
    by_user = env.call(*call, ann.authorization, body, **switched)
    assert_error(by_user, 401, "InsufficientCredentials")
    assert_error(env.call(*call, env.master, body), 400, "MissingRequestHeader")
    users = env.call(*call, env.master, {"collectionName": "user"}, **switched)
    assert_error(users, 403, "IndirectCollectionAccessDisallowed")
    assert env.ok(*call, env.master, body, **switched) == {"count": 3}
    assert env.find(books, ann.authorization, {}) == []


@pytest.mark.spec("kinvey 7.5")
def test_lists_are_queried_sorted_paged_and_cut_to_fields(
    env: Environment, ann: Member, books: str
) -> None:
    entities = [{"_id": f"b{n}", "n": n, "a": {"b": n % 2, "c": n}} for n in range(6)]
    env.ok("POST", f"appdata/{books}", ann.authorization, entities)

    def ids(query: Any, **parameters: Any) -> list[str]:
        found = env.find(books, ann.authorization, query, **parameters)
        return [entity["_id"] for entity in found]

    assert ids({"a.b": 1}) == ["b1", "b3", "b5"]
    assert ids({}, sort='{"a.b": 1, "n": -1}', limit=4) == ["b4", "b2", "b0", "b5"]
    assert ids({}, sort="n", skip=4) == ["b4", "b5"]
    assert ids({"_acl.creator": ann.id, "n": {"$gte": 4}}) == ["b4", "b5"]
    assert ids({"_acl.creator": "nobody"}) == []
    assert ids({"_kmd.lmt": {"$gt": "2020-01-01T00:00:00.000Z"}, "_id": "b2"}) == ["b2"]
    assert env.count(books, ann.authorization, {"a.b": 1}) == 3
    (entity,) = env.find(books, ann.authorization, {"_id": "b3"}, fields="a.c,missing")
    assert entity == {"_id": "b3", "_acl": {"creator": ann.id}, "a": {"c": 3}}


@pytest.mark.spec("kinvey 7.5")
@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"query": "{"}, "InvalidQuerySyntax"),
        ({"query": "[]"}, "InvalidQuerySyntax"),
        ({"query": '{"a": {"$nearSphere": [1, 2]}}'}, "InvalidQuerySyntax"),
        ({"query": '{"a": {"$regex": "("}}'}, "InvalidQuerySyntax"),
        ({"sort": '{"a": 5}'}, "InvalidQuerySyntax"),
        ({"limit": "-1"}, "ParameterValueOutOfRange"),
        ({"skip": "x"}, "ParameterValueOutOfRange"),
    ],
)
def test_a_query_that_cannot_be_used_is_told_as_such(
    env: Environment, ann: Member, books: str, parameters: dict[str, str], error: str
) -> None:
    path = f"appdata/{books}/?{httpx.QueryParams(parameters)}"
    assert_error(env.call("GET", path, ann.authorization), 400, error)


@pytest.mark.spec("kinvey 7.2")
def test_names_that_are_no_collections_are_refused(env: Environment, ann: Member) -> None:
    for name in ("_hidden", "a.b", "a" * 129):
        response = env.call("GET", f"appdata/{name}", ann.authorization)
        assert_error(response, 400, "InvalidIdentifier")
    response = env.call("POST", "appdata/books/_group", ann.authorization)
    assert_error(response, 400, "FeatureUnavailable")


@pytest.mark.spec("kinvey 7.2")
def test_who_asks_for_a_delta_set_is_told_to_read_the_collection_whole(
    env: Environment, ann: Member, books: str
) -> None:
    path = f"appdata/{books}/_deltaset?since=2026-01-01T00:00:00.000Z"
    assert_error(env.call("GET", path, ann.authorization), 403, "MissingConfiguration")


@pytest.mark.spec("kinvey 7.2")
def test_the_user_collection_is_read_like_another_and_written_elsewhere(
    env: Environment, ann: Member, bob: Member
) -> None:
    found = env.find("user", ann.authorization, {"_id": bob.id})
    assert [user["_id"] for user in found] == [bob.id]
    assert env.ok("GET", f"appdata/user/{bob.id}", ann.authorization)["_id"] == bob.id
    assert env.count("user", ann.authorization, {"_id": {"$in": [ann.id, bob.id]}}) == 2
    for method, path in (("POST", "appdata/user"), ("PUT", f"appdata/user/{ann.id}")):
        response = env.call(method, path, ann.authorization, {})
        assert_error(response, 403, "IndirectCollectionAccessDisallowed")


@pytest.mark.spec("kinvey 7.3")
def test_what_one_may_not_do_in_a_shared_collection(
    env: Environment, ann: Member, bob: Member, books: str
) -> None:
    path = f"appdata/{books}/b1"
    env.ok("PUT", path, ann.authorization, {"n": 1})
    assert env.ok("GET", path, bob.authorization)["n"] == 1
    for method, body in (("PUT", {}), ("DELETE", None)):
        response = env.call(method, path, bob.authorization, body)
        assert_error(response, 401, "InsufficientCredentials")
    assert_error(env.call("GET", path, env.app), 401, "InsufficientCredentials")
    env.ok("PUT", path, ann.authorization, {"n": 1, "_acl": {"w": [bob.id]}})
    # Who may only write sends the rules back: they stay as they are.
    changed = env.ok("PUT", path, bob.authorization, {"n": 2, "_acl": {"gw": True}})
    assert changed["_acl"] == {"creator": ann.id, "w": [bob.id]}
    env.ok("PUT", path, env.master, {"n": 3, "_acl": {"groups": {"r": ["g"]}, "gr": True}})
    assert env.ok("GET", path, ann.authorization)["_acl"] == {
        "creator": ann.id,
        "gr": True,
        "groups": {"r": ["g"]},
    }


@pytest.mark.spec("kinvey 7.2")
def test_both_dialects_see_one_object(
    env: Environment, api: Api, user: Account, ann: Member, books: str
) -> None:
    env.ok("PUT", f"appdata/{books}/b1", ann.authorization, {"n": 1})
    shown = api.ok("GET", f"/buckets/{books}/objects/b1", token=user.token)
    assert (shown["n"], shown["_owner"]) == (1, ann.id)
    assert "_acl" not in shown
    path = f"/buckets/{unique('kii')}/objects/o1"
    api.ok("PUT", path, token=user.token, json={"m": 2})
    entity = env.ok("GET", f"appdata/{path.split('/')[2]}/o1", ann.authorization)
    assert (entity["m"], entity["_acl"]) == (2, {"creator": user.id})


@pytest.mark.spec("kinvey 7.3")
@pytest.mark.parametrize(
    ("permission", "is_listed", "reads", "writes", "creates"),
    [
        (Permission.PRIVATE, False, 401, 401, 201),
        (Permission.SHARED, True, 200, 401, 201),
        (Permission.READ_ONLY, True, 200, 403, 403),
        (Permission.FULL, True, 200, 200, 201),
    ],
)
def test_a_permission_says_what_others_may_do(
    server: Server,
    env: Environment,
    ann: Member,
    bob: Member,
    books: str,
    permission: Permission,
    is_listed: bool,
    reads: int,
    writes: int,
    creates: int,
) -> None:
    operate(server, lambda each: each.entities.declare(env.key, books, permission))
    path = f"appdata/{books}/b1"
    env.ok("PUT", path, env.master, {"n": 1, "_acl": {"creator": ann.id}})
    assert env.ok("GET", path, ann.authorization)["_acl"] == {"creator": ann.id}
    assert env.call("GET", path, bob.authorization).status_code == reads
    assert env.count(books, bob.authorization, {"n": 1}) == int(is_listed)
    assert env.call("PUT", path, bob.authorization, {"n": 2}).status_code == writes
    made = env.call("POST", f"appdata/{books}", bob.authorization, {"n": 3})
    assert made.status_code == creates
    if creates == 403:
        assert_error(made, 403, "WritesToCollectionDisallowed")
        deleted = env.call("DELETE", f"appdata/{books}/?query={{}}", bob.authorization)
        assert_error(deleted, 403, "WritesToCollectionDisallowed")


@pytest.mark.spec("kinvey 7.2")
def test_where_collections_are_declared_none_appears_by_a_write(server: Server) -> None:
    env = Environment(server.url, server.create_app("declared"))
    choose(server, env.key, are_collections_strict=True)
    ann = env.member()
    for method, path in (("POST", "appdata/books"), ("GET", "appdata/books")):
        assert_error(env.call(method, path, ann.authorization, {}), 404, "CollectionNotFound")
    operate(server, lambda each: each.entities.declare(env.key, "books", Permission.SHARED))
    env.ok("POST", "appdata/books", ann.authorization, {})
    env.close()


@pytest.mark.spec("kinvey 7.5")
def test_a_regular_expression_that_never_ends_is_answered_in_time(
    start_server: StartServer,
) -> None:
    own = start_server()  # the answer is a 500, which the shared server must never give
    env = Environment(own.url, own.create_app("slow"))
    ann, books = env.member(), "books"
    env.ok("POST", f"appdata/{books}", ann.authorization, {"a": "a" * 40 + "b"})
    query = httpx.QueryParams({"query": '{"a": {"$regex": "^(a|a|b?a)+$"}}'})
    response = env.call("GET", f"appdata/{books}/?{query}", ann.authorization)
    assert_error(response, 500, "KinveyInternalErrorRetry")
    assert env.count(books, ann.authorization, {}) == 1
    env.close()
