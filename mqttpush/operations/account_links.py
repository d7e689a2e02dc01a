"""Links in mails to users: made, looked at, used once (spec kinvey 3).

Owns what a link is, and `_kmd.emailVerification`. Knows no mail and no page. The one idea: the
proof in a link covers where it was sent and what its use changes, the password's hash or when the
address was confirmed last, so nothing is kept of links and each works once.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from mqttpush.errors import InvalidGrant
from mqttpush.kinvey import kinvey_time
from mqttpush.models import Credentials, Json, Owner, User
from mqttpush.operations.context import Context
from mqttpush.operations.live_sessions import end_dead_sessions
from mqttpush.operations.triggers import react_to_user
from mqttpush.store import Transaction

# One mailbox and nothing else: it goes into a header.
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
)
_ADDRESS_LIMIT: Final = 254  # RFC 5321, with the brackets around it
_TOKEN: Final = re.compile(r"([0-9]{1,12})\.([A-Za-z]{64})\.(.{1,200})", re.DOTALL)
# Where the fields of a user have it; clients of both dialects write no field of this name.
_METADATA: Final = "_kmd"
_VERIFICATION: Final = "emailVerification"


class Purpose(StrEnum):
    """What a user asks a mail for; the values stand in links."""

    PASSWORD = "password-reset"  # noqa: S105
    ADDRESS = "email-verification"
    USERNAMES = "forgot-username"


class AccountLinks:
    """Links of users. A link is its app and its token."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def token(self, purpose: Purpose, user: User, lifetime_s: int) -> str:
        """What a link needs besides the app; good from now on for `lifetime_s`, once."""
        expires_s = self._context.now_ms() // 1000 + lifetime_s
        return f"{expires_s}.{self._proof(purpose, user, expires_s)}.{user.user_id}"

    async def look(self, app_id: str, purpose: Purpose, token: str) -> User:
        """Whose link it is; raises DomainError for one that is not good (any more)."""
        return await self._context.store.read(lambda tx: self._owner(tx, app_id, purpose, token))

    async def set_password(self, app_id: str, token: str, password: str, address: str) -> None:
        """Use a link: the new password ends all sessions. Raises as `look`, and LimitReached."""
        context = self._context
        await self.look(app_id, Purpose.PASSWORD, token)  # strangers buy no CPU time
        password_hash = await context.passwords.hash(password, address)

        def unit(tx: Transaction) -> None:
            user = self._owner(tx, app_id, Purpose.PASSWORD, token)
            now_ms = context.now_ms()
            tx.users.update(replace(user, password_hash=password_hash, modified_ms=now_ms))
            owner = Owner(app_id, user.subject)
            react_to_user(context, tx, owner, "USER_PASSWORD_RESET_COMPLETED")
            tx.tokens.delete_of(owner)
            end_dead_sessions(tx, owner)

        await context.store.write(unit)

    async def confirm_address(self, app_id: str, token: str) -> None:
        """Use a link: the address is the user's. Raises as `look`."""

        def unit(tx: Transaction) -> None:
            user = self._owner(tx, app_id, Purpose.ADDRESS, token)
            now_ms = self._context.now_ms()
            now = kinvey_time(now_ms)
            verification = {
                "status": "confirmed",
                "lastStateChangeAt": now,
                "lastConfirmedAt": now,
                "emailAddress": address_of(user),
            }
            fields = {**user.fields, _METADATA: {_VERIFICATION: verification}}
            tx.users.update(replace(user, fields=fields, modified_ms=now_ms))
            owner = Owner(app_id, user.subject)
            react_to_user(self._context, tx, owner, "USER_EMAIL_VERIFIED")

        await self._context.store.write(unit)

    def _owner(self, tx: Transaction, app_id: str, purpose: Purpose, token: str) -> User:
        found = _TOKEN.fullmatch(token)
        self._context.authenticate(tx, Credentials(app_id, is_app_known=True))
        user = tx.users.get(app_id, found[3]) if found else None
        if found is None or user is None or not may_have_link(purpose, user):
            raise InvalidGrant("the link is not good")
        expires_s = int(found[1])
        proof = self._proof(purpose, user, expires_s)
        is_right = hmac.compare_digest(proof.encode(), found[2].encode())
        if not is_right or expires_s * 1000 <= self._context.now_ms():
            raise InvalidGrant("the link is not good (any more)")
        return user

    def _proof(self, purpose: Purpose, user: User, expires_s: int) -> str:
        if purpose is Purpose.PASSWORD:
            state = f"{user.password_hash}\0{address_of(user)}"
        else:
            confirmed_at = _kept(user.fields).get("lastConfirmedAt", "")
            state = f"{address_of(user)}\0{confirmed_at}"
        owner = Owner(user.app_id, user.subject)
        return self._context.secrets.link_proof(purpose.value, owner, state, expires_s)


def may_have_link(purpose: Purpose, user: User) -> bool:
    """Is there something for a link to do?"""
    has_password = purpose is not Purpose.PASSWORD or user.password_hash is not None
    return has_password and not user.is_disabled and address_of(user) is not None


def is_address(text: object) -> bool:
    """Is it one mailbox that mail is sent to?"""
    if not isinstance(text, str) or len(text) > _ADDRESS_LIMIT:
        return False
    return _ADDRESS.fullmatch(text) is not None


def address_of(user: User) -> str | None:
    """Where the user's mail goes; None for no address, and for what is none."""
    address = user.fields.get("email")
    if address is None:
        address = user.email_address
    return address if isinstance(address, str) and is_address(address) else None


def verification_of(user: User) -> Json | None:
    """`_kmd.emailVerification`; None for a user who never confirmed an address."""
    kept = _kept(user.fields)
    if not kept:
        return None
    if kept["emailAddress"] != address_of(user):  # changed over the other dialect
        return {**kept, "status": "unconfirmed"}
    return dict(kept)


def with_verification(user: User, fields: Mapping[str, Any], now_ms: int) -> Mapping[str, Any]:
    """New fields of a user with what is kept of his address, which is unconfirmed if it changes."""
    kept = _kept(user.fields)
    if not kept:
        return fields
    address = address_of(replace(user, fields=fields))
    if kept["emailAddress"] != address:
        changed_at = kinvey_time(now_ms)
        kept = {
            **kept,
            "status": "unconfirmed",
            "lastStateChangeAt": changed_at,
            "emailAddress": address,
        }
    return {**fields, _METADATA: {_VERIFICATION: kept}}


def _kept(fields: Mapping[str, Any]) -> Json:
    metadata = fields.get(_METADATA)
    found: Json = metadata.get(_VERIFICATION, {}) if isinstance(metadata, dict) else {}
    return found
