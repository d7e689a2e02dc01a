"""Services on the stock npm package kinvey-flex-sdk run as they are (spec kinvey 8.8, check 7)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.device import Device
from tests.support.foreign import SCRIPTS, flex_service
from tests.support.rest import Account, Api
from tests.support.server import Server, call_cli

SECRET = "shared-by-both"


def external(handler: str) -> dict[str, str]:
    return {"type": "external", "service": "flex", "handlerName": handler}


DOCUMENT = {
    "schemaVersion": "1.0.0",
    "configType": "environment",
    "collectionHooks": {
        "notes": {"onPreSave": external("stamp"), "onPostSave": external("tell")},
        "refused": {"onPreSave": external("refuse")},
        "copied": {"onPreSave": external("copy")},  # saves into its own collection, hooks on
    },
    "customEndpoints": {"announce": external("announce")},
}


@pytest.fixture(scope="module")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    with flex_service(SCRIPTS / "flex_service.cjs", SECRET, folder) as url:
        yield url


@pytest.fixture(scope="module")
def api(
    server: Server, service_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """An app whose hooks the service handles."""
    app = server.create_app("flex")
    file = tmp_path_factory.mktemp("flex") / "environment.json"
    file.write_text(json.dumps(DOCUMENT))
    app_id = app["appID"]
    for command in (
        ("hooks", "service", "set", app_id, "flex", service_url, "--secret", SECRET),
        ("kinvey", "apply", str(file), "--app-id", app_id),
    ):
        result = call_cli(*command, environ=server.environ, cwd=server.folder)
        assert result.returncode == 0, result.stderr
    api = Api(server.url, app)
    yield api
    api.close()


def call(api: Api, path: str, credentials: str, body: Any) -> httpx.Response:
    headers = {"Authorization": credentials, "X-Kinvey-API-Version": "3"}
    return api.http.post(f"{api.url}{path}", json=body, headers=headers)


def sign_up(api: Api, username: str) -> Account:
    app = base64.b64encode(f"{api.app_id}:{api.app['appKey']}".encode()).decode()
    body = {"username": username, "password": "secret"}
    made = call(api, f"/user/{api.app_id}", f"Basic {app}", body)
    assert made.status_code == 201, made.text
    return Account(made.json()["_id"], made.json()["_kmd"]["authtoken"])


@pytest.fixture(scope="module")
def user(api: Api) -> Account:
    return sign_up(api, "joe")


def test_handlers_around_a_save_change_it_and_push(api: Api, user: Account) -> None:
    with Device(api.mqtt_endpoint(user)) as device:
        body = {"text": "milk"}
        saved = call(api, f"/appdata/{api.app_id}/notes", f"Kinvey {user.token}", body)
        push = device.next_push()
    assert saved.status_code == 201, saved.text
    assert (saved.json()["by"], saved.json()["sent"]) == ("joe", 1)
    assert push == {"msg": "stored milk"}


def test_an_endpoint_of_the_service_broadcasts(api: Api, user: Account) -> None:
    with Device(api.mqtt_endpoint(user)) as device:
        path = f"/rpc/{api.app_id}/custom/announce"
        answer = call(api, path, f"Kinvey {user.token}", {"text": "hello"})
        push = device.next_push()
    assert answer.status_code == 201, answer.text
    assert answer.json()["messageId"]
    assert push == {"msg": "hello"}


def test_an_error_of_a_handler_is_the_answer(api: Api, user: Account) -> None:
    answer = call(api, f"/appdata/{api.app_id}/refused", f"Kinvey {user.token}", {})
    assert answer.status_code == 400
    assert answer.json()["error"] == "BadRequest"
    assert answer.json()["debug"] == "not like this"


def test_a_handler_that_calls_itself_is_stopped(api: Api, user: Account) -> None:
    """The SDK refuses it where the names are the same; if it did not, the server would."""
    answer = call(api, f"/appdata/{api.app_id}/copied", f"Kinvey {user.token}", {"text": "x"})
    assert answer.status_code == 550, answer.text


def test_hooks_check_calls_the_service(api: Api, server: Server, tmp_path: Path) -> None:
    sample = ("--request", '{"body": {"text": "milk"}, "username": "ann"}', "--json")
    result = call_cli(
        "hooks", "check", api.app_id, "notes", "onPreSave", *sample,
        environ=server.environ, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["request"]["body"] == {"text": "milk", "by": "ann"}
