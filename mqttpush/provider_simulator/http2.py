"""HTTP/2 links, on h2: frames to requests, outcomes to frames.

Owns one connection of a client: its streams, flow control, and the ways HTTP/2 can lose a request.
Knows no network. GOAWAY is written beside h2, because h2 takes it for the end of everything, while
a real server goes on answering the streams it has named.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from mqttpush.provider_simulator.faults import Cut
from mqttpush.provider_simulator.http1 import SLOW_PIECES, Receiver, reset
from mqttpush.provider_simulator.provider import Outcome, Reply, Request

BODY_LIMIT_BYTES = 1024 * 1024
CONCURRENT_STREAMS = 1000  # what Apple grants
WINDOW_BYTES = 8 * 1024 * 1024
GOAWAY_LINGER_S = 2.0
SHUTDOWN = b'{"reason":"Shutdown"}'


class _Stream:
    """A request on its way in."""

    __slots__ = ("body", "headers", "is_too_large")

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        self.headers = headers
        self.body = bytearray()
        self.is_too_large = False


class Http2Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, receiver: Receiver, links: set[asyncio.Transport]) -> None:
        self._receiver = receiver
        self._links = links
        # h2's own look at header names costs a third of a request and no provider depends on it.
        self._h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding="utf-8",
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._streams: dict[int, _Stream] = {}
        self._unsent: dict[int, bytes] = {}
        self._peer = ""
        self._last_stream_id: int | None = None  # after GOAWAY: higher ones are not heard

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of another class
        self._links.add(self._transport)
        certificate = transport.get_extra_info("peercert") or {}
        self._peer = certificate.get("serialNumber", "").lower().lstrip("0")
        self._h2.initiate_connection()
        self._h2.update_settings(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: CONCURRENT_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            }
        )
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.discard(self._transport)
        self._streams.clear()
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
            for event in events:
                self._on_event(event)
        except ProtocolError:
            self._flush()  # h2 has written the GOAWAY that says why
            self._transport.close()
            return
        self._flush()

    # --- requests ---

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            if self._last_stream_id is None or event.stream_id <= self._last_stream_id:
                self._streams[event.stream_id] = _Stream(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            self._on_data(event)
        elif isinstance(event, StreamEnded):
            stream = self._streams.pop(event.stream_id, None)
            if stream is not None:
                self._serve(event.stream_id, stream)
        elif isinstance(event, StreamReset):
            self._streams.pop(event.stream_id, None)
            self._unsent.pop(event.stream_id, None)
        elif isinstance(event, WindowUpdated):
            for stream_id in [event.stream_id] if event.stream_id else list(self._unsent):
                self._pump(stream_id)
        elif isinstance(event, TrailersReceived):
            pass

    def _on_data(self, event: DataReceived) -> None:
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        if len(stream.body) + len(event.data) > BODY_LIMIT_BYTES:
            stream.is_too_large = True
        else:
            stream.body += event.data

    def _serve(self, stream_id: int, stream: _Stream) -> None:
        headers = dict(stream.headers)
        repeated: frozenset[str] = frozenset()
        if len(headers) != len(stream.headers):
            names = [name for name, _ in stream.headers]
            repeated = frozenset(name for name in headers if names.count(name) > 1)
        method, path = headers.get(":method", ""), headers.get(":path", "")
        request = Request(method, path, headers, bytes(stream.body), repeated, self._peer)
        outcome = Outcome(Reply(413)) if stream.is_too_large else self._receiver.receive(request)
        if outcome.delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(outcome.delay_s, self._answer_later, stream_id, outcome)
        else:
            self._answer(stream_id, outcome)

    # --- answers ---

    def _answer_later(self, stream_id: int, outcome: Outcome) -> None:
        if not self._transport.is_closing():
            with contextlib.suppress(ProtocolError):  # the client has reset the stream meanwhile
                self._answer(stream_id, outcome)
            self._flush()

    def _answer(self, stream_id: int, outcome: Outcome) -> None:
        cut = outcome.cut
        if cut is None or cut is Cut.GOAWAY:
            self._send(stream_id, outcome)
            if cut is not None:
                self._say_goodbye(stream_id)
        elif cut is Cut.REFUSED_STREAM:
            self._h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        elif cut is Cut.RST_STREAM:
            self._h2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        elif cut is Cut.GOAWAY_ABRUPT:
            self._flush()
            frame = GoAwayFrame(0, max(0, stream_id - 2), ErrorCodes.NO_ERROR, SHUTDOWN)
            self._transport.write(frame.serialize())
            self._transport.close()
        else:
            reset(self._transport)

    def _send(self, stream_id: int, outcome: Outcome) -> None:
        reply = outcome.reply
        headers = [(":status", str(reply.status)), *reply.headers]
        if outcome.slow_body_s:
            self._h2.send_headers(stream_id, headers)
            self._trickle(stream_id, outcome)
        elif reply.body:
            self._h2.send_headers(stream_id, headers)
            self._unsent[stream_id] = reply.body
            self._pump(stream_id)
        else:
            self._h2.send_headers(stream_id, headers, end_stream=True)

    def _pump(self, stream_id: int) -> None:
        """Send what the client's window has room for."""
        body = self._unsent.get(stream_id)
        while body is not None:
            window = self._h2.local_flow_control_window(stream_id)
            size = min(len(body), window, self._h2.max_outbound_frame_size)
            if size <= 0:
                return
            piece, body = body[:size], body[size:]
            self._h2.send_data(stream_id, piece, end_stream=not body)
            if not body:
                del self._unsent[stream_id]
                return
            self._unsent[stream_id] = body

    def _trickle(self, stream_id: int, outcome: Outcome) -> None:
        body = outcome.reply.body
        step = max(1, -(-len(body) // SLOW_PIECES))
        pieces = [body[at : at + step] for at in range(0, len(body), step)] or [b""]
        pause_s = outcome.slow_body_s / len(pieces)

        def send_next() -> None:
            if self._transport.is_closing():
                return
            piece = pieces.pop(0)
            try:
                self._h2.send_data(stream_id, piece, end_stream=not pieces)
            except ProtocolError:  # the client has reset the stream meanwhile
                return
            self._flush()
            if pieces:
                asyncio.get_running_loop().call_later(pause_s, send_next)

        asyncio.get_running_loop().call_later(pause_s, send_next)

    def _say_goodbye(self, stream_id: int) -> None:
        """GOAWAY; streams up to this one are answered, later ones were not heard."""
        self._flush()
        self._last_stream_id = stream_id
        frame = GoAwayFrame(0, stream_id, ErrorCodes.NO_ERROR, SHUTDOWN)
        self._transport.write(frame.serialize())
        # Closing at once would reset what the client has sent meanwhile, and lose the GOAWAY.
        asyncio.get_running_loop().call_later(GOAWAY_LINGER_S, self._transport.close)

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._transport.write(data)
