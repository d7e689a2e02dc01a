"""Strange requests, made by schemathesis from /openapi.json: no 5xx, no answer that is not told.

The boundary cases of every operation come first, then one random one each; they are the same each
time, and a slow machine stops at a bound. Half of the operations say the same in another scope and
are left out; the document's own tests call them all.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from schemathesis import Case, HookContext
from schemathesis.engine import events, from_schema
from schemathesis.schemas import BaseSchema

from tests.rest.kinvey.samples import basic
from tests.rest.world import World, make_world
from tests.support.rest import Account
from tests.support.server import Server

TIME_LIMIT_S = 60  # for each run; the longest takes about 15
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]
KINVEY = r"\{appKey\}"
# Answers that have no end or wait for something to happen; and the end of the one who asks.
LEFT_OUT = r"^/(realtime|v2)/|/_logout$"
SCOPED = r"/(buckets|topics|acl)"
SAME_IN_OTHER_SCOPES = r"/(groups/\{groupID\}|things/\{thingID\})" + SCOPED
# What an administrator asks for and what a user does; the rest is asked by both.
OF_ADMINISTRATORS = r"/apps/\{appID\}/(buckets|topics|acl|things|server-code|networks|hooks)"
OF_USERS = r"/users/\{userID\}" + SCOPED + r"|/groups|/installations|^/thing-if"


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    statuses: Counter[int] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    world = make_world(server, "fuzzed")
    yield world
    world.api.close()


def fuzz(world: World, account: Account, *, left_out: str) -> Outcome:
    whole = schemathesis.openapi.from_url(f"{world.api.url}/openapi.json")
    schema = whole.exclude(operation_id="deleteApp").exclude(path_regex=SAME_IN_OTHER_SCOPES)
    schema = schema.exclude(path_regex=KINVEY).exclude(path_regex=left_out)
    return fuzz_some(world, schema, f"Bearer {account.token}")


def fuzz_some(world: World, schema: BaseSchema, authorization: str) -> Outcome:
    config = schema.config
    config.update(headers={"Authorization": authorization}, workers=1)
    config.generation.update(max_examples=1, deterministic=True)
    config.phases.examples.enabled = False
    config.phases.stateful.enabled = False
    config.checks.update(included_check_names=CHECKS)
    aim(schema, world)
    return run(schema)


def aim(schema: BaseSchema, world: World) -> None:
    """Most requests name what is there, else nearly all of them would be answered 404.

    But not those that would end the world for all that come after.
    """

    @schema.hook
    def map_case(_: HookContext, case: Case[Any]) -> Case[Any]:
        names = case.path_parameters or {}
        ends = case.method == "DELETE" or case.path.endswith(("/status", "/password"))
        is_aimed = not ends and zlib.crc32(repr((case.path, names)).encode()) % 4 != 0
        for name in names:
            if name in ("appID", "appKey"):
                names[name] = world.api.app_id
            elif ends and name == "id":
                names[name] = "nobody"  # an ID seen in an answer may be that of the one who asks
            elif is_aimed and name in world.values:
                names[name] = world.values[name]
        return case


def run(schema: BaseSchema) -> Outcome:
    outcome = Outcome()
    deadline = time.monotonic() + TIME_LIMIT_S
    stream = from_schema(schema).execute()
    for event in stream:
        if time.monotonic() > deadline:
            stream.stop()
        assert not isinstance(event, events.FatalError | events.NonFatalError), event
        if not isinstance(event, events.ScenarioFinished):
            continue
        recorder = event.recorder
        outcome.operations.add(recorder.label)
        for interaction in recorder.interactions.values():
            if interaction.response is not None:
                outcome.statuses[interaction.response.status_code] += 1
        for checks in recorder.checks.values():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info
                    where = (recorder.label, check.name)
                    outcome.failures[where] = f"{failure.failure.message}\n{failure.code_sample}"
    return outcome


def report(outcome: Outcome) -> str:
    return "\n\n".join(f"{where}: {what}" for where, what in outcome.failures.items())


def test_strange_requests_of_an_administrator_are_answered_as_documented(world: World) -> None:
    outcome = fuzz(world, world.admin, left_out=OF_USERS)
    assert not outcome.failures, report(outcome)
    assert len(outcome.operations) > 10
    assert {200, 400, 404} <= set(outcome.statuses)


def test_strange_requests_of_a_user_are_answered_as_documented(world: World) -> None:
    outcome = fuzz(world, world.user, left_out=OF_ADMINISTRATORS)
    assert not outcome.failures, report(outcome)
    assert {400, 401} <= set(outcome.statuses)


@pytest.mark.parametrize("who", ["master", "user"])
def test_strange_requests_of_the_second_dialect_are_answered_as_documented(
    world: World, who: str
) -> None:
    whole = schemathesis.openapi.from_url(f"{world.api.url}/openapi.json")
    schema = whole.include(path_regex=KINVEY).exclude(path_regex=LEFT_OUT)
    master = basic(world.api.app_id, world.api.app["clientSecret"])
    authorization = master if who == "master" else f"Kinvey {world.member.token}"
    outcome = fuzz_some(world, schema, authorization)
    assert not outcome.failures, report(outcome)
    assert {400, 404} <= set(outcome.statuses)


def test_an_answer_that_is_not_documented_is_found(world: World) -> None:
    """The check of the checks: without its 404 the document would not be true."""
    whole = schemathesis.openapi.from_url(f"{world.api.url}/openapi.json")
    schema = whole.include(operation_id="getTopic")
    schema.config.update(headers={"Authorization": f"Bearer {world.admin.token}"})
    schema.config.generation.update(max_examples=1, deterministic=True)
    schema.config.phases.stateful.enabled = False
    schema.config.checks.update(included_check_names=CHECKS)
    paths = schema.raw_schema["paths"]
    del paths["/api/apps/{appID}/topics/{topicID}"]["get"]["responses"]["401"]
    assert {name for _, name in run(schema).failures} == {"status_code_conformance"}
