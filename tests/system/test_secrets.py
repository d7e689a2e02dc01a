"""No secret in logs, metrics or error bodies: canaries are planted, and everything said is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.rest import Api, unique
from tests.support.server import Server, environment, run_cli

PASSWORD = "canary-password-7f3a"
WRONG_PASSWORD = "canary-wrong-password-91bc"
WRONG_TOKEN = "canary-wrong-token-55e0"
WRONG_SECRET = "canary-wrong-secret-1d2e"
LIFE = ["starting", "ready", "stopping", "stopped"]
PLANTED = (PASSWORD, WRONG_PASSWORD, WRONG_TOKEN, WRONG_SECRET)


class Talk:
    """Every secret planted or handed out, and every error body that came back."""

    def __init__(self, server: Server, app: dict[str, str]) -> None:
        self.server = server
        self.api = Api(server.url, app)
        self.secrets = {*PLANTED, app["appKey"], app["clientSecret"]}
        self.errors: list[str] = []

    def keep(self, *secrets: str) -> None:
        self.secrets.update(secrets)

    def refused(self, method: str, path: str, **kwargs: Any) -> None:
        answer = self.api.call(method, path, **kwargs)
        assert answer.is_client_error
        self.errors.append(f"{answer.headers}\n{answer.text}")


def behave_well(talk: Talk) -> None:
    api = talk.api
    name = unique("user")
    api.ok("POST", "/users", json={"loginName": name, "password": PASSWORD})
    url = f"{api.url}/api/oauth2/token"
    answer = api.ok("POST", url, json={"username": name, "password": PASSWORD})
    admin_token = api.admin_token()
    user = api.pseudo_user()
    endpoint = api.mqtt_endpoint(user)
    talk.keep(answer["access_token"], admin_token, user.token, endpoint["password"])
    with Device(endpoint) as device:
        api.push_to_user(admin_token, user.id, text="hello")
        device.next_push()


def behave_badly(talk: Talk) -> None:
    api = talk.api
    name = unique("user")
    bearer = {"Authorization": f"Bearer {WRONG_TOKEN}"}
    for url in (f"{api.url}/api/oauth2/token", "/oauth2/token"):
        grant = {"grant_type": "password", "username": name, "password": WRONG_PASSWORD}
        talk.refused("POST", url, json=grant)
        grant = {
            "grant_type": "client_credentials",
            "client_id": api.app["clientID"],
            "client_secret": WRONG_SECRET,
        }
        talk.refused("POST", url, json=grant)
    talk.refused("POST", "/users", json={"loginName": "x", "password": WRONG_PASSWORD})
    talk.refused("POST", "/users", json={"loginName": name, "password": [WRONG_PASSWORD]})
    half = f'{{"loginName": "{name}", "password": "{WRONG_PASSWORD}"'.encode()
    talk.refused("POST", "/users", content=half, headers={"Content-Type": "application/json"})
    for method, path in (
        ("GET", "/users/me"),
        ("POST", "/buckets/some/objects"),
        ("POST", "/installations"),
        ("PUT", "/topics/some"),
        ("GET", "/no/such/path"),
        ("BREW", "/users/me"),
    ):
        talk.refused(method, path, headers=bearer)
    basic = {"Authorization": f"Basic {WRONG_SECRET}"}
    talk.refused("GET", "/users/me", headers=basic)
    endpoint = api.mqtt_endpoint(api.pseudo_user())
    talk.keep(endpoint["password"])
    refused = Device({**endpoint, "password": WRONG_PASSWORD})
    with pytest.raises(ConnectionRefusedError), refused:
        pass


def test_no_secret_is_said_in_logs_metrics_and_error_bodies(start_server: StartServer) -> None:
    server = start_server(LOG__LEVEL="debug")
    talk = Talk(server, server.create_app("canaries"))
    talk.keep(*(server.demo[name] for name in ("accessToken", "password", "clientSecret")))
    behave_well(talk)
    behave_badly(talk)
    metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
    ready_file = (server.folder / "data" / "server.json").read_text(encoding="utf-8")
    talk.api.close()
    server.stop()
    said = {
        "log": server.stderr,
        "metrics": metrics,
        "ready file": ready_file,
        "error bodies": "\n".join(talk.errors),
    }
    for place, text in said.items():
        found = [secret for secret in talk.secrets if secret in text]
        assert not found, f"in the {place}: {found}"


def test_the_store_holds_no_secret_in_the_clear(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    talk = Talk(server, server.create_app("canaries"))
    talk.secrets.discard(talk.api.app["appKey"])  # no secret: it ships inside every client
    talk.keep(*(server.demo[name] for name in ("accessToken", "password", "clientSecret")))
    behave_well(talk)
    talk.api.close()
    server.stop()
    kept = b"".join(each.read_bytes() for each in (tmp_path / "data").glob("mqttpush.db*"))
    assert kept
    assert not [secret for secret in talk.secrets if secret.encode() in kept]


def test_files_of_the_store_are_the_owners_alone(start_server: StartServer, tmp_path: Path) -> None:
    start_server().stop()
    folder = tmp_path / "data"
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "server.key").stat().st_mode & 0o077 == 0


def test_a_wrong_setting_does_not_show_its_password(tmp_path: Path) -> None:
    dsn = f"postgres://me:{PASSWORD}@db/x"
    for command in (["serve"], ["config", "check"], ["config", "show", "--json"]):
        environ = environment(tmp_path, {"STORE__DSN": dsn})
        result = run_cli(*command, environ=environ, cwd=tmp_path)
        assert result.returncode == 2
        assert PASSWORD not in result.stdout + result.stderr


def test_the_debug_log_is_json_with_the_same_four_fields(start_server: StartServer) -> None:
    server = start_server(LOG__LEVEL="debug")
    server.stop()
    lines = [json.loads(line) for line in server.stderr.splitlines()]
    told = [line["event"].partition(":")[0] for line in lines]
    assert [event for event in told if event in LIFE] == LIFE
    for line in lines:
        assert {"event", "level", "logger", "timestamp"} <= line.keys()
