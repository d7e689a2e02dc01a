"""Verbs of users and things: sign up, log in, look at, delete."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mqttpush.access import owns_scope, refusal
from mqttpush.credentials import secret_hash
from mqttpush.errors import InvalidGrant, NotAuthenticated, PrincipalDisabled
from mqttpush.events import OwnerRemoved, SourceRemoved
from mqttpush.models import (
    NEVER_MS,
    Credentials,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Thing,
    User,
)
from mqttpush.operations.context import (
    Context,
    Reference,
    as_principal,
    require_self_or_admin,
    resolve_thing,
    resolve_user,
)
from mqttpush.operations.groups import delete_group
from mqttpush.operations.live_sessions import end_dead_sessions
from mqttpush.operations.phones import before_scopes_end
from mqttpush.operations.triggers import MEMBERS_REMOVED, react_to_group, react_to_user
from mqttpush.operations.uninstalling import uninstall
from mqttpush.store import Transaction


@dataclass(frozen=True, slots=True)
class UserDraft:
    """A user as the app wants him. Without `password` he is a pseudo user."""

    login_name: str | None = None
    email_address: str | None = None
    phone_number: str | None = None
    password: str | None = None
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ThingDraft:
    """A thing as the app wants it."""

    vendor_thing_id: str
    password: str
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token and whom it speaks for. expires_ms: `NEVER_MS` for no end."""

    token: str
    principal: Principal
    expires_ms: int
    granted_ms: int


