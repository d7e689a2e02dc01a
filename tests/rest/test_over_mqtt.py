"""Frames of requests over MQTT: whatever comes is a request or InvalidRequest (spec kii 10.3)."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.config import HttpSettings
from mqttpush.errors import InvalidRequest
from mqttpush.metrics import Metrics
from mqttpush.rest.admission import HttpAdmission
from mqttpush.rest.app import Application
from mqttpush.rest.kii.errors import render_error
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.over_mqtt import (
    HEAD_LIMIT_BYTES,
    ONBOARDING_QUEUE_LIMIT_REQUESTS,
    QUEUE_LIMIT_REQUESTS,
    REQUEST_ID_LIMIT,
    MqttRequest,
    RequestTopics,
    parse_frame,
    render_frame,
)
from mqttpush.rest.routing import Edge, Route
from tests.support.loop import in_loop
from tests.support.things import Answer, frame, read_answer

METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
# What may stand in a header's value: printable, not blank at its ends.
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
LINE_ENDS = st.sampled_from(["\r\n", "\n"])
COLONS = st.sampled_from([":", ": ", ":  "])
BODIES = st.dictionaries(st.text(), st.text() | st.integers() | st.none()).map(
    lambda fields: json.dumps(fields, indent=2).encode()
)


def head_lines(method: str, headers: dict[str, str], colon: str) -> list[str]:
    return [method, *(f"{name}{colon}{value}" for name, value in headers.items()), "", ""]


@pytest.mark.spec("kii 10.3")
@given(METHODS, st.dictionaries(NAMES, VALUES), LINE_ENDS, COLONS, BODIES, LINE_ENDS | st.just(""))
def test_every_spelling_of_a_request_is_read_alike(
    method: str, headers: dict[str, str], end: str, colon: str, body: bytes, after: str
) -> None:
    payload = end.join(head_lines(method, headers, colon)).encode() + body + after.encode()
    expected = {name.lower(): value for name, value in headers.items()}
    assert parse_frame(payload) == (method, expected, body)


@pytest.mark.spec("kii 10.3")
@given(
    st.binary() | st.builds(lambda head, rest: head + rest, METHODS.map(str.encode), st.binary())
)
def test_any_bytes_are_a_request_or_invalid(payload: bytes) -> None:
    try:
        method, headers, body = parse_frame(payload)
    except InvalidRequest:
        return
    assert method.isupper()
    assert all(name == name.strip().lower() and name for name in headers)
    assert all(value.isprintable() for value in headers.values())
    assert len(body) <= len(payload)


@pytest.mark.spec("kii 10.3")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\r\n\r\n",
        b"{}",
        b"FETCH\r\n\r\n",
        b"GET /thing-if/apps HTTP/1.1\r\n\r\n",
        b"GET\r\nno colon\r\n\r\n",
        b"GET\r\n: no name\r\n\r\n",
        b"GET\r\nX: \xff\r\n\r\n",
        b"GET\r\nX: a\rY: b\r\n\r\n",
        b"GET\r\nX: a\0b\r\n\r\n",
        b"GET\r\nX: " + b"x" * HEAD_LIMIT_BYTES + b"\r\n\r\n",
        b"G" * HEAD_LIMIT_BYTES * 2,
    ],
    ids=lambda payload: repr(payload[:24]),
)
def test_a_broken_frame_is_told(payload: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_frame(payload)


@pytest.mark.spec("kii 10.4")
@given(st.integers(200, 599), VALUES, st.dictionaries(st.text(), st.text() | st.booleans()))
def test_an_answer_is_read_as_it_was_meant(
    status: int, request_id: str, body: dict[str, object]
) -> None:
    answer = ApiResponse(status, body, "application/vnd.kii.X+json", {"location": "http://a/b"})
    payload = render_frame(answer, request_id)
    assert payload.startswith(b"%d\r\n" % status)
    read = read_answer("t", payload)
    headers = {"content-type": "application/vnd.kii.X+json", "location": "http://a/b"}
    if request_id:
        headers["x-kii-requestid"] = request_id
    assert read == Answer("t", status, headers, read.body)
    assert read.json() == body
    assert read.body.splitlines()[0] == (b"{" if body else b"{}")


@pytest.mark.spec("kii 10.4")
def test_an_answer_without_body_ends_with_its_blank_line() -> None:
    assert render_frame(ApiResponse(204), "7") == b"204\r\nX-Kii-RequestID:7\r\n\r\n"


class Desk:
    """Request topics over an application of one slow route: it answers when `free` says so."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(0)
        self.running: list[str] = []
        self.answers: asyncio.Queue[tuple[str, Answer]] = asyncio.Queue()
        route = Route("POST", "/thing-if/apps/{appID}/onboardings", self._work, "Wait")
        application = Application(
            routes=[route],
            edges=(Edge(render_error),),
            settings=HttpSettings(),
            metrics=Metrics(),
            admission=HttpAdmission(HttpSettings(), Metrics(), clock=lambda: 0.0),
            check_ready=self._nothing,
        )
        self.topics = RequestTopics(
            application=application,
            respond=lambda connection, mqtt_topic, payload: self.answers.put_nowait(
                (connection, read_answer(mqtt_topic, payload))
            ),
            base_url=lambda: "http://localhost",
            max_body_bytes=lambda: 100,
            max_json_depth=lambda: 64,
        )

    def ask(self, connection: str, request_id: str, *, is_onboarding: bool = False) -> None:
        self.publish(connection, frame("POST", {"X-Kii-RequestID": request_id}), is_onboarding)

    def publish(self, connection: str, payload: bytes, is_onboarding: bool = False) -> None:
        mqtt_topic = "p/me/thing-if/apps/a/onboardings"
        request = MqttRequest(connection, "me", "a", "::1", is_onboarding, mqtt_topic, payload)
        self.topics.receive(request)

    async def next(self) -> tuple[str, int, str]:
        """(connection, status, request ID) of the next answer."""
        connection, answer = await self.answers.get()
        return connection, answer.status, answer.request_id

    async def _work(self, request: ApiRequest) -> ApiResponse:
        self.running.append(request.headers["x-kii-requestid"])
        await self.free.acquire()
        return ApiResponse(200)

    async def _nothing(self) -> None: ...


