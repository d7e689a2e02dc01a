"""The Live Service: registering, following, and the ways to listen (spec kinvey 6).

By MQTT, as the answer of register-realtime says; as server-sent events; and for shipped clients by
long polling as PubNub's subscribe does it (v2), which those clients use once they are told our
host. A stream of frames belongs to a session; the two HTTP ways read the same kind of stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import orjson

from mqttpush.config import LiveSettings
from mqttpush.errors import DomainError, InvalidRequest, NotAuthenticated
from mqttpush.models import Json
from mqttpush.operations.installations import EndpointView
from mqttpush.operations.live import Live, check_device_id
from mqttpush.rest.kinvey import answers
from mqttpush.rest.kinvey.pipeline import USER_COLLECTION
from mqttpush.rest.kinvey.wire import USER_ONLY, USER_OR_MASTER, Gate, names_session, text_of
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

DEVICE_ID_LIMIT: Final = 200
EVENT_STREAM: Final = "text/event-stream"
_SWEEP_FROM: Final = 64


class Frame(Protocol):
    """One message to a client."""

    @property
    def timetoken(self) -> int: ...
    @property
    def channel(self) -> str: ...
    @property
    def message(self) -> bytes: ...
    def json(self) -> bytes: ...


class Stream(Protocol):
    """What waits for one client."""

    @property
    def is_closed(self) -> bool: ...
    @property
    def is_unasked(self) -> bool: ...
    async def next(self, timeout_s: float) -> Sequence[Frame]: ...
    async def after(self, timetoken: int, timeout_s: float) -> Sequence[Frame]: ...
    def begin(self, now: int) -> int: ...
    def close(self) -> None: ...


class Streams(Protocol):
    """Where streams come from, and are given back."""

    def open_stream(self) -> Stream: ...
    def now(self) -> int: ...
    def detach(self, handle: Any) -> None: ...


class MqttAddress(Protocol):
    """Where the MQTT server is. host: empty for "the host you asked"; port 0: listener is off."""

    @property
    def host(self) -> str: ...
    @property
    def tcp_port(self) -> int: ...
    @property
    def tls_port(self) -> int: ...
    @property
    def ws_port(self) -> int: ...
    @property
    def wss_port(self) -> int: ...


class RealtimeRoutes:
    """…/register-realtime, …/_subscribe, /realtime, and PubNub's /v2 and /time."""

    def __init__(
        self,
        gate: Gate,
        live: Live,
        streams: Streams,
        mqtt_address: Callable[[], MqttAddress],
        settings: Callable[[], LiveSettings],
    ) -> None:
        self._gate = gate
        self._live = live
        self._streams = streams
        self._mqtt_address = mqtt_address
        self._settings = settings
        # Of polling clients, between their questions; by app, device and session.
        self._polled: dict[tuple[str, str, str], Stream] = {}
        self._sweep_at = _SWEEP_FROM

    def table(self) -> Iterator[Route]:
        user, collection = "/user/{appKey}/{id}", "/appdata/{appKey}/{collection}"
        presence = "/v2/presence/sub-key/{appKey}/channel/{channels}"
        taken, done = Content(answers.LiveDevice), Content(answers.Nothing)
        given, polled = Content(answers.LiveRegistration), Content(answers.PubNubMessages)
        plain = Content(answers.PubNubDone)
        register = "Register a client of the Live Service"
        yield Route(
            "POST", f"{user}/register-realtime", self.register, register, (200,), taken, given
        )
        forget = "Forget a client of the Live Service"
        yield Route("POST", f"{user}/unregister-realtime", self.unregister, forget, (204,), taken)
        follow, leave = "Follow a collection live", "Stop following a collection"
        yield Route("POST", f"{collection}/_subscribe", self.follow, follow, (200,), taken, done)
        yield Route("POST", f"{collection}/_unsubscribe", self.leave, leave, (200,), taken, done)
        yield Route(
            "GET",
            "/realtime/{appKey}",
            self.listen,
            "Hear what one follows, as server-sent events",
            (200,),
            answer=Content(None, (EVENT_STREAM,)),
            parameters=("deviceId", "authtoken"),
        )
        poll = "Hear what one follows, by long polling as PubNub does it"
        asked = ("tt", "uuid", "auth", "channel-group")
        path = "/v2/subscribe/{appKey}/{channels}/0"
        yield Route("GET", path, self.poll, poll, (200,), answer=polled, parameters=asked)
        here, gone = "Say that one is still there", "Say that one is gone"
        yield Route("GET", f"{presence}/heartbeat", self.beat, here, (200,), answer=plain)
        yield Route("GET", f"{presence}/leave", self.beat, gone, (200,), answer=plain)
        clock = "Time, as PubNub tells it"
        yield Route("GET", "/time/0", self.time, clock, (200,), answer=Content(list[int]))

    async def register(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_ONLY)
        device_id = _device_id(visit.object())
        registered = await self._live.register(
            visit.credentials, request.parameters["id"], device_id
        )
        base = urlsplit(request.base_url)
        app_id = registered.owner.app_id
        fields = {
            "subscribeKey": app_id,
            "publishKey": app_id,
            "userChannelGroup": f"{app_id}.u-{registered.owner.id}",
            # Shipped clients put the whole answer into the configuration of their transport.
            "origin": base.netloc,
            "ssl": base.scheme == "https",
            "mqtt": _endpoint(registered.endpoint, self._mqtt_address(), base.hostname),
        }
        return ApiResponse(200, fields)

    async def unregister(self, request: ApiRequest) -> ApiResponse:
        try:
            visit = await self._gate.enter(request, USER_ONLY)
            device_id = _device_id(visit.object())
            await self._live.unregister(visit.credentials, request.parameters["id"], device_id)
        except NotAuthenticated:
            # Libraries log out at the same time. A session that is over has no clients any more.
            if not names_session(request):
                raise
        return ApiResponse(204)

    async def follow(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        device_id, collection = _device_id(visit.object()), request.parameters["collection"]
        if collection == USER_COLLECTION:
            problem = "users are not followed"
            raise InvalidRequest(problem, code="IndirectCollectionAccessDisallowed")
        await self._live.follow(visit.credentials, collection, device_id)
        token = visit.credentials.token
        if token is not None:
            # A library says that it follows before its transport has asked for the first time:
            # what is written in between waits here.
            key = (visit.app_id, device_id, token)
            if self._open_stream_of(key) is None:
                with suppress(InvalidRequest):  # it is another session that registered, and listens
                    await self._attached(key, device_id, visit.credentials, is_spare=True)
        return ApiResponse(200, {})

    async def leave(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        device_id, collection = _device_id(visit.object()), request.parameters["collection"]
        await self._live.leave(visit.credentials, collection, device_id)
        return ApiResponse(200, {})

    async def listen(self, request: ApiRequest) -> ApiResponse:
        _take_token(request, "authtoken")
        visit = await self._gate.enter(request, USER_ONLY)
        device_id = _device_id(request.query)
        stream = self._streams.open_stream()
        await self._live.attach(visit.credentials, device_id, stream)
        return ApiResponse(
            200,
            content_type=EVENT_STREAM,
            headers={"x-accel-buffering": "no"},  # some proxies would keep frames back
            stream=self._events(stream),
        )

    async def poll(self, request: ApiRequest) -> ApiResponse:
        """tt: the timetoken of the last answer, 0 at first, when the answer comes at once."""
        _take_token(request, "auth")
        timetoken = _timetoken(request.query.get("tt", "0"))
        try:
            visit = await self._gate.enter(request, USER_ONLY)
            name, token = request.query.get("uuid", ""), visit.credentials.token or ""
            stream = await self._polled_by((visit.app_id, name, token), visit.credentials)
        except DomainError:
            refusal = {"status": 403, "error": True, "message": "Forbidden", "service": "Live"}
            return ApiResponse(403, refusal)
        if timetoken == 0:
            timetoken = stream.begin(self._streams.now())
            return ApiResponse(200, _messages(visit.app_id, timetoken, ()))
        frames = await stream.after(timetoken, self._settings().poll_s)
        last = frames[-1].timetoken if frames else timetoken
        return ApiResponse(200, _messages(visit.app_id, last, frames))

    async def beat(self, request: ApiRequest) -> ApiResponse:
        return ApiResponse(200, {"status": 200, "message": "OK", "service": "Presence"})

    async def time(self, request: ApiRequest) -> ApiResponse:
        return ApiResponse(200, [self._streams.now()])

    async def _events(self, stream: Stream) -> AsyncIterator[bytes]:
        try:
            yield b": here you are\n\n"
            while not stream.is_closed:
                frames = await stream.next(self._settings().keep_alive_s)
                if frames:
                    yield b"".join(
                        b"id: %d\ndata: %b\n\n" % (frame.timetoken, frame.json())
                        for frame in frames
                    )
                elif not stream.is_closed:
                    yield b":\n\n"
        finally:
            self._streams.detach(stream)

    async def _polled_by(self, key: tuple[str, str, str], credentials: Any) -> Stream:
        """The stream of who polls by this name.

        Libraries before version 4 do not tell their transport its name, and it makes one up.
        """
        stream = self._open_stream_of(key)
        if stream is not None:
            return stream
        app_id, name, token = key
        check_device_id(name)
        device_id = await self._live.device_of(credentials, name)
        spare = self._open_stream_of((app_id, device_id, token))
        if spare is not None and spare.is_unasked:
            self._polled[key] = spare
            return spare
        return await self._attached(key, device_id, credentials)

    def _open_stream_of(self, key: tuple[str, str, str]) -> Stream | None:
        stream = self._polled.get(key)
        return None if stream is None or stream.is_closed else stream

    async def _attached(
        self, key: tuple[str, str, str], device_id: str, credentials: Any, *, is_spare: bool = False
    ) -> Stream:
        """A new stream of this key; is_spare: a closed one if the client is connected already."""
        stream = self._polled[key] = self._streams.open_stream()
        try:
            await self._live.attach(credentials, device_id, stream, is_spare=is_spare)
        except BaseException:
            stream.close()
            if self._polled.get(key) is stream:
                del self._polled[key]
            raise
        if len(self._polled) >= self._sweep_at:  # each client that comes pays for one that went
            self._polled = {k: each for k, each in self._polled.items() if not each.is_closed}
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._polled))
        return stream


