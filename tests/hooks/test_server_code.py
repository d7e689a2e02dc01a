"""Server code of the first dialect on a real server: hook documents, triggers, runs (kii 11)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hooks.conftest import MODULE
from tests.support.device import Device
from tests.support.rest import Api, unique

CURRENT = "/hooks/versions/current"
HOOKS_TYPE = {"Content-Type": "application/vnd.kii.HooksDeploymentRequest+json"}


def when(event: str, function: str) -> list[dict[str, str]]:
    endpoint = function if ":" in function else f"{MODULE}:{function}"
    return [{"when": event, "what": "EXECUTE_SERVER_CODE", "endpoint": endpoint}]


DOCUMENT = {
    "kiicloud://buckets/watched": when("DATA_OBJECT_CREATED", "on_object"),
    "kiicloud://users/*/buckets/watched": when("DATA_OBJECT_UPDATED", "on_object"),
    "kiicloud://users": when("USER_CREATED", "on_user"),
    "kiicloud://buckets/loop": when("DATA_OBJECT_CREATED", "write_again"),
    "kiicloud://buckets/adding": when("DATA_OBJECT_CREATED", "add"),
    "kiicloud://buckets/asked": when("DATA_OBJECT_CREATED", "who_runs"),
    "kiicloud://scheduler": {
        "Yearly": {
            "what": "EXECUTE_SERVER_CODE",
            "cron": "0 0 1 1 *",
            "endpoint": f"{MODULE}:add",
            "parameters": {"a": 1, "b": 2},
        }
    },
}


@pytest.fixture(scope="module")
def admin(code_api: Api) -> str:
    return code_api.admin_token()


@pytest.fixture(scope="module", autouse=True)
def hooks(code_api: Api, admin: str) -> Iterator[None]:
    code_api.call("PUT", "/topics/news", token=admin)
    answer = code_api.call("PUT", CURRENT, token=admin, json=DOCUMENT, headers=HOOKS_TYPE)
    assert answer.status_code in (201, 204), answer.text
    yield
    code_api.ok("DELETE", CURRENT, token=admin)


def wait_for(found: Callable[[], Any]) -> Any:
    """What `found` finds, once it finds something: runs come after the answer."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
    raise AssertionError("it did not come in time")


def test_a_write_triggers_code_that_sends_to_a_topic(code_api: Api, admin: str) -> None:
    user = code_api.pseudo_user()
    code_api.subscribe(user, "/topics/news")
    with Device(code_api.mqtt_endpoint(user)) as device:
        made = code_api.ok("POST", "/buckets/watched/objects", token=user.token, json={"a": 1})
        push = device.next_push()
    assert push["told"] == made["objectID"]
    assert push["type"] == "DATA_OBJECT_CREATED"


def test_a_place_with_a_star_means_every_user(code_api: Api) -> None:
    user = code_api.pseudo_user()
    code_api.subscribe(user, "/topics/news")
    path = "/users/me/buckets/watched/objects/one"
    with Device(code_api.mqtt_endpoint(user)) as device:
        code_api.ok("PUT", path, token=user.token, json={"a": 1})
        code_api.ok("PUT", path, token=user.token, json={"a": 2})
        push = device.next_push()
    assert (push["told"], push["type"]) == ("one", "DATA_OBJECT_UPDATED")


def test_a_new_user_triggers_code_that_writes_an_object(code_api: Api, admin: str) -> None:
    user = code_api.pseudo_user()
    path = f"/buckets/users-seen/objects/{user.id}"

    def seen() -> Any:
        answer = code_api.call("GET", path, token=admin)
        return answer.json() if answer.is_success else None

    assert wait_for(seen)["type"] == "USER_CREATED"


def test_code_that_triggers_itself_is_stopped_and_the_log_says_so(
    code_api: Api, admin: str, environment: Any
) -> None:
    code_api.ok("POST", "/buckets/loop/objects", token=admin, json={"first": True})
    app_id = code_api.app_id
    log = wait_for(lambda: _lines_with(environment.cli("hooks", "log", app_id), "loop guard"))
    assert "5 are allowed" in log[0]
    query = {"bucketQuery": {"clause": {"type": "all"}}}
    found = code_api.ok("POST", "/buckets/loop/query", token=admin, json=query)
    assert len(found["results"]) == 7  # the first one, and one of each run from depth 0 to 5


