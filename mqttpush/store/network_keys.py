"""The store's table of push networks' credentials: its interface.

Owns what such a row holds. Knows no SQL and no cipher.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class SealedKeys(NamedTuple):
    """Credentials of a push network. summary: JSON of what may be shown."""

    sealed: bytes
    summary: str
    changed_ms: int


class NetworkKeyTable(Protocol):
    """What apps show push networks to be let in, sealed."""

    def put(self, app_id: str, network: str, kept: SealedKeys) -> None: ...
    def get(self, app_id: str, network: str) -> SealedKeys | None: ...
    def list_of(self, app_id: str) -> dict[str, SealedKeys]:
        """By network."""

    def list_all(self) -> list[tuple[str, str, SealedKeys]]:
        """(app ID, network, keys) of all apps."""

    def delete(self, app_id: str, network: str) -> bool: ...
