"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mqttpush.cli.listen import describe
from mqttpush.cli.main import COMMANDS, main
from mqttpush.cli.welcome import welcome
from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.rest import Account, Api, unique
from tests.support.server import Server, environment, run_cli


class Cli:
    """The command line beside one server."""

    def __init__(self, server: Server) -> None:
        self._environ = server.environ
        self._cwd = server.folder

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        result = run_cli(*arguments, environ=self._environ, cwd=self._cwd)
        assert result.returncode == status, result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        return result

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", status=status).stdout)

    def line(self, *arguments: str, status: int) -> str:
        """The first line on standard error of what must fail; nothing on standard output."""
        result = self.run(*arguments, status=status)
        assert result.stdout == ""
        return result.stderr.splitlines()[0]


@pytest.fixture(scope="session")
def cli(server: Server) -> Cli:
    return Cli(server)


@pytest.fixture
def lonely(tmp_path: Path) -> Cli:
    """The command line where no server has ever run."""
    cli = Cli.__new__(Cli)
    cli._environ = environment(tmp_path)
    cli._cwd = tmp_path
    return cli


# --- help and usage -----------------------------------------------------------------------------


def every_command() -> Iterator[list[str]]:
    for name in COMMANDS:
        yield [name]
    for group, names in {
        "app": ("create", "list", "show", "delete"),
        "user": ("create",),
        "thing": ("create",),
        "push": ("topic", "user", "thing"),
        "config": ("check", "show", "example"),
    }.items():
        for name in names:
            yield [group, name]


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


def test_help_shows_how_to_begin() -> None:
    result = CliRunner().invoke(main, ["--help"])
    for word in ("mqttpush serve", "mqttpush listen", "mqttpush push", "Exit codes"):
        assert word in result.output


def test_help_does_not_wait_for_the_servers_libraries() -> None:
    code = "import mqttpush.cli.main, sys; sys.exit('uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["app", "create"], ["listen", "--count", "x"], ["push", "user", "u"]],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


# --- apps ---------------------------------------------------------------------------------------


def test_an_app_is_made_without_a_server(lonely: Cli) -> None:
    app = lonely.json("app", "create", "Shop", "--app-id", "shop", "--app-key", "secret")
    assert list(app) == ["appID", "appKey", "clientID", "clientSecret"]
    assert (app["appID"], app["appKey"]) == ("shop", "secret")
    [listed] = lonely.json("app", "list")
    assert (listed["appID"], listed["name"]) == ("shop", "Shop")
    assert "clientSecret" not in listed


def test_an_app_made_while_the_server_runs_works_at_once(server: Server, cli: Cli) -> None:
    api = Api(server.url, cli.json("app", "create", "new"))
    assert api.pseudo_user().id
    assert api.admin_token()
    api.close()


def test_a_taken_app_id_is_one_line_and_exit_code_1(cli: Cli, app: dict[str, str]) -> None:
    line = cli.line("app", "create", "x", "--app-id", app["appID"], status=1)
    assert line == f"mqttpush: app {app['appID']} already exists"


def test_an_app_s_checks_are_switched_while_the_server_runs(server: Server, cli: Cli) -> None:
    made = cli.json("app", "create", "strict")
    stranger = Api(server.url, {**made, "appKey": "wrong"})
    assert stranger.pseudo_user().id
    changed = cli.json("app", "change", made["appID"], "--app-key-checked")
    assert (changed["appKeyChecked"], changed["thingPasswordChecked"]) == (True, False)
    assert stranger.call("POST", "/users", json={}).status_code == 401
    cli.run("app", "change", made["appID"], "--app-key-ignored", "--thing-password-checked")
    thing, user = stranger.thing(), stranger.pseudo_user()
    claim = f"/things/{thing.id}/ownership/user:{user.id}"
    assert stranger.call("PUT", claim, token=user.token).status_code == 401
    stranger.close()


def test_an_unknown_app_is_one_line_and_exit_code_1(cli: Cli) -> None:
    assert "app nosuch not found" in cli.line("app", "show", "nosuch", status=1)


