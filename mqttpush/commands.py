"""Nouns of commands: what somebody asks a thing to do (spec kii 10.6).

Knows no SQL, HTTP or MQTT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mqttpush.models import Owner


class CommandState(StrEnum):
    """Where a command stands (spec kii 10.6); the values are the wire's."""

    SENDING = "SENDING"
    SEND_FAILED = "SEND_FAILED"
    INCOMPLETE = "INCOMPLETE"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody asks a thing to do. issuer: a subject. body: what the thing gets.

    deadline_ms: until when an unreachable thing is waited for; `NEVER_MS` once it has the command.
    """

    command_id: str
    thing: Owner
    issuer: str
    state: CommandState
    body: Mapping[str, Any]
    results: Sequence[Any]
    created_ms: int
    modified_ms: int
    deadline_ms: int
