"""Verbs of ownership: which users and groups own a thing (spec kii 1.5)."""

from __future__ import annotations

from dataclasses import dataclass

from mqttpush.access import owns_scope, refusal
from mqttpush.errors import AlreadyExists, InvalidGrant, NotFound
from mqttpush.models import Credentials, Owner, Principal, Scope, ScopeType, Thing
from mqttpush.operations.context import (
    Context,
    Reference,
    resolve_group,
    resolve_thing,
    resolve_user,
    tried_name,
)
from mqttpush.operations.hearing import rehear_owners
from mqttpush.store import Transaction


@dataclass(frozen=True, slots=True)
class ThingOwnerReference:
    """A user, or a group by its ID."""

    kind: str  # "user" or "group"
    reference: Reference


class Ownership:
    """An owner acts in the thing's scope, as the thing itself does."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(
        self, credentials: Credentials, thing: Reference, owner: ThingOwnerReference
    ) -> None:
        """Raises NotFound("ownership") unless it owns the thing."""

        def unit(tx: Transaction) -> None:
            principal, place, subject = self._enter(tx, credentials, thing, owner)
            if subject not in tx.things.owners(place.app_id, place.id):
                raise NotFound("ownership", subject, app_id=principal.app_id)

        await self._context.store.read(unit)

    async def list_owners(self, credentials: Credentials, thing: Reference) -> list[str]:
        """Subjects, for the thing, its owners and the admin."""

        def unit(tx: Transaction) -> list[str]:
            principal = self._context.authenticate(tx, credentials)
            place = resolve_thing(tx, principal, thing)
            _require_thing(tx, principal, place)
            return tx.things.owners(place.app_id, place.id)

        return await self._context.store.read(unit)

    async def add(
        self,
        credentials: Credentials,
        thing: Reference,
        owner: ThingOwnerReference,
        thing_password: str | None = None,
    ) -> None:
        """The thing, an owner or the admin adds an owner; a user makes himself one.

        For the latter the app may ask for the thing's password (`is_thing_password_checked`; off
        by default, as the service had it, spec kii 1.5). Raises AlreadyExists("ownership"),
        NotAuthorized, InvalidGrant for a wrong password.
        """
        knows_password = False
        if thing_password is not None:
            knows_password = await self._check_password(credentials, thing, thing_password)

        def unit(tx: Transaction) -> None:
            principal, place, subject = self._enter(tx, credentials, thing, owner)
            app = tx.apps.get(place.app_id)
            assert app is not None
            is_claim = _speaks_for(tx, principal, subject) and (
                knows_password or not app.is_thing_password_checked
            )
            if not is_claim:
                _require_thing(tx, principal, place)
            if not tx.things.add_owner(place.app_id, place.id, subject):
                raise AlreadyExists("ownership", subject, app_id=place.app_id)
            rehear_owners(tx, place.app_id, [subject])

        await self._context.store.write(unit)

    async def remove(
        self, credentials: Credentials, thing: Reference, owner: ThingOwnerReference
    ) -> None:
        """The thing, any of its owners, or the admin; raises NotFound("ownership")."""

        def unit(tx: Transaction) -> None:
            principal, place, subject = self._enter(tx, credentials, thing, owner)
            _require_thing(tx, principal, place)
            if not tx.things.remove_owner(place.app_id, place.id, subject):
                raise NotFound("ownership", subject, app_id=place.app_id)
            rehear_owners(tx, place.app_id, [subject])

        await self._context.store.write(unit)

    async def _check_password(
        self, credentials: Credentials, thing: Reference, password: str
    ) -> bool:
        def unit(tx: Transaction) -> Thing:
            principal = self._context.authenticate(tx, credentials)
            if principal.is_anonymous:
                raise refusal(principal, "own a thing")
            place = resolve_thing(tx, principal, thing)
            found = tx.things.get(place.app_id, place.id)
            assert found is not None
            return found

        context = self._context
        found = await context.store.read(unit)
        tries = context.failures.tries(found.app_id, tried_name(found), credentials.address)
        tries.check()
        address = credentials.address
        is_right = await context.passwords.verify(found.password_hash, password, address)
        tries.check()
        if not is_right:
            tries.wrong()
            raise InvalidGrant("the thing's password is not right")
        tries.right()
        return True

    def _enter(
        self,
        tx: Transaction,
        credentials: Credentials,
        thing: Reference,
        owner: ThingOwnerReference,
    ) -> tuple[Principal, Owner, str]:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, "see who owns a thing")
        place = resolve_thing(tx, principal, thing)
        if owner.kind == "user":
            return principal, place, resolve_user(tx, principal, owner.reference).subject
        return principal, place, resolve_group(tx, principal, owner.reference).subject


def _require_thing(tx: Transaction, principal: Principal, place: Owner) -> None:
    scope = Scope(place.app_id, ScopeType.THING, place.id)
    if not (principal.is_admin or owns_scope(tx, principal, scope)):
        raise refusal(principal, "rule the thing")


def _speaks_for(tx: Transaction, principal: Principal, subject: str) -> bool:
    """Is the subject the principal himself, or a group he is in?"""
    kind, _, identifier = subject.partition(":")
    if kind == "user":
        return principal.is_admin or principal.subject == subject
    return principal.is_admin or tx.groups.is_member(principal.app_id, identifier, principal.id)
