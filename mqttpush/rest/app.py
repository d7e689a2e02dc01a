"""The HTTP application: one table of routes, caller to answer, errors to responses.

Owns what is the same for every route: reading the body within its bounds, method override, CORS,
the response headers of spec kii 0.4, health, readiness and metrics. Knows no SQL and no packet. A
dialect brings its routes and how it spells an error.
"""

from __future__ import annotations

import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from mqttpush.config import HttpSettings
from mqttpush.errors import InvalidRequest, LimitReached, MqttPushError
from mqttpush.metrics import Metrics
from mqttpush.rest.admission import HttpAdmission
from mqttpush.rest.documents import SERVER, DocumentRoutes
from mqttpush.rest.files import FileAnswer
from mqttpush.rest.messages import ApiRequest, ApiResponse, pretty_json
from mqttpush.rest.routing import Content, Edge, Route, RouteTable

# Raises when a part is not ready; the text of the error is the reason.
ReadyCheck = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)

METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_COMMON_HEADERS: Final = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": (
        "Content-Type, Authorization, Content-Length, X-Requested-With, ETag, Location,"
        " X-Step-Count, X-Environment-version, X-HTTP-Status-Code, Content-Range, Last-Modified"
    ),
    "cache-control": "max-age=0, no-cache, no-store",
    "accept-ranges": "bytes",
}
_COMMON_RAW_HEADERS: Final = tuple(
    (name.encode(), value.encode()) for name, value in _COMMON_HEADERS.items()
)
_PREFLIGHT_HEADERS: Final = {
    "access-control-allow-methods": METHODS,
    "access-control-allow-headers": (
        "authorization, content-type, accept, x-kii-appid, x-kii-appkey, x-kii-sdk, kii-m,"
        " x-http-method-override, if-match, if-none-match, x-requested-with, range,"
        " if-range, content-range"
    ),
    "access-control-max-age": "86400",
}


