"""HTTP services as hooks: the Flex protocol, and services that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mqttpush.config import HookSettings
from mqttpush.hooks import Call, Code, FailureKind, HookFailed, Language, Result
from mqttpush.hooks.flex import BREAKER_FAILURES, BREAKER_S, FlexRunner
from tests.hooks.support import RecordingHost, call_of, in_thread

SETTINGS = HookSettings(max_result_bytes=100_000)
HUNDRED_MIB = 100 * 1024 * 1024


class Handler(BaseHTTPRequestHandler):
    """Answers by the name of the handler in the path."""

    server: Service

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        self.server.received.append((self.path, dict(self.headers), self.rfile.read(size)))
        task = json.loads(self.server.received[-1][2])
        name = self.path.rpartition("/")[2]
        if name == "discover":
            self._answer(200, {"businessLogic": {"handlers": ["change"]}})
        elif name == "change":
            request = {"body": {**task["body"], "changed": True}, "tempObjectStore": {"a": 1}}
            request["headers"] = {"x-kinvey-custom-request-properties": '{"k": 2}'}
            response = {"continue": True, "statusCode": 200, "body": {"told": task["hookType"]}}
            self._answer(200, {"request": request, "response": response})
        elif name == "done":
            response = {"continue": False, "statusCode": 201, "body": {"id": "x"}}
            self._answer(201, {"request": {}, "response": response})
        elif name == "refuse":
            body = {"error": "BadRequest", "description": "no", "debug": {}}
            response = {"continue": False, "statusCode": 400, "body": body}
            self._answer(400, {"request": {}, "response": response})
        elif name == "redirect":
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name == "slow":
            self.server.released.wait(10)
            self._answer(200, {})
        else:
            self._misbehave(name)

    def _misbehave(self, name: str) -> None:
        if name == "endless":
            self.send_response(200)
            self.send_header("Content-Length", str(HUNDRED_MIB))
            self.end_headers()
            block = b"x" * 65536
            try:
                for _ in range(HUNDRED_MIB // len(block)):
                    self.wfile.write(block)
                    self.server.sent_bytes += len(block)
            except OSError:
                self.close_connection = True
        elif name == "bomb":
            data = gzip.compress(b" " * 10_000_000)
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        elif name == "text":
            self._answer(200, b"<html>")
        elif name == "list":
            self._answer(200, [])
        else:
            self._answer(500, {"error": "InternalError"})

    def _answer(self, status: int, value: object) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class Service(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        self.sent_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def service() -> Iterator[Service]:
    with in_thread(Service()) as server:
        yield server
        server.released.set()


def code_of(service_url: str, handler: str) -> Code:
    return Code(
        Language.FLEX, "onPreSave", service_url=service_url, handler=handler, secret="shared"
    )


def run(url: str, handler: str, call: Call) -> Result:
    async def work() -> Result:
        runner = FlexRunner(SETTINGS, clock=time.monotonic)
        try:
            return await runner.run(code_of(url, handler), call, RecordingHost())
        finally:
            await runner.close()

    return asyncio.run(work())


def failure(url: str, handler: str, wall_limit_s: float = 5.0) -> HookFailed:
    with pytest.raises(HookFailed) as caught:
        run(url, handler, call_of(wall_limit_s=wall_limit_s))
    assert caught.value.kind is FailureKind.REMOTE
    return caught.value


def test_next_goes_on_with_what_the_handler_changed(service: Service) -> None:
    result = run(service.url, "change", call_of(body={"name": "Joe"}))
    assert not result.is_final
    assert result.request["body"] == {"name": "Joe", "changed": True}
    assert result.request["tempObjectStore"] == {"a": 1}
    assert result.request["customRequestProperties"] == {"k": 2}


def test_next_of_a_post_hook_keeps_the_status_of_the_request(service: Service) -> None:
    result = run(service.url, "change", call_of("post"))
    assert (result.is_final, result.response["status"]) == (False, 201)
    assert result.response["body"] == {"told": "post"}


def test_done_ends_the_request_with_its_status_and_body(service: Service) -> None:
    result = run(service.url, "done", call_of())
    assert result.is_final
    assert (result.response["status"], result.response["body"]) == (201, {"id": "x"})


def test_an_error_of_the_handler_is_the_answer(service: Service) -> None:
    result = run(service.url, "refuse", call_of())
    assert result.is_final
    assert result.response["status"] == 400
    assert result.response["body"]["error"] == "BadRequest"


def test_a_call_has_the_headers_of_the_protocol(service: Service) -> None:
    call = call_of(username="Jörg", userId="u1", headers={"authorization": "Kinvey t"})
    run(service.url, "change", call)
    path, headers, body = service.received[0]
    assert path == "/_flexFunctions/change"
    metadata = json.loads(headers["x-kinvey-app-metadata"])
    assert (metadata["_id"], metadata["mastersecret"], metadata["baasUrl"]) == (
        "app",
        "m",
        "http://x",
    )
    assert headers["x-auth-key"] == "shared"
    assert headers["x-kinvey-username"] == "J%C3%B6rg"
    assert headers["x-kinvey-user-id"] == "u1"
    original = json.loads(headers["x-kinvey-original-request-headers"])
    assert original["authorization"] == "Kinvey t"
    task = json.loads(body)
    assert (task["hookType"], task["objectName"], task["method"]) == ("pre", "scores", "POST")


@pytest.mark.parametrize("handler", ["redirect", "text", "list", "bomb", "unknown"])
def test_what_is_not_the_protocol_is_a_failure(handler: str, service: Service) -> None:
    started = time.monotonic()
    failure(service.url, handler)
    assert time.monotonic() - started < 2


def test_a_service_that_is_down_fails_fast() -> None:
    started = time.monotonic()
    failure("http://127.0.0.1:1", "change")
    assert time.monotonic() - started < 2


def test_a_service_without_an_address_fails() -> None:
    failure("", "change")


def test_a_slow_service_is_given_up_at_the_limit(service: Service) -> None:
    started = time.monotonic()
    failure(service.url, "slow", wall_limit_s=0.2)
    assert time.monotonic() - started < 1


def test_an_endless_answer_is_cut_off(service: Service) -> None:
    assert "max_result_bytes" in failure(service.url, "endless").debug
    assert service.sent_bytes < HUNDRED_MIB / 4


def test_a_service_that_keeps_failing_is_left_alone_for_a_while() -> None:
    now_s = 0.0

    async def work() -> None:
        nonlocal now_s
        runner = FlexRunner(SETTINGS, clock=lambda: now_s)
        code = code_of("http://127.0.0.1:1", "change")

        async def debug() -> str:
            with pytest.raises(HookFailed) as caught:
                await runner.run(code, call_of(), RecordingHost())
            return caught.value.debug

        for _ in range(BREAKER_FAILURES):
            assert "not asked" not in await debug()
        assert "not asked" in await debug()
        now_s += BREAKER_S
        assert "not asked" not in await debug()
        await runner.close()

    asyncio.run(work())


def test_one_apps_failures_do_not_close_a_service_for_another() -> None:
    async def work() -> None:
        runner = FlexRunner(SETTINGS, clock=lambda: 0.0)
        code = code_of("http://127.0.0.1:1", "change")

        async def debug(app_id: str) -> str:
            with pytest.raises(HookFailed) as caught:
                await runner.run(code, replace(call_of(), app_id=app_id), RecordingHost())
            return caught.value.debug

        for _ in range(BREAKER_FAILURES + 1):
            told = await debug("unlucky")
        assert "not asked" in told
        assert "not asked" not in await debug("other")
        await runner.close()

    asyncio.run(work())


@pytest.mark.parametrize("url", ["http://xn--/", "http://[::1", "http:///x", "x:"])
def test_an_address_that_is_none_fails(url: str) -> None:
    failure(url, "change")


def test_a_call_larger_than_services_take_is_not_sent(service: Service) -> None:
    body = {"entities": ["x" * 1_000_000] * 27}
    with pytest.raises(HookFailed) as caught:
        run(service.url, "change", call_of(body=body))
    assert caught.value.kind is FailureKind.VIOLATION
    assert not service.received


def test_check_asks_which_handlers_there_are(service: Service) -> None:
    async def work() -> None:
        runner = FlexRunner(SETTINGS, clock=time.monotonic)
        await runner.check(code_of(service.url, "change"))
        with pytest.raises(HookFailed):
            await runner.check(code_of(service.url, "missing"))
        await runner.close()

    asyncio.run(work())
