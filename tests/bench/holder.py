"""Connections that only stay open, over any of the four transports, for measuring memory.

Owns its client side of TLS and WebSocket, which the C load generator does not speak. Knows no case.
It is slow and large itself, which does not matter: only the server is looked at. Reads devices from
a file (client ID, user name, password, topic), prints one line when all are subscribed, and holds
them until standard input ends.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
import sys
from pathlib import Path

import uvloop

KINDS = ("tcp", "tls", "ws", "wss")
AT_ONCE = 32
KEEP_ALIVE_S = 3600
# Any key does: the server must only transform it (RFC 6455, 4.2.2).
UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)


class Link:
    """One connection: whole MQTT packets in, whole MQTT packets out."""

    def __init__(self, kind: str, port: int) -> None:
        self._kind = kind
        self._port = port

    async def open(self) -> None:
        """Connect through every layer below MQTT."""
        context = None
        if self._kind in ("tls", "wss"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False  # the server's certificate is self-signed
            context.verify_mode = ssl.CERT_NONE
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=context
        )
        if self._kind in ("ws", "wss"):
            self._writer.write(UPGRADE)
            answer = await self._reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in answer.split(b"\r\n", 1)[0]:
                raise ConnectionError(answer)

    async def ask(self, packet: bytes) -> bytes:
        """Send one packet and return the short one that answers it."""
        if self._kind in ("tcp", "tls"):
            self._writer.write(packet)
            head = await self._reader.readexactly(2)
            return head + await self._reader.readexactly(head[1])
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(packet))
        length = (
            bytes((0x80 | len(packet),))
            if len(packet) < 126
            else struct.pack("!BH", 254, len(packet))
        )
        self._writer.write(b"\x82" + length + mask + masked)
        head = await self._reader.readexactly(2)
        return await self._reader.readexactly(head[1])


def text(value: str) -> bytes:
    """A string as MQTT writes it."""
    return struct.pack("!H", len(value)) + value.encode()


def packet(first_byte: int, body: bytes) -> bytes:
    """A packet of less than 16 KiB."""
    size = len(body)
    return bytes((first_byte, *((size,) if size < 128 else (size % 128 | 128, size // 128)))) + body


async def hold(kind: str, port: int, line: str, turn: asyncio.Semaphore) -> Link:
    """Open one connection and subscribe."""
    client_id, username, password, mqtt_topic = line.split("\t")
    link = Link(kind, port)
    async with turn:
        await link.open()
        connect = text("MQTT") + struct.pack("!BBH", 4, 0xC2, KEEP_ALIVE_S)
        connect += text(client_id) + text(username) + text(password)
        connack = await link.ask(packet(0x10, connect))
        if connack != b"\x20\x02\0\0":
            raise ConnectionError(connack)
        suback = await link.ask(packet(0x82, b"\0\1" + text(mqtt_topic) + b"\0"))
        if suback != b"\x90\x03\0\1\0":
            raise ConnectionError(suback)
    return link


async def main(kind: str, port: int, lines: list[str]) -> None:
    """Open all, say so, wait."""
    turn = asyncio.Semaphore(AT_ONCE)
    links = await asyncio.gather(*(hold(kind, port, line, turn) for line in lines))
    print(len(links), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_text().splitlines()))
