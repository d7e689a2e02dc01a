"""Every route of the document, called by those who have nothing to do with what it names.

A stranger is a user of the same app who was in the group and has left it; beside him a thing of
nobody's, and the app's anonymous client. What the rules leave open to all is listed here with its
reason; everything else is refused, shows nothing and changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.rest.world import MARK, SCOPES, Operation, World, make_world, read_operations
from tests.support.rest import Account
from tests.support.server import Server

OWNED = re.compile(r"/(users|things|groups|installations|targets)/\{")
# What a known principal may do though the place is another's.
OPEN = {
    # Whether a topic exists is for every authenticated principal to know (spec kii 6.1) ...
    r"GET .*/topics/\{topicID\}": (204,),
    # ... and the list shows those he may subscribe to: none (spec kii 6.2).
    r"GET .*/topics": (200,),
}
# Who a user is, everybody who has logged in may know (spec kii 1.3), but not what he keeps.
SEE_USER = "GET /users/{userID}"
PUBLIC = {"userID", "loginName", "displayName", "_disabled"}
NOTHING_FOUND: dict[str, list[str]] = {"topics": []}


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    world = make_world(server, "strangers")
    yield world
    world.api.close()


@pytest.fixture(scope="module")
def operations(server: Server) -> list[Operation]:
    document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    return list(read_operations(document))


def refusals(world: World, operations: list[Operation], account: Account | None) -> list[str]:
    """What was not refused, of the operations on what belongs to others."""
    wrong = []
    for operation in operations:
        if not (operation.is_of_app and OWNED.search(operation.inside)):
            continue
        if operation.method == "PUT" and operation.inside == "/groups/{groupID}":
            continue  # a group of his own
        answer = world.call(operation, account)
        if account is not None and f"{operation.method} {operation.inside}" == SEE_USER:
            if answer.status_code != 200 or not answer.json().keys() <= PUBLIC:
                wrong.append(f"{operation.name}: {answer.status_code} {answer.text[:300]}")
            continue
        if MARK.encode() in answer.content or answer.status_code not in expected(
            operation, account
        ):
            wrong.append(f"{operation.name}: {answer.status_code} {answer.text[:300]}")
        elif answer.status_code == 200 and answer.json() != NOTHING_FOUND:
            wrong.append(f"{operation.name}: {answer.text[:300]}")
    return wrong


def expected(operation: Operation, account: Account | None) -> tuple[int, ...]:
    if account is not None:
        for pattern, statuses in OPEN.items():
            if re.fullmatch(pattern, f"{operation.method} {operation.inside}"):
                return statuses
    return (401, 404)


def test_a_user_does_nothing_with_what_is_another_s(
    world: World, operations: list[Operation]
) -> None:
    wrong = refusals(world, operations, world.stranger)
    assert not wrong, "\n".join(wrong)


def test_a_thing_does_nothing_with_what_is_another_s(
    world: World, operations: list[Operation]
) -> None:
    wrong = refusals(world, operations, world.api.thing())
    assert not wrong, "\n".join(wrong)


def test_an_anonymous_client_does_nothing_with_what_belongs_to_somebody(
    world: World, operations: list[Operation]
) -> None:
    wrong = refusals(world, operations, None)
    assert not wrong, "\n".join(wrong)


def test_the_operations_of_an_administrator_are_refused_to_users(
    world: World, operations: list[Operation]
) -> None:
    for path in ("", "/acl", "/acl/{verb}", "/acl/{verb}/{subject}", "/topics/{topicID}/acl"):
        for operation in operations:
            if operation.inside == path and operation.is_of_app:
                assert world.call(operation, world.user).status_code == 401, operation.name


def test_the_message_of_another_is_not_found(world: World, operations: list[Operation]) -> None:
    for operation in operations:
        if operation.path.endswith("/push/messages/{messageID}"):
            assert world.call(operation, world.stranger).status_code == 404, operation.name


def test_all_that_was_tried_changed_nothing(world: World) -> None:
    api, token = world.api, world.admin.token
    user, thing = world.values["userID"], world.values["thingID"]
    for scope in SCOPES:
        place = scope.format(userID=user, thingID=thing, groupID="team")
        item = api.ok("GET", f"{place}/buckets/bucket/objects/object", token=token)
        assert (item["text"], item["_version"]) == (MARK, "1")
        filters = api.ok("GET", f"{place}/buckets/bucket/filters", token=token)["filters"]
        assert [each["filterID"] for each in filters] == ["filter"]
        assert api.call("GET", f"{place}/topics/topic", token=token).status_code == 204
    members = api.ok("GET", "/groups/team/members", token=token)["members"]
    assert {each["userID"] for each in members} == {user, world.member.id}
    owners = api.ok("GET", f"/things/{thing}/ownership", token=token)
    assert owners == {"users": [user], "groups": []}
    assert api.ok("GET", "/groups/team", token=token)["owner"] == user
    installations = api.ok("GET", f"/installations?userID={user}", token=token)["installations"]
    assert [each["installationRegistrationID"] for each in installations] == [MARK]
    for path, field in ((f"/users/{user}", "displayName"), (f"/things/{thing}", "note")):
        assert json.dumps(api.ok("GET", path, token=token)[field]) == json.dumps(MARK)
