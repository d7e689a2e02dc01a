"""`mqttpush network`: with a server and without one, and what it says about wrong files."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mqttpush.cli.main import main
from mqttpush.networks import Network
from mqttpush.provider_simulator import Providers
from tests.networks.support import fields_from
from tests.support.providers import running_providers, server_settings
from tests.support.server import Server, call_cli, environment


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    with running_providers() as running:
        yield running.providers


Environ = Mapping[str, str]
NOTHING: Environ = {}


class Desk:
    """A folder with a store, an app and credential files."""

    def __init__(self, folder: Path, providers: Providers) -> None:
        self.folder = folder
        self.environ = environment(folder, server_settings(providers))
        self.run("app", "create", "Shop", "--app-id", "shop")
        account = fields_from(providers, Network.FCM)
        self.account = self.file("account.json", json.dumps(account))
        apns = fields_from(providers, Network.APNS)
        self.key_file = self.file("key.p8", apns["key"])
        self.apns = ("--key-id", apns["keyId"], "--team-id", apns["teamId"], "--topic", "com.x.y")
        self.secret = fields_from(providers, Network.JPUSH)["masterSecret"]

    def file(self, name: str, text: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def run(self, *arguments: str, status: int = 0, environ: Environ = NOTHING) -> str:
        done = self.try_(*arguments, environ=environ)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    def try_(self, *arguments: str, environ: Environ = NOTHING) -> subprocess.CompletedProcess[str]:
        done = call_cli(*arguments, environ={**self.environ, **environ}, cwd=self.folder)
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, environ: Environ = NOTHING) -> Any:
        return json.loads(self.run("network", *arguments, "--json", environ=environ))

    def set_fcm(self) -> Any:
        return self.json("set", "fcm", "--file", self.account)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, providers: Providers) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"), providers)


@pytest.fixture
def new_desk(tmp_path: Path, providers: Providers) -> Desk:
    return Desk(tmp_path, providers)


def test_credentials_of_all_networks_are_set_shown_and_deleted_without_a_server(
    desk: Desk,
) -> None:
    desk.set_fcm()
    assert (
        "Next: mqttpush network test apns"
        in desk.try_("network", "set", "apns", "--key-file", desk.key_file, *desk.apns).stderr
    )
    secret_file = desk.file("secret.txt", f"{desk.secret}\n")
    jpush = ("--app-key", "a" * 24, "--master-secret-file", secret_file)
    desk.json("set", "jpush", *jpush)
    webpush = desk.json("set", "webpush", "--subject", "mailto:you@example.com")
    shown = desk.json("show")
    assert [each["network"] for each in shown] == ["apns", "fcm", "jpush", "webpush"]
    assert shown[3] == webpush
    assert webpush["summary"]["publicKey"] in desk.run("network", "show", "webpush")
    assert desk.secret not in json.dumps(shown)
    assert desk.json("test", "webpush")["accepted"] is True
    desk.run("network", "delete", "jpush", "--yes")
    assert "mqttpush network set NETWORK" in desk.run("network", "test", "jpush", status=1)


def test_web_push_keeps_its_key_unless_another_is_wanted(desk: Desk) -> None:
    options = ("set", "webpush", "--subject", "mailto:you@example.com")
    first, second = (desk.json(*options)["summary"]["publicKey"] for _ in range(2))
    third = desk.json(*options, "--generate")["summary"]["publicKey"]
    assert first == second != third


def test_a_wrong_file_is_told_by_field_and_nothing_is_stored(new_desk: Desk) -> None:
    desk = new_desk
    client_file = desk.file("google-services.json", '{"project_info": {}, "client": []}')
    assert "google-services.json is for the device" in desk.run(
        "network", "set", "fcm", "--file", client_file, status=1
    )
    truncated = desk.file("half.json", Path(desk.account).read_text()[:300])
    said = desk.run("network", "set", "fcm", "--file", truncated, status=2)
    assert "is it whole?" in said
    said = desk.run("network", "set", "apns", "--key-file", desk.account, *desk.apns, status=1)
    assert "key: " in said
    said = desk.run("network", "set", "apns", "--key-file", desk.key_file, status=2)
    assert "--key-id, --team-id, --topic" in said
    missing = desk.run("network", "set", "fcm", "--file", "/does/not/exist", status=2)
    assert "No such file" in missing
    assert desk.json("show") == []


def test_the_store_holds_no_secret_in_the_clear(new_desk: Desk) -> None:
    new_desk.set_fcm()
    connection = sqlite3.connect(new_desk.folder / "data" / "mqttpush.db")
    sealed, summary = connection.execute(
        "SELECT sealed, summary FROM network_credentials"
    ).fetchone()
    connection.close()
    assert b"PRIVATE KEY" not in sealed
    assert "PRIVATE KEY" not in summary


def test_another_key_is_a_clear_error_and_resealing_mends_it(new_desk: Desk) -> None:
    desk = new_desk
    made = desk.set_fcm()
    desk.json("set", "webpush", "--subject", "mailto:you@example.com")
    key_file = desk.file("encryption.key", bytes(range(32)))
    other = {"MQTTPUSH_SECURITY__ENCRYPTION_KEY_FILE": key_file}
    broken = desk.json("show", environ=other)
    assert all("another key" in view["problem"] for view in broken)
    verdict = desk.try_("network", "test", "webpush", "--json", environ=other)
    assert verdict.returncode == 1
    assert json.loads(verdict.stdout)["ending"] == "credentials_refused"
    needed = ("network", "set", "webpush", "--subject", "mailto:you@example.com")
    assert "privateKey" in desk.run(*needed, status=1, environ=other)
    counts = desk.json("reseal", environ=other)
    assert counts == {"resealed": 2, "unchanged": 0, "failed": 0}
    assert desk.json("reseal", environ=other) == {"resealed": 0, "unchanged": 2, "failed": 0}
    assert desk.json("show", environ=other)[0] == made
    third = {"MQTTPUSH_SECURITY__ENCRYPTION_KEY_FILE": desk.file("third.key", bytes(40))}
    assert "set them again" in desk.try_("network", "reseal", environ=third).stderr


def test_a_key_file_that_is_missing_or_short_stops_everything_with_its_name(desk: Desk) -> None:
    short = desk.file("short.key", b"short")
    for file, problem in ((short, "32 are needed"), ("/does/not/exist", "cannot be read")):
        environ = {"MQTTPUSH_SECURITY__ENCRYPTION_KEY_FILE": file}
        said = desk.run("network", "show", status=2, environ=environ)
        assert "security.encryption_key_file" in said
        assert problem in said


def test_a_running_server_is_asked(tmp_path: Path, providers: Providers) -> None:
    server = Server(tmp_path, server_settings(providers))
    try:
        desk = Desk(tmp_path, providers)
        shop = ("--app-id", "shop")  # beside the demo app
        made = desk.json("set", "fcm", "--file", desk.account, *shop)
        assert desk.json("show", *shop) == [made]
        said = desk.run("network", "reseal", status=2)
        assert "another mqttpush server runs" in said
        bad = desk.file("bad.json", '{"type": "service_account"}')
        refused = desk.run("network", "set", "fcm", "--file", bad, *shop, status=1)
        assert "project_id" in refused
    finally:
        server.stop()


def test_help_teaches() -> None:
    texts = {
        ("network",): "service-account.json",
        ("network", "set", "fcm"): "Generate new private key",
        ("network", "set", "apns"): "can be downloaded once",
        ("network", "set", "jpush"): "Master Secret",
        ("network", "set", "webpush"): "subscribe()",
        ("network", "reseal"): "while the server is",
    }
    for words, taught in texts.items():
        shown = CliRunner().invoke(main, [*words, "--help"])
        assert taught in " ".join(shown.output.split()), shown.output


def test_an_environment_file_is_applied_whole_or_not_at_all(new_desk: Desk) -> None:
    """One unit of work: what is refused last leaves nothing of what was right before it."""
    desk = new_desk
    names = ("keyId", "teamId", "topic")
    ios = {"keyFile": "key.p8", **dict(zip(names, desk.apns[1::2], strict=True))}
    document: dict[str, Any] = {
        "configType": "environment",
        "settings": {"apiVersion": 3},
        "collections": {"books": {"permissions": "private"}},
        "customEndpoints": {
            "tick": {
                "type": "python",
                "entryPoint": "json:dumps",
                "schedule": {"start": "2099-01-01"},
            }
        },
        "push": {
            "android": {"serviceAccountFile": "account.json"},
            "ios": {**ios, "keyFile": "account.json"},
        },
    }
    environ = {"MQTTPUSH_HOOKS__PYTHON_MODULES": '["json"]'}

    def apply(*options: str, status: int) -> str:
        file = desk.file("environment.json", json.dumps(document))
        arguments = ("kinvey", "apply", file, "--app-id", "shop", *options)
        return desk.run(*arguments, status=status, environ=environ)

    def left() -> list[Any]:
        settings = json.loads(desk.run("kinvey", "settings", "shop", "--json"))
        hooks = json.loads(desk.run("hooks", "list", "shop", "--json"))
        networks = [each["network"] for each in desk.json("show")]
        return [settings["api_version"], hooks["hooks"], hooks["schedules"], networks]

    before = left()
    for options in ((), ("--dry-run",)):
        assert "push (apns)" in apply(*options, status=1)
        assert left() == before
    document["push"]["ios"] = ios
    apply("--dry-run", status=0)
    assert left() == before
    apply(status=0)
    version, hooks, schedules, networks = left()
    assert (version, len(hooks), len(schedules), networks) == (3, 1, 1, ["apns", "fcm"])


def test_a_server_that_does_not_answer_is_named_when_a_file_is_applied(new_desk: Desk) -> None:
    """Its connections keep what the file takes from them until it is told."""
    file = new_desk.file("rights.json", json.dumps({"collections": {"a": {"permissions": "full"}}}))
    command = ("kinvey", "apply", file, "--app-id", "shop", "--json")
    assert json.loads(new_desk.run(*command))["warnings"] == []
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (new_desk.folder / "data" / "server.json").write_text(json.dumps({"http": url}))
        (warning,) = json.loads(new_desk.run(*command))["warnings"]
    assert url in warning
    assert "restart it" in warning
