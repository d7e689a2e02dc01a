"""docs/kinvey.md is true: its examples run, its errors, settings and routes exist."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import httpx

from mqttpush.kinvey import KinveySettings
from mqttpush.rest.kinvey.errors import ERRORS
from tests.rest.world import read_operations
from tests.support.documents import code_spans, read_document, require_settings, run_examples
from tests.support.server import Server

TEXT = read_document("docs/kinvey.md")
CODE_SPANS = code_spans(TEXT)


def test_the_examples_run_as_they_stand(server: Server, tmp_path: Path) -> None:
    app = server.create_app("read in the documents")
    printed = run_examples(
        TEXT,
        server,
        tmp_path,
        APP_KEY=app["appID"],
        APP_SECRET=app["appKey"],
        MASTER_SECRET=app["clientSecret"],
    )
    for shown in (
        '"token":"the-token-of-the-phone"',
        '"users":1,"devices":1,"queued":0}',
        '"points":12',
    ):
        assert shown in printed, shown


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
    require_settings(CODE_SPANS, at_least=5)


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
