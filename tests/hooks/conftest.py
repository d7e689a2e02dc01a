"""A server whose app has hooks, and an app that speaks to it as Kinvey's clients do."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.rest import Api, unique
from tests.support.server import Server, call_cli, run_cli

SAMPLE = Path(__file__).parent / "sample_hooks.py"
MODULE = "sample_hooks"
SETTINGS = {
    "HOOKS__PYTHON_MODULES": f'["{MODULE}"]',
    "HOOKS__WALL_LIMIT_S": "2",
    "LIMITS__MAX_BROWSERS_PER_OWNER": "1",
}


def python(function: str) -> dict[str, str]:
    """A hook of an environment file."""
    return {"type": "python", "entryPoint": f"{MODULE}:{function}"}


@dataclass(frozen=True, slots=True)
class Environment:
    """One app over the second dialect.

    command: the command line; call_cli where it need not import the app's code.
    """

    server: Server
    app: dict[str, str]
    http: httpx.Client
    command: Callable[..., subprocess.CompletedProcess[str]] = run_cli

    def call(
        self, method: str, path: str, credentials: str, body: Any = None, **headers: str
    ) -> httpx.Response:
        sent = {"Authorization": credentials, "X-Kinvey-API-Version": "5", **headers}
        url = f"{self.server.url}{path.replace(':app', self.app['appID'])}"
        return self.http.request(method, url, json=body, headers=sent)

    @property
    def master(self) -> str:
        return basic(self.app["appID"], self.app["clientSecret"])

    def user(self, username: str = "") -> str:
        """Credentials of a new user."""
        body = {"username": username or unique("user"), "password": "secret"}
        app = basic(self.app["appID"], self.app["appKey"])
        made = self.call("POST", "/user/:app", app, body)
        assert made.status_code == 201, made.text
        return f"Kinvey {made.json()['_kmd']['authtoken']}"

    def save(self, user: str, collection: str, **fields: Any) -> httpx.Response:
        """Store a new entity, as its user."""
        return self.call("POST", f"/appdata/:app/{collection}", user, fields)

    def stored(self, collection: str) -> Any:
        """What a collection holds."""
        skip = {"X-Kinvey-Skip-Business-Logic": "true"}
        return self.call("GET", f"/appdata/:app/{collection}", self.master, **skip).json()

    def apply(self, file: Path, *options: str) -> dict[str, Any]:
        """Load an environment file, which must succeed; what the command prints."""
        result = self.cli("kinvey", "apply", str(file), "--app-id", self.app["appID"], *options)
        facts: dict[str, Any] = json.loads(result)
        return facts

    def refused(self, file: Path) -> str:
        """Load one that must be refused; what the command says."""
        arguments = ("kinvey", "apply", str(file), "--app-id", self.app["appID"])
        result = self.command(*arguments, environ=self.server.environ, cwd=self.server.folder)
        assert result.returncode == 1
        return result.stderr

    def cli(self, *arguments: str) -> str:
        result = self.command(
            *arguments, "--json", environ=self.server.environ, cwd=self.server.folder
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


def basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


@pytest.fixture(scope="package")
def code_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may run the functions of the sample."""
    folder = tmp_path_factory.mktemp("code")
    shutil.copy(SAMPLE, folder / f"{MODULE}.py")
    with Server(folder, SETTINGS) as server:
        yield server


@pytest.fixture(scope="package")
def environment(code_server: Server) -> Iterator[Environment]:
    """An app of that server."""
    with httpx.Client(trust_env=False, timeout=30.0) as http:
        yield Environment(code_server, code_server.create_app("code"), http, call_cli)


@pytest.fixture(scope="package")
def code_api(environment: Environment) -> Iterator[Api]:
    """The same app over the first dialect."""
    api = Api(environment.server.url, environment.app)
    yield api
    api.close()
