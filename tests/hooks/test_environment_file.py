"""An environment file as kinvey-cli exports it loads, and everything in it acts (check 10)."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mqttpush.errors import InvalidRequest
from mqttpush.operations.environment_file import read_environment
from tests.hooks.conftest import Environment, python
from tests.hooks.test_server_code import wait_for
from tests.support.device import Device
from tests.support.rest import Api, unique

ON_PRE_SAVE = """function onPreSave(request, response, modules) {
  request.body.points = double(request.body.points);
  response.continue();
}
"""
TICK = """function onRequest(request, response, modules) {
  modules.collectionAccess.collection('ticks').insert({at: 'scheduled'}, function (error) {
    if (error) return response.error(error);
    response.body = {done: true};
    response.complete(200);
  });
}
"""


def write_export(folder: Path) -> Path:
    """The folder of an export: one file, with the code beside it."""
    start = datetime.now(UTC) + timedelta(seconds=3)  # applying takes long on a busy machine
    (folder / "hooks" / "scores").mkdir(parents=True)
    (folder / "common").mkdir()
    (folder / "hooks" / "scores" / "onPreSave.js").write_text(ON_PRE_SAVE)
    (folder / "common" / "helpers.js").write_text("function double(n) { return 2 * n; }\n")
    document = {
        "schemaVersion": "1.0.0",
        "configType": "environment",
        "settings": {"apiVersion": 4},
        "collections": {
            "scores": {"type": "internal", "permissions": "private"},
            "read": {"type": "internal", "permissions": "read-only"},
        },
        "commonCode": {"helpers": {"codeFile": "./common/helpers.js"}},
        "collectionHooks": {
            "scores": {
                "onPreSave": {"type": "internal", "codeFile": "./hooks/scores/onPreSave.js"},
                "onPostSave": {
                    "type": "external",
                    "service": "svc",
                    "serviceEnvironment": "dev",
                    "handlerName": "h",
                },
            }
        },
        "customEndpoints": {
            "tick": {
                "type": "internal",
                "code": TICK,
                "schedule": {"start": start.isoformat(), "interval": "1-minute"},
            }
        },
        "roles": {},
        "groups": {},
        "push": {"android": {"senderId": "1", "apiKey": "legacy"}},
    }
    file = folder / "environment.json"
    file.write_text(json.dumps(document))
    return file


@pytest.fixture(scope="module")
def applied(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What applying the export told."""
    return environment.apply(write_export(tmp_path_factory.mktemp("export")))


def test_applying_tells_what_there_is_and_what_is_left_to_do(applied: dict[str, Any]) -> None:
    assert (applied["collections"], applied["code"], applied["schedules"]) == (2, 4, 1)
    told = " ".join(applied["warnings"])
    assert "legacy apiKey" in told
    assert "svc/dev" in told


def test_its_hooks_with_common_code_act(environment: Environment, applied: dict[str, Any]) -> None:
    user = environment.user()
    answer = environment.call("POST", "/appdata/:app/scores", user, {"points": 21})
    # The service of the post-hook has no address; the write stays.
    assert (answer.status_code, answer.json()["error"]) == (550, "FlexRuntimeError")
    found = environment.call("GET", "/appdata/:app/scores", user).json()
    assert [each["points"] for each in found] == [42]


def test_its_permissions_act(environment: Environment, applied: dict[str, Any]) -> None:
    stranger = environment.user()
    assert environment.call("GET", "/appdata/:app/scores", stranger).json() == []
    answer = environment.call("POST", "/appdata/:app/read", stranger, {})
    assert (answer.status_code, answer.json()["error"]) == (403, "WritesToCollectionDisallowed")


def test_its_default_api_version_acts(environment: Environment, applied: dict[str, Any]) -> None:
    url = f"{environment.server.url}/appdata/{environment.app['appID']}"
    answer = environment.http.get(url, headers={"Authorization": environment.master})
    assert answer.headers["X-Kinvey-API-Version"] == "4"


def test_its_schedule_acts(environment: Environment, applied: dict[str, Any]) -> None:
    master = environment.master

    def ticks() -> Any:
        return environment.call("GET", "/appdata/:app/ticks", master).json()

    assert wait_for(ticks)[0]["at"] == "scheduled"


def test_applying_again_changes_nothing(
    environment: Environment, applied: dict[str, Any], tmp_path: Path
) -> None:
    app_id = environment.app["appID"]
    names = [hook["name"] for hook in json.loads(environment.cli("hooks", "list", app_id))["hooks"]]
    environment.apply(write_export(tmp_path))
    again = json.loads(environment.cli("hooks", "list", app_id))["hooks"]
    assert [hook["name"] for hook in again] == names