def test_a_failing_run_is_tried_again(code_api: Api, admin: str, environment: Any) -> None:
    code_api.ok("POST", "/buckets/adding/objects", token=admin, json={})  # `add` wants a and b
    app_id = code_api.app_id

    def failures() -> Any:
        lines = _lines_with(environment.cli("hooks", "log", app_id), "KeyError")
        return lines if len(lines) > 1 else None

    assert len(wait_for(failures)) > 1


def _lines_with(text: str, part: str) -> list[str]:
    return [line for line in text.splitlines() if part in line]


def test_an_endpoint_of_the_hook_document_runs_for_any_client(code_api: Api) -> None:
    path = f"/server-code/versions/current/{MODULE}:add"
    answer = code_api.call("POST", path, json={"a": 20, "b": 22})
    assert (answer.status_code, answer.json()) == (
        200,
        {"returnedValue": 42, "returnValue": 42},
    )
    assert answer.headers["X-Step-Count"] == "0"


def test_an_endpoint_is_told_who_runs_it(code_api: Api, admin: str) -> None:
    path, user = f"/server-code/versions/current/{MODULE}:who_runs", code_api.pseudo_user()
    expected = {user.token: (user.id, "user"), admin: ("", "master"), None: ("", "app")}
    for token, (user_id, context) in expected.items():
        told = code_api.ok("POST", path, token=token, json={})["returnedValue"]
        assert told == {"userId": user_id, "context": context}


def test_no_other_function_runs_for_a_client(code_api: Api, admin: str) -> None:
    for token in (None, admin):
        path = f"/server-code/versions/current/{MODULE}:call_server_code"
        answer = code_api.call("POST", path, token=token, json={})
        assert answer.json()["errorCode"] == "SERVER_CODE_ENDPOINT_NOT_FOUND"


def test_the_hook_document_can_be_read_back(code_api: Api, admin: str) -> None:
    assert code_api.ok("GET", CURRENT, token=admin) == DOCUMENT
    assert code_api.call("HEAD", CURRENT, token=admin).status_code == 200


def test_only_the_administrator_manages_server_code(code_api: Api) -> None:
    user = code_api.pseudo_user()
    for method, path in (("GET", CURRENT), ("GET", "/server-code/versions"), ("DELETE", CURRENT)):
        answer = code_api.call(method, path, token=user.token)
        assert answer.json()["errorCode"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    "document",
    [
        {"kiicloud://buckets/b": when("DATA_OBJECT_CREATED", "os:getcwd")},
        {"kiicloud://buckets/b": when("DATA_OBJECT_CREATED", "http://127.0.0.1/")},
        {"kiicloud://buckets/b": when("USER_CREATED", "add")},
        {"kiicloud://nothing": when("USER_CREATED", "add")},
        {"buckets/b": when("DATA_OBJECT_CREATED", "add")},
        {"kiicloud://scheduler": {"x": {"cron": "* * * *", "endpoint": "f"}}},
        {"kiicloud://scheduler": {"x": {"cron": "61 * * * *", "endpoint": "f"}}},
        {"kiicloud://scheduler": []},
        {"kiicloud://users": {"when": "USER_CREATED"}},
        {"kiicloud://users": [{"when": "USER_CREATED", "endpoint": "a b"}]},
        {"kiicloud://users": [{"when": "USER_CREATED", "endpoint": 7}]},
    ],
)
def test_a_wrong_hook_document_is_refused(
    document: dict[str, Any], code_api: Api, admin: str
) -> None:
    answer = code_api.call("PUT", CURRENT, token=admin, json=document, headers=HOOKS_TYPE)
    assert answer.status_code == 400
    assert code_api.ok("GET", CURRENT, token=admin) == DOCUMENT


def test_an_unknown_version_has_no_hooks(code_api: Api, admin: str) -> None:
    answer = code_api.call("GET", f"/hooks/versions/{unique('v')}", token=admin)
    assert answer.status_code == 404
