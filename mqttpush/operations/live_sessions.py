"""Sessions of the Live Service inside other verbs' units: attach one, end those whose token died.

A live client is an MQTT installation with a mark; it goes when its session's token does.
"""

from __future__ import annotations

from typing import Any, Final

from mqttpush.events import InstallationRemoved, LiveAttached
from mqttpush.models import Owner
from mqttpush.store import Transaction

# No client can name an installation so: a colon is not allowed.
MARK: Final = "live:"


def attach_connection(tx: Transaction, handle: Any, installation_id: str) -> None:
    """An MQTT connection of a live client: besides what it is else, it hears what it follows."""
    client = tx.live.by_installation(installation_id)
    if client is not None:
        attached = LiveAttached(
            handle,
            client.owner,
            installation_id,
            client.expires_ms,
            client.source_keys,
            is_mqtt=True,
        )
        tx.emit(attached)


def end_client(tx: Transaction, owner: Owner, installation_id: str) -> None:
    """The client with all it follows and its connections."""
    tx.installations.delete(installation_id)
    tx.emit(InstallationRemoved(owner, installation_id))


def end_dead_sessions(tx: Transaction, owner: Owner) -> None:
    """To be called where tokens of the owner were deleted."""
    for installation_id in tx.live.ended(owner):
        end_client(tx, owner, installation_id)
