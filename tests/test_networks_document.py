"""docs/networks.md is true: endings, limits, commands, and the page's code as it stands there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from typing import Any

import click
import pytest

from mqttpush import phone_payloads
from mqttpush.cli.main import main
from mqttpush.config import Settings
from mqttpush.models import Message, Owner, Principal, PrincipalKind
from mqttpush.networks import Ending
from mqttpush.payloads import render_direct_message
from tests.support.documents import blocks, read_document
from tests.support.foreign import program

TEXT = read_document("docs/networks.md")
COMMANDS = [
    line
    for block in blocks(TEXT, "sh")
    for line in block.splitlines()
    if line.startswith("mqttpush")
]
BROWSER = """
const [page, worker, push] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const seen = { requests: [] };
const listeners = {};
const self = {
  addEventListener: (name, listener) => { listeners[name] = listener; },
  registration: { showNotification: async (...shown) => { seen.shown = shown; } },
  clients: { openWindow: async (url) => { seen.opened = url; } },
};
const subscription = { toJSON: () => ({ endpoint: "https://push.example/1", keys: {} }) };
const navigator = { serviceWorker: { register: async () => ({
  pushManager: { subscribe: async (options) => { seen.options = options; return subscription; } },
}) } };
const Notification = { requestPermission: async () => "granted" };
const fetch = async (url, options) => {
  seen.requests.push([url, options]);
  return { ok: true, json: async () => ({ installationID: "i", publicKey: "public" }) };
};
(async () => {
  const names = ["navigator", "Notification", "fetch"];
  const enablePush = new Function(...names, `${page}; return enablePush;`)(
    navigator, Notification, fetch);
  seen.installation = await enablePush("https://server/api/apps/a", "token");
  new Function("self", worker)(self);
  const waits = [];
  const waitUntil = (promise) => waits.push(promise);
  listeners.push({ data: { json: () => push }, waitUntil });
  const notification = { close: () => { seen.closed = true; }, data: push };
  listeners.notificationclick({ notification, waitUntil });
  await Promise.all(waits);
  console.log(JSON.stringify(seen));
})();
"""


def render(message: dict[str, Any]) -> Any:
    parts = {key: part for key, part in message.items() if key != "data"}
    target, sender = Owner("a", "user:u"), Principal("a", PrincipalKind.ADMIN)
    return render_direct_message(Message(message["data"], parts), target, sender, 1)


def rows(heading: str) -> dict[str, str]:
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)`[^|]* \| (.+) \|$", section, re.MULTILINE))


def test_every_ending_is_explained_and_no_other() -> None:
    assert rows("What became of a push").keys() == {ending.value for ending in Ending}


def test_the_limits_are_those_of_the_code() -> None:
    told = rows("What a message says to each network")["timeToLive"]
    assert [f"{limit:,}" for limit in phone_payloads.TTL_LIMITS_S.values()] == re.findall(
        r"[\d,]+\d", told
    )
    for limit in phone_payloads.LIMITS_BYTES.values():
        assert f"{limit:,} bytes" in TEXT
    for urgency in phone_payloads.URGENCIES:
        assert f"`{urgency}`" in TEXT


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_the_options_it_is_shown_with(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_setting_it_names_exists() -> None:
    sections = Settings().model_dump()
    named = re.findall(r"`(networks|delivery|security)\.(\w+)", TEXT)
    assert named
    for section, key in named:
        assert key in sections[section], key


def test_the_message_it_shows_is_one_for_every_network_it_names() -> None:
    shown = json.loads(blocks(TEXT, "json")[0])
    rendered = render(shown)
    assert rendered.phone_payloads.keys() == {"fcm", "apns", "webpush"}
    assert rendered.payloads.keys() == {"mqtt"}


def test_the_page_and_its_service_worker_run_as_they_stand() -> None:
    node = program("node", "nodejs")
    page, worker = blocks(TEXT, "js")
    notification = {"title": "Shipped", "body": "On its way", "icon": "/i.png"}
    message = {"data": {"url": "/orders/1"}, "webpush": {"notification": notification}}
    push = json.loads(render(message).phone_payloads["webpush"].body)
    ran = subprocess.run(
        [node, "-e", BROWSER],
        input=json.dumps([page, worker, push]),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["shown"] == [
        "Shipped",
        {"body": "On its way", "icon": "/i.png", "data": push},
    ]
    assert (seen["opened"], seen["closed"]) == ("/orders/1", True)
    assert seen["options"] == {"userVisibleOnly": True, "applicationServerKey": "public"}
    asked, (url, options) = seen["requests"]
    assert asked[0] == "https://server/api/apps/a/networks/webpush/public-key"
    assert (url, seen["installation"]) == ("https://server/api/apps/a/installations", "i")
    assert options["method"] == "POST"
    assert options["headers"]["Authorization"] == "Bearer token"
    assert json.loads(options["body"]) == {
        "deviceType": "WEBPUSH",
        "installationRegistrationID": {"endpoint": "https://push.example/1", "keys": {}},
    }
