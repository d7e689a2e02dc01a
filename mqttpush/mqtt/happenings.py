"""Happenings: what a connection tells the broker about the bytes it was given.

Knows no socket and no state: plain values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mqttpush.mqtt.packets import Connect


@dataclass(frozen=True, slots=True)
class ConnectReceived:
    """A CONNECT that is well-formed: answer with `admit` or `refuse`."""

    connect: Connect


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A PUBLISH on one of the client's request topics, acknowledged already."""

    mqtt_topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class SubscriptionChanged:
    """The client subscribed to its private topic, or left it: see `is_subscribed`."""


@dataclass(frozen=True, slots=True)
class BoundMet:
    """The client went beyond a bound, and `Closed` follows: `setting` of the section `mqtt`."""

    setting: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over: write the output, then close. `reason` is a short closed word."""

    reason: str


ConnectionEvent = ConnectReceived | RequestReceived | SubscriptionChanged | BoundMet | Closed
NO_EVENTS: Sequence[ConnectionEvent] = ()