@in_loop
async def test_requests_of_one_connection_run_one_after_the_other() -> None:
    desk = Desk()
    for number in range(5):
        desk.ask("one", str(number))
    for number in range(5):
        desk.free.release()
        assert await desk.next() == ("one", 200, str(number))
        assert desk.running[: number + 1] == [str(each) for each in range(number + 1)]
        assert len(desk.running) <= number + 2
    await desk.topics.stop()


@in_loop
async def test_requests_of_different_connections_run_side_by_side() -> None:
    desk = Desk()
    for connection in "abc":
        desk.ask(connection, connection)
    desk.free.release()
    first = await desk.next()
    assert sorted(desk.running) == ["a", "b", "c"]
    for _ in range(2):
        desk.free.release()
    rest = [await desk.next() for _ in range(2)]
    assert {first, *rest} == {(each, 200, each) for each in "abc"}
    await desk.topics.stop()


@pytest.mark.parametrize("is_onboarding", [False, True])
def test_who_asks_faster_than_he_is_answered_is_told(is_onboarding: bool) -> None:
    @in_loop
    async def flood() -> None:
        desk = Desk()
        limit = ONBOARDING_QUEUE_LIMIT_REQUESTS if is_onboarding else QUEUE_LIMIT_REQUESTS
        for number in range(limit + 3):
            desk.ask("one", str(number), is_onboarding=is_onboarding)
        for number in range(limit, limit + 3):
            assert await desk.next() == ("one", 429, str(number))
        for number in range(limit):
            desk.free.release()
            assert await desk.next() == ("one", 200, str(number))
        desk.free.release()
        desk.ask("one", "later", is_onboarding=is_onboarding)
        assert await desk.next() == ("one", 200, "later")
        await desk.topics.stop()

    flood()


@in_loop
async def test_a_request_id_is_echoed_whatever_is_wrong_with_the_request() -> None:
    desk = Desk()
    desk.publish("one", frame("POST", {"X-Kii-RequestID": "7"}, b"x" * 101))
    assert await desk.next() == ("one", 413, "7")
    desk.publish("one", frame("DELETE", {"X-Kii-RequestID": "8"}))
    assert await desk.next() == ("one", 405, "8")
    desk.publish("one", frame("POST", {"X-Kii-RequestID": "9" * (REQUEST_ID_LIMIT + 1)}))
    assert await desk.next() == ("one", 400, "")
    await desk.topics.stop()