def _device_id(body: Any) -> str:
    device_id = text_of(body, "deviceId", DEVICE_ID_LIMIT, is_required=True)
    assert device_id is not None
    return device_id


def _take_token(request: ApiRequest, name: str) -> None:
    """Browsers cannot send a header with these requests: the token may be in the query."""
    token = request.query.get(name)
    if token and "authorization" not in request.headers:
        request.headers = {**request.headers, "authorization": f"Kinvey {token}"}


def _timetoken(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise InvalidRequest("must be a number", field="tt", code="ParameterValueOutOfRange")
    return int(text)


def _messages(app_id: str, timetoken: int, frames: Sequence[Frame]) -> Json:
    return {
        "t": {"t": str(timetoken), "r": 1},
        "m": [
            {
                "a": "1",
                "f": 0,
                "p": {"t": str(frame.timetoken), "r": 1},
                "k": app_id,
                "c": frame.channel,
                "d": orjson.Fragment(frame.message),
            }
            for frame in frames
        ],
    }


def _endpoint(view: EndpointView, address: MqttAddress, asked_host: str | None) -> Json:
    return {
        "host": address.host or asked_host or "localhost",
        "ports": {
            "tcp": address.tcp_port,
            "tls": address.tls_port,
            "ws": address.ws_port,
            "wss": address.wss_port,
        },
        "topic": view.endpoint.mqtt_topic,
        "username": view.endpoint.username,
        "password": view.password,
    }
