"""docs/kinvey.md is true: its examples run, its errors, settings and routes exist."""

from __future__ import annotations

import re
import subprocess
from dataclasses import asdict
from pathlib import Path

import httpx

from mqttpush.config import Settings
from mqttpush.kinvey import KinveySettings
from mqttpush.rest.kinvey.errors import ERRORS
from tests.rest.world import read_operations
from tests.support.server import Server

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "kinvey.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CODE_SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.M | re.S))


def test_the_examples_run_as_they_stand(server: Server, tmp_path: Path) -> None:
    app = server.create_app("read in the documents")
    environment = {
        **server.environ,
        "URL": server.url,
        "APP_KEY": app["appID"],
        "APP_SECRET": app["appKey"],
        "MASTER_SECRET": app["clientSecret"],
        "no_proxy": "*",
    }
    ran = subprocess.run(
        ["bash", "-c", "\n".join(["set -euo pipefail", *EXAMPLES])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout[-500:]}\n{ran.stderr[-1500:]}"
    for shown in (
        '"token":"the-token-of-the-phone"',
        '"users":1,"devices":1,"queued":0}',
        '"points":12',
    ):
        assert shown in ran.stdout, shown


def test_the_table_of_errors_is_the_server_s() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.+) \|$", TEXT.partition("## Errors")[2], re.MULTILINE)
    told = {int(status): set(re.findall(r"`(\w+)`", names)) for status, names in rows}
    known: dict[int, set[str]] = {}
    for name, (status, _) in ERRORS.items():
        known.setdefault(status, set()).add(name)
    assert told == known


def test_the_settings_of_an_app_are_the_server_s() -> None:
    table = TEXT.partition("## Settings of an app")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", table, re.MULTILINE))
    assert told == {name: str(value).lower() for name, value in asdict(KinveySettings()).items()}


def test_every_setting_of_the_server_it_names_exists() -> None:
    sections = Settings().model_dump()
    named = [
        (section, key)
        for span in CODE_SPANS
        for section, key in re.findall(r"^(\w+)\.([a-z_]+)$", span)
        if section in sections
    ]
    assert len(named) > 4
    for section, key in named:
        assert key in sections[section]


def test_every_route_it_names_exists(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    paths = {re.sub(r"\{\w+\}", "{}", each.path) for each in read_operations(document)}
    named = [
        re.sub(r":\w+|\{\w+\}", "{}", path)
        for span in CODE_SPANS
        for path in re.findall(r"(?:^|\s)(/(?:user|appdata|push|rpc|realtime)/\S+)", span)
    ]
    assert len(named) > 3
    assert set(named) - {"/appdata/{}/user"} <= paths
