"""The push guide's script on a real server, with phones behind it (acceptance check 4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.scripts import GUIDE
from tests.support.collections import Member, assert_error
from tests.support.rest import unique
from tests.support.server import call_cli
from tests.system import test_kinvey_push
from tests.system.test_kinvey_push import Stage

running = test_kinvey_push.running
stage = test_kinvey_push.stage

STORY = {"section": "sports", "headline": "Us & them"}


def follower(stage: Stage, name: str, section: str) -> Member:
    """A user whose profile says what he follows."""
    body = {
        "username": unique("user"),
        "password": "secret",
        "givenName": name,
        "follows": section,
    }
    user = stage.kinvey.ok("POST", "user", stage.kinvey.app, body)
    return Member(user["_id"], user["_kmd"]["authtoken"])


@pytest.fixture
def stories(stage: Stage, tmp_path: Path) -> Stage:
    """With the guide's script, byte for byte, before each save of a story."""
    folder = tmp_path / "hooks" / "stories"
    folder.mkdir(parents=True)
    (folder / "onPreSave.js").write_bytes(GUIDE.read_bytes())
    hook = {"type": "internal", "codeFile": "./hooks/stories/onPreSave.js"}
    document = {
        "schemaVersion": "1.0.0",
        "configType": "environment",
        "collectionHooks": {"stories": {"onPreSave": hook}},
    }
    file = tmp_path / "environment.json"
    file.write_text(json.dumps(document))
    arguments = ("kinvey", "apply", str(file), "--app-id", stage.kinvey.key)
    result = call_cli(*arguments, environ=stage.server.environ, cwd=stage.server.folder)
    assert result.returncode == 0, result.stderr
    return stage


def post(stage: Stage, who: Member, story: dict[str, Any]) -> Any:
    return stage.kinvey.call("POST", "appdata/stories", who.authorization, story)


@pytest.mark.spec("kinvey 13.4")
def test_the_push_guides_script_sends_two_users_a_text_each(stories: Stage) -> None:
    ann, bob = follower(stories, "Ann", "sports"), follower(stories, "Bob", "sports")
    other = follower(stories, "Eve", "politics")
    tokens = [stories.device(each, "fcm", "android") for each in (ann, bob, other)]
    answer = post(stories, other, STORY)
    assert (answer.status_code, answer.text) == (
        200,
        '{"message":"Attempted to push 2 messages."}',
    )
    stories.running.wait_for("fcm", 2)
    # The template escapes, as the reference says.
    assert stories.data(tokens[0]) == {"msg": "Ann, Us &amp; them is new in sports!"}
    assert stories.data(tokens[1]) == {"msg": "Bob, Us &amp; them is new in sports!"}
    assert stories.counts(*tokens) == [1, 1, 0]
    assert stories.kinvey.find("stories", stories.kinvey.master, {}) == []


@pytest.mark.spec("kinvey 13.4")
def test_the_push_guides_script_times_out_when_nobody_matches(stories: Stage) -> None:
    other = follower(stories, "Eve", "politics")
    answer = post(stories, other, STORY)
    assert_error(answer, 550, "BLTimeoutError")
    assert answer.elapsed.total_seconds() < 5  # at once, not at the limit of 20 s
    assert stories.kinvey.find("stories", stories.kinvey.master, {}) == []
