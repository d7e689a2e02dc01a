"""Credentials of push networks over REST: checked whole, shown in part, never told again."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from mqttpush.networks import Network
from mqttpush.provider_simulator import Providers
from tests.networks.support import TOPIC, certificate_fields, fields_from
from tests.rest.body_support import until
from tests.rest.support import assert_refused
from tests.support.providers import RunningProviders, running_providers, server_settings
from tests.support.rest import Api
from tests.support.server import Server

Fields = dict[str, Any]
SECRETS = {
    "fcm": ("private_key",),
    "apns": ("key",),
    "jpush": ("masterSecret",),
    "webpush": ("privateKey",),
}
every_network = pytest.mark.parametrize("network", SECRETS)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningProviders]:
    with running_providers() as running:
        yield running


@pytest.fixture(scope="module")
def providers(running: RunningProviders) -> Providers:
    return running.providers


@pytest.fixture(scope="module")
def given(providers: Providers) -> dict[str, Fields]:
    """Good credentials, by network."""
    return {network.value: fields_from(providers, network) for network in Network}


@pytest.fixture(scope="module")
def simulated(providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose networks are the simulator's."""
    server = Server(tmp_path_factory.mktemp("networks"), server_settings(providers))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def app_with_networks(simulated: Server) -> Iterator[Api]:
    api = Api(simulated.url, simulated.create_app("phones"))
    yield api
    api.close()


@pytest.fixture
def app(app_with_networks: Api) -> Iterator[Api]:
    """Without credentials."""
    yield app_with_networks
    token = app_with_networks.admin_token()
    for network in SECRETS:
        app_with_networks.call("DELETE", f"/networks/{network}", token=token)


@pytest.fixture
def token(app: Api) -> str:
    return app.admin_token()


@every_network
def test_good_credentials_are_taken_shown_without_secrets_tried_and_deleted(
    app: Api, token: str, given: dict[str, Fields], network: str
) -> None:
    path = f"/networks/{network}"
    made = app.ok("PUT", path, token=token, json=given[network])
    assert made["network"] == network
    shown = app.call("GET", path, token=token)
    assert shown.json() == made
    assert app.ok("GET", "/networks", token=token) == {"networks": [made]}
    for secret in SECRETS[network]:
        assert str(given[network][secret])[:40] not in shown.text
    assert app.ok("POST", f"{path}/test", token=token)["accepted"] is True
    app.ok("DELETE", path, token=token)
    for method, suffix in (("GET", ""), ("DELETE", ""), ("POST", "/test")):
        answer = app.call(method, path + suffix, token=token)
        assert_refused(answer, 404, "PUSH_NETWORK_NOT_FOUND")


@every_network
def test_nobody_but_the_admin_has_to_do_with_them(
    app: Api, given: dict[str, Fields], network: str
) -> None:
    user = app.pseudo_user()
    for who in (user.token, None):
        for method in ("GET", "PUT", "DELETE"):
            answer = app.call(method, f"/networks/{network}", token=who, json=given[network])
            assert answer.status_code == 401, answer.text
        assert app.call("GET", "/networks", token=who).status_code == 401
        assert app.call("POST", f"/networks/{network}/test", token=who).status_code == 401


