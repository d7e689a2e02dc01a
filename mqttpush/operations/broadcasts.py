"""Verbs of Kinvey's messages: to users, wherever their devices are, or to everybody of an app.

Owns who is meant by a recipient (spec kinvey 5.2). A direct push by another name: the message also
reaches the live connections of its users.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mqttpush import kinvey_payloads, phone_payloads
from mqttpush.access import refusal
from mqttpush.errors import InvalidRequest
from mqttpush.events import MessageSent
from mqttpush.kinvey import KinveyMessage
from mqttpush.kinvey_payloads import NOTHING
from mqttpush.models import Audience, Credentials, Json, Owner, Principal
from mqttpush.operations import phones
from mqttpush.operations.context import Context
from mqttpush.operations.devices import PLATFORMS
from mqttpush.store import Transaction

_log = logging.getLogger(__name__)

RECIPIENTS_LIMIT: Final = 10_000
_WARNED_LIMIT: Final = 1000
MISSING: Final = "MissingRequestParameter"


@dataclass(frozen=True, slots=True)
class SentMessage:
    """How far a message goes: users found, devices meant, devices it was queued for.

    unknown_count: recipients that are nobody.
    """

    message_id: str
    user_count: int
    device_count: int
    queued_count: int
    unknown_count: int = 0

    def answer(self) -> Json:
        """As a caller is told, over REST or in server code (spec kinvey 5.1)."""
        told: Json = {
            "messageId": self.message_id,
            "users": self.user_count,
            "devices": self.device_count,
            "queued": self.queued_count,
        }
        if self.unknown_count:
            told["unknown"] = self.unknown_count
        return told


@dataclass(slots=True)
class _Recipients:
    owners: dict[Owner, None] = field(default_factory=dict)
    installation_ids: dict[str, None] = field(default_factory=dict)
    unknown_count: int = 0


class Broadcasts:
    """Sending as Kinvey's push module does; for the administrator."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._warned: set[str] = set()

    async def send_message(
        self, credentials: Credentials, recipients: Sequence[object], message: KinveyMessage
    ) -> SentMessage:
        """recipients: documents of users, IDs or user names; who is unknown is passed over.

        Raises InvalidRequest for a message that is too large, LimitReached.
        """
        if len(recipients) > RECIPIENTS_LIMIT:
            raise _out_of_range(f"may be at most {RECIPIENTS_LIMIT}", "recipients")

        def unit(tx: Transaction) -> SentMessage:
            principal = self._master(tx, credentials)
            found = _resolve(tx, principal.app_id, recipients)
            audience = Audience(
                principal.app_id,
                owners=tuple(found.owners),
                installation_ids=tuple(found.installation_ids),
            )
            user_count = len(found.owners)
            return self._send(tx, principal, audience, message, user_count, found.unknown_count)

        return await self._context.store.write(unit)

    async def send_broadcast(self, credentials: Credentials, message: KinveyMessage) -> SentMessage:
        """To every device of the app; the same errors."""

        def unit(tx: Transaction) -> SentMessage:
            principal = self._master(tx, credentials)
            audience = Audience(principal.app_id, is_everybody=True)
            user_count = tx.kinvey.count_device_owners(principal.app_id)
            return self._send(tx, principal, audience, message, user_count, 0)

        return await self._context.store.write(unit)

    def _master(self, tx: Transaction, credentials: Credentials) -> Principal:
        principal = self._context.authenticate(tx, credentials)
        if not principal.is_admin:
            raise refusal(principal, "send a message")
        return principal

    def _send(
        self,
        tx: Transaction,
        principal: Principal,
        audience: Audience,
        message: KinveyMessage,
        user_count: int,
        unknown_count: int,
    ) -> SentMessage:
        context, app_id = self._context, principal.app_id
        app = tx.apps.get(app_id)
        is_small = app is not None and app.is_apns_payload_small
        limit_bytes = phone_payloads.LIMITS_BYTES["apns"]
        if is_small:
            limit_bytes = phone_payloads.SMALL_APNS_LIMIT_BYTES
        rendered = kinvey_payloads.render(message, limit_bytes)
        if rendered.has_reserved_names:
            self._warn(app_id)
        message_id = context.secrets.uuid()
        by_network = tx.kinvey.count_devices(audience)
        device_count = queued_count = 0
        configured = tx.apps.networks(app_id)
        for (network, variant), count in by_network.items():
            payload = rendered.phone_payloads.get(variant) or rendered.phone_payloads.get(network)
            if payload is None or payload is NOTHING:
                continue
            device_count += count
            queued_count += count if network in configured else 0
        is_nobody = not (audience.owners or audience.installation_ids or audience.is_everybody)
        if not is_nobody and (rendered.payloads or rendered.phone_payloads):
            sent = MessageSent(message_id, audience, rendered.payloads)
            phones.send(context, tx, principal, sent, rendered.phone_payloads)
        return SentMessage(message_id, user_count, device_count, queued_count, unknown_count)

    def _warn(self, app_id: str) -> None:
        """Once an app and run of the server: existing scripts send the same again and again."""
        if app_id not in self._warned and len(self._warned) < _WARNED_LIMIT:
            self._warned.add(app_id)
            _log.warning(
                "app %s: androidPayload has names that FCM reserves (from, message_type, google.*,"
                " gcm.*); they are left out, and the whole goes as JSON under payload",
                app_id,
            )


