"""docs/kii.md is true: its examples run, its codes, settings and routes exist."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from mqttpush.config import Settings
from mqttpush.rest.kii.errors import known_errors
from tests.rest.world import read_operations
from tests.support.documents import code_spans, read_document, require_settings, run_examples
from tests.support.server import Server

TEXT = read_document("docs/kii.md")
CODE_SPANS = code_spans(TEXT)
# Codes of the service that this server never answers, told as such.
NEVER_ANSWERED = {"INSTALLATION_ALREADY_EXISTS", "MQTT_ENDPOINT_NOT_READY"}
# Codes of a path or method, which no route answers.
OF_NO_ROUTE = {"NOT_FOUND", "METHOD_NOT_ALLOWED"}
CODE = re.compile(
    r"[A-Z_]*(NOT_FOUND|ALREADY_EXISTS|DISABLED|INVALID_[A-Z_]+|NOT_ALLOWED|TOO_[A-Z_]+|NOT_READY"
    r"|UNAVAILABLE|IS_STALE|TIMEOUT|NOT_SATISFIABLE|NOT_IMPLEMENTED)"
)


def test_the_examples_run_as_they_stand(server: Server, tmp_path: Path) -> None:
    app = server.create_app("read in the documents")
    printed = run_examples(
        TEXT,
        server,
        tmp_path,
        APP_ID=app["appID"],
        APP_KEY=app["appKey"],
        CLIENT_ID=app["clientID"],
        CLIENT_SECRET=app["clientSecret"],
    )
    for shown in (
        '"mqttTopic" : ',
        '"filterID" : "urgent"',
        '"subscribers" : [',
        '"not_connected" : 1',
        '"notFoundUsers" : [',
    ):
        assert shown in printed + "".join(p.read_text() for p in tmp_path.glob("*.json")), shown


def test_the_table_of_error_codes_is_the_server_s() -> None:
    appendix = TEXT.partition("### Appendix A")[2].partition("###")[0]
    rows = re.findall(r"^\| (\d{3}) \| (.+) \|$", appendix, re.MULTILINE)
    told = {int(status): set(re.findall(r"`(\w+)`", codes)) for status, codes in rows}
    assert told == {
        status: {code for code, _ in errors} for status, errors in known_errors().items()
    }


def test_every_error_code_it_names_exists() -> None:
    known = {code for errors in known_errors().values() for code, _ in errors}
    named = {span for span in CODE_SPANS if CODE.fullmatch(span)}
    assert named - known == NEVER_ANSWERED | OF_NO_ROUTE
    assert not NEVER_ANSWERED & known


def test_every_setting_it_names_exists() -> None:
    require_settings(CODE_SPANS, at_least=11)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("limits.max_mqtt_installations_per_owner", "(16)"),
        ("limits.max_group_members", "(1000)"),
        ("limits.max_body_bytes", "(1 GiB)"),
        ("http.max_body_bytes", "(1 MiB)"),
    ],
)
def test_a_default_it_tells_is_the_default(setting: str, told: str) -> None:
    section, key = setting.split(".")
    units = {"(1 GiB)": 2**30, "(1 MiB)": 2**20}
    value = units.get(told) or int(told.strip("()"))
    assert Settings().model_dump()[section][key] == value
    assert f"`{setting}` {told}" in TEXT


def test_every_route_it_names_exists(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    routes = [(each.method, each.path) for each in read_operations(document)]
    named = [
        (method, path)
        for span in CODE_SPANS
        for method, path in re.findall(
            r"^(?:(GET|PUT|POST|DELETE|PATCH) )?(?:\.\.\.)?(/\S+)$", span
        )
        if not path.endswith("...") and path not in ("/api", "/thing-if")
    ]
    assert len(named) >= 4
    for method, path in named:
        assert [each for each in routes if each[1].endswith(path) and method in ("", each[0])], path
