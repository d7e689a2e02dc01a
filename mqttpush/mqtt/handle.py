"""Handles: what the broker, and through it the router, holds of one network link.

Owns nothing but the fields; `broker.py` and `fan_out.py` write them. Knows no socket: a `Transport`
is whatever takes bytes, be it TCP, TLS or WebSocket.
"""

from __future__ import annotations

from math import inf
from typing import Protocol

from mqttpush.mqtt.connection import Connection, State
from mqttpush.mqtt.outbox import Backlog, Push, Variant


class Transport(Protocol):
    """The part of `asyncio.Transport` that is used here."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        """Write what is left, then close."""
        ...

    def abort(self) -> None: ...

    def get_write_buffer_size(self) -> int: ...


class Handle:
    """One network link; compared by identity, opaque to everybody outside `mqtt/`."""

    __slots__ = (
        "address",
        "app_id",
        "backlog",
        "connection",
        "is_admitted",
        "is_paused",
        "outbox",
        "room",
        "stage",
        "stage_deadline",
        "topic_name",
        "transport",
        "unsent_bytes",
        "variant",
        "wheel_slice",
    )

    def __init__(self, connection: Connection, transport: Transport, address: str) -> None:
        self.address = address
        self.app_id = ""
        self.backlog: Backlog | None = None  # only while the socket takes nothing
        self.connection = connection
        self.is_admitted = False  # authenticated, and `on_closed` is still due
        self.is_paused = False
        self.outbox: list[Push] = []  # written at the end of the tick
        # The largest payload the fast path may append; -1 sends every push the slow way round: not
        # subscribed, paused, or closed.
        self.room = -1
        self.stage = ""  # the setting that bounds the time until `stage_deadline`
        self.stage_deadline = inf
        self.topic_name = b""  # the bytes of the private topic that stand in each packet
        self.transport = transport
        self.unsent_bytes = 0  # of a slow reader, when last looked at
        self.variant: Variant | None = None
        self.wheel_slice = -1

    def deadline(self) -> float:
        """When the broker must act on this link."""
        connection = self.connection
        if connection.state is State.OPEN:
            until = min(connection.keep_alive_deadline(), self.stage_deadline)
            return min(until, connection.packet_deadline)
        return self.stage_deadline
