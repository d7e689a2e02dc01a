"""Verbs of users as Kinvey's clients know them: sign up, log in, look at, find, change, suspend.

The same users as `principals` has, under other rules: who signed up here may be read by others
(spec kinvey 3), and nobody else may, because the other dialect promised him so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mqttpush.access import refusal
from mqttpush.credentials import secret_hash
from mqttpush.errors import InvalidRequest, NotFound
from mqttpush.events import OwnerRemoved
from mqttpush.models import (
    NEVER_MS,
    Credentials,
    Installation,
    Owner,
    Principal,
    PrincipalKind,
    User,
)
from mqttpush.operations.account_links import with_verification
from mqttpush.operations.context import ID, Context, Reference
from mqttpush.operations.devices import DeviceDraft, devices_of, replace_devices
from mqttpush.operations.live_sessions import end_dead_sessions
from mqttpush.operations.principals import Principals
from mqttpush.operations.triggers import react_to_user
from mqttpush.store import Transaction
from mqttpush.store.queries import And, EntityQuery, Test

ANSWER_LIMIT: Final = 10_000  # spec kinvey 11


@dataclass(frozen=True, slots=True)
class AccountDraft:
    """A user as the app wants him. What is None is made up at sign-up, and left at a change.

    user_id: only an administrator names one. devices: all he has; None leaves them. seen_ms: when
    the writer last read the user, see devices.replace_devices.
    """

    username: str | None = None
    password: str | None = None
    fields: Mapping[str, Any] | None = None
    user_id: str | None = None
    devices: Sequence[DeviceDraft] | None = None
    seen_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A user as one may see him. devices: None for those who may not know of them.

    session_ms: when the session began in which he sees himself.
    """

    user: User
    devices: list[Installation] | None
    session_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A user who has just come in. password: the one made for him, else None."""

    account: Account
    token: str
    password: str | None = None


class Accounts:
    """Users, seen through the second dialect."""

    def __init__(self, context: Context, principals: Principals) -> None:
        self._context = context
        self._principals = principals

    async def sign_up(self, credentials: Credentials, draft: AccountDraft) -> Session:
        """For app and administrator; raises AlreadyExists for a user name that is taken."""
        context = self._context

        def check(tx: Transaction) -> None:
            principal = context.authenticate(tx, credentials)
            if principal.kind is PrincipalKind.USER:
                raise refusal(principal, "sign up a user")

        await context.store.read(check)  # strangers must not buy CPU time for nothing
        made_password = context.secrets.uuid() if draft.password is None else None
        password = draft.password or made_password or ""
        password_hash = await context.passwords.hash(password, credentials.address)
        now_ms, token = context.now_ms(), context.secrets.access_token()

        def unit(tx: Transaction) -> Account:
            principal = context.authenticate(tx, credentials)
            user = User(
                app_id=principal.app_id,
                user_id=self._new_id(principal, draft),
                created_ms=now_ms,
                login_name=draft.username or context.secrets.uuid(),
                password_hash=password_hash,
                fields=draft.fields or {},
                modified_ms=now_ms,
                is_public=True,
            )
            tx.users.insert(user)
            react_to_user(context, tx, Owner(user.app_id, user.subject), "USER_CREATED")
            if draft.devices is not None:
                replace_devices(context, tx, user, draft.devices, None)
            who = Principal(user.app_id, PrincipalKind.USER, user.user_id)
            tx.tokens.insert(secret_hash(token), who, now_ms, NEVER_MS)
            return _account(tx, who, user, token)

        return Session(await context.store.write(unit), token, made_password)

    async def log_in(self, credentials: Credentials, username: str, password: str) -> Session:
        """For app and administrator; raises InvalidGrant, PrincipalDisabled, LimitReached."""
        grant = await self._principals.log_in(
            credentials,
            kind=PrincipalKind.USER,
            reference=Reference("login_name", username),
            password=password,
        )
        own = Credentials(grant.principal.app_id, token=grant.token)
        return Session(await self.get(own, grant.principal.id), grant.token)

    async def log_out(self, credentials: Credentials) -> None:
        """The session's token ends, and only that; devices stay registered."""
        token = credentials.token

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            if token is not None:
                tx.tokens.delete(secret_hash(token))
                end_dead_sessions(tx, principal.owner)

        await self._context.store.write(unit)

    async def get(self, credentials: Credentials, user_id: str | None) -> Account:
        """One user, oneself for None; raises NotFound for one who may not be seen, too."""

        def unit(tx: Transaction) -> Account:
            principal = self._entered(tx, credentials)
            if user_id is None and principal.is_admin:
                raise refusal(principal, "be a user")
            wanted = principal.id if user_id is None else user_id
            user = tx.users.get(principal.app_id, wanted)
            if user is None or not _may_see(principal, user):
                raise NotFound("user", wanted, app_id=principal.app_id)
            return _account(tx, principal, user, credentials.token)

        return await self._context.store.read(unit)

    async def find(self, credentials: Credentials, query: EntityQuery) -> list[Account]:
        """Those who match and may be seen, at most `ANSWER_LIMIT`."""
        limit = ANSWER_LIMIT if query.limit is None else min(query.limit, ANSWER_LIMIT)
        query = query._replace(limit=limit)

        def unit(tx: Transaction) -> list[Account]:
            principal = self._entered(tx, credentials)
            limit_bytes = self._context.limits.max_answer_bytes
            viewer = _viewer(principal)
            users = tx.entities.find_users(principal.app_id, query, viewer, limit_bytes=limit_bytes)
            return [_account(tx, principal, user) for user in users]

        return await self._context.store.search(unit)

    async def count(self, credentials: Credentials, query: EntityQuery) -> int:
        """How many match and may be seen."""

        def unit(tx: Transaction) -> int:
            principal = self._entered(tx, credentials)
            return tx.entities.count_users(principal.app_id, query, _viewer(principal))

        return await self._context.store.search(unit)

    async def look_up(
        self, credentials: Credentials, criteria: Mapping[str, Any], limit: int
    ) -> list[Account]:
        """Those whose fields are just so; nobody who is suspended."""
        tests = tuple(Test(tuple(name.split(".")), "$eq", criteria[name]) for name in criteria)
        found = await self.find(credentials, EntityQuery(And(tests), limit=limit))
        return [account for account in found if not account.user.is_disabled]

    async def exists(self, credentials: Credentials, username: str) -> bool:
        """Is the user name taken? For whoever may sign up."""

        def unit(tx: Transaction) -> bool:
            app_id = self._context.authenticate(tx, credentials).app_id
            return tx.users.get_by(app_id, "login_name", username) is not None

        return await self._context.store.read(unit)

    async def change(self, credentials: Credentials, user_id: str, draft: AccountDraft) -> Account:
        """Put these fields in place of all others; for the user himself and the administrator.

        A new password ends the user's other sessions; the one he has is not new.
        """
        context = self._context
        password_hash = None
        if draft.password is not None:
            _, user = await context.store.read(lambda tx: self._own(tx, credentials, user_id))
            # Libraries that keep the password write it back with every other field.
            pair = (draft.password, credentials.address)
            if not await context.passwords.verify(user.password_hash, *pair):
                password_hash = await context.passwords.hash(*pair)

        def unit(tx: Transaction) -> Account:
            principal, user = self._own(tx, credentials, user_id)
            now_ms = context.now_ms()
            is_same_name = draft.username in (None, shown_name(user))
            changed = replace(
                user,
                login_name=user.login_name if is_same_name else draft.username,
                password_hash=password_hash or user.password_hash,
                fields=user.fields
                if draft.fields is None
                else with_verification(user, draft.fields, now_ms),
                modified_ms=now_ms,
            )
            tx.users.update(changed)
            react_to_user(context, tx, Owner(user.app_id, user.subject), "USER_UPDATED")
            if draft.devices is not None:
                replace_devices(context, tx, changed, draft.devices, draft.seen_ms)
            if password_hash is not None:
                owner = Owner(user.app_id, user.subject)
                react_to_user(context, tx, owner, "USER_PASSWORD_CHANGED")
                tx.tokens.delete_of(owner, but=secret_hash(credentials.token or ""))
                end_dead_sessions(tx, owner)
            return _account(tx, principal, changed, credentials.token)

        return await context.store.write(unit)

    async def delete(self, credentials: Credentials, user_id: str) -> None:
        """For good, with all that is his; for himself and the administrator."""
        await self._context.store.read(lambda tx: self._own(tx, credentials, user_id))
        await self._principals.delete_user(credentials, Reference(ID, user_id))

    async def suspend(self, credentials: Credentials, user_id: str) -> None:
        """His sessions end, and he gets nothing until he is restored; for both, too."""

        def unit(tx: Transaction) -> None:
            _, user = self._own(tx, credentials, user_id)
            now_ms = self._context.now_ms()
            tx.users.update(replace(user, is_disabled=True, modified_ms=now_ms))
            owner = Owner(user.app_id, user.subject)
            tx.tokens.delete_of(owner)
            end_dead_sessions(tx, owner)
            tx.emit(OwnerRemoved(owner))

        await self._context.store.write(unit)

    async def end_sessions(self, credentials: Credentials, user_id: str) -> None:
        """All of them, that of who asks too; for the user himself and the administrator."""

        def unit(tx: Transaction) -> None:
            _, user = self._own(tx, credentials, user_id)
            owner = Owner(user.app_id, user.subject)
            tx.tokens.delete_of(owner)
            end_dead_sessions(tx, owner)

        await self._context.store.write(unit)

    async def restore(self, credentials: Credentials, user_id: str) -> None:
        """Undo `suspend`; for the administrator."""

        def unit(tx: Transaction) -> None:
            principal, user = self._own(tx, credentials, user_id)
            if not principal.is_admin:
                raise refusal(principal, "restore a user")
            now_ms = self._context.now_ms()
            tx.users.update(replace(user, is_disabled=False, modified_ms=now_ms))

        await self._context.store.write(unit)

    def _entered(self, tx: Transaction, credentials: Credentials) -> Principal:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, "see users")
        return principal

    def _own(
        self, tx: Transaction, credentials: Credentials, user_id: str
    ) -> tuple[Principal, User]:
        """The user, if he is the one who asks, or the administrator does."""
        principal = self._entered(tx, credentials)
        user = tx.users.get(principal.app_id, user_id)
        if user is None or not _may_see(principal, user):
            raise NotFound("user", user_id, app_id=principal.app_id)
        if not (principal.is_admin or principal.subject == user.subject):
            raise refusal(principal, "change another user")
        return principal, user

    def _new_id(self, principal: Principal, draft: AccountDraft) -> str:
        if draft.user_id is None:
            return self._context.secrets.document_id()
        if not principal.is_admin:
            raise InvalidRequest(
                "is chosen with master credentials only",
                field="_id",
                code="ParameterValueOutOfRange",
            )
        return draft.user_id


def shown_name(user: User) -> str:
    """The user name; users of the other dialect may have none."""
    return user.login_name or user.user_id


def _viewer(principal: Principal) -> str | None:
    """Whose eyes a search has; None for the administrator, who sees all."""
    return None if principal.is_admin else principal.id


def _may_see(principal: Principal, user: User) -> bool:
    return principal.is_admin or user.is_public or principal.subject == user.subject


def _account(
    tx: Transaction, principal: Principal, user: User, token: str | None = None
) -> Account:
    """token: the one he came with, if he sees himself."""
    is_himself = principal.subject == user.subject
    owner = Owner(user.app_id, user.subject)
    devices = devices_of(tx, owner) if is_himself or principal.is_admin else None
    is_in_session = is_himself and token is not None
    return Account(
        user, devices, tx.tokens.created_ms(secret_hash(token or "")) if is_in_session else None
    )
