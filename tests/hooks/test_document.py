"""docs/hooks.md is true: its files are put together and run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mqttpush.config import Settings
from tests.conftest import StartServer
from tests.hooks.conftest import Environment
from tests.hooks.test_server_code import CURRENT, HOOKS_TYPE
from tests.support.device import Device
from tests.support.documents import read_document
from tests.support.foreign import flex_service
from tests.support.rest import Account, Api
from tests.support.server import call_cli

TEXT = read_document("docs/hooks.md")
FILES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
SECRET = "THE-SHARED-SECRET"


@pytest.fixture
def environment(start_server: StartServer, tmp_path: Path) -> Iterator[Environment]:
    """The document's app, on a server of its own with the document's files beside it."""
    for name, content in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    server = start_server(tmp_path, CONFIG="mqttpush.toml")
    with httpx.Client(trust_env=False, timeout=30.0) as http:
        environment = Environment(server, server.create_app("game"), http)
        environment.apply(tmp_path / "environment.json")
        yield environment


def test_the_python_and_the_javascript_of_the_document_run(environment: Environment) -> None:
    user = environment.user("ann")
    me = environment.call("GET", "/user/:app/_me", user).json()
    api = Api(environment.server.url, environment.app)
    account = Account(me["_id"], user.removeprefix("Kinvey "))
    with Device(api.mqtt_endpoint(account)) as device:
        saved = environment.call("POST", "/appdata/:app/scores", user, {"points": 250})
        assert saved.json()["level"] == 2, saved.text
        assert device.next_push() == {"msg": "ann is on level 2"}
        answer = environment.call("POST", "/rpc/:app/custom/announce", user, {"text": "hello"})
        assert answer.json() == {"devices": 0}  # no phone is registered; connections are told too
        assert device.next_push() == {"msg": "hello"}
        refused = environment.call("POST", "/appdata/:app/scores", user, {"points": "many"})
        assert refused.json()["debug"] == "UserDefinedError: points must be a number"
        admin = api.admin_token()
        document = json.loads(FILES["triggers.json"])
        api.ok("PUT", CURRENT, token=admin, json=document, headers=HOOKS_TYPE)
        api.ok("PUT", "/topics/orders", token=admin)
        api.subscribe(account, "/topics/orders")
        made = api.ok("POST", "/buckets/orders/objects", token=admin, json={})
        assert device.next_push()["order"] == made["objectID"]
    api.close()


def test_the_service_of_the_document_runs(environment: Environment, tmp_path: Path) -> None:
    with flex_service(tmp_path / "service.cjs", SECRET, tmp_path) as url:
        app_id, server = environment.app["appID"], environment.server
        service = ("hooks", "service", "set", app_id, "game", url, "--secret", SECRET)
        told = call_cli(*service, environ=server.environ, cwd=server.folder)
        assert told.returncode == 0, told.stderr
        user = environment.user()
        for points in (120, 250, 90):
            environment.call("POST", "/appdata/:app/scores", user, {"points": points})
        answer = environment.call("POST", "/rpc/:app/custom/best", user, {})
        assert (answer.status_code, answer.json()) == (200, {"best": 250})


def test_every_setting_the_document_names_exists() -> None:
    sections = Settings().model_dump()
    for section, key in re.findall(r"`(hooks|email)\.(\w+)`", TEXT):
        assert key in sections[section], key
