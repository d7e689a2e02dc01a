"""Nouns that only the second dialect has: its settings of an app, its permissions and messages.

Knows no SQL and no wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple


class Permission(StrEnum):
    """What users may do in a collection (spec kinvey 7.3); the values are those of files.

    An entity's own rules widen all of them but `READ_ONLY`, which no user writes to.
    """

    PRIVATE = "private"  # each his own entities
    SHARED = "shared"  # all read, the creator writes
    READ_ONLY = "read-only"
    FULL = "full"  # all read and write


@dataclass(frozen=True, slots=True)
class KinveySettings:
    """What an operator chooses for an app that Kinvey's clients use (spec kinvey).

    api_version: of requests that name none. shares_device_tokens: a token belongs to all who
    registered it, not just to the last one. is_push_strict: no device is registered for a
    network without credentials. are_devices_for_development: those that register are built with
    Apple's development certificate. are_collections_strict: none appears by its first write.
    """

    api_version: int = 3
    shares_device_tokens: bool = False
    is_push_strict: bool = False
    are_devices_for_development: bool = False
    are_collections_strict: bool = False
    is_cors_allowed: bool = True
    is_live_service_on: bool = False
    escapes_templates: bool = True
    shows_master_secret: bool = True  # to hooks and services


@dataclass(frozen=True, slots=True)
class KinveyMessage:
    """What is to be said: a text, or a part for each platform; None skips that platform.

    android: the pairs of `androidPayload`; for a text its form without a framework.
    """

    text: str | None = None
    aps: Mapping[str, Any] | None = None
    extras: Mapping[str, Any] | None = None
    android: Mapping[str, Any] | None = None


class PasswordProof(NamedTuple):
    """A user whose password fitted this hash; as good as a token while the hash is his."""

    user_id: str
    password_hash: str


def kinvey_time(time_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds and `Z` (spec kinvey 7.1)."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"
