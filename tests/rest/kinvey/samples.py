"""A sample request for every operation of the second dialect, made of what the document tells."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

MARK = "only-for-the-owner"
# Their answers have no end, or come when something happens: tests of their own try them.
ENDLESS = ("/realtime/{appKey}", "/v2/subscribe/{appKey}/{channels}/0")
# What an operator must set up first: code, a mail server; and what a link in a mail must open.
NEEDS_SETUP = (
    "/rpc/{appKey}/custom/{endpoint}",
    "/rpc/{appKey}/send-email",
    "/rpc/{appKey}/{usernameOrEmail}/user-password-reset-initiate",
    "/rpc/{appKey}/{usernameOrEmail}/user-email-verification-initiate",
    "/rpc/{appKey}/user-forgot-username",
    "/rpc/{appKey}/password-reset",
    "/rpc/{appKey}/email-verification",
)
_PARAMETER = re.compile(r"\{(\w+)\}")
_LIVE = {"deviceId": "a-browser"}
# By the end of the path.
_BODIES: dict[str, Any] = {
    "/login": {"username": MARK, "password": "secret"},
    "/_lookup": {"username": "nobody"},
    "/check-username-exists": {"username": "nobody"},
    "/register-device": {"platform": "android", "deviceId": MARK},
    "/unregister-device": {"platform": "android", "deviceId": "unknown"},
    "/sendMessage": {"recipients": [], "messageContent": "hello"},
    "/sendBroadcast": {"messageContent": "hello"},
    "/remove-collection": {"collectionName": "unknown"},
    "/register-realtime": _LIVE,
    "/unregister-realtime": {"deviceId": "unknown"},
    "/_subscribe": _LIVE,
    "/_unsubscribe": _LIVE,
}


def path_of(path: str, values: Mapping[str, str]) -> str:
    """The path with these values in it."""
    return _PARAMETER.sub(lambda match: quote(values.get(match[1], "unknown"), safe=""), path)


def query_of(method: str, path: str) -> str:
    """The query the operation cannot do without."""
    return (
        '?query={"a":"b"}' if (method, path) == ("DELETE", "/appdata/{appKey}/{collection}") else ""
    )


def body_of(path: str) -> dict[str, Any]:
    found = (body for ending, body in _BODIES.items() if path.endswith(ending))
    return dict(next(found, {"text": MARK}))


def headers_of(authorization: str) -> dict[str, str]:
    headers = {"X-Kinvey-API-Version": "6", "X-Kinvey-Delete-Entire-Collection": "true"}
    return {**headers, "Authorization": authorization} if authorization else headers


def basic(app_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{app_id}:{secret}".encode()).decode()