def public_half(pem: str) -> str:
    key = load_pem_private_key(pem.encode(), None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def without(name: str) -> Callable[[Fields], Fields]:
    return lambda fields: {key: value for key, value in fields.items() if key != name}


def with_(**changes: Any) -> Callable[[Fields], Fields]:
    return lambda fields: {**fields, **changes}


BROKEN: list[tuple[str, Callable[[Fields], Fields], str]] = [
    ("fcm", lambda _: {"project_info": {"project_number": "1"}, "client": []}, "type"),
    ("fcm", lambda _: {}, "type"),
    ("fcm", without("private_key"), "private_key"),
    ("fcm", lambda f: {**f, "private_key": f["private_key"][:200]}, "private_key"),
    ("fcm", lambda f: {**f, "private_key": public_half(f["private_key"])}, "private_key"),
    ("fcm", with_(token_uri="https://thief.example/token"), "token_uri"),
    ("apns", lambda f: {**f, "key": public_half(f["key"])}, "key"),
    ("apns", lambda f: {**f, "key": f["key"][:60]}, "key"),
    ("apns", with_(keyId="short"), "keyId"),
    ("apns", without("teamId"), "teamId"),
    ("apns", with_(topic="no topic\n"), "topic"),
    ("apns", with_(certificate="AAAA"), ""),
    ("jpush", with_(masterSecret="with space"), "masterSecret"),
    ("jpush", without("appKey"), "appKey"),
    ("webpush", without("subject"), "subject"),
    ("webpush", with_(subject="you@example.com"), "subject"),
    ("webpush", lambda f: {**f, "privateKey": public_half(f["privateKey"])}, "privateKey"),
    ("webpush", with_(privateKey="A" * 87), "privateKey"),
]


@pytest.mark.parametrize(("network", "broken", "field"), BROKEN)
def test_bad_credentials_are_refused_by_field_and_leave_what_was_there(
    app: Api,
    token: str,
    given: dict[str, Fields],
    network: str,
    broken: Callable[[Fields], Fields],
    field: str,
) -> None:
    path = f"/networks/{network}"
    refused = app.call("PUT", path, token=token, json=broken(given[network]))
    assert_refused(refused, 400, "INVALID_INPUT_DATA")
    assert not field or field in refused.json()["invalidFields"], refused.text
    assert_refused(app.call("GET", path, token=token), 404, "PUSH_NETWORK_NOT_FOUND")
    made = app.ok("PUT", path, token=token, json=given[network])
    app.call("PUT", path, token=token, json=broken(given[network]))
    assert app.ok("GET", path, token=token) == made


def test_the_key_of_another_network_is_refused(
    app: Api, token: str, given: dict[str, Fields]
) -> None:
    swapped = {**given["apns"], "key": given["fcm"]["private_key"]}
    refused = app.call("PUT", "/networks/apns", token=token, json=swapped)
    assert "EC key" in refused.json()["invalidFields"]["key"]


def test_a_certificate_tells_its_topic_and_when_it_ends(
    app: Api, token: str, providers: Providers
) -> None:
    made = app.ok("PUT", "/networks/apns", token=token, json=certificate_fields(providers))
    assert TOPIC in json.dumps(made["summary"])
    assert app.ok("POST", "/networks/apns/test", token=token)["accepted"] is True


def test_a_wrong_password_and_a_broken_certificate_are_refused(
    app: Api, token: str, providers: Providers
) -> None:
    fields = certificate_fields(providers)
    for changes, field in (
        ({"password": "wrong"}, "password"),
        ({"certificate": fields["certificate"][:400]}, "certificate"),
        ({"certificate": base64.b64encode(b"no certificate").decode()}, "certificate"),
    ):
        refused = app.call("PUT", "/networks/apns", token=token, json={**fields, **changes})
        assert_refused(refused, 400, "INVALID_INPUT_DATA")
        assert refused.json()["invalidFields"].keys() <= {field, "password", "certificate"}


def test_an_unknown_network_is_404(app: Api, token: str) -> None:
    refused = app.call("PUT", "/networks/pigeons", token=token, json={})
    assert_refused(refused, 404, "PUSH_NETWORK_NOT_FOUND")


def test_web_push_makes_its_own_key_and_keeps_it(app: Api, token: str) -> None:
    path = "/networks/webpush"
    first = app.ok("PUT", path, token=token, json={"subject": "mailto:a@example.com"})
    second = app.ok("PUT", path, token=token, json={"subject": "mailto:b@example.com"})
    assert len(base64.urlsafe_b64decode(first["summary"]["publicKey"] + "=")) == 65
    assert second["summary"]["publicKey"] == first["summary"]["publicKey"]
    assert second["summary"]["subject"] == "mailto:b@example.com"


def test_any_page_of_the_app_is_told_the_key_browsers_subscribe_with(
    app: Api, token: str, given: dict[str, Fields]
) -> None:
    path = "/networks/webpush/public-key"
    assert_refused(app.call("GET", path), 404, "PUSH_NETWORK_NOT_FOUND")
    made = app.ok("PUT", "/networks/webpush", token=token, json=given["webpush"])
    for who in (None, app.pseudo_user().token, app.thing().token, token):
        assert app.ok("GET", path, token=who) == {"publicKey": made["summary"]["publicKey"]}
    assert app.call("GET", path, token="nobody's").status_code == 401
    app.ok("PUT", "/networks/jpush", token=token, json=given["jpush"])
    other = app.call("GET", "/networks/jpush/public-key", token=token)
    assert_refused(other, 404, "PUSH_NETWORK_NOT_FOUND")


def test_a_network_that_refuses_the_credentials_says_so(
    app: Api, token: str, given: dict[str, Fields]
) -> None:
    other = {**given["jpush"], "masterSecret": "f" * 24}
    app.ok("PUT", "/networks/jpush", token=token, json=other)
    verdict = app.ok("POST", "/networks/jpush/test", token=token)
    assert verdict["accepted"] is False
    assert verdict["ending"] == "credentials_refused"


def test_a_device_s_token_is_tried_too(app: Api, token: str, given: dict[str, Fields]) -> None:
    app.ok("PUT", "/networks/apns", token=token, json=given["apns"])
    bad = app.ok("POST", "/networks/apns/test", token=token, json={"token": "with\nline"})
    assert bad["accepted"] is False


def test_a_push_over_a_network_without_credentials_is_counted_as_such(
    app: Api, simulated: Server, running: RunningProviders
) -> None:
    user = app.pseudo_user()
    device = running.providers.jpush.make_tokens()[0]
    body = {"deviceType": "JPUSH", "installationRegistrationID": device}
    app.ok("POST", "/installations", token=user.token, json=body)
    message = {"data": {"a": "b"}, "jpush": {"enabled": True}}
    path, token = f"/users/{user.id}/push/messages", app.admin_token()
    message_id = app.ok("POST", path, token=token, json=message)["pushMessageID"]

    def dropped() -> Any:
        networks = app.ok("GET", f"/push/messages/{message_id}", token=token)["networks"]
        return networks.get("jpush", {}).get("dropped")  # at first it waits

    until(lambda: bool(dropped()), app)
    assert dropped() == {"not_configured": 1}
    text = app.http.get(f"{simulated.url}/metrics").text
    (line,) = re.findall(r"mqttpush_phone_pushes_total\{(.*not_configured.*)\} 1\.0", text)
    assert 'network="jpush"' in line


DEVICE_TYPES = {"fcm": "ANDROID", "apns": "IOS", "jpush": "JPUSH", "webpush": "WEBPUSH"}


@every_network
def test_pushes_and_events_reach_a_device_of_each_network(
    app: Api, token: str, running: RunningProviders, given: dict[str, Fields], network: str
) -> None:
    """In a shape that a strict stand-in for the network accepts."""
    app.ok("PUT", f"/networks/{network}", token=token, json=given[network])
    provider, user = running.providers.provider(Network(network)), app.pseudo_user()
    device = provider.make_tokens()[0]
    body = {"deviceType": DEVICE_TYPES[network], "installationRegistrationID": device}
    app.ok("POST", "/installations", token=user.token, json=body)
    shown = {"title": "T", "body": "B"}
    parts: dict[str, Fields] = {
        "fcm": {"notification": {**shown, "icon": "i"}, "collapseKey": "k", "timeToLive": 60},
        "apns": {"alert": shown, "badge": 1, "collapseKey": "k", "timeToLive": 60},
        "jpush": {"notification": shown, "timeToLive": 60},
        "webpush": {"notification": shown, "urgency": "low", "collapseKey": "a b"},
    }
    message = {"data": {"text": "hello", "n": 7}, network: {"enabled": True, **parts[network]}}
    before = provider.ledger.accepted_count
    app.ok("POST", f"/users/{user.id}/push/messages", token=token, json=message)
    running.wait_for(network, before + 1)
    app.ok("PUT", "/users/me/buckets/notes/objects/one", token=user.token, json={})
    app.subscribe(user, "/users/me/buckets/notes")
    app.ok("PUT", "/users/me/buckets/notes/objects/two", token=user.token, json={})
    running.wait_for(network, before + 2)
    arrival = provider.last(device)
    assert arrival is not None
    assert b'"notes"' in arrival.payload
    assert provider.count(device) == 2
