"""Calls of the second dialect's collections, in plain httpx: written from the specification."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.rest import unique

NEWEST = 6


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Member:
    """A user with a session."""

    id: str
    authtoken: str

    @property
    def authorization(self) -> str:
        return f"Kinvey {self.authtoken}"


class Environment:
    """One app, spoken to as the second dialect's clients do."""

    def __init__(self, url: str, app: dict[str, str]) -> None:
        self.url = url
        self.key = app["appID"]
        self.app = basic(self.key, app["appKey"])
        self.master = basic(self.key, app["clientSecret"])
        self.http = httpx.Client(trust_env=False, timeout=30.0)

    def close(self) -> None:
        self.http.close()

    def call(
        self,
        method: str,
        path: str,
        authorization: str,
        body: Any = None,
        *,
        version: int = NEWEST,
        **headers: str,
    ) -> httpx.Response:
        """path: `appdata/coll/id`; the app's key goes behind its first part. headers: _ is -."""
        folder, _, rest = path.partition("/")
        sent = {
            "Authorization": authorization,
            "X-Kinvey-API-Version": str(version),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        url = f"{self.url}/{folder}/{self.key}/{rest}"
        return self.http.request(method, url, json=body, headers=sent)

    def ok(self, method: str, path: str, authorization: str, body: Any = None, **more: Any) -> Any:
        """The same, which must succeed; its JSON, or None."""
        response = self.call(method, path, authorization, body, **more)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def member(self) -> Member:
        """A user who has just signed up."""
        body = {"username": unique("user"), "password": "secret"}
        user = self.ok("POST", "user", self.app, body)
        return Member(user["_id"], user["_kmd"]["authtoken"])

    def find(self, collection: str, who: str, query: Any, **parameters: Any) -> list[Any]:
        """Entities that match."""
        text = {"query": json.dumps(query), **parameters}
        found: list[Any] = self.ok("GET", f"appdata/{collection}/?{httpx.QueryParams(text)}", who)
        return found

    def count(self, collection: str, who: str, query: Any) -> int:
        parameters = httpx.QueryParams({"query": json.dumps(query)})
        return int(self.ok("GET", f"appdata/{collection}/_count?{parameters}", who)["count"])


def assert_error(response: httpx.Response, status: int, error: str) -> dict[str, Any]:
    """An error of spec kinvey 1.4."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert set(body) == {"error", "description", "debug"}
    assert body["error"] == error, body
    return body
