"""What a person reads when the server is ready: addresses, and commands to paste."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Any

LISTENER_NAMES = {
    "http": "REST API",
    "mqtt_tcp": "MQTT",
    "mqtt_tls": "MQTT over TLS",
    "mqtt_ws": "MQTT over WebSocket",
    "mqtt_wss": "MQTT over WebSocket, TLS",
}


def welcome(ready: Mapping[str, Any]) -> str:
    """The text for a `ready` announcement of the server."""
    return ""


def _quoted(text: str) -> str:
    return shlex.quote(text)


PYTHON = sys.executable