def test_deleting_an_app_ends_its_connections(server: Server, cli: Cli) -> None:
    api = Api(server.url, cli.json("app", "create", "short-lived"))
    with Device(api.mqtt_endpoint(api.pseudo_user())) as device:
        cli.run("app", "delete", api.app_id, "--yes")
        device.wait_until_lost()
    assert api.call("GET", "/users/me").status_code in (401, 404)
    api.close()


def test_deleting_asks_first(cli: Cli, app: dict[str, str]) -> None:
    result = run_cli("app", "delete", app["appID"], environ=cli._environ, cwd=cli._cwd)
    assert result.returncode == 1  # no answer on standard input is a no
    assert cli.json("app", "show", app["appID"])["name"] == "tests"


def test_a_table_keeps_a_row_on_one_line_in_a_pipe(cli: Cli, app: dict[str, str]) -> None:
    lines = cli.run("app", "list").stdout.splitlines()
    [row] = [line for line in lines if app["appID"] in line]
    assert row.split()[:2] == [app["appID"], "tests"]


# --- users, things, pushes ----------------------------------------------------------------------


def test_a_user_made_by_the_command_line_can_log_in(
    cli: Cli, api: Api, app: dict[str, str]
) -> None:
    name = unique("anna")
    user = cli.json("user", "create", name, "displayName=Anna", "--app-id", app["appID"])
    body = {"username": name, "password": user["password"]}
    assert api.ok("POST", f"{api.url}/api/oauth2/token", json=body)["id"] == user["userID"]
    me = api.ok("GET", "/users/me", token=user["accessToken"])
    assert me["displayName"] == "Anna"


def test_a_thing_made_by_the_command_line_has_a_token(
    cli: Cli, api: Api, app: dict[str, str]
) -> None:
    name = unique("lamp")
    thing = cli.json("thing", "create", name, "--app-id", app["appID"])
    found = api.ok("GET", f"/things/VENDOR_THING_ID:{name}", token=thing["accessToken"])
    assert found["_thingID"] == thing["thingID"]


def test_a_push_to_a_user_needs_no_secret_on_the_servers_machine(
    cli: Cli, api: Api, app: dict[str, str]
) -> None:
    user = api.pseudo_user()
    with Device(api.mqtt_endpoint(user)) as device:
        sent = cli.json(
            *("push", "user", user.id, "text=hello", "count=3", "--app-id", app["appID"])
        )
        assert sent["pushMessageID"]
        push = device.next_push()
    assert (push["text"], push["count"]) == ("hello", 3)


def test_a_push_to_a_thing_by_its_makers_name(cli: Cli, api: Api, app: dict[str, str]) -> None:
    name = unique("lamp")
    made = cli.json("thing", "create", name, "--app-id", app["appID"])
    thing = Account(made["thingID"], made["accessToken"])
    with Device(api.mqtt_endpoint(thing)) as device:
        arguments = ("push", "thing", f"VENDOR_THING_ID:{name}", "--data", '{"on": true}')
        cli.json(*arguments, "--type", "switch", "--app-id", app["appID"])
        push = device.next_push()
    assert (push["on"], push["type"]) == (True, "switch")


def test_a_push_to_a_missing_topic_says_how_to_make_it(cli: Cli, app: dict[str, str]) -> None:
    arguments = ("push", "topic", "nosuch", "a=1", "--app-id", app["appID"])
    result = cli.run(*arguments, status=1)
    assert "TOPIC_NOT_FOUND" in result.stderr
    assert "--create" in result.stderr
    assert cli.json(*arguments, "--create")["pushMessageID"]


def test_another_machines_server_is_reached_with_its_credentials(
    server: Server, app: dict[str, str], lonely: Cli, api: Api
) -> None:
    user = api.pseudo_user()
    remote = ("--url", server.url, "--app-id", app["appID"], "--app-key", app["appKey"])
    secret = ("--client-id", app["clientID"], "--client-secret", app["clientSecret"])
    with Device(api.mqtt_endpoint(user)) as device:
        lonely.json("push", "user", user.id, "text=far", *remote, *secret)
        assert device.next_push()["text"] == "far"
    assert "--client-secret" in lonely.line("push", "user", user.id, "a=1", *remote, status=2)