class Principals:
    """Users, things and the tokens they act with."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create_user(
        self, credentials: Credentials, draft: UserDraft, *, with_token: bool
    ) -> tuple[User, str | None]:
        """Sign up (spec kii 1.3); anybody may. Returns the user and, if asked, a first token.

        Raises AlreadyExists for a login name, address or number that is taken.
        """
        context = self._context
        user = User(
            app_id=credentials.app_id,
            user_id=context.secrets.user_id(),
            created_ms=context.now_ms(),
            login_name=draft.login_name,
            email_address=draft.email_address,
            phone_number=draft.phone_number,
            password_hash=await self._hash(credentials, draft.password),
            fields=draft.fields or {},
        )
        token = context.secrets.access_token() if with_token else None

        def unit(tx: Transaction) -> None:
            context.authenticate(tx, credentials)
            tx.users.insert(user)
            react_to_user(context, tx, Owner(user.app_id, user.subject), "USER_CREATED")
            if token is not None:
                self._insert_token(tx, token, Owner(user.app_id, user.subject))

        await context.store.write(unit)
        return user, token

    async def create_thing(
        self, credentials: Credentials, draft: ThingDraft, *, with_token: bool
    ) -> tuple[Thing, str | None]:
        """Register a thing (spec kii 1.4); anybody may. Raises AlreadyExists."""
        context = self._context
        await context.store.read(lambda tx: context.authenticate(tx, credentials))
        password_hash = await context.passwords.hash_of_thing(draft.password, credentials.address)
        thing = Thing(
            app_id=credentials.app_id,
            thing_id=context.secrets.thing_id(),
            vendor_thing_id=draft.vendor_thing_id,
            created_ms=context.now_ms(),
            password_hash=password_hash,
            fields=draft.fields or {},
        )
        token = context.secrets.access_token() if with_token else None

        def unit(tx: Transaction) -> None:
            context.authenticate(tx, credentials)
            tx.things.insert(thing)
            react_to_user(context, tx, Owner(thing.app_id, thing.subject), "THING_CREATED")
            if token is not None:
                self._insert_token(tx, token, Owner(thing.app_id, thing.subject))

        await context.store.write(unit)
        return thing, token

    async def log_in(
        self,
        credentials: Credentials,
        *,
        kind: PrincipalKind,
        reference: Reference,
        password: str,
        expires_ms: int = NEVER_MS,
    ) -> Grant:
        """A token for a user's or thing's name and password (spec kii 1.2).

        Raises InvalidGrant, as slowly for an unknown name as for a wrong password, LimitReached
        after too many, and PrincipalDisabled only to who knows the password.
        """
        context = self._context

        def find(tx: Transaction) -> User | Thing | None:
            context.authenticate(tx, credentials)
            if kind is PrincipalKind.USER:
                return tx.users.get_by(credentials.app_id, reference.field, reference.value)
            return tx.things.get_by_vendor_id(credentials.app_id, reference.value)

        name = f"{reference.field} {reference.value}"
        tries = context.failures.tries(credentials.app_id, name, credentials.address)
        tries.check()
        found = await context.store.read(find)
        password_hash = found.password_hash if found else None
        is_right = await context.passwords.verify(
            password_hash, password, credentials.address, is_thing=kind is PrincipalKind.THING
        )
        tries.check()
        if not is_right or found is None:
            tries.wrong()
            raise InvalidGrant
        tries.right()
        principal = as_principal(Owner(found.app_id, found.subject))

        def check(tx: Transaction) -> None:
            """Checking took its time: a password changed meanwhile must not make a session."""
            table = tx.users if kind is PrincipalKind.USER else tx.things
            now = table.get(principal.app_id, principal.id)
            if now is None or now.password_hash != password_hash:
                raise InvalidGrant
            if now.is_disabled:
                raise PrincipalDisabled(kind.value, principal.id)

        return await self._grant(principal, expires_ms, check)

    async def log_in_client(
        self,
        app_id: str,
        client_id: str,
        client_secret: str,
        *,
        address: str = "",
        expires_ms: int = NEVER_MS,
    ) -> Grant:
        """A token for an app's client: its administrator, or, with the app's ID, anonymous.

        app_id: from the request, or empty. Raises InvalidGrant, LimitReached after too many.
        """
        context = self._context
        # The app's key is the same for all its users: one who sends a wrong one is not they.
        name = "" if app_id in ("", client_id) else f"client {client_id}"
        tries = context.failures.tries(app_id or client_id, name, address)
        tries.check()

        def unit(tx: Transaction) -> Principal:
            app = tx.apps.get_by_client_id(client_id)
            if app is not None and app_id in ("", app.app_id):
                if not hmac.compare_digest(secret_hash(client_secret), app.client_secret_hash):
                    raise InvalidGrant
                return Principal(app.app_id, PrincipalKind.ADMIN)
            if app_id in ("", client_id):
                anonymous = Credentials(client_id, app_key=client_secret)
                return context.authenticate(tx, anonymous)
            raise InvalidGrant

        try:
            principal = await context.store.read(unit)
        except (InvalidGrant, NotAuthenticated):
            tries.wrong()
            raise
        tries.right()
        return await self._grant(principal, expires_ms)

    async def get_user(self, credentials: Credentials, reference: Reference) -> User:
        """A user, seen by himself or the admin; raises NotFound, NotAuthorized."""
        return await self._context.store.read(
            lambda tx: self._own_user(tx, credentials, reference, "read the user")
        )

    async def see_user(self, credentials: Credentials, reference: Reference) -> tuple[User, bool]:
        """A user, for whoever has logged in; whether he may see more than the public part.

        Raises NotFound, NotAuthorized.
        """

        def unit(tx: Transaction) -> tuple[User, bool]:
            principal = self._context.authenticate(tx, credentials)
            if principal.is_anonymous:
                raise refusal(principal, "read a user")
            owner = resolve_user(tx, principal, reference)
            user = tx.users.get(owner.app_id, owner.id)
            assert user is not None
            return user, principal.is_admin or principal.owner == owner

        return await self._context.store.read(unit)

    async def get_thing(self, credentials: Credentials, reference: Reference) -> Thing:
        """A thing, seen by itself, its owners or the admin; raises NotFound, NotAuthorized."""
        return await self._context.store.read(
            lambda tx: self._own_thing(tx, credentials, reference, "read the thing")
        )

    async def change_user(
        self,
        credentials: Credentials,
        reference: Reference,
        changes: UserDraft,
        is_kept: Callable[[str], bool] = lambda _: True,
    ) -> User:
        """Set the given attributes; None leaves one. A pseudo user with a name and password
        becomes a normal one. Raises AlreadyExists, NotFound, NotAuthorized.

        is_kept: says of a field's name whether it stays though no change names it.
        """
        password_hash = await self._hash(credentials, changes.password)

        def unit(tx: Transaction) -> User:
            user = self._own_user(tx, credentials, reference, "change the user")
            kept = {name: value for name, value in user.fields.items() if is_kept(name)}
            changed = replace(
                user,
                login_name=changes.login_name or user.login_name,
                email_address=changes.email_address or user.email_address,
                phone_number=changes.phone_number or user.phone_number,
                password_hash=password_hash or user.password_hash,
                fields={**kept, **(changes.fields or {})},
                modified_ms=self._context.now_ms(),
            )
            tx.users.update(changed)
            react_to_user(self._context, tx, Owner(user.app_id, user.subject), "USER_UPDATED")
            return changed

        return await self._context.store.write(unit)

    async def change_password(
        self, credentials: Credentials, reference: Reference, old: str | None, new: str
    ) -> None:
        """A user who knows the old password, or the admin; other tokens of the user end.

        Raises LimitReached after too many wrong ones: a stolen token must not lead to the password.
        """
        user = await self.get_user(credentials, reference)
        tries = self._context.failures.tries(user.app_id, user.subject, credentials.address)
        tries.check()
        passwords, address = self._context.passwords, credentials.address
        is_right = await passwords.verify(user.password_hash, old or "", address)
        tries.check()
        new_hash = await passwords.hash(new, address)

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            if not (principal.is_admin or is_right):
                raise InvalidGrant("the old password is not right")
            now = self._own_user(tx, credentials, reference, "change the password")
            tx.users.update(replace(now, password_hash=new_hash))
            owner = Owner(now.app_id, now.subject)
            react_to_user(self._context, tx, owner, "USER_PASSWORD_CHANGED")
            tx.tokens.delete_of(owner, but=secret_hash(credentials.token or ""))
            end_dead_sessions(tx, owner)

        try:
            await self._context.store.write(unit)
        except InvalidGrant:
            tries.wrong()
            raise
        if is_right:
            tries.right()

    async def change_thing(
        self, credentials: Credentials, reference: Reference, fields: Mapping[str, Any]
    ) -> Thing:
        """Set the given fields of a thing; for itself, its owners and the admin."""

        def unit(tx: Transaction) -> Thing:
            thing = self._own_thing(tx, credentials, reference, "change the thing")
            changed = replace(thing, fields={**thing.fields, **fields})
            tx.things.update(changed)
            react_to_user(self._context, tx, Owner(thing.app_id, thing.subject), "THING_UPDATED")
            return changed

        return await self._context.store.write(unit)

    async def set_user_disabled(
        self, credentials: Credentials, reference: Reference, is_disabled: bool
    ) -> None:
        """For the admin: a disabled user can do nothing and hears nothing."""

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            if not principal.is_admin:
                raise refusal(principal, "disable a user")
            user = self._own_user(tx, credentials, reference, "disable a user")
            tx.users.update(replace(user, is_disabled=is_disabled))
            if is_disabled:
                tx.emit(OwnerRemoved(Owner(user.app_id, user.subject)))

        await self._context.store.write(unit)

    async def set_thing_disabled(
        self, credentials: Credentials, reference: Reference, is_disabled: bool
    ) -> None:
        """For the admin and the thing's owners (spec kii 1.4)."""

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            thing = self._own_thing(tx, credentials, reference, "disable the thing")
            if principal.kind is PrincipalKind.THING:
                raise refusal(principal, "disable itself")
            tx.things.update(replace(thing, is_disabled=is_disabled))
            if is_disabled:
                tx.emit(OwnerRemoved(Owner(thing.app_id, thing.subject)))

        await self._context.store.write(unit)

    async def delete_user(self, credentials: Credentials, reference: Reference) -> None:
        """Delete a user with his installations, subscriptions, tokens and scope."""

        def unit(tx: Transaction) -> None:
            user = self._own_user(tx, credentials, reference, "delete the user")
            scope = Scope(user.app_id, ScopeType.USER, user.user_id)
            groups = tx.groups.list_of_owner(user.app_id, user.user_id)
            before_scopes_end(self._context, tx, [scope, *(group.scope for group in groups)])
            for group in groups:
                delete_group(self._context, tx, group)
            for group in tx.groups.list_of_member(user.app_id, user.user_id):
                react_to_group(self._context, tx, group, MEMBERS_REMOVED, [user.user_id])
            tx.groups.remove_user(user.app_id, user.user_id)
            for thing_id in tx.things.owned_by(user.app_id, user.subject):
                tx.things.remove_owner(user.app_id, thing_id, user.subject)
            tx.users.delete(user.app_id, user.user_id)
            react_to_user(self._context, tx, Owner(user.app_id, user.subject), "USER_DELETED")
            _forget(self._context, tx, Owner(user.app_id, user.subject), scope)

        await self._context.store.write(unit)

    async def delete_thing(self, credentials: Credentials, reference: Reference) -> None:
        """Delete a thing with its installation, subscriptions, tokens and scope."""

        def unit(tx: Transaction) -> None:
            thing = self._own_thing(tx, credentials, reference, "delete the thing")
            scope = Scope(thing.app_id, ScopeType.THING, thing.thing_id)
            before_scopes_end(self._context, tx, [scope])
            tx.things.delete(thing.app_id, thing.thing_id)
            react_to_user(self._context, tx, Owner(thing.app_id, thing.subject), "THING_DELETED")
            _forget(self._context, tx, Owner(thing.app_id, thing.subject), scope)

        await self._context.store.write(unit)

    def _own_user(
        self, tx: Transaction, credentials: Credentials, reference: Reference, action: str
    ) -> User:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, action)
        owner = resolve_user(tx, principal, reference)
        require_self_or_admin(principal, owner, action)
        user = tx.users.get(owner.app_id, owner.id)
        assert user is not None
        return user

    def _own_thing(
        self, tx: Transaction, credentials: Credentials, reference: Reference, action: str
    ) -> Thing:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, action)
        owner = resolve_thing(tx, principal, reference)
        scope = Scope(owner.app_id, ScopeType.THING, owner.id)
        if not (principal.is_admin or owns_scope(tx, principal, scope)):
            raise refusal(principal, action)
        thing = tx.things.get(owner.app_id, owner.id)
        assert thing is not None
        return thing

    async def _hash(self, credentials: Credentials, password: str | None) -> str | None:
        """Hash after a look at the credentials: strangers must not buy CPU time for nothing."""
        if password is None:
            return None
        await self._context.store.read(lambda tx: self._context.authenticate(tx, credentials))
        return await self._context.passwords.hash(password, credentials.address)

    async def _grant(
        self,
        principal: Principal,
        expires_ms: int,
        check: Callable[[Transaction], None] = lambda _: None,
    ) -> Grant:
        """check: raises, in the unit that makes the token, if it must not be made any more."""
        context = self._context
        token, now_ms = context.secrets.access_token(), context.now_ms()
        if principal.is_anonymous and expires_ms == NEVER_MS:
            # Nobody is told apart by it, and strangers ask for it at will: one for all.
            token = context.secrets.anonymous_token(principal.app_id)

        def unit(tx: Transaction) -> None:
            check(tx)
            if expires_ms != NEVER_MS:
                tx.tokens.delete_expired(now_ms)
            if tx.tokens.holder(secret_hash(token), now_ms) is None:
                tx.tokens.insert(secret_hash(token), principal, now_ms, expires_ms)
            if not principal.is_anonymous:
                tx.tokens.keep_newest(principal, context.limits.max_tokens_per_principal)
                end_dead_sessions(tx, principal.owner)

        await context.store.write(unit)
        return Grant(token, principal, expires_ms, now_ms)

    def _insert_token(self, tx: Transaction, token: str, owner: Owner) -> None:
        tx.tokens.insert(secret_hash(token), as_principal(owner), self._context.now_ms(), NEVER_MS)


def _forget(context: Context, tx: Transaction, owner: Owner, scope: Scope) -> None:
    for source_key in tx.sources.keys_of_scope(scope):
        tx.emit(SourceRemoved(source_key))
    tx.sources.delete_scope(scope)
    for installation in tx.installations.list_of(owner):
        uninstall(context, tx, installation)
    tx.subscriptions.delete_of(owner)
    tx.acl.delete_subject(owner.app_id, owner.subject)
    tx.acl.delete_resource(owner.app_id, scope.path.rstrip("/"))
    tx.tokens.delete_of(owner)
    tx.emit(OwnerRemoved(owner))
