"""Every operation of the document, called with credentials of another app, and of other users.

The document is the server's own, so a new route is tried without a new test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import httpx
import pytest

from tests.rest.kinvey import samples
from tests.rest.kinvey.samples import MARK
from tests.rest.world import Operation, read_operations
from tests.support.collections import Environment, Member
from tests.support.operating import choose
from tests.support.rest import unique
from tests.support.server import Server

# They show nothing of the app, and hear only what the client may hear.
OF_NOBODY = ("/heartbeat", "/leave", "/time/0")
# Does nothing, and says so, for a token that is no session's (any more).
FINE_WITHOUT_SESSION = "/unregister-realtime"
TOKEN = "token-of-the-owner-s-phone"


@pytest.fixture(scope="module")
def operations(server: Server) -> list[Operation]:
    document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    found = [each for each in read_operations(document) if each.is_of_kinvey]
    assert len(found) > 25
    return [each for each in found if not each.path.endswith(OF_NOBODY)]


@pytest.fixture(scope="module")
def attacked(server: Server) -> Iterator[tuple[Environment, Member, Mapping[str, str]]]:
    """An app, a user of it, and what its paths name; all of it has the mark."""
    environment = Environment(server.url, server.create_app(unique("attacked")))
    choose(server, environment.key, is_live_service_on=True)
    body = {"username": MARK, "password": "secret", "note": MARK}
    user = environment.ok("POST", "user", environment.app, body)
    owner = Member(user["_id"], user["_kmd"]["authtoken"])
    device = {"platform": "android", "deviceId": TOKEN}
    environment.ok("POST", "push/register-device", owner.authorization, device)
    environment.ok("PUT", "appdata/notes/entity", owner.authorization, {"text": MARK})
    names = {
        "appKey": environment.key,
        "id": owner.id,
        "collection": "notes",
        "entityID": "entity",
    }
    yield environment, owner, names
    environment.close()


def call(
    environment: Environment, operation: Operation, names: Mapping[str, str], who: str
) -> httpx.Response:
    method, path = operation.method, operation.path
    url = environment.url + samples.path_of(path, names) + samples.query_of(method, path)
    body = samples.body_of(path) if operation.described.get("requestBody") else None
    return environment.http.request(method, url, json=body, headers=samples.headers_of(who))


def test_credentials_of_another_app_open_nothing(
    kinvey: Environment,
    joe: Member,
    operations: list[Operation],
    attacked: tuple[Environment, Member, Mapping[str, str]],
) -> None:
    environment, owner, names = attacked
    before = environment.ok("GET", f"user/{owner.id}", environment.master)
    for operation in operations:
        for who in (kinvey.app, kinvey.master, joe.authorization):
            answer = call(environment, operation, names, who)
            if operation.path.endswith(FINE_WITHOUT_SESSION) and who == joe.authorization:
                assert (answer.status_code, answer.content) == (204, b"")
                continue
            assert answer.status_code in (400, 401, 403), (operation.name, answer.text)
            if answer.status_code == 401:
                assert answer.json()["error"] == "InvalidCredentials", operation.name
            assert MARK not in answer.text, operation.name
            assert TOKEN not in answer.text, operation.name
    assert environment.ok("GET", f"user/{owner.id}", environment.master) == before
    assert environment.ok("GET", "appdata/notes/entity", environment.master)["text"] == MARK


def test_names_of_another_app_are_not_found_in_one_s_own(
    kinvey: Environment,
    joe: Member,
    operations: list[Operation],
    attacked: tuple[Environment, Member, Mapping[str, str]],
) -> None:
    environment, owner, names = attacked
    before = environment.ok("GET", f"user/{owner.id}", environment.master)
    swapped = {**names, "appKey": kinvey.key}
    for operation in operations:
        if "{id}" not in operation.path:
            continue
        for who in (kinvey.app, kinvey.master, joe.authorization):
            answer = call(environment, operation, swapped, who)
            assert answer.status_code in (400, 401, 404), (operation.name, answer.text)
            assert MARK not in answer.text, operation.name
    assert environment.ok("GET", f"user/{owner.id}", environment.master) == before


def test_another_user_of_the_app_changes_nothing_and_sees_no_device(
    operations: list[Operation],
    attacked: tuple[Environment, Member, Mapping[str, str]],
) -> None:
    environment, owner, names = attacked
    before = environment.ok("GET", f"user/{owner.id}", environment.master)
    intruder = environment.member()
    for operation in operations:
        if operation.path.endswith((*samples.ENDLESS, "/register-device", "/_logout")):
            continue  # of one's own session or device only
        answer = call(environment, operation, names, intruder.authorization)
        assert answer.status_code != 500, (operation.name, answer.text)
        assert TOKEN not in answer.text, operation.name
        assert owner.authtoken not in answer.text, operation.name
    assert environment.ok("GET", f"user/{owner.id}", environment.master) == before
    assert environment.ok("GET", "appdata/notes/entity", environment.master)["text"] == MARK
    own = environment.ok("GET", "user/_me", owner.authorization)
    assert own["_kmd"].pop("authtoken") == owner.authtoken
    del own["_kmd"]["llt"]
    assert own == before