def message_of(content: object) -> KinveyMessage:
    """`messageContent`: a text, or parts of which any may be null; raises InvalidRequest."""
    field = "messageContent"
    if content is None:
        raise InvalidRequest("is required", field=field, code=MISSING)
    if isinstance(content, str):
        return KinveyMessage(text=content)
    if not isinstance(content, dict):
        raise _out_of_range("must be a text or an object", field)
    parts = {}
    for name in ("iOSAps", "iOSExtras", "androidPayload"):
        parts[name] = content.get(name)
        if parts[name] is not None and not isinstance(parts[name], dict):
            raise _out_of_range("must be an object or null", f"{field}.{name}")
    return KinveyMessage(
        aps=parts["iOSAps"], extras=parts["iOSExtras"], android=parts["androidPayload"]
    )


def recipients_of(recipients: object) -> list[object]:
    """One document, or a list of them; IDs and user names do too."""
    if isinstance(recipients, list):
        return recipients
    if isinstance(recipients, dict | str):
        return [recipients]
    raise _out_of_range("must be a user or a list of users", "recipients")


def _out_of_range(problem: str, field: str) -> InvalidRequest:
    return InvalidRequest(problem, field=field, code=kinvey_payloads.OUT_OF_RANGE)


def _resolve(tx: Transaction, app_id: str, recipients: Sequence[object]) -> _Recipients:
    found = _Recipients()
    for recipient in recipients:
        owner = _owner(tx, app_id, recipient)
        if owner is not None:
            found.owners[owner] = None
            continue
        ids = list(_installations(tx, app_id, recipient))
        if not ids:
            found.unknown_count += 1
        found.installation_ids.update(dict.fromkeys(ids))
    return found


def _owner(tx: Transaction, app_id: str, recipient: object) -> Owner | None:
    """A user by the `_id` of his document, by his ID, or by his name."""
    identifier = recipient.get("_id") if isinstance(recipient, Mapping) else recipient
    if not isinstance(identifier, str):
        return None
    user = tx.users.get(app_id, identifier)
    if user is None and isinstance(recipient, str):
        user = tx.users.get_by(app_id, "login_name", recipient)
    return Owner(app_id, user.subject) if user is not None else None


def _installations(tx: Transaction, app_id: str, recipient: object) -> Sequence[str]:
    """Registered devices whose tokens stand in a document without a user."""
    messaging: Any = recipient.get("_messaging") if isinstance(recipient, Mapping) else None
    tokens = messaging.get("pushTokens") if isinstance(messaging, Mapping) else None
    found: list[str] = []
    for item in tokens if isinstance(tokens, list) else []:
        if not isinstance(item, Mapping):
            continue
        device_type = PLATFORMS.get(str(item.get("platform")).lower())
        token = item.get("token")
        if device_type is not None and isinstance(token, str):
            known = tx.installations.list_by_registration(app_id, device_type, token)
            found += [each.installation_id for each in known]
    return found
