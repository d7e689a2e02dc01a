"""WebSocket: a layer of RFC 6455 between a connection's bytes and MQTT's.

Owns the upgrade (any path, sub-protocol, Origin) and what a frame may be; parsing and framing are
picows'. Knows no MQTT packet: frames are a stream of bytes [MQTT-6.0.0-2], packets end where they
like. The one idea: picows is fed from above like any layer, so it runs over TLS and behind the
broker's bounds, and its own timers and loggers stay off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from math import inf
from typing import Any, cast

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows import picows as engine

from mqttpush.config import MqttSettings
from mqttpush.mqtt.handle import Transport
from mqttpush.peers import charged

logger = logging.getLogger(__name__)

SUBPROTOCOLS = ("mqtt", "mqttv3.1")  # [MQTT-6.0.0-3]; the second is Paho's for MQTT 3.1
# picows copies a frame up to this size into its own buffer; for a larger one it lends the loop a
# buffer that it then overwrites, so larger writes are cut into frames.
FRAME_BYTES = 8192
# Why a connection ends that sends more frames than `max_websocket_frames_per_s`.
TOO_MANY_FRAMES = "websocket_frame_rate"
# A peer that has so much of our answers untaken gets no more pongs.
_MAX_UNSENT_FOR_PONG_BYTES = 65_536


class _QuietLogger:
    """picows logs each connection and each hostile frame; only a bug of ours may speak."""

    def isEnabledFor(self, _: int) -> bool:  # noqa: N802 the logging module's name
        return False

    def log(self, *_: object) -> None: ...

    debug = info = warning = error = log

    def exception(self, message: str, *arguments: object) -> None:
        logger.exception(message, *arguments)


_QUIET = _QuietLogger()


class WebSocketLayer(WSListener):
    """WebSocket of one connection: takes its bytes from below, hands MQTT's up, and back."""

    __slots__ = (
        "_clock",
        "_frames_due",
        "_is_binary",
        "_is_ended",
        "_lower",
        "_on_data",
        "_on_end",
        "_protocol",
        "_settings",
    )

    def __init__(
        self,
        lower: Transport,
        *,
        settings: MqttSettings,
        clock: Callable[[], float],
        on_data: Callable[[bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        """on_data: MQTT's bytes; once empty, when the upgrade is done. on_end: the reason."""
        self._clock = clock
        self._frames_due = 0.0
        self._lower = lower
        self._settings = settings
        self._on_data = on_data
        self._on_end = on_end
        self._is_binary = False  # the message in progress is binary
        self._is_ended = False
        self._protocol = cast("Any", engine).WSProtocol(  # not in its type stub
            None,
            None,
            False,  # server side
            self._upgrade,
            _QUIET,
            True,  # disconnect on exception
            None,  # the broker times the handshake
            False,  # no pings of our own: MQTT has its keep-alive
            1,
            1,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # pings are answered here, with a look at what is unsent
            settings.max_packet_bytes,
            None,
            settings.websocket_read_buffer_bytes,
        )
        self._protocol.connection_made(lower)

    def receive(self, data: bytes) -> None:
        """Bytes from below."""
        view = memoryview(data)
        while view and not self._is_ended:
            buffer = self._protocol.get_buffer(-1)
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self._protocol.buffer_updated(size)
            view = view[size:]
            if self._protocol.transport.is_close_frame_sent:  # picows could not read a frame
                self._end("websocket_error")

    def lost(self) -> None:
        """The socket is gone."""
        self._is_ended = True
        self._protocol.connection_lost(None)

    def write(self, data: bytes) -> None:
        send = self._protocol.transport.send
        for start in range(0, len(data), FRAME_BYTES):
            send(WSMsgType.BINARY, data[start : start + FRAME_BYTES])

    def close(self) -> None:
        self._is_ended = True
        self._protocol.transport.send_close(WSCloseCode.OK)
        self._lower.close()

    def abort(self) -> None:
        self._lower.abort()

    def get_write_buffer_size(self) -> int:
        return self._lower.get_write_buffer_size()

    # -- called by picows --

    def on_ws_connected(self, transport: WSTransport) -> None:
        for kept in (transport.request, transport.response):
            kept.headers.clear()  # they would live as long as the connection, 2 KB of them
        self._on_data(b"")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if self._is_ended:
            return
        # Each costs a call, though it may hold a single byte, or none that MQTT would bound.
        rate = self._settings.max_websocket_frames_per_s
        self._frames_due = charged(self._frames_due, rate, self._clock())
        if self._frames_due == inf:
            self._fail(transport, WSCloseCode.POLICY_VIOLATION, TOO_MANY_FRAMES)
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            # No extension was agreed, so there is nothing to decompress (RFC 6455 5.2).
            self._fail(transport, WSCloseCode.PROTOCOL_ERROR)
        elif kind is WSMsgType.BINARY or kind is WSMsgType.CONTINUATION:
            if self._is_binary is (kind is WSMsgType.BINARY):
                self._fail(transport, WSCloseCode.PROTOCOL_ERROR)  # out of turn (RFC 6455 5.4)
                return
            self._is_binary = not frame.fin
            if frame.payload_size:
                self._on_data(frame.get_payload_as_bytes())
        elif kind is WSMsgType.PING:
            if self._lower.get_write_buffer_size() <= _MAX_UNSENT_FOR_PONG_BYTES:
                transport.send_pong(frame.get_payload_as_bytes())
        elif kind is WSMsgType.TEXT:  # [MQTT-6.0.0-1]
            self._fail(transport, WSCloseCode.UNSUPPORTED_DATA)
        elif kind is WSMsgType.CLOSE:
            self._fail(transport, WSCloseCode.OK, "connection_lost")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._is_ended = True

    def _upgrade(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        origin = request.headers.get("Origin")
        allowed = {name.lower().rstrip("/") for name in self._settings.websocket_origins}
        if allowed and origin is not None and origin.lower() not in allowed:
            return _refusal(HTTPStatus.FORBIDDEN, b"this origin may not connect")
        headers = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ()))
        offered = {name.strip() for name in headers.split(",")}
        for name in SUBPROTOCOLS:
            if name in offered:  # [MQTT-6.0.0-3, 6.0.0-4]
                response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": name})
                return WSUpgradeResponseWithListener(response, self)
        return _refusal(HTTPStatus.BAD_REQUEST, b"the sub-protocol must be mqtt or mqttv3.1")

    def _fail(
        self, transport: WSTransport, code: WSCloseCode, reason: str = "websocket_error"
    ) -> None:
        transport.send_close(code)
        self._end(reason)

    def _end(self, reason: str) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._on_end(reason)


def _refusal(status: HTTPStatus, body: bytes) -> WSUpgradeResponseWithListener:
    response = WSUpgradeResponse.create_error_response(status, body)
    return WSUpgradeResponseWithListener(response, None)
