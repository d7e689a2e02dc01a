"""Hooks that are HTTP services: the Flex task protocol, and plain server-code endpoints.

Owns one call's body, headers and answer (spec kinvey 8.8) and how long a broken service is left
alone. Knows no dialect's request. The one idea: a service is a stranger that may hang, redirect or
answer without end, so a call has one deadline and one bound, and after a few failures in a row the
service is not asked at all for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson

from mqttpush.config import HookSettings
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Host, Result
from mqttpush.models import Json

# Failures in a row (no connection, no answer in time) after which a service is left alone so long.
BREAKER_FAILURES: Final = 5
BREAKER_S: Final = 10.0
BREAKERS_LIMIT: Final = 1000  # of services that fail; those that answer have none
CONNECT_LIMIT_S: Final = 5.0
# What services of the SDK take at most.
CALL_LIMIT_BYTES: Final = 25 * 1024 * 1024
_PROPERTIES: Final = "x-kinvey-custom-request-properties"


@dataclass(slots=True)
class _Breaker:
    """Of one app's service: another app's users must not be able to close it."""

    failures: int = 0
    closed_at: float = 0.0  # seconds of the clock


class FlexRunner:
    """`Runner` for HTTP services. clock: seconds, monotonic."""

    def __init__(self, settings: HookSettings, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._breakers: dict[tuple[str, str], _Breaker] = {}
        self._http: httpx.AsyncClient | None = None

    async def check(self, code: Code) -> None:
        """Does the service answer, and has it the handler? Raises HookFailed."""
        if not code.handler:
            return
        url = f"{code.service_url}/_command/discover"
        found = await self._send("", code, url, {}, {}, 10)
        logic = found.body.get("businessLogic") if isinstance(found.body, dict) else None
        handlers = logic.get("handlers", []) if isinstance(logic, dict) else []
        if code.handler not in handlers:
            raise HookFailed(FailureKind.SYNTAX, f"the service has no handler {code.handler}")

    async def run(self, code: Code, call: Call, host: Host) -> Result:
        """Raises HookFailed (REMOTE) for a service that is away, slow or beside the protocol."""
        if not code.handler:
            return await self._run_plain(code, call)
        url = f"{code.service_url}/_flexFunctions/{quote(code.handler, safe='')}"
        headers = _headers(code, call)
        answer = await self._send(call.app_id, code, url, _task(call), headers, call.wall_limit_s)
        return _result(answer, call)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def _run_plain(self, code: Code, call: Call) -> Result:
        """Server code behind a URL (spec kii 11): the parameters in, JSON or nothing out."""
        headers = {"x-request-id": call.request_id, "x-app-id": call.app_id}
        if code.secret:
            headers["x-auth-key"] = code.secret
        task = {"endpoint": call.object_name, "params": call.request.get("body")}
        own = (code, code.service_url, task, headers, call.wall_limit_s)
        answer = await self._send(call.app_id, *own)
        if answer.status >= 300:
            raise HookFailed(FailureKind.REMOTE, f"the endpoint answered {answer.status}")
        return Result(True, call.request, {"status": 200, "headers": {}, "body": answer.body})

    async def _send(
        self,
        app_id: str,
        code: Code,
        url: str,
        body: Json,
        headers: Mapping[str, str],
        limit_s: float,
    ) -> _Answer:
        if not code.service_url:
            problem = "no address is known for the service (mqttpush hooks service set)"
            raise HookFailed(FailureKind.REMOTE, problem)
        place = (app_id, code.service_url)
        breaker = self._breakers.get(place, _Breaker())
        if breaker.failures >= BREAKER_FAILURES and self._clock() < breaker.closed_at:
            raise HookFailed(FailureKind.REMOTE, "the service has failed too often; not asked")
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._exchange(url, body, headers)
        except (TimeoutError, httpx.TimeoutException) as exc:
            self._count_failure(place, breaker)
            raise HookFailed(FailureKind.REMOTE, f"no answer within {limit_s:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
            self._count_failure(place, breaker)
            raise HookFailed(FailureKind.REMOTE, f"no answer: {type(exc).__name__}") from exc
        self._breakers.pop(place, None)
        return answer

    def _count_failure(self, place: tuple[str, str], breaker: _Breaker) -> None:
        self._breakers[place] = breaker
        if len(self._breakers) > BREAKERS_LIMIT:
            del self._breakers[next(iter(self._breakers))]
        breaker.failures += 1
        breaker.closed_at = self._clock() + BREAKER_S

    async def _exchange(self, url: str, body: Json, headers: Mapping[str, str]) -> _Answer:
        client, content = self._client(), orjson.dumps(body)
        if len(content) > CALL_LIMIT_BYTES:
            problem = f"the call has {len(content)} bytes, {CALL_LIMIT_BYTES} are allowed"
            raise HookFailed(FailureKind.VIOLATION, problem)
        sent = {"content-type": "application/json", **headers}
        async with client.stream("POST", url, content=content, headers=sent) as response:
            if response.is_redirect:
                raise HookFailed(FailureKind.REMOTE, "the service redirects")
            chunks: list[bytes] = []
            size_bytes = 0
            async for chunk in response.aiter_raw():
                size_bytes += len(chunk)
                if size_bytes > self._settings.max_result_bytes:
                    limit = f"{self._settings.max_result_bytes} bytes (hooks.max_result_bytes)"
                    raise HookFailed(FailureKind.REMOTE, f"the answer has more than {limit}")
                chunks.append(chunk)
        try:
            value = orjson.loads(b"".join(chunks)) if chunks else None
        except orjson.JSONDecodeError as exc:
            problem = f"the service answered {response.status_code} and no JSON"
            raise HookFailed(FailureKind.REMOTE, problem) from exc
        return _Answer(response.status_code, value)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:  # its TLS context costs 20 ms: not before somebody needs it
            # A compressed answer could unpack to any size: none is asked for, none unpacked.
            self._http = httpx.AsyncClient(
                follow_redirects=False,
                trust_env=False,
                timeout=httpx.Timeout(None, connect=CONNECT_LIMIT_S),
                # Many times what one app may have at once: its slow service holds up no other's.
                limits=httpx.Limits(max_connections=1000, max_keepalive_connections=20),
                headers={"accept-encoding": "identity"},
            )
        return self._http


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: Any


def _task(call: Call) -> Json:
    request = call.request
    body = request.get("body")
    task: Json = {
        "body": {} if body is None else body,
        "hookType": call.hook_type,
        "method": request.get("method", "POST"),
        "query": request.get("params") or {},
        "objectName": call.object_name,
        "tempObjectStore": request.get("tempObjectStore") or {},
        "response": call.response or {"status": 0, "headers": {}, "body": {}},
    }
    if request.get("entityId"):
        task["entityId"] = request["entityId"]
    return task


def _headers(code: Code, call: Call) -> dict[str, str]:
    request, app = call.request, call.app
    metadata = {
        "_id": call.app_id,
        "applicationId": call.app_id,
        "appsecret": app.get("appSecret"),
        "mastersecret": app.get("masterSecret"),
        "blFlags": {},
        "baasUrl": app.get("baasUrl", ""),
    }
    original = dict(request.get("headers") or {})
    properties = request.get("customRequestProperties") or {}
    original[_PROPERTIES] = orjson.dumps(properties).decode()
    headers = {
        "x-kinvey-app-metadata": metadata,
        "x-kinvey-original-request-headers": original,
        "x-auth-key": code.secret,
        "x-kinvey-environment-id": call.app_id,
        "x-kinvey-request-id": call.request_id,
        "x-kinvey-username": request.get("username") or "",
        "x-kinvey-user-id": request.get("userId") or "",
    }
    return {name: _header(value) for name, value in headers.items()}


def _header(value: object) -> str:
    """ASCII only: JSON escapes the rest, a name is percent-encoded."""
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else quote(value)
    text = orjson.dumps(value).decode()
    if text.isascii():
        return text
    return "".join(char if char.isascii() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _result(answer: _Answer, call: Call) -> Result:
    """continue: go on with what the handler changed; else its own answer (spec kinvey 8.8)."""
    value = answer.body
    if not isinstance(value, dict) or not isinstance(value.get("response"), dict):
        problem = f"the service answered {answer.status} and not in the Flex protocol"
        raise HookFailed(FailureKind.REMOTE, problem)
    left, response = value.get("request"), value["response"]
    request = _merged(call.request, left if isinstance(left, dict) else {})
    goes_on = response.get("continue") is True and answer.status < 400
    status = response.get("statusCode")
    if goes_on and call.hook_type == "post":
        status = call.response.get("status")  # `next()` says 200 whatever the request came to
    if not isinstance(status, int) or not 100 <= status <= 599:
        status = answer.status
    headers = call.response.get("headers") or {}
    rendered = {"status": status, "headers": headers, "body": response.get("body", {})}
    return Result(not goes_on, request, rendered)


def _merged(request: Json, left: Json) -> Json:
    """What the handler may change, and what is handed on to the post-hook."""
    merged = dict(request)
    if "body" in left:
        merged["body"] = left["body"]
    query = left.get("query")
    if isinstance(query, dict):
        merged["params"] = {key: _text(value) for key, value in query.items()}
    if isinstance(left.get("tempObjectStore"), dict):
        merged["tempObjectStore"] = left["tempObjectStore"]
    headers = left.get("headers")
    properties = headers.get(_PROPERTIES) if isinstance(headers, dict) else None
    if isinstance(properties, str):
        try:
            properties = orjson.loads(properties)
        except orjson.JSONDecodeError:
            properties = None
    if isinstance(properties, dict):
        merged["customRequestProperties"] = properties
    return merged


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