def test_without_server_and_store_the_way_out_is_told(lonely: Cli) -> None:
    assert "mqttpush serve" in lonely.line("user", "create", status=2)


def test_a_server_that_does_not_answer_is_told(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    server.kill()  # its server.json stays behind
    result = run_cli("user", "create", environ=server.environ, cwd=tmp_path)
    assert result.returncode == 1
    assert f"no server answers at {server.url}" in result.stderr
    assert "mqttpush serve" in result.stderr


def test_with_several_apps_the_choice_is_asked_for(cli: Cli, app: dict[str, str]) -> None:
    line = cli.line("user", "create", status=2)
    assert "--app-id" in line
    assert app["appID"] in line


# --- listen -------------------------------------------------------------------------------------


class Listening:
    """`mqttpush listen` as a process, subscribed."""

    def __init__(self, server: Server, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mqttpush", "listen", *arguments],
            cwd=server.folder,
            env=server.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        self.first_line = self.process.stderr.readline()
        assert self.first_line.startswith("listening as user "), self.first_line

    def finish(self) -> tuple[int, list[str]]:
        output, errors = self.process.communicate(timeout=30)
        assert "Traceback" not in errors
        return self.process.returncode, output.splitlines()


def test_listen_prints_pushes_of_a_bucket_and_a_topic(
    server: Server, api: Api, admin_token: str
) -> None:
    bucket, topic = unique("bucket"), unique("topic")
    listening = Listening(
        *(server, "--bucket", bucket, "--topic", topic, "--count", "2", "--json"),
        *("--timeout", "30", "--app-id", api.app_id),
    )
    user = api.pseudo_user()
    written = api.ok("POST", f"/buckets/{bucket}/objects", token=user.token, json={})
    message = {"data": {"text": "hello"}, "mqtt": {"enabled": True}}
    api.ok("POST", f"/topics/{topic}/push/messages", token=admin_token, json=message)
    status, lines = listening.finish()
    event, told = map(json.loads, lines)
    assert status == 0
    assert event["objectID"] == written["objectID"]
    assert told["text"] == "hello"


def test_listen_removes_the_user_it_made(server: Server, api: Api, admin_token: str) -> None:
    listening = Listening(server, "--count", "1", "--timeout", "30", "--app-id", api.app_id)
    user_id = listening.first_line.split()[3].rstrip(",")
    api.push_to_user(admin_token, user_id, text="bye")
    assert listening.finish()[0] == 0
    assert api.call("GET", f"/users/{user_id}", token=admin_token).status_code == 404


def test_listen_as_a_given_user_keeps_him(server: Server, api: Api, admin_token: str) -> None:
    user = api.pseudo_user()
    listening = Listening(
        server, "--token", user.token, "--count", "1", "--timeout", "30", "--app-id", api.app_id
    )
    api.push_to_user(admin_token, user.id, text="hi")
    status, [line] = listening.finish()
    assert status == 0
    assert line.endswith('direct push  {"text":"hi"}')
    assert api.ok("GET", "/users/me", token=user.token)["userID"] == user.id


def test_listen_without_a_push_in_time_is_exit_code_1(cli: Cli, api: Api) -> None:
    arguments = ("listen", "--count", "1", "--timeout", "0.2", "--app-id", api.app_id)
    assert "0 of 1 pushes" in cli.run(*arguments, status=1).stderr


def test_listen_connects_again_when_the_server_comes_back(
    start_server: StartServer, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = start_server(MQTT__TCP_PORT=port)
    app = server.create_app("restarted")
    listening = Listening(server, "--count", "1", "--timeout", "30", "--app-id", app["appID"])
    user_id = listening.first_line.split()[3].rstrip(",")
    server.kill()
    server = start_server(MQTT__TCP_PORT=port)
    assert listening.process.stderr
    while listening.process.stderr.readline() != "connected again\n":
        assert listening.process.poll() is None
    api = Api(server.url, app)
    api.push_to_user(api.admin_token(), user_id, text="still here")
    api.close()
    output, _ = listening.process.communicate(timeout=30)
    assert "still here" in output
    server.stop()


def test_a_push_is_described_in_one_line() -> None:
    event = {"bucketID": "b", "objectID": "o", "type": "DATA_OBJECT_CREATED", "when": 1}
    assert describe(json.dumps(event).encode()).endswith("DATA_OBJECT_CREATED  b/o")
    message = {"topic": "news", "text": "hi", "type": "greeting", "when": 1}
    line = describe(json.dumps(message).encode())
    assert line.endswith('message  topic news  greeting  {"text":"hi"}')
    assert describe(b"\xff").endswith("b'\\xff'")


# --- settings -----------------------------------------------------------------------------------


def test_config_show_names_the_source_of_each_value(lonely: Cli) -> None:
    shown = lonely.json("config", "show")
    assert shown["http.port"] == {"value": 0, "source": "MQTTPUSH_HTTP__PORT"}
    assert shown["http.host"] == {"value": "127.0.0.1", "source": "default"}


def test_config_check_takes_the_example_of_all_settings(lonely: Cli, tmp_path: Path) -> None:
    text = lonely.run("config", "example").stdout
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    lonely.run("config", "check", "--config", "all.toml")


def test_a_wrong_setting_stops_every_command(lonely: Cli) -> None:
    lonely._environ["MQTTPUSH_HTTP__PROT"] = "1"
    assert "did you mean MQTTPUSH_HTTP__PORT?" in lonely.line("config", "check", status=2)
    assert "did you mean MQTTPUSH_HTTP__PORT?" in lonely.line("app", "list", status=2)


# --- the first screen ---------------------------------------------------------------------------


def pasted(text: str, start: str, end: str) -> str:
    """A command as a person would copy it."""
    first = text.index(start)
    return text[first : text.index(end, first)]


@pytest.mark.parametrize("receiver", ["mosquitto_sub", "paho-mqtt"])
def test_the_first_screen_holds_commands_that_work_as_pasted(
    start_server: StartServer, receiver: str
) -> None:
    if receiver == "mosquitto_sub" and not shutil.which(receiver):
        assert not os.environ.get("CI"), "scripts/test installs mosquitto-clients"
        pytest.skip("mosquitto-clients is not installed")
    server = start_server()
    text = welcome(server.ready)
    write = pasted(text, "curl -i ", "\n\n")
    if receiver == "mosquitto_sub":
        receive = pasted(text, "mosquitto_sub ", "\n\n")
    else:
        receive = pasted(text, sys.executable, "\n\n")
    listening = subprocess.Popen(
        ["bash", "-c", f"exec {receive}"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert listening.stdout
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(listening.stdout, selectors.EVENT_READ)
            for _ in range(100):  # it does not say when it has subscribed
                done = subprocess.run(
                    ["bash", "-c", write], capture_output=True, text=True, check=True, timeout=30
                )
                assert "201" in done.stdout.splitlines()[0]
                if selector.select(0.2):
                    break
        push = json.loads(listening.stdout.readline())
        assert push["bucketID"] == server.demo["bucketID"]
    finally:
        listening.kill()
        listening.wait()
        listening.stdout.close()
    server.stop()


def test_a_later_screen_shows_no_secret() -> None:
    ready = {"event": "ready", "http": "http://127.0.0.1:1", "mqtt_tcp": "127.0.0.1:2"}
    text = welcome(ready)
    assert "http://127.0.0.1:1" in text
    assert "mqttpush listen" in text
    assert "clientSecret" not in text


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).parent / "mqttpush"
    result = subprocess.run(
        [script, "--version"], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert result.stdout.startswith("mqttpush, version ")