@pytest.mark.parametrize("name", ["../secret.js", "/etc/passwd", "link.js"])
def test_code_outside_of_the_folder_is_not_read(
    name: str, environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "secret.js").write_text("function onPreSave() {}")
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "link.js").symlink_to(tmp_path / "secret.js")
    file = folder / "environment.json"
    file.write_text(json.dumps({"collectionHooks": {"x": {"onPreSave": {"codeFile": name}}}}))
    assert "outside" in environment.refused(file)


@pytest.mark.parametrize("name", ["loop", "pipe", "a\0b", "", "x" * 5000, "folder"])
def test_what_is_no_file_is_told_at_once(
    name: str, environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    file = tmp_path / "environment.json"
    file.write_text(json.dumps({"commonCode": {"x": {"codeFile": name}}}))
    told = environment.refused(file)
    assert told.startswith("mqttpush: ")
    assert "Traceback" not in told


def test_files_may_begin_with_a_mark(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("function onPreSave(a, b, c) {}", encoding="utf-8-sig")
    file = tmp_path / "environment.json"
    hooks = {"collectionHooks": {"marked": {"onPreSave": {"codeFile": "a.js"}}}}
    file.write_text(json.dumps(hooks), encoding="utf-8-sig")
    assert environment.apply(file)["code"] == 1


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "the file"),
        ({"configType": "application"}, "configType"),
        ({"schemaVersion": "2.0.0"}, "schemaVersion"),
        ({"settings": {"apiVersion": 7}}, "settings.apiVersion"),
        ({"collections": {"a": {"permissions": "all"}}}, "collections.a.permissions"),
        ({"collections": {"_a": {}}}, "collections._a"),
        ({"collectionHooks": {"a": {"onSave": python("f")}}}, "collectionHooks.a.onSave"),
        ({"collectionHooks": {"a": {"onPreSave": {}}}}, "collectionHooks.a.onPreSave"),
        ({"collectionHooks": {"a": {"onPreSave": {"type": "x"}}}}, "onPreSave.type"),
        ({"collectionHooks": {"a": {"onPreSave": {"type": "external"}}}}, "onPreSave"),
        ({"customEndpoints": {"e": {"type": "python", "entryPoint": "a:b:c"}}}, "entryPoint"),
        (
            {"customEndpoints": {"e": {"code": "", "schedule": {"start": "soon"}}}},
            "customEndpoints.e.schedule.start",
        ),
        (
            {"customEndpoints": {"e": {"code": "", "schedule": {"interval": "yearly"}}}},
            "customEndpoints.e.schedule.interval",
        ),
        ({"commonCode": {"c": {"code": "", "codeFile": "a"}}}, "commonCode.c"),
        ({"collections": {"a": {"permissions": ["all"]}}}, "collections.a.permissions"),
        ({"collectionHooks": {"a": {"onPreLogin": python("f")}}}, "collectionHooks.a.onPreLogin"),
        ({"commonCode": {"c" * 129: {"code": ""}}}, "commonCode"),
        ({"commonCode": {"c": {"code": "x" * 1_000_001}}}, "commonCode.c"),
        *(
            ({"customEndpoints": {"e": {"code": "", "schedule": schedule}}}, "schedule")
            for schedule in (
                {"start": "2026-01-01", "interval": ["daily"]},
                {"start": 20260101},
                {"start": "0000-01-01T00:00:00Z"},
                {"start": "0001-01-01T00:00:00+14:00"},
                {"start": "9999-12-31T23:59:59-14:00"},
                {"start": "10000-01-01T00:00:00Z"},
            )
        ),
        ({"push": {"ios": {"keyFile": 7}}}, "push.ios.keyFile"),
        ({"push": [1]}, "push"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(document: Any, place: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_environment(document, "app", lambda _: b"")
    assert place in caught.value.field


def test_a_running_server_heeds_lost_rights_at_once(
    environment: Environment, code_api: Api, tmp_path: Path
) -> None:
    """Somebody who hears a collection loses it with the permission, and has it back with it."""
    books, writer, reader = unique("books"), code_api.pseudo_user(), code_api.pseudo_user()

    def allow(permissions: str) -> None:
        file = tmp_path / "environment.json"
        file.write_text(json.dumps({"collections": {books: {"permissions": permissions}}}))
        assert environment.apply(file)["warnings"] == []

    def write(number: int) -> None:
        body = {"n": number}
        path = f"/buckets/{books}/objects/o{number}"
        assert code_api.call("PUT", path, token=writer.token, json=body).status_code == 201

    allow("shared")
    code_api.subscribe(reader, f"/buckets/{books}")
    with Device(code_api.mqtt_endpoint(reader)) as device:
        write(1)
        assert device.next_push()["objectID"] == "o1"
        allow("private")
        write(2)
        allow("shared")
        write(3)
        assert device.next_push()["objectID"] == "o3"


def test_only_the_administrator_has_changes_heeded(code_api: Api) -> None:
    for token in (None, code_api.pseudo_user().token):
        assert code_api.call("POST", "/heed", token=token).status_code == 401
