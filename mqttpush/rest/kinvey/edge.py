"""What holds for every path of this dialect: headers, CORS, what it does not do (spec kinvey 1).

Knows no route. No answer carries WWW-Authenticate: web views of phones hang on one (1.1).
"""

from __future__ import annotations

import re
from secrets import token_hex
from typing import Final

import orjson

from mqttpush.errors import InvalidRequest, MqttPushError
from mqttpush.operations.environments import Environments
from mqttpush.rest.kinvey.errors import render_error
from mqttpush.rest.kinvey.wire import refuse_other_origins, version_of
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Edge

FOLDERS: Final = frozenset(
    {"appdata", "user", "push", "rpc", "group", "blob", "stream", "realtime", "v2", "time"}
)
REQUEST_HEADERS: Final = (
    "authorization, content-type, accept, x-kinvey-api-version, x-kinvey-client-app-version,"
    " x-kinvey-custom-request-properties, x-kinvey-skip-business-logic, x-kinvey-responsewrapper,"
    " x-kinvey-include-headers-in-response, x-kinvey-device-information, x-kinvey-device-info,"
    " x-kinvey-delete-entire-collection, x-kinvey-retain-collection-metadata,"
    " x-kinvey-client-version, x-kinvey-content-type, x-kinvey-trace-request,"
    " x-kinvey-force-debug-log-credentials, x-requested-with"
)
_PREFLIGHT_HEADERS: Final = {
    "access-control-allow-methods": "GET, POST, PUT, DELETE",
    "access-control-allow-headers": REQUEST_HEADERS,
    "access-control-max-age": "86400",
}
_EXPOSED: Final = "Location, X-Kinvey-Request-Id, X-Kinvey-API-Version"
# What the service did and this server does not: (methods, path), to be told as such and not as 404.
_UNAVAILABLE: Final = tuple(
    (methods, re.compile(path))
    for methods, path in (
        ("GET POST PUT DELETE", r"(group|blob|stream)(/.*)?"),
        ("POST", r"appdata/[^/]+/[^/]+/_group"),
        ("GET PUT DELETE", r"user/[^/]+/[^/]+/roles(/[^/]+)?"),
        ("POST", r"user/[^/]+/mfa/(challenge|complete)"),
        ("GET POST DELETE", r"user/[^/]+/[^/]+/(authenticators|recovery-codes)(/.*)?"),
    )
)


def kinvey_edge(environments: Environments) -> Edge:
    """The edge of this dialect; environments: to ask what an app's settings say of CORS."""

    async def preflight(request: ApiRequest, path: str) -> ApiResponse:
        app_id = next(iter(list(filter(None, path.split("/")))[1:]), "")
        refuse_other_origins(request, await environments.settings(app_id))
        return ApiResponse(204, headers=dict(_PREFLIGHT_HEADERS))

    return Edge(render_error, FOLDERS, begin, missing, preflight, finish)


def begin(request: ApiRequest) -> None:
    """Give the request its name, for its answer and for the log."""
    request.request_id = token_hex(16)


def missing(method: str, path: str) -> MqttPushError | None:
    """FeatureUnavailable for what is out of scope."""
    inside = "/".join(filter(None, path.split("/")))
    for methods, pattern in _UNAVAILABLE:
        if method in methods.split() and pattern.fullmatch(inside):
            return InvalidRequest("is not done by this server", code="FeatureUnavailable")
    return None


def finish(request: ApiRequest, response: ApiResponse) -> ApiResponse:
    """The headers of every answer, and compact JSON."""
    headers = response.headers
    headers["x-kinvey-request-id"] = request.request_id
    version = request.version
    if version is None:
        version = _version_or_none(request)
    if version is not None:
        headers["x-kinvey-api-version"] = str(version)
    origin = request.headers.get("origin")
    if origin is not None and origin.isascii() and origin.isprintable():
        headers["access-control-allow-origin"] = origin
        headers["access-control-allow-credentials"] = "true"
        headers["vary"] = "Origin"
    headers["access-control-expose-headers"] = _EXPOSED
    wants_wrapper = request.headers.get("x-kinvey-responsewrapper", "").lower() == "true"
    if wants_wrapper and response.content_type.endswith("json"):
        _wrap(request, response)
    if response.body is not None and not isinstance(response.body, bytes):
        response.body = orjson.dumps(response.body)
    return response


def _version_or_none(request: ApiRequest) -> int | None:
    try:
        return version_of(request)
    except InvalidRequest:
        return None


def _wrap(request: ApiRequest, response: ApiResponse) -> None:
    """Headers inside the body, for clients that cannot read them (1.1)."""
    names = request.headers.get("x-kinvey-include-headers-in-response", "").split(";")
    wanted = {name.strip().lower(): name.strip() for name in names}
    shown = {wanted[name]: value for name, value in response.headers.items() if name in wanted}
    body = response.body
    if isinstance(body, bytes):
        body = orjson.Fragment(body)
    response.body = {"headers": shown, "body": body}
    if response.status == 204:
        response.status = 200
