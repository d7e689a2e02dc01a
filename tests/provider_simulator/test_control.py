"""The control interface does what `Providers` does, and says what is wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mqttpush.provider_simulator import Providers, open_providers
from mqttpush.provider_simulator.control import Control as Routes
from tests.provider_simulator.support import FakeClock, assertion, send_fcm
from tests.support.loop import in_loop


class Control:
    """A team's own test, in whatever language."""

    def __init__(self, providers: Providers, http: httpx.AsyncClient) -> None:
        self.providers = providers
        self._http = http

    async def ok(self, method: str, path: str, json: Any = None) -> Any:
        response = await self.call(method, path, json)
        assert response.status_code == 200, response.text
        return response.json()

    async def call(self, method: str, path: str, json: Any = None) -> httpx.Response:
        return await self._http.request(method, self.providers.control_url + path, json=json)


@asynccontextmanager
async def opened() -> AsyncIterator[Control]:
    async with open_providers(clock=FakeClock()) as providers, httpx.AsyncClient() as http:
        yield Control(providers, http)


async def fcm_bearer(control: Control) -> tuple[str, str]:
    """An access token, and a device."""
    account = await control.ok("POST", "/service-accounts", {"project": "demo-project"})
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    async with httpx.AsyncClient() as http:
        form = {"grant_type": grant, "assertion": assertion(account)}
        answer = (await http.post(account["token_uri"], data=form)).json()
    tokens = await control.ok("POST", "/tokens/fcm", {"count": 1})
    return answer["access_token"], tokens["tokens"][0]


@in_loop
async def test_the_overview_names_every_listener() -> None:
    async with opened() as control:
        overview = await control.ok("GET", "/")
        assert overview["urls"] == control.providers.urls()


@in_loop
async def test_credentials_of_every_network_can_be_made() -> None:
    async with opened() as control:
        assert (await control.ok("POST", "/apns-keys", {"topics": ["com.x"]}))["key_id"]
        certificate = {"topic": "com.x", "password": "secret"}
        assert (await control.ok("POST", "/apns-certificates", certificate))["p12"]
        assert (await control.ok("POST", "/jpush-pairs"))["master_secret"]
        assert (await control.ok("POST", "/vapid-keys"))["public_key"]
        for network in control.providers.by_network():
            made = await control.ok("POST", f"/tokens/{network}", {"count": 3})
            assert len(set(made["tokens"])) == 3


@in_loop
async def test_what_arrived_can_be_read_and_forgotten() -> None:
    async with opened() as control:
        bearer, token = await fcm_bearer(control)
        send_fcm(control.providers, bearer, {"message": {"token": token, "data": {"a": "b"}}})
        assert await control.ok("GET", "/counts/fcm") == {token: 1}
        [push] = await control.ok("GET", f"/pushes/fcm?token={token}")
        assert push["payload"]["message"]["data"] == {"a": "b"}
        assert await control.ok("GET", "/pushes/fcm?limit=5") == [push]
        assert (await control.ok("GET", "/totals"))["fcm"]["accepted"] == 1
        await control.ok("POST", "/reset")
        assert await control.ok("GET", "/counts/fcm") == {}


@in_loop
async def test_faults_and_deaths_can_be_set_and_lifted() -> None:
    async with opened() as control:
        bearer, token = await fcm_bearer(control)
        message = {"message": {"token": token}}
        [fault] = await control.ok("POST", "/faults", {"network": "fcm", "code": "INTERNAL"})
        assert fault["struck_count"] == 0
        assert send_fcm(control.providers, bearer, message).status == 500
        assert (await control.ok("GET", "/faults"))[0]["struck_count"] == 1
        await control.ok("POST", "/faults", [{"network": "fcm", "status": 503, "times": None}])
        assert send_fcm(control.providers, bearer, message).status == 503
        await control.ok("DELETE", "/faults")
        await control.ok("POST", "/dead/fcm", {"tokens": [token], "since_ms": 5})
        assert send_fcm(control.providers, bearer, message).status == 404
        await control.ok("POST", "/alive/fcm", {"tokens": [token]})
        assert send_fcm(control.providers, bearer, message).status == 200
        await control.ok("POST", "/expire/fcm")
        assert send_fcm(control.providers, bearer, message).status == 401


@in_loop
async def test_a_push_can_be_waited_for() -> None:
    async with opened() as control:
        bearer, token = await fcm_bearer(control)
        waiting = asyncio.create_task(control.call("GET", "/wait/fcm?accepted=2&timeout_s=20"))
        for _ in range(2):
            send_fcm(control.providers, bearer, {"message": {"token": token}})
        assert (await waiting).json()["accepted"] == 2
        late = await control.call("GET", "/wait/fcm?accepted=3&timeout_s=0.01")
        assert late.status_code == 408


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("POST", "/faults", {"network": "fcm", "cod": "INTERNAL"}, "no cod"),
        ("POST", "/faults", {"network": "fcm", "code": "NONSENSE"}, "NONSENSE"),
        ("POST", "/faults", {"network": "fcm", "cut": "bite"}, "cut"),
        ("POST", "/faults", {"network": "fcm", "every": "often"}, "every"),
        ("POST", "/faults", {"network": "pigeons"}, "pigeons"),
        ("POST", "/tokens/fcm", {"cuont": 1}, "cuont"),
        ("POST", "/tokens/fcm", [1], "TypeError"),
        ("GET", "/pushes/pigeons", None, "pigeons"),
        ("GET", "/wait/fcm", None, "accepted"),
    ],
)
@in_loop
async def test_a_wrong_request_is_told_what_is_wrong(
    method: str, path: str, body: Any, words: str
) -> None:
    async with opened() as control:
        response = await control.call(method, path, body)
        assert response.status_code == 400
        assert words in response.json()["error"]


@in_loop
async def test_a_route_that_does_not_exist_is_404() -> None:
    async with opened() as control:
        assert (await control.call("GET", "/nowhere")).status_code == 404


def test_every_route_stands_in_the_document(providers: Providers) -> None:
    document = Path(__file__).parents[2] / "docs" / "provider-simulator.md"
    told = set(re.findall(r"`(GET|POST|DELETE) (/[^` ?]*)", document.read_text(encoding="utf-8")))
    for method, path in Routes(providers).routes:
        network_route = re.sub(r"/(fcm|apns|jpush|webpush)$", "/NETWORK", path)
        assert {(method, path), (method, network_route)} & told, (method, path)