class Application:
    """The ASGI application. routes: of all dialects. edges: one a dialect; the first has no folders
    of its own and so every path that no other one claims.
    """

    def __init__(
        self,
        *,
        routes: Iterable[Route],
        edges: Sequence[Edge],
        settings: HttpSettings,
        metrics: Metrics,
        admission: HttpAdmission,
        check_ready: ReadyCheck,
    ) -> None:
        self._edge, *others = edges
        self._edge_by_folder = {folder: edge for edge in others for folder in edge.folders}
        self._settings = settings
        self._metrics = metrics
        self._admission = admission
        self._check_ready = check_ready
        health, text = Content(dict[str, str]), Content(None, ("text/plain",))
        ready = "Do all parts answer?"
        operator_routes = [
            Route("GET", "/health/live", self._live, "Is the process up?", answer=health),
            Route("GET", "/health/ready", self._ready, ready, (200, 503), answer=health),
            Route("GET", "/metrics", self._render_metrics, "Prometheus metrics", answer=text),
            *DocumentRoutes(lambda: self.table.routes).table(),
        ]
        own = [replace(route, tag="Server", dialect=SERVER) for route in operator_routes]
        self.table = RouteTable([*routes, *own])

    def reload(self, settings: HttpSettings) -> None:
        """Take new limits; they hold from the next request on."""
        self._settings = settings
        self._admission.apply(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request; ASGI's other protocols are not spoken."""
        assert scope["type"] == "http"
        request = Request(scope, receive)
        api_request = self._begun(request)
        path = (request.scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        edge = self._edge_of(path)
        edge.begin(api_request)
        answering = self._answer(request, api_request, edge, path)
        try:
            response = await self._guarded(answering, api_request, edge, scope["path"])
        except ClientDisconnect:
            return  # nobody is left to hear an answer, and half a body must not count as whole
        response = edge.finish(api_request, response)
        await _to_http(response)(scope, receive, send)

    async def answer(self, request: ApiRequest, path: str) -> ApiResponse:
        """Find and run the route of a request that did not come over HTTP; never raises.

        path: without query, percent-encoded.
        """
        return await self._guarded(self._dispatch(request, path), request, self._edge, path)

    def error(self, error: MqttPushError, edge: Edge | None = None) -> ApiResponse:
        """The answer for an error, counted where it is a bound that was met."""
        if isinstance(error, LimitReached):
            self._metrics.limits_reached.add(error.limit)
        response = (edge or self._edge).render_error(error)
        if error is TOO_LARGE:
            response.status = 413
        return response

    async def _guarded(
        self,
        answering: Coroutine[Any, Any, ApiResponse],
        request: ApiRequest,
        edge: Edge,
        path: str,
    ) -> ApiResponse:
        try:
            response = await answering
        except MqttPushError as exc:
            response = self.error(exc, edge)
        except ClientDisconnect:
            raise
        except Exception:
            _log.exception("request failed: %s %s %s", request.method, path, request.request_id)
            response = self.error(MqttPushError("internal error"), edge)
        self._metrics.http_requests.add(_counted_method(request.method), str(response.status))
        return response

    async def _dispatch(self, request: ApiRequest, path: str) -> ApiResponse:
        found = self._find(request, self._edge, path)
        if isinstance(found, ApiResponse):
            return found
        if found.is_streamed:
            raise _ONLY_HTTP
        response = await found.handler(request)
        if response.file is not None:
            response.file.close()
            raise _ONLY_HTTP
        if response.stream is not None:
            raise _ONLY_HTTP
        return response

    def _edge_of(self, path: str) -> Edge:
        folder = next(filter(None, path.split("/")), "")
        return self._edge_by_folder.get(folder, self._edge)

    def _find(self, request: ApiRequest, edge: Edge, path: str) -> Route | ApiResponse:
        """The route of the request, which gets its parameters, or what there is instead."""
        match = self.table.find(path)
        if match is None:
            return self.error(edge.missing(request.method, path) or _NO_SUCH_PATH, edge)
        found = match.routes.get(request.method)
        if found is None and request.method == "HEAD":
            found = match.routes.get("GET")
        if found is None:
            allowed = ", ".join(sorted({*match.routes, "OPTIONS"}))
            if request.method == "OPTIONS":
                return ApiResponse(204, headers={"allow": allowed})
            known = edge.missing(request.method, path)
            if known is not None:
                return self.error(known, edge)
            response = self.error(_NO_SUCH_METHOD, edge)
            response.status = 405
            response.headers["allow"] = allowed
            return response
        route, names = found
        request.parameters = match.parameters(names)
        return route

    def _begun(self, request: Request) -> ApiRequest:
        headers = dict(request.headers.items())
        method = request.method
        if method == "POST":
            method = headers.get("x-http-method-override", method).upper()
        return ApiRequest(
            method,
            {},
            dict(request.query_params) if request.scope["query_string"] else {},
            headers,
            b"",
            self._settings.public_url or f"{request.scope['scheme']}://{_authority(request)}",
            self._settings.max_json_depth,
            address=self._client_of(request),
        )

    def _client_of(self, request: Request) -> str:
        client = request.scope["client"]
        peer: str = client[0] if client else ""
        if not self._admission.believes_proxies:
            return peer
        # Some proxies append a line of their own; several lines are one list (RFC 9110 5.3).
        lines = request.headers.getlist("x-forwarded-for")
        return self._admission.client_of(peer, ",".join(lines) if lines else None)

    async def _answer(
        self, request: Request, api_request: ApiRequest, edge: Edge, path: str
    ) -> ApiResponse:
        self._admission.check(api_request.address)
        if edge.preflight is not None and api_request.method == "OPTIONS":
            return await edge.preflight(api_request, path)
        found = self._find(api_request, edge, path)
        if isinstance(found, Route) and found.is_streamed:
            api_request.stream = _stream(request)
        else:
            api_request.body = await self._read_body(request)
        return found if isinstance(found, ApiResponse) else await found.handler(api_request)

    async def _read_body(self, request: Request) -> bytes:
        chunks: list[bytes] = []
        size_bytes = 0
        async for chunk in _stream(request):
            size_bytes += len(chunk)
            if size_bytes > self._settings.max_body_bytes:
                self._metrics.limits_reached.add("http.max_body_bytes")
                raise TOO_LARGE
            chunks.append(chunk)
        return b"".join(chunks)

    async def _live(self, _: ApiRequest) -> ApiResponse:
        return ApiResponse(200, {"status": "live"})

    async def _ready(self, _: ApiRequest) -> ApiResponse:
        try:
            await self._check_ready()
        except MqttPushError as exc:
            return ApiResponse(503, {"status": "not ready", "reason": str(exc)})
        return ApiResponse(200, {"status": "ready"})

    async def _render_metrics(self, _: ApiRequest) -> ApiResponse:
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return ApiResponse(200, self._metrics.render(), content_type)


_NO_SUCH_PATH: Final = InvalidRequest("there is no such path", code="NOT_FOUND")
_NO_SUCH_METHOD: Final = InvalidRequest("this path has no such method", code="METHOD_NOT_ALLOWED")
_ONLY_HTTP: Final = InvalidRequest(
    "bodies of objects come and go over HTTP only", code="OPERATION_NOT_IMPLEMENTED"
)
TOO_LARGE: Final = InvalidRequest("the body is too large (http.max_body_bytes)")


# Where a request's state says that its body comes too slowly (the listener watches it).
TOO_SLOW: Final = "is_too_slow"
# To say more would break the connection.
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


async def _stream(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes; whoever reads it slower than it comes slows the client down.

    Raises LimitReached where the listener says that it comes too slowly, ClientDisconnect.
    """
    state = request.scope["state"]
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if state.get(TOO_SLOW):
            raise LimitReached("http.body_timeout_s")
        if message["body"]:
            yield message["body"]
        if not message["more_body"]:
            return


def _authority(request: Request) -> str:
    """Host as the client spelled it; HTTP/1.0 clients may send none."""
    host = request.headers.get("host")
    if host:
        return host
    address, port = request.scope.get("server") or ("localhost", None)
    return f"{address}:{port}" if port else str(address)


def _counted_method(method: str) -> str:
    """A stranger's method must not make a new time series."""
    return method if method in METHODS else "other"


def _to_http(response: ApiResponse) -> Response:
    headers = response.headers
    if "allow" in headers:
        headers = {**_PREFLIGHT_HEADERS, **headers}
    if response.status == HTTPStatus.REQUEST_TIMEOUT:
        headers = {**headers, "connection": "close"}  # the rest would be waited for
    if response.file is not None:
        own = {"content-type": response.content_type, "x-http-status-code": str(response.status)}
        return FileAnswer(response.file, {**_COMMON_HEADERS, **own, **headers})
    if response.stream is not None:
        shown = {**_COMMON_HEADERS, **headers, "content-type": response.content_type}
        return StreamingResponse(response.stream, response.status, shown)
    raw_headers = [
        *_common_headers(headers),
        (b"x-http-status-code", b"%d" % response.status),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()),
    ]
    answer = Response(status_code=response.status)
    has_body = response.status not in _BODILESS
    if response.body is not None and has_body:
        body = response.body if isinstance(response.body, bytes) else pretty_json(response.body)
        content_type = response.content_type
        if content_type.endswith("json"):
            content_type += ";charset=UTF-8"
        raw_headers.append((b"content-type", content_type.encode("latin-1")))
        answer.body = body
    if has_body:
        raw_headers.append((b"content-length", b"%d" % len(answer.body)))
    answer.raw_headers = raw_headers
    return answer


def _common_headers(own: Mapping[str, str]) -> Iterable[tuple[bytes, bytes]]:
    """Those of every answer, less what it says itself; encoded once."""
    if _COMMON_HEADERS.keys().isdisjoint(own):
        return _COMMON_RAW_HEADERS
    return (pair for pair in _COMMON_RAW_HEADERS if pair[0].decode() not in own)
