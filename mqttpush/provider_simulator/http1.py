"""HTTP/1.1 links: bytes to requests, outcomes to bytes.

Owns one connection of a client. Knows no network: what a request means is its provider's business.
Parsing is httptools', as in uvicorn; a server of our own because a web framework cannot reset a
connection, answer half a body or keep silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from mqttpush.provider_simulator.faults import Cut
from mqttpush.provider_simulator.provider import Outcome, Reply, Request

BODY_LIMIT_BYTES = 64 * 1024 * 1024  # the control interface takes lists of 100,000 tokens
SLOW_PIECES = 20
PIECE_BYTES = 65_536
RESETS_BEFORE = frozenset({Cut.RESET_BEFORE, Cut.GOAWAY_ABRUPT, Cut.REFUSED_STREAM})
RESETS = RESETS_BEFORE | {Cut.RESET_AFTER, Cut.RST_STREAM}
# A linger of no time makes close() send RST.
NO_LINGER = struct.pack("ii", 1, 0)
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Receiver(Protocol):
    """What a link hands requests to."""

    def receive(self, request: Request) -> Outcome: ...


def reset(transport: asyncio.Transport) -> None:
    """End a connection with a TCP reset."""
    link = transport.get_extra_info("socket")
    if link is not None:
        with contextlib.suppress(OSError):  # it may have ended by itself
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()


class Http1Link(asyncio.Protocol):
    """One connection. Requests are answered in their order, one at a time."""

    def __init__(self, receiver: Receiver, links: set[asyncio.Transport]) -> None:
        self._receiver = receiver
        self._links = links
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size_bytes = 0
        self._waiting: deque[Request] = deque()
        self._is_busy = False
        self._is_last = False
        self._unsent: memoryview | None = None

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of another class
        self._links.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.discard(self._transport)
        self._unsent = None

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._is_last = True
            self._write(Reply(400, b"malformed request"))

    def resume_writing(self) -> None:
        self._pump()

    # --- httptools ---

    def on_message_begin(self) -> None:
        self._headers = {}
        self._body = []
        self._size_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if "100-continue" in self._headers.get("expect", ""):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size_bytes += len(body)
        if self._size_bytes > BODY_LIMIT_BYTES:
            self._transport.abort()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        request = Request(
            self._parser.get_method().decode(),
            self._path.decode("latin-1"),
            self._headers,
            b"".join(self._body),
        )
        self._path = b""
        self._is_last = self._is_last or not self._parser.should_keep_alive()
        if self._is_busy:
            self._waiting.append(request)
        else:
            self._serve(request)

    # --- answering ---

    def _serve(self, request: Request) -> None:
        self._is_busy = True
        outcome = self._receiver.receive(request)
        if outcome.later is not None:
            outcome.later.add_done_callback(self._answer_found)
        elif outcome.delay_s:
            asyncio.get_running_loop().call_later(outcome.delay_s, self._answer, outcome)
        else:
            self._answer(outcome)

    def _answer_found(self, found: asyncio.Future[Reply]) -> None:
        if not found.cancelled():
            self._answer(Outcome(found.result()))

    def _answer(self, outcome: Outcome) -> None:
        if self._transport.is_closing():
            return
        if outcome.cut in RESETS:
            reset(self._transport)
            return
        if outcome.cut is Cut.GOAWAY:
            self._is_last = True
        if outcome.slow_body_s:
            self._trickle(outcome)
        else:
            self._write(outcome.reply)

    def _write(self, reply: Reply) -> None:
        head = self._head(reply)
        if len(reply.body) <= PIECE_BYTES:
            self._transport.write(head + reply.body)
            self._done()
            return
        self._transport.write(head)
        self._unsent = memoryview(reply.body)
        self._pump()

    def _head(self, reply: Reply) -> bytes:
        lines = [STATUS_LINES.get(reply.status, b"HTTP/1.1 %d Unknown\r\n" % reply.status)]
        lines += [f"{name}: {value}\r\n".encode("latin-1") for name, value in reply.headers]
        if self._is_last:
            lines.append(b"connection: close\r\n")
        lines.append(b"content-length: %d\r\n\r\n" % len(reply.body))
        return b"".join(lines)

    def _pump(self) -> None:
        """Write a huge body as fast as it is read, holding a piece or two."""
        while self._unsent is not None and self._transport.get_write_buffer_size() < PIECE_BYTES:
            piece, self._unsent = self._unsent[:PIECE_BYTES], self._unsent[PIECE_BYTES:]
            self._transport.write(piece)
            if not self._unsent:
                self._unsent = None
                self._done()

    def _trickle(self, outcome: Outcome) -> None:
        reply = outcome.reply if outcome.reply.body else outcome.reply._replace(body=b" ")
        self._transport.write(self._head(reply))
        step = max(1, -(-len(reply.body) // SLOW_PIECES))
        pieces = [reply.body[at : at + step] for at in range(0, len(reply.body), step)]
        pause_s = outcome.slow_body_s / len(pieces)

        def send_next() -> None:
            if self._transport.is_closing():
                return
            self._transport.write(pieces.pop(0))
            if pieces:
                asyncio.get_running_loop().call_later(pause_s, send_next)
            else:
                self._done()

        asyncio.get_running_loop().call_later(pause_s, send_next)

    def _done(self) -> None:
        self._is_busy = False
        if self._is_last and not self._waiting:
            self._transport.close()
        elif self._waiting:
            self._serve(self._waiting.popleft())
