"""The programs shown in docs/things.md run against the server as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.documents import blocks, read_document
from tests.support.rest import Account, Api, unique
from tests.support.server import Server
from tests.support.things import TIMEOUT_S

TEXT = read_document("docs/things.md")
CLIENTS = Path(__file__).parent / "clients"


def shown(language: str, server: Server, app: dict[str, str], name: str) -> str:
    """The program of the document in this language, with this server's addresses."""
    (program,) = blocks(TEXT, language)
    host, port = server.mqtt_address
    replacements = {
        "192.168.1.10": host,
        "1883": str(port),
        '"APP_ID"': f'"{app["appID"]}"',
        '"APP_KEY"': f'"{app["appKey"]}"',
        "=APP_ID": f"={app['appID']}",
        "=APP_KEY": f"={app['appKey']}",
        "lamp-1": name,
        "shell-1": name,
    }
    for old, new in replacements.items():
        program = program.replace(old, new)
    return program


@contextmanager
def running(*command: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def obeyed(api: Api, admin_token: str, thing_id: str, *, ttl: int = 0) -> None:
    """The thing does a command."""
    commands = f"{api.url}/thing-if/apps/{api.app_id}/targets/thing:{thing_id}/commands"
    body = {"actions": [{"turnPower": {"power": True}}], "ttl": ttl}
    made = api.ok("POST", commands, token=admin_token, json=body)
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        shown = api.ok("GET", f"{commands}/{made['commandID']}", token=admin_token)
        if shown["commandState"] != "SENDING":
            break
        assert time.monotonic() < deadline
    assert shown["commandState"] == "DONE"
    assert shown["actionResults"] == [{"turnPower": {"succeeded": True}}]


def thing_id_of(process: subprocess.Popen[str]) -> str:
    """What the program says when it is ready."""
    assert process.stdout
    word, thing_id = process.stdout.readline().split()
    assert word == "ready"
    return thing_id


@pytest.mark.spec("kii 10")
def test_the_micropython_lamp_obeys(
    server: Server, app: dict[str, str], api: Api, admin_token: str
) -> None:
    program = shown("python", server, app, unique("lamp"))
    command = (sys.executable, "-u", "-c", program)
    with running(*command, PYTHONPATH=str(CLIENTS)) as process:
        thing_id = thing_id_of(process)
        for _ in range(2):
            obeyed(api, admin_token, thing_id)
        process.terminate()


@pytest.mark.spec("kii 10")
@pytest.mark.skipif(not shutil.which("mosquitto_rr"), reason="needs mosquitto-clients")
def test_the_shell_thing_obeys(
    server: Server, app: dict[str, str], api: Api, admin_token: str
) -> None:
    program = shown("bash", server, app, unique("shell"))
    with running("bash", "-euo", "pipefail", "-c", program) as process:
        thing_id = thing_id_of(process)
        # It says that it is ready before it listens: the command waits for it.
        obeyed(api, admin_token, thing_id, ttl=60)
        assert process.stdout
        assert process.stdout.readline().startswith("got ")
        assert process.stdout.readline().strip() == "204"
        assert process.wait(TIMEOUT_S) == 0


@pytest.mark.spec("kii 1.4")
def test_presence_is_as_described(api: Api) -> None:
    user: Account = api.pseudo_user()
    thing = api.thing()
    api.ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=thing.token)
    for method, path in re.findall(r"^(PUT|POST) (/api/.*_presence.*)$", TEXT, re.M):
        url = api.url + path.format(appID=api.app_id, thingID=thing.id)
        api.ok(method, url, token=user.token)
