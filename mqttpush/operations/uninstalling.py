"""Inside the units of other verbs: an installation goes, or goes over to another owner.

Owns that whatever ends an installation ends its connection, too, and is told to server code. Knows
no rights.
"""

from __future__ import annotations

from mqttpush.events import InstallationRemoved
from mqttpush.models import Installation
from mqttpush.operations.context import Context
from mqttpush.operations.triggers import react_to_installation
from mqttpush.store import Transaction

_CREATED, _DELETED = "INSTALLATION_CREATED", "INSTALLATION_DELETED"


def uninstall(
    context: Context, tx: Transaction, installation: Installation, *, may_be_refused: bool = True
) -> None:
    """Take it away. Raises LimitReached if it may be refused and too much code waits to run."""
    tx.installations.delete(installation.installation_id)
    react_to_installation(context, tx, installation, _DELETED, may_be_refused=may_be_refused)
    tx.emit(InstallationRemoved(installation.owner, installation.installation_id))


def tell_of_new(context: Context, tx: Transaction, installation: Installation) -> None:
    """It was inserted. Raises LimitReached when too much code waits to run."""
    react_to_installation(context, tx, installation, _CREATED)


def tell_of_move(
    context: Context, tx: Transaction, before: Installation, after: Installation
) -> None:
    """It was updated: to code that follows owners, one went and another came.

    Nothing if the owner is the same. Raises LimitReached when too much code waits to run.
    """
    if before.owner != after.owner:
        react_to_installation(context, tx, before, _DELETED)
        react_to_installation(context, tx, after, _CREATED)
