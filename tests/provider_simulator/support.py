"""Requests to the providers as plain values, and over libcurl where the wire is what matters."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import orjson
import pycurl

from mqttpush.provider_simulator import Providers
from mqttpush.provider_simulator.apns import ApnsKey
from mqttpush.provider_simulator.fcm import GRANT_TYPE
from mqttpush.provider_simulator.provider import Reply, Request
from mqttpush.provider_simulator.webpush import VapidKey

NOW_S = 1_800_000_000.0
FCM_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
TOPIC = "com.example.app"


class FakeClock:
    """Wall-clock seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = NOW_S

    def __call__(self) -> float:
        return self.now


class Answer(NamedTuple):
    """What came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Failed(NamedTuple):
    """Nothing whole came: libcurl's number and words."""

    number: int
    words: str


def error_of(reply: Reply) -> Any:
    return orjson.loads(reply.body)


# --- FCM ---


def assertion(account: Mapping[str, str], **claims: Any) -> str:
    """The signed claims a service account asks for an access token with."""
    right = {
        "iss": account["client_email"],
        "scope": FCM_SCOPE,
        "aud": account["token_uri"],
        "iat": int(NOW_S),
        "exp": int(NOW_S) + 3600,
    }
    signed = {name: value for name, value in {**right, **claims}.items() if value is not None}
    headers = {"kid": account["private_key_id"]}
    return jwt.encode(signed, account["private_key"], "RS256", headers)


def ask_for_token(providers: Providers, signed: str, grant_type: str = GRANT_TYPE) -> Reply:
    body = f"grant_type={grant_type.replace(':', '%3A')}&assertion={signed}".encode()
    return providers.fcm.receive(Request("POST", "/token", {}, body)).reply


def access_token(providers: Providers, account: Mapping[str, str]) -> str:
    reply = ask_for_token(providers, assertion(account))
    assert reply.status == 200, reply.body
    token: str = orjson.loads(reply.body)["access_token"]
    return token


def send_fcm(
    providers: Providers, bearer: str, body: Any, *, project: str = "demo-project"
) -> Reply:
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    path = f"/v1/projects/{project}/messages:send"
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return providers.fcm.receive(Request("POST", path, headers, content)).reply


# --- APNs ---


def provider_token(key: ApnsKey, **claims: Any) -> str:
    signed = {"iss": key.team_id, "iat": int(NOW_S), **claims}
    return jwt.encode(signed, key.pem, "ES256", {"kid": key.key_id})


def send_apns(
    providers: Providers,
    token: str,
    signed: str = "",
    *,
    body: bytes = b'{"aps":{"alert":"hello"}}',
    is_sandbox: bool = False,
    method: str = "POST",
    path: str = "",
    peer: str = "",
    repeated: frozenset[str] = frozenset(),
    **headers: str | None,
) -> Reply:
    """Header names with underscores: `apns_topic`; None leaves one out."""
    given = {"apns_topic": TOPIC, "apns_push_type": "alert", **headers}
    sent = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    if signed:
        sent["authorization"] = f"bearer {signed}"
    request = Request(method, path or f"/3/device/{token}", sent, body, repeated, peer)
    environment = providers.apns.sandbox if is_sandbox else providers.apns.production
    return environment.receive(request).reply


# --- Web Push ---


def vapid_header(key: VapidKey, audience: str, **claims: Any) -> str:
    right = {"aud": audience, "exp": int(NOW_S) + 3600, "sub": key.subject}
    signed = {name: value for name, value in {**right, **claims}.items() if value is not None}
    return f"vapid t={jwt.encode(signed, key.pem, 'ES256')}, k={key.public_key}"


# --- the wire ---


class Wire:
    """A client with one connection to each host, over libcurl."""

    def __init__(self, ca_file: Path) -> None:
        self._curl = pycurl.Curl()
        self._ca_file = ca_file

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], **options: Any
    ) -> Answer | Failed:
        """options: of libcurl, by name."""
        return await asyncio.to_thread(self._post, url, body, headers, options)

    def close(self) -> None:
        self._curl.close()

    def _post(
        self, url: str, body: bytes, headers: Mapping[str, str], options: Mapping[str, Any]
    ) -> Answer | Failed:
        content, head = io.BytesIO(), io.BytesIO()
        curl = self._curl
        curl.reset()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])
        curl.setopt(pycurl.CAINFO, str(self._ca_file))
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        curl.setopt(pycurl.TIMEOUT, 10)
        curl.setopt(pycurl.WRITEFUNCTION, content.write)
        curl.setopt(pycurl.HEADERFUNCTION, head.write)
        for name, value in options.items():
            curl.setopt(getattr(pycurl, name), value)
        try:
            curl.perform()
        except pycurl.error as exc:
            facts: tuple[Any, ...] = exc.args
            return Failed(facts[0], facts[1])
        lines = head.getvalue().decode().splitlines()
        pairs = (line.partition(":") for line in lines if ":" in line)
        found = {name.lower(): value.strip() for name, _, value in pairs}
        return Answer(curl.getinfo(pycurl.RESPONSE_CODE), found, content.getvalue())
