"""Nouns of object bodies: the body of an object, its public address, one in parts, one part.

Knows no SQL, HTTP or file. A *blob* is the store's name of some bytes, a new one at each write, so
it tells two bodies apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes that belong to an object. modified_ms: when they became its body."""

    blob: str
    content_type: str
    size_bytes: int
    modified_ms: int


@dataclass(frozen=True, slots=True)
class Publication:
    """An address under which anybody may read the body of an object, whatever it is by then."""

    publication_id: str
    source_key: int
    object_id: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A body on its way: its first `received_bytes` are safe.

    creator: a subject; nobody else continues it. total_bytes: None until the first part tells.
    """

    upload_id: str
    app_id: str
    creator: str
    source_key: int
    object_id: str
    blob: str
    content_type: str
    received_bytes: int
    total_bytes: int | None
    expires_ms: int

    @property
    def is_complete(self) -> bool:
        return self.received_bytes == self.total_bytes


class Part(NamedTuple):
    """Which bytes of a body a request brings: from `start_byte` to before `end_byte`."""

    start_byte: int
    end_byte: int
    total_bytes: int
