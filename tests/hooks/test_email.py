"""Mail that code sends, through a mail server of the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.hooks.conftest import MODULE, SAMPLE, SETTINGS, Environment, basic
from tests.hooks.support import in_thread
from tests.support.mail import MailServer


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with in_thread(MailServer()) as server:
        yield server


MAIL = {"from": "a@example.com", "to": "b@example.com", "subject": "Hi", "body": "Hello"}
PATH = "/rpc/:app/send-email"


def test_a_mail_goes_to_the_configured_server(
    start_server: StartServer, mail_server: MailServer, tmp_path: Path
) -> None:
    shutil.copy(SAMPLE, tmp_path / f"{MODULE}.py")
    port = str(mail_server.server_address[1])
    mail = {"EMAIL__HOST": "127.0.0.1", "EMAIL__PORT": port, "EMAIL__SECURITY": "none"}
    server = start_server(tmp_path, **SETTINGS, **mail)
    with httpx.Client(trust_env=False, timeout=30.0) as http:
        environment = Environment(server, server.create_app("mail"), http)
        sent = environment.call("POST", PATH, environment.master, {**MAIL, "html": "<b>Hello</b>"})
        assert sent.status_code == 200, sent.text
        text = mail_server.mails.get(timeout=20)
        for part in ("From: a@example.com", "To: b@example.com", "Subject: Hi", "<b>Hello</b>"):
            assert part in text
        injected = {**MAIL, "subject": "Hi\r\nBcc: c@example.com"}
        refused = environment.call("POST", PATH, environment.master, injected)
        assert refused.status_code == 400
        assert mail_server.mails.empty()


def test_without_a_mail_server_mail_is_refused(environment: Environment) -> None:
    answer = environment.call("POST", PATH, environment.master, MAIL)
    assert (answer.status_code, answer.json()["error"]) == (403, "MissingConfiguration")


def test_only_master_sends_mail(environment: Environment) -> None:
    app = basic(environment.app["appID"], environment.app["appKey"])
    for credentials in (app, environment.user()):
        answer = environment.call("POST", PATH, credentials, MAIL)
        assert answer.json()["error"] == "InsufficientCredentials"
