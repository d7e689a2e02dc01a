"""Hooks around requests, and endpoints, on a real server (spec kinvey 8; acceptance check 5)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.conftest import Environment, python
from tests.support.rest import unique
from tests.support.server import run_cli

HOOKS = {
    "changed": {"onPreSave": python("change_body")},
    "kept-out": {"onPreSave": python("keep_out")},
    "refused": {"onPreSave": python("refuse")},
    "broken-after": {"onPostSave": python("fail")},
    "carried": {"onPreSave": python("change_body"), "onPostSave": python("add_seen")},
    "slow": {"onPreSave": python("sleep_long")},
    "much": {"onPreSave": python("keep_much")},
    "fetched": {"onPreFetch": python("keep_out")},
    "deleted": {"onPreDelete": python("refuse")},
    "ordered": {
        "onPreSave": python("note_pre_save"),
        "onPreInsert": python("note_pre_insert"),
        "onPostInsert": python("note_post_insert"),
        "onPostSave": python("note_post_save"),
    },
}
ENDPOINTS = {"announce": python("announce"), "who": python("who"), "broken": python("fail")}


@pytest.fixture(scope="module")
def environment(environment: Environment) -> Environment:
    """Its commands import functions."""
    return replace(environment, command=run_cli)


@pytest.fixture(scope="module", autouse=True)
def hooks(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("file") / "environment.json"
    document = {
        "schemaVersion": "1.0.0",
        "configType": "environment",
        "collectionHooks": HOOKS,
        "customEndpoints": ENDPOINTS,
    }
    file.write_text(json.dumps(document))
    environment.apply(file)


@pytest.fixture(scope="module")
def user(environment: Environment) -> str:
    return environment.user()


def test_what_a_pre_hook_changes_is_stored(environment: Environment, user: str) -> None:
    answer = environment.save(user, "changed", name="Joe")
    assert answer.status_code == 201
    assert answer.json()["changed"] is True
    assert environment.stored("changed")[0]["changed"] is True


def test_a_request_that_is_completed_stores_nothing(environment: Environment, user: str) -> None:
    answer = environment.save(user, "kept-out")
    assert (answer.status_code, answer.json()) == (202, {"message": "kept out"})
    assert not environment.stored("kept-out")


def test_error_is_400_with_the_text_in_debug(environment: Environment, user: str) -> None:
    answer = environment.save(user, "refused")
    assert answer.status_code == 400
    assert answer.json()["error"] == "BLRuntimeError"
    assert answer.json()["debug"] == "UserDefinedError: x"
    assert not environment.stored("refused")


def test_a_post_hook_that_fails_leaves_the_entity_stored(
    environment: Environment, user: str
) -> None:
    answer = environment.save(user, "broken-after", name="Joe")
    assert (answer.status_code, answer.json()["error"]) == (400, "BLRuntimeError")
    assert [each["name"] for each in environment.stored("broken-after")] == ["Joe"]


def test_what_a_pre_hook_keeps_comes_to_the_post_hook(environment: Environment, user: str) -> None:
    answer = environment.save(user, "carried", name="Joe")
    assert (answer.status_code, answer.json()["seen"]) == (201, "Joe")


def test_custom_properties_stay_small_enough_for_a_header(
    environment: Environment, user: str
) -> None:
    answer = environment.save(user, "much")
    assert (answer.status_code, answer.json()["error"]) == (550, "BLViolationError")
    assert not environment.stored("much")


def test_generic_hooks_are_outside_of_specific_ones(environment: Environment, user: str) -> None:
    answer = environment.save(user, "ordered").json()
    assert answer["notes"] == ["pre save", "pre insert", "post insert", "post save"]


def test_a_run_over_its_time_is_550_and_the_next_request_works(
    environment: Environment, user: str
) -> None:
    answer = environment.save(user, "slow")
    assert (answer.status_code, answer.json()["error"]) == (550, "BLTimeoutError")
    assert environment.save(user, "changed").status_code == 201


def test_fetching_and_deleting_have_hooks_too(environment: Environment, user: str) -> None:
    assert environment.call("GET", "/appdata/:app/fetched", user).status_code == 202
    assert environment.call("GET", "/appdata/:app/fetched/_count", user).status_code == 202
    made = environment.save(user, "deleted").json()
    refused = environment.call("DELETE", f"/appdata/:app/deleted/{made['_id']}", user)
    assert refused.json()["error"] == "BLRuntimeError"


def test_only_master_may_skip_hooks(environment: Environment, user: str) -> None:
    skip = {"X-Kinvey-Skip-Business-Logic": "true"}
    path = "/appdata/:app/changed"
    assert "changed" in environment.call("POST", path, user, {}, **skip).json()
    assert "changed" not in environment.call("POST", path, environment.master, {}, **skip).json()


def test_an_endpoint_answers_what_its_code_returns(environment: Environment, user: str) -> None:
    answer = environment.call("POST", "/rpc/:app/custom/announce", user, {"to": "all"})
    assert answer.status_code == 200
    assert answer.json() == {"asked by": "user", "body": {"to": "all"}}


def test_an_endpoint_knows_who_asks(environment: Environment) -> None:
    name = unique("who")
    user = environment.user(name)
    custom = {"X-Kinvey-Custom-Request-Properties": '{"k": 1}'}
    answer = environment.call("POST", "/rpc/:app/custom/who", user, {}, **custom).json()
    assert (answer["username"], answer["context"]) == (name, "user")
    assert answer["custom"] == {"k": 1}
    master = environment.call("POST", "/rpc/:app/custom/who", environment.master, {}).json()
    assert (master["username"], master["context"]) == (environment.app["appID"], "master")


def test_an_endpoint_needs_a_user_or_master(environment: Environment) -> None:
    from tests.hooks.conftest import basic

    app = basic(environment.app["appID"], environment.app["appKey"])
    answer = environment.call("POST", "/rpc/:app/custom/announce", app, {})
    assert (answer.status_code, answer.json()["error"]) == (401, "InsufficientCredentials")


def test_an_unknown_endpoint_is_404(environment: Environment, user: str) -> None:
    answer = environment.call("POST", "/rpc/:app/custom/nothing", user, {})
    assert (answer.status_code, answer.json()["error"]) == (404, "EntityNotFound")


def test_the_log_shows_a_request_by_its_id(environment: Environment, user: str) -> None:
    answer = environment.call("POST", "/rpc/:app/custom/broken", user, {})
    request_id = answer.headers["X-Kinvey-Request-Id"]
    # The log is written after the answer: a second request's line comes after the first one's.
    environment.call("POST", "/rpc/:app/custom/broken", user, {})
    lines = wait_for_log(environment, request_id)
    assert [line["level"] for line in lines] == ["error"]
    assert "ValueError: broken" in lines[0]["message"]


def wait_for_log(environment: Environment, request_id: str) -> list[dict[str, Any]]:
    """The command line takes longer to start than the log to be written, but not always."""
    for _ in range(20):
        text = environment.cli("hooks", "log", environment.app["appID"], "--request-id", request_id)
        if text:
            return [json.loads(line) for line in text.splitlines()]
    raise AssertionError("nothing was logged")


def test_check_tries_a_hook_without_doing_what_it_asks(environment: Environment) -> None:
    app_id = environment.app["appID"]
    sample = ("--request", '{"body": {"name": "Joe"}}')
    facts = json.loads(environment.cli("hooks", "check", app_id, "changed", "onPreSave", *sample))
    assert facts["outcome"] == "continue"
    assert facts["request"]["body"] == {"name": "Joe", "changed": True}
    asking = ("--python", "sample_hooks:ask")
    facts = json.loads(environment.cli("hooks", "check", app_id, "x", "onPreSave", *asking))
    assert facts["questions"] == [
        {"module": "push", "function": "sendMessage", "arguments": [{"_id": "u"}, "hello"]}
    ]


def test_a_file_whose_code_is_wrong_changes_nothing(
    environment: Environment, tmp_path: Path
) -> None:
    file = tmp_path / "environment.json"
    hooks = {"brand-new": {"onPreSave": python("change_body"), "onPostSave": python("missing")}}
    file.write_text(json.dumps({"collectionHooks": hooks}))
    assert "brand-new onPostSave" in environment.refused(file)
    assert "brand-new" not in environment.cli("hooks", "list", environment.app["appID"])
