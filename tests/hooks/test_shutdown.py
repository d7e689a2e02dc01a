"""The server stops within its time whatever code is running, and what it logged is kept."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.conftest import StartServer
from tests.hooks.conftest import MODULE, SAMPLE, Environment, python
from tests.hooks.test_server_code import CURRENT, HOOKS_TYPE, when
from tests.support.rest import Api

TIMEOUT_S = 3
SETTINGS = {
    "HOOKS__PYTHON_MODULES": f'["{MODULE}"]',
    "HOOKS__WALL_LIMIT_S": "60",
    "SHUTDOWN__TIMEOUT_S": str(TIMEOUT_S),
    "EMAIL__SECURITY": "none",
    "EMAIL__TIMEOUT_S": "60",
}
WAITING = ("hang", "hang_async", "send_mail")


def test_running_code_does_not_hold_up_the_end(start_server: StartServer, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path / f"{MODULE}.py")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a service and a mail server that hang
        host, port = silent.getsockname()
        settings = {**SETTINGS, "EMAIL__HOST": host, "EMAIL__PORT": str(port)}
        server = start_server(tmp_path, **settings)
        app = server.create_app("stop")
        with httpx.Client(trust_env=False, timeout=30.0) as http:
            environment = Environment(server, app, http)
            endpoints = {name: python(name) for name in WAITING}
            remote = {"type": "external", "service": "silent", "handlerName": "h"}
            file = tmp_path / "environment.json"
            file.write_text(json.dumps({"customEndpoints": {**endpoints, "remote": remote}}))
            url = f"http://{host}:{port}"
            environment.cli("hooks", "list", app["appID"])
            _set_service(environment, url)
            environment.apply(file)
            api = Api(server.url, app)
            admin = api.admin_token()
            document = {"kiicloud://buckets/orders": when("DATA_OBJECT_CREATED", "hang_on_object")}
            api.ok("PUT", CURRENT, token=admin, json=document, headers=HOOKS_TYPE)
            api.ok("POST", "/buckets/orders/objects", token=admin, json={})
            api.close()
            callers = [
                threading.Thread(target=_call, args=(environment, name))
                for name in (*WAITING, "remote")
            ]
            for caller in callers:
                caller.start()
            deadline = time.monotonic() + 10
            while _under_way(server.url) < 1 or len(list(tmp_path.glob("began-*"))) < 4:
                assert time.monotonic() < deadline
            started = time.monotonic()
            server.stop()
            seconds = time.monotonic() - started
            for caller in callers:
                caller.join()
        assert seconds < TIMEOUT_S + 1
        log = environment.cli("hooks", "log", app["appID"])
        assert log.count("the server is stopping") == 4


def _set_service(environment: Environment, url: str) -> None:
    from tests.support.server import run_cli

    server, app_id = environment.server, environment.app["appID"]
    command = ("hooks", "service", "set", app_id, "silent", url)
    assert run_cli(*command, environ=server.environ, cwd=server.folder).returncode == 0


def _call(environment: Environment, name: str) -> None:
    headers = {"Authorization": environment.master}
    url = f"{environment.server.url}/rpc/{environment.app['appID']}/custom/{name}"
    with suppress(httpx.HTTPError):  # the server is stopped under it
        httpx.post(url, json={}, headers=headers, trust_env=False, timeout=60)


def _under_way(url: str) -> int:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    [line] = [
        each for each in text.splitlines() if each.startswith("mqttpush_hook_runs_under_way ")
    ]
    return int(float(line.rpartition(" ")[2]))
