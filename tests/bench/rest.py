"""The REST calls the benchmark needs, as bytes ready to send.

Owns how a device comes into being: pseudo user, MQTT installation, endpoint, subscription.
Knows no clock. Requests are composed before a case starts, so composing them costs it nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from .tools import Device, LoadGen

PSEUDO_USER_TYPE = "application/vnd.kii.RegistrationAndAuthorizationRequest+json"
INSTALLATION_TYPE = "application/vnd.kii.InstallationCreationRequest+json"
MESSAGE_TYPE = "application/vnd.kii.SendPushMessageRequest+json"
CONNECTIONS = 32


@dataclass(frozen=True)
class User:
    """A pseudo user who owns one device."""

    user_id: str
    token: str
    device: Device


class App:
    """One app of a running server, reached through the load generator."""

    def __init__(self, *, http_port: int, loadgen: LoadGen, names: dict[str, str]) -> None:
        self._port = http_port
        self._loadgen = loadgen
        self._root = f"/api/apps/{names['appID']}"
        self._app_headers = f"X-Kii-AppID: {names['appID']}\r\nX-Kii-AppKey: {names['appKey']}\r\n"
        grant = {"client_id": names["clientID"], "client_secret": names["clientSecret"]}
        [answer] = self._fetch([self._request("POST", "/api/oauth2/token", body=grant)])
        self.admin_token: str = answer["access_token"]

    def users(self, count: int, *, buckets: Sequence[str]) -> list[User]:
        """Make users with one MQTT device each, subscribed to every one of `buckets`."""
        made = self._fetch(
            [self._request("POST", f"{self._root}/users", body={}, kind=PSEUDO_USER_TYPE)] * count
        )
        tokens = [user["_accessToken"] for user in made]
        path = f"{self._root}/installations"
        body = {"deviceType": "MQTT"}
        installations = self._fetch(
            [
                self._request("POST", path, body=body, kind=INSTALLATION_TYPE, token=t)
                for t in tokens
            ]
        )
        endpoints = self._fetch(
            [
                self._request("GET", f"{path}/{i['installationID']}/mqtt-endpoint", token=token)
                for i, token in zip(installations, tokens, strict=True)
            ]
        )
        for bucket in buckets:
            path = f"{self._root}/buckets/{bucket}/filters/all/push/subscriptions/users"
            self._send([self._request("POST", path, token=token) for token in tokens])
        return [
            User(
                user["userID"],
                user["_accessToken"],
                Device(e["mqttTopic"], e["username"], e["password"], e["mqttTopic"]),
            )
            for user, e in zip(made, endpoints, strict=True)
        ]

    def creates(self, bucket: str, count: int, *, size: int = 200) -> list[bytes]:
        """Requests that create `count` objects of about `size` bytes, the server naming them."""
        path = f"{self._root}/buckets/{bucket}/objects"
        return [
            self._request("POST", path, body=_object(index, size), token=self.admin_token)
            for index in range(count)
        ]

    def named_creates(self, bucket: str, count: int, *, series: str) -> list[bytes]:
        """The same with object IDs the load generator finds again in the pushes."""
        path = f"{self._root}/buckets/{bucket}/objects"
        return [
            self._request(
                "PUT",
                f"{path}/bench-{index:08d}-{series}",
                body=_object(index, 200),
                token=self.admin_token,
            )
            for index in range(count)
        ]

    def direct_pushes(self, user: User, count: int, *, size: int) -> list[bytes]:
        """Requests that push about `size` bytes to one user."""
        body = {"data": {"pad": "x" * size}, "mqtt": {"enabled": True}}
        path = f"{self._root}/users/{user.user_id}/push/messages"
        request = self._request("POST", path, body=body, kind=MESSAGE_TYPE, token=self.admin_token)
        return [request] * count

    def send_to_topic(self, topic: str, message: object) -> None:
        """Send one message."""
        path = f"{self._root}/topics/{topic}/push/messages"
        token = self.admin_token
        self._send([self._request("POST", path, body=message, kind=MESSAGE_TYPE, token=token)])

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        kind: str = "application/json",
        token: str | None = None,
    ) -> bytes:
        content = b"" if body is None else orjson.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
        head += f"Authorization: Bearer {token}\r\n" if token is not None else self._app_headers
        if body is not None:
            head += f"Content-Type: {kind}\r\n"
        if method != "GET":
            head += f"Content-Length: {len(content)}\r\n"
        return f"{head}\r\n".encode() + content

    def _send(self, requests: list[bytes]) -> None:
        self._loadgen.http(self._port, requests, connections=CONNECTIONS)

    def _fetch(self, requests: list[bytes]) -> list[dict[str, Any]]:
        bodies = self._loadgen.fetch(self._port, requests, connections=CONNECTIONS)
        return [orjson.loads(body) for body in bodies]


def _object(index: int, size: int) -> dict[str, object]:
    return {"seq": index, "kind": "reading", "pad": "x" * max(0, size - 40)}
