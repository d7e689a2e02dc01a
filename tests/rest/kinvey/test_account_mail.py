"""Mail to users: new passwords, confirmed addresses, forgotten names, through a mail server."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import StartServer
from tests.hooks.support import in_thread
from tests.support.collections import Environment, assert_error
from tests.support.mail import MailServer
from tests.support.rest import unique
from tests.support.server import Server

PUBLIC_URL = "https://push.example.com"
LINK = re.compile(re.escape(PUBLIC_URL) + r"(/\S+)")
RESET, VERIFY = "user-password-reset-initiate", "user-email-verification-initiate"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def mail_server() -> Iterator[MailServer]:
    with in_thread(MailServer()) as server:
        yield server


def settings_of(mail_server: MailServer, **more: str) -> dict[str, str]:
    return {
        "EMAIL__HOST": "127.0.0.1",
        "EMAIL__PORT": str(mail_server.server_address[1]),
        "EMAIL__SECURITY": "none",
        "HTTP__PUBLIC_URL": PUBLIC_URL,
        **more,
    }


@pytest.fixture(scope="module")
def post(
    mail_server: MailServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Environment]]:
    """A server with mail, and an app of it."""
    with Server(tmp_path_factory.mktemp("mail"), settings_of(mail_server)) as server:
        environment = Environment(server.url, server.create_app("Shop\r\nBcc: all@example.com"))
        yield server, environment
        environment.close()


@pytest.fixture
def shop(post: tuple[Server, Environment], mail_server: MailServer) -> Environment:
    assert mail_server.mails.empty()
    return post[1]


def sign_up(shop: Environment, **fields: Any) -> dict[str, Any]:
    body = {"username": unique("user"), "password": "secret", **fields}
    user: dict[str, Any] = shop.ok("POST", "user", shop.app, body)
    return user


def ask(shop: Environment, name: str, what: str) -> httpx.Response:
    return shop.call("POST", f"rpc/{quote(name, safe='')}/{what}", shop.app)


def next_mail(mail_server: MailServer) -> EmailMessage:
    text = mail_server.mails.get(timeout=20)
    message = email.message_from_string(text, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def links_in(message: EmailMessage) -> list[str]:
    return LINK.findall(message.get_content())


def link_for(shop: Environment, mail_server: MailServer, name: str, what: str) -> str:
    """Ask for a mail; the URL of its one link, at the server itself."""
    answer = ask(shop, name, what)
    assert (answer.status_code, answer.content) == (204, b""), answer.text
    (link,) = links_in(next_mail(mail_server))
    return f"{shop.url}{link}"


def set_password(shop: Environment, link: str, password: str, again: str = "") -> httpx.Response:
    return shop.http.post(link, data={"password": password, "again": again or password})


def log_in(shop: Environment, user: dict[str, Any], password: str) -> int:
    body = {"username": user["username"], "password": password}
    return shop.call("POST", "user/login", shop.app, body).status_code


def address() -> str:
    return f"{unique('joe')}@example.com"


def limits_reached(shop: Environment, limit: str) -> float:
    metrics = shop.http.get(f"{shop.url}/metrics").text
    found = re.search(rf'limits_reached_total{{limit="{re.escape(limit)}"}} (\S+)', metrics)
    return float(found[1]) if found else 0


@pytest.mark.spec("kinvey 3")
def test_a_forgotten_password_is_set_anew_through_a_mail(
    shop: Environment, mail_server: MailServer
) -> None:
    user = sign_up(shop, email=address())
    session = f"Kinvey {user['_kmd']['authtoken']}"
    link = link_for(shop, mail_server, user["username"], RESET)
    page = shop.http.get(link)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<form method=" in page.text
    assert user["username"] in page.text
    assert log_in(shop, user, "secret") == 200  # opening the link does nothing
    assert set_password(shop, link, "new \u00fc&<secret>").status_code == 200
    assert log_in(shop, user, "secret") == 401
    assert log_in(shop, user, "new \u00fc&<secret>") == 200
    assert shop.call("GET", "user/_me", session).status_code == 401


def test_the_mail_goes_to_the_user_and_nobody_else(
    shop: Environment, mail_server: MailServer
) -> None:
    user = sign_up(shop, email=address())
    assert ask(shop, user["email"], RESET).status_code == 204
    message = next_mail(mail_server)
    assert message["To"] == user["email"]
    assert message["From"] == "no-reply@push.example.com"
    assert message["Bcc"] is None
    assert message["Subject"].startswith("Shop")
    assert message["Subject"].endswith("Set a new password")


def test_the_pages_load_nothing_and_tell_nobody(shop: Environment, mail_server: MailServer) -> None:
    user = sign_up(shop, email=address())
    link = link_for(shop, mail_server, user["username"], RESET)
    for page in (shop.http.get(link), shop.http.get(f"{link}x"), set_password(shop, link, "a")):
        headers = page.headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "<script" not in page.text
        assert "http" not in page.text
    wrapped = shop.http.get(link, headers={"X-Kinvey-ResponseWrapper": "true"})
    assert wrapped.text.startswith("<!doctype html>")


def test_a_link_works_once_and_only_the_way_it_was_sent(
    shop: Environment, mail_server: MailServer, post: tuple[Server, Environment]
) -> None:
    user = sign_up(shop, email=address())
    link = link_for(shop, mail_server, user["username"], RESET)
    before, _, token = link.partition("?token=")
    expires, proof, user_id = token.split(".", 2)
    other_user = sign_up(shop, email=address())
    other_app = post[0].create_app("other")["appID"]
    wrong_letter = "a" if proof[0] != "a" else "b"
    for wrong in (
        before,
        f"{before}?token=",
        f"{before}?token={int(expires) + 1}.{proof}.{user_id}",
        f"{before}?token={expires}.{wrong_letter}{proof[1:]}.{user_id}",
        f"{before}?token={expires}.{proof[:-1]}.{user_id}",
        f"{before}?token={expires}.{proof}.{other_user['_id']}",
        f"{before}?token={expires}.{proof}.nobody",
        f"{before}?token={expires}.{proof}.{user_id}%00",
        f"{before}?token={'9' * 5000}.{proof}.{user_id}",
        f"{before}?token=%ff.%ff.%ff",
        link.replace(shop.key, other_app),
        link.replace(shop.key, "unknown"),
        link.replace("password-reset", "email-verification"),
    ):
        assert shop.http.get(wrong).status_code == 400, wrong
        assert set_password(shop, wrong, "stolen").status_code == 400, wrong
    assert log_in(shop, user, "secret") == 200
    assert set_password(shop, link, "first").status_code == 200
    assert set_password(shop, link, "second").status_code == 400
    assert shop.http.get(link).status_code == 400
    assert log_in(shop, user, "first") == 200


def test_a_link_sets_one_of_many_passwords_sent_at_once(
    shop: Environment, mail_server: MailServer
) -> None:
    user = sign_up(shop, email=address())
    link = link_for(shop, mail_server, user["username"], RESET)
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda number: set_password(shop, link, f"new {number}"), range(8))
        assert sorted(answer.status_code for answer in answers) == [200, *[400] * 7]


@pytest.mark.parametrize(
    ("password", "again"), [("", ""), ("a", "b"), ("x" * 201, ""), ("a\x00b", "")]
)
def test_a_password_that_is_none_leaves_the_link_good(
    shop: Environment, mail_server: MailServer, password: str, again: str
) -> None:
    user = sign_up(shop, email=address())
    link = link_for(shop, mail_server, user["username"], RESET)
    refused = set_password(shop, link, password, again)
    assert refused.status_code == 400
    assert "<form" in refused.text
    for body in (b"", b"password=%ff&again=%ff", b"\xff", b"&" * 5000, b'{"password":"a"}'):
        assert shop.http.post(link, content=body, headers=FORM).status_code == 400
    assert shop.http.post(link, json={"password": "a", "again": "a"}).status_code == 400
    assert set_password(shop, link, "good").status_code == 200


@pytest.mark.spec("kinvey 3")
def test_an_address_is_confirmed_once_and_a_new_one_is_not(
    shop: Environment, mail_server: MailServer
) -> None:
    user = sign_up(shop, email=address(), color="red")
    session = f"Kinvey {user['_kmd']['authtoken']}"
    forged = {"emailVerification": {"status": "confirmed", "emailAddress": user["email"]}}
    body = {"email": user["email"], "color": "red", "_kmd": forged}
    saved = shop.ok("PUT", f"user/{user['_id']}", session, body)
    assert "emailVerification" not in saved["_kmd"]
    link = link_for(shop, mail_server, user["username"], VERIFY)
    page = shop.http.get(link)
    assert user["email"] in page.text
    me = shop.ok("GET", "user/_me", session)
    assert "emailVerification" not in me["_kmd"]  # opening the link does nothing
    assert shop.http.post(link).status_code == 200
    told = shop.ok("GET", "user/_me", session)["_kmd"]["emailVerification"]
    assert (told["status"], told["emailAddress"]) == ("confirmed", user["email"])
    assert told["lastStateChangeAt"] == told["lastConfirmedAt"]
    assert shop.http.post(link).status_code == 400
    query = httpx.QueryParams({"query": '{"_kmd.emailVerification.status":"confirmed"}'})
    assert shop.ok("GET", f"user/?{query}", shop.master)[0]["email"] == user["email"]
    kept = shop.ok("PUT", f"user/{user['_id']}", session, {**body, "color": "blue"})
    assert kept["_kmd"]["emailVerification"] == told
    changed = shop.ok("PUT", f"user/{user['_id']}", session, {**body, "email": address()})
    assert changed["_kmd"]["emailVerification"]["status"] == "unconfirmed"
    back = shop.ok("PUT", f"user/{user['_id']}", session, body)
    assert back["_kmd"]["emailVerification"]["status"] == "unconfirmed"
    assert back["_kmd"]["emailVerification"]["lastConfirmedAt"] == told["lastConfirmedAt"]


def test_links_end_when_the_address_changes(shop: Environment, mail_server: MailServer) -> None:
    user = sign_up(shop, email=address())
    confirming = link_for(shop, mail_server, user["username"], VERIFY)
    resetting = link_for(shop, mail_server, user["username"], RESET)
    session = f"Kinvey {user['_kmd']['authtoken']}"
    shop.ok("PUT", f"user/{user['_id']}", session, {"email": address()})
    assert shop.http.post(confirming).status_code == 400
    assert set_password(shop, resetting, "another").status_code == 400
    assert log_in(shop, user, "secret") == 200


@pytest.mark.spec("kinvey 3")
def test_forgotten_names_are_told_to_the_address(
    shop: Environment, mail_server: MailServer
) -> None:
    shared = address()
    users = [sign_up(shop, email=shared) for _ in range(2)]
    answer = shop.call("POST", "rpc/user-forgot-username", shop.app, {"email": shared})
    assert (answer.status_code, answer.content) == (204, b"")
    message = next_mail(mail_server)
    assert message["To"] == shared
    for user in users:
        assert user["username"] in message.get_content()
    assert not links_in(message)


def test_a_name_that_is_somebody_s_address_hides_nobody(
    shop: Environment, mail_server: MailServer
) -> None:
    victim = sign_up(shop, email=address())
    sign_up(shop, username=victim["email"], email=address())
    assert ask(shop, victim["email"], RESET).status_code == 204
    receivers = {next_mail(mail_server)["To"] for _ in range(2)}
    assert victim["email"] in receivers


@pytest.mark.parametrize(
    "wrong",
    [
        "joe@example.com\r\nBcc: all@example.com",
        "joe@example.com, all@example.com",
        "joe@example.com;all@example.com",
        "Joe <joe@example.com>",
        "joe",
        "@example.com",
        "joe@",
        ".joe@example.com",
        "j\u00f6@example.com",
        f"{'j' * 300}@example.com",
        "",
        7,
        None,
        ["joe@example.com"],
        {"a": "joe@example.com"},
    ],
)
def test_what_is_no_address_gets_no_mail_and_no_other_answer(
    shop: Environment, mail_server: MailServer, wrong: Any
) -> None:
    user = sign_up(shop, email=wrong)
    for what in (RESET, VERIFY):
        assert ask(shop, user["username"], what).status_code == 204
    after_all_others(shop, mail_server)


def after_all_others(shop: Environment, mail_server: MailServer) -> None:
    """The next mail is that of a user who asks only now: there was none before it."""
    user = sign_up(shop, email=address())
    assert ask(shop, user["username"], RESET).status_code == 204
    assert next_mail(mail_server)["To"] == user["email"]
    assert mail_server.mails.empty()


@pytest.mark.parametrize("what", [RESET, VERIFY])
def test_names_that_nobody_has_are_answered_alike(
    shop: Environment, mail_server: MailServer, what: str
) -> None:
    suspended = sign_up(shop, email=address())
    shop.ok("DELETE", f"user/{suspended['_id']}", shop.master)
    for name in (
        "nobody",
        "nobody@example.com",
        suspended["username"],
        suspended["email"],
        "a\r\nBcc: all@example.com",
        "\x00",
        "%' OR 1=1 --",
        "{{7*7}}<b>",
    ):
        answer = ask(shop, name, what)
        assert (answer.status_code, answer.content) == (204, b""), name
    assert_error(ask(shop, "n" * 201, what), 400, "ParameterValueOutOfRange")
    after_all_others(shop, mail_server)


def test_a_user_s_name_is_text_in_page_and_mail(shop: Environment, mail_server: MailServer) -> None:
    name = f"<img src=x onerror=alert(1)>{unique('user')}"
    sign_up(shop, username=name, email=address())
    link = link_for(shop, mail_server, name, RESET)
    page = shop.http.get(link).text
    assert "<img" not in page
    assert "&lt;img" in page


@pytest.mark.parametrize("body", [{}, {"email": ""}, {"email": 7}, {"email": "a\r\nb@c"}, []])
def test_a_forgotten_name_needs_an_address(shop: Environment, body: Any) -> None:
    assert shop.call("POST", "rpc/user-forgot-username", shop.app, body).status_code == 400


def test_strangers_ask_for_nothing(shop: Environment) -> None:
    for path in (f"rpc/joe/{RESET}", f"rpc/joe/{VERIFY}", "rpc/user-forgot-username"):
        assert_error(shop.call("POST", path, "", {}), 401, "InvalidCredentials")


def test_a_thousand_requests_send_a_handful_of_mails(
    shop: Environment, mail_server: MailServer
) -> None:
    user = sign_up(shop, email=address())
    for _ in range(1000):
        assert ask(shop, user["username"], RESET).status_code == 204
    for _ in range(5):
        assert next_mail(mail_server)["To"] == user["email"]
    after_all_others(shop, mail_server)
    assert limits_reached(shop, "email.max_mails_per_hour_per_recipient") == 995


def test_one_client_asks_for_so_many_mails_whoever_they_are_for(
    start_server: StartServer, mail_server: MailServer
) -> None:
    more = {"HTTP__UNLIMITED_ADDRESSES": "[]", "EMAIL__MAX_REQUESTS_PER_HOUR_PER_ADDRESS": "3"}
    server = start_server(None, **settings_of(mail_server, **more))
    shop = Environment(server.url, server.create_app("bounded"))
    answers = [ask(shop, f"nobody{number}", RESET) for number in range(5)]
    assert [answer.status_code for answer in answers] == [204] * 3 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 60
    assert limits_reached(shop, "email.max_requests_per_hour_per_address") == 2
    shop.close()


def test_a_mail_server_that_is_not_there_is_a_line_in_the_log(
    start_server: StartServer, mail_server: MailServer
) -> None:
    settings = settings_of(mail_server, EMAIL__PORT="1", EMAIL__TIMEOUT_S="1")
    server = start_server(None, **settings)
    shop = Environment(server.url, server.create_app("without"))
    user = sign_up(shop, email=address())
    assert ask(shop, user["username"], RESET).status_code == 204
    server.wait_for_log("mail to a user of")
    assert user["email"] not in server.stderr
    shop.close()
    server.stop()


def test_links_are_not_made_of_what_a_request_calls_its_host(
    start_server: StartServer, mail_server: MailServer
) -> None:
    server = start_server(None, **settings_of(mail_server, HTTP__PUBLIC_URL=""))
    shop = Environment(server.url, server.create_app("nameless"))
    user = sign_up(shop, email=address())
    for what in (RESET, VERIFY):
        assert_error(ask(shop, user["username"], what), 400, "FeatureUnavailable")
    body = {"email": user["email"]}
    assert shop.call("POST", "rpc/user-forgot-username", shop.app, body).status_code == 204
    assert user["username"] in next_mail(mail_server).get_content()
    shop.close()
