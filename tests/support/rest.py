"""REST calls of the tests, in plain httpx: written from the specification, not from our client."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import httpx

_serials = itertools.count(1)


def unique(prefix: str) -> str:
    """A name no other test uses."""
    return f"{prefix}-{next(_serials)}"


@dataclass(frozen=True, slots=True)
class Account:
    """A signed-on user or thing."""

    id: str
    token: str


class Api:
    """One app of a server, spoken to as its clients do."""

    def __init__(self, url: str, app: dict[str, str]) -> None:
        self.app = app
        self.app_id = app["appID"]
        self.base = f"{url}/api/apps/{self.app_id}"
        self.http = httpx.Client(trust_env=False, timeout=30.0)
        self.url = url

    def close(self) -> None:
        self.http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One request below the app; without a token as its anonymous client."""
        sent = {"X-Kii-AppID": self.app_id, "X-Kii-AppKey": self.app["appKey"], **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        url = path if path.startswith("http") else f"{self.base}{path}"
        return self.http.request(method, url, json=json, content=content, headers=sent)

    def ok(self, method: str, path: str, **kwargs: Any) -> Any:
        """The same, which must succeed; its JSON, or None."""
        response = self.call(method, path, **kwargs)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def admin_token(self) -> str:
        body = {"client_id": self.app["clientID"], "client_secret": self.app["clientSecret"]}
        return str(self.ok("POST", f"{self.url}/api/oauth2/token", json=body)["access_token"])

    def pseudo_user(self) -> Account:
        kind = "application/vnd.kii.RegistrationAndAuthorizationRequest+json"
        answer = self.ok("POST", "/users", content=b"{}", headers={"Content-Type": kind})
        return Account(answer["userID"], answer["_accessToken"])

    def thing(self) -> Account:
        kind = "application/vnd.kii.ThingRegistrationAndAuthorizationRequest+json"
        body = {"_vendorThingID": unique("thing"), "_password": "123456"}
        answer = self.ok("POST", "/things", json=body, headers={"Content-Type": kind})
        return Account(answer["_thingID"], answer["_accessToken"])

    def mqtt_endpoint(self, account: Account) -> dict[str, Any]:
        """The account's MQTT installation, ready to connect."""
        body = {"deviceType": "MQTT", "development": False}
        installation = self.ok("POST", "/installations", token=account.token, json=body)
        path = f"/installations/{installation['installationID']}/mqtt-endpoint"
        endpoint: dict[str, Any] = self.ok("GET", path, token=account.token)
        return endpoint

    def subscribe(self, account: Account, source: str) -> None:
        """source: `/buckets/b` or `/topics/t`, with its scope before it."""
        middle = "/filters/all" if "/buckets/" in source else ""
        noun = "things" if account.id.startswith("th.") else "users"
        path = f"{source}{middle}/push/subscriptions/{noun}"
        self.ok("POST", path, token=account.token)

    def push_to_user(self, admin_token: str, user_id: str, **data: Any) -> None:
        message = {"data": data, "mqtt": {"enabled": True}}
        self.ok("POST", f"/users/{user_id}/push/messages", token=admin_token, json=message)
