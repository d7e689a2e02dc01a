"""The interface of `umqtt.simple` on sockets of CPython: blocking, QoS 0, MQTT 3.1.1."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable

_Callback = Callable[[bytes, bytes], object]


class MQTTClient:
    """All strings are bytes, and a callback gets (topic, payload)."""

    def __init__(
        self,
        client_id: bytes,
        server: str,
        port: int,
        user: bytes,
        password: bytes,
        keepalive: int = 0,
    ) -> None:
        self._hello = (client_id, user, password)
        self._address = (server, port)
        self._keepalive = keepalive
        self._callback: _Callback = lambda topic, payload: None

    def set_callback(self, callback: _Callback) -> None:
        self._callback = callback

    def connect(self) -> None:
        self._socket = socket.create_connection(self._address)
        head = b"\0\4MQTT\4\xc2" + struct.pack("!H", self._keepalive)
        self._send(0x10, head + b"".join(map(_text, self._hello)))
        answer = self._read(4)
        if answer != b"\x20\x02\0\0":
            raise OSError(answer[3])

    def disconnect(self) -> None:
        self._send(0xE0, b"")
        self._socket.close()

    def ping(self) -> None:
        self._send(0xC0, b"")

    def publish(self, topic: bytes, msg: bytes) -> None:
        self._send(0x30, _text(topic) + msg)

    def subscribe(self, topic: bytes) -> None:
        self._send(0x82, b"\0\1" + _text(topic) + b"\0")
        while self.wait_msg() != 0x90:
            pass

    def check_msg(self) -> int | None:
        return self.wait_msg() if select.select([self._socket], [], [], 0)[0] else None

    def wait_msg(self) -> int:
        kind, length, shift = self._read(1)[0], 0, 0
        while (digit := self._read(1)[0]) & 0x80:
            length, shift = length | (digit & 0x7F) << shift, shift + 7
        body = self._read(length | digit << shift)
        if kind == 0x30:
            end = 2 + int.from_bytes(body[:2], "big")
            self._callback(body[2:end], body[end:])
        return kind

    def _send(self, kind: int, body: bytes) -> None:
        length, size = b"", len(body)
        while size > 0x7F:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        self._socket.sendall(bytes([kind]) + length + bytes([size]) + body)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise OSError(-1)
            data += chunk
        return data


def _text(value: bytes) -> bytes:
    return struct.pack("!H", len(value)) + value
