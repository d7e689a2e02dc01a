"""REST over MQTT: request topics -> the routes of HTTP, framed in PUBLISH payloads (kii 10.2-10.4).

Owns the framing and the order: requests of one connection run one after the other, those of
different connections side by side. Knows no rule of a route and no packet. A connection that asks
faster than it is answered is told so (429); nothing waits without bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from mqttpush.errors import InvalidRequest, LimitReached, MqttPushError, NotAuthorized
from mqttpush.rest.app import TOO_LARGE, Application
from mqttpush.rest.messages import ApiRequest, ApiResponse, pretty_json

Connection = Any  # whatever tells one connection from another, opaque here

# A thing asks one thing at a time; a few more may be under way while an answer travels.
QUEUE_LIMIT_REQUESTS: Final = 16
ONBOARDING_QUEUE_LIMIT_REQUESTS: Final = 2
CONNECTIONS_LIMIT: Final = 5000
HEAD_LIMIT_BYTES: Final = 16_384
REQUEST_ID_LIMIT: Final = 256
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
# The server's own pages (metrics, documents) are none of a device's business.
_FOLDERS: Final = ("/api/apps/", "/thing-if/apps/")


@dataclass(frozen=True, slots=True)
class MqttRequest:
    """One PUBLISH on a request topic. app_id: what the connection has proved."""

    connection: Connection
    client_id: str
    app_id: str
    address: str
    is_onboarding: bool
    mqtt_topic: str
    payload: bytes


class RequestTopics:
    """Answers requests; `respond(connection, mqtt_topic, payload)` publishes the answer."""

    def __init__(
        self,
        *,
        application: Application,
        respond: Callable[[Connection, str, bytes], object],
        base_url: Callable[[], str],
        max_body_bytes: Callable[[], int],
        max_json_depth: Callable[[], int],
    ) -> None:
        self._application = application
        self._respond = respond
        self._base_url = base_url
        self._max_body_bytes = max_body_bytes
        self._max_json_depth = max_json_depth
        self._waiting: dict[Connection, deque[MqttRequest]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, request: MqttRequest) -> None:
        """Take a request; it is answered later on its own topic."""
        waiting = self._waiting.get(request.connection)
        limit = ONBOARDING_QUEUE_LIMIT_REQUESTS if request.is_onboarding else QUEUE_LIMIT_REQUESTS
        if waiting is not None and len(waiting) < limit:
            waiting.append(request)
        elif waiting is None and len(self._waiting) < CONNECTIONS_LIMIT:
            self._waiting[request.connection] = deque([request])
            task = asyncio.create_task(self._answer_all(request.connection), name="mqtt requests")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            answer = self._application.error(LimitReached("mqtt.requests", retry_after_s=1))
            self._send(request, answer, _request_id(request.payload))

    async def stop(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer_all(self, connection: Connection) -> None:
        """One task for a connection while it has requests waiting."""
        waiting = self._waiting[connection]
        try:
            while waiting:
                request = waiting[0]
                await self._answer(request)
                waiting.popleft()
        finally:
            del self._waiting[connection]

    async def _answer(self, request: MqttRequest) -> None:
        request_id = ""
        try:
            method, headers, body = parse_frame(request.payload)
            request_id = headers.get("x-kii-requestid", "")
            if len(request_id) > REQUEST_ID_LIMIT:
                request_id, problem = "", f"may have {REQUEST_ID_LIMIT} characters"
                raise InvalidRequest(problem, field="X-Kii-RequestID")
            path, query = _path_of(request)
            self._check(request, method, path, body)
            api_request = ApiRequest(
                method,
                {},
                dict(parse_qsl(query, keep_blank_values=True)),
                headers,
                body,
                self._base_url(),
                self._max_json_depth(),
                address=request.address,
                connection_app_id=request.app_id,
            )
            answer = await self._application.answer(api_request, path)
            if method == "HEAD":
                answer = replace(answer, body=None)
        except MqttPushError as exc:
            answer = self._application.error(exc)
        self._send(request, answer, request_id)

    def _check(self, request: MqttRequest, method: str, path: str, body: bytes) -> None:
        """Raises what is wrong with a request before its route is looked for."""
        if not path.startswith(_FOLDERS):
            raise InvalidRequest("there is no such path", code="NOT_FOUND")
        if len(body) > self._max_body_bytes():
            raise TOO_LARGE
        if request.is_onboarding:
            onboardings = f"/thing-if/apps/{request.app_id}/onboardings"
            if method != "POST" or path.rstrip("/") != onboardings:
                raise NotAuthorized("do anything but onboard on this connection")

    def _send(self, request: MqttRequest, answer: ApiResponse, request_id: str) -> None:
        payload = render_frame(answer, request_id)
        self._respond(request.connection, request.mqtt_topic, payload)


def parse_frame(payload: bytes) -> tuple[str, dict[str, str], bytes]:
    """(method, headers by lower-case name, body); raises InvalidRequest.

    Lines end with CRLF or LF alone, a header may have no blank after its colon, and what real
    clients put behind the body, a line end, is taken away (spec kii 10.3).
    """
    head, body = _split_head(payload)
    if len(head) > HEAD_LIMIT_BYTES:
        raise InvalidRequest(f"the headers are longer than {HEAD_LIMIT_BYTES} bytes")
    try:
        lines = head.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as exc:
        raise InvalidRequest("the request is not UTF-8") from exc
    method = lines[0].strip().upper()
    if method not in _METHODS:
        raise InvalidRequest(f"the first line must be one of {', '.join(sorted(_METHODS))}")
    headers: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in lines[1:])):
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not line.isprintable():
            raise InvalidRequest("a header line must be Name: value")
        headers[name.strip().lower()] = value.strip()
    return method, headers, body.strip(b"\r\n\0 ")


def render_frame(answer: ApiResponse, request_id: str) -> bytes:
    """`200`, headers, blank line, body, all with CRLF; no blank after the echo's colon (10.4)."""
    lines = [str(answer.status)]
    if request_id:
        lines.append(f"X-Kii-RequestID:{request_id}")
    body = b""
    if answer.body is not None:
        body = answer.body if isinstance(answer.body, bytes) else pretty_json(answer.body)
        lines.append(f"Content-Type: {answer.content_type}")
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _split_head(payload: bytes) -> tuple[bytes, bytes]:
    """At the first empty line, whichever line ends it has."""
    ends = [
        (index, len(mark))
        for mark in (b"\r\n\r\n", b"\n\n", b"\n\r\n")
        if (index := payload.find(mark)) >= 0
    ]
    if not ends:
        return payload, b""
    index, length = min(ends)
    return payload[:index], payload[index + length :]


def _path_of(request: MqttRequest) -> tuple[str, str]:
    """`p/{clientID}/thing-if/apps/…?query` -> (`/thing-if/apps/…`, query)."""
    path, _, query = request.mqtt_topic.partition("?")
    prefix = f"p/{request.client_id}"
    assert path.startswith(f"{prefix}/")  # the broker lets nothing else through
    return path[len(prefix) :], query


def _request_id(payload: bytes) -> str:
    """The request ID of a request that is not looked at any further."""
    try:
        return parse_frame(payload)[1].get("x-kii-requestid", "")[:REQUEST_ID_LIMIT]
    except InvalidRequest:
        return ""
