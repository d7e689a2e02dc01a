"""Verbs of onboarding: a thing comes into being, gets a token and its MQTT endpoint (kii 10.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mqttpush.access import owns_scope, refusal
from mqttpush.credentials import secret_hash
from mqttpush.errors import NotAuthenticated, NotFound, PrincipalDisabled
from mqttpush.models import (
    NEVER_MS,
    Credentials,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Thing,
)
from mqttpush.operations.context import (
    ID,
    Context,
    Reference,
    as_principal,
    resolve_group,
    resolve_thing,
    resolve_user,
    tried_name,
)
from mqttpush.operations.hearing import rehear_owners
from mqttpush.operations.installations import EndpointView, Installations
from mqttpush.operations.ownership import ThingOwnerReference
from mqttpush.operations.triggers import react_to_user
from mqttpush.store import Transaction


@dataclass(frozen=True, slots=True)
class OnboardingDraft:
    """A thing as it, or its owner, introduces it.

    thing: by vendor thing ID, or by ID if it exists already. owner: None when it comes by itself.
    fields: properties to set.
    """

    thing: Reference
    password: str
    owner: ThingOwnerReference | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Onboarded:
    """What the thing needs from here on."""

    thing_id: str
    token: str
    view: EndpointView


class Onboarding:
    """The first onboarding makes the thing and fixes its password; later ones must know it."""

    def __init__(self, context: Context, installations: Installations) -> None:
        self._context = context
        self._installations = installations

    async def onboard(self, credentials: Credentials, draft: OnboardingDraft) -> Onboarded:
        """Raises NotAuthenticated for a wrong password (LimitReached after too many),
        NotFound for an unknown thing ID, NotAuthorized, PrincipalDisabled.
        """
        context = self._context
        found = await context.store.read(lambda tx: self._find(tx, credentials, draft))
        if found is None:
            new_hash = await context.passwords.hash_of_thing(draft.password, credentials.address)
        else:
            new_hash = ""
            name = tried_name(found)
            tries = context.failures.tries(credentials.app_id, name, credentials.address)
            tries.check()
            is_right = await context.passwords.verify(
                found.password_hash, draft.password, credentials.address
            )
            tries.check()
            if not is_right:
                tries.wrong()
                raise NotAuthenticated("the thing's password is not right")
            tries.right()
        onboarded = await context.store.write(
            lambda tx: self._onboard(tx, credentials, draft, found, new_hash)
        )
        # Somebody else made the thing since it was looked for: his password counts.
        return onboarded or await self.onboard(credentials, draft)

    async def rename(
        self, credentials: Credentials, thing: Reference, vendor_thing_id: str, password: str
    ) -> None:
        """Give a thing another vendor's ID and its password, as when a broken one is replaced.

        For its owners and the admin. Raises AlreadyExists, NotFound, NotAuthorized.
        """
        await self._change(credentials, thing, password, vendor_thing_id)

    async def set_password(self, credentials: Credentials, thing: Reference, password: str) -> None:
        """For the admin; the thing's tokens end. Raises NotFound, NotAuthorized."""
        await self._change(credentials, thing, password, None)

    async def _change(
        self,
        credentials: Credentials,
        reference: Reference,
        password: str,
        vendor_thing_id: str | None,
    ) -> None:
        context = self._context

        def allowed(tx: Transaction) -> Thing:
            principal = context.authenticate(tx, credentials)
            if principal.is_anonymous:
                raise refusal(principal, "change the thing's password")
            place = resolve_thing(tx, principal, reference)
            scope = Scope(place.app_id, ScopeType.THING, place.id)
            is_owner = principal.kind is PrincipalKind.USER and owns_scope(tx, principal, scope)
            if not (principal.is_admin or (is_owner and vendor_thing_id is not None)):
                raise refusal(principal, "change the thing's password")
            thing = tx.things.get(place.app_id, place.id)
            assert thing is not None
            return thing

        def unit(tx: Transaction) -> None:
            thing = allowed(tx)
            name = vendor_thing_id or thing.vendor_thing_id
            tx.things.update(replace(thing, vendor_thing_id=name, password_hash=password_hash))
            tx.tokens.delete_of(Owner(thing.app_id, thing.subject))

        await context.store.read(allowed)
        password_hash = await context.passwords.hash_of_thing(password, credentials.address)
        await context.store.write(unit)

    def _find(
        self, tx: Transaction, credentials: Credentials, draft: OnboardingDraft
    ) -> Thing | None:
        principal = self._context.authenticate(tx, credentials)
        if draft.owner is not None:
            _owner_subject(tx, principal, draft.owner)
        if draft.thing.field == ID:
            thing = tx.things.get(principal.app_id, draft.thing.value)
            if thing is None:
                raise NotFound("thing", draft.thing.value, app_id=principal.app_id)
        else:
            thing = tx.things.get_by_vendor_id(principal.app_id, draft.thing.value)
        if thing is not None and thing.is_disabled:
            raise PrincipalDisabled("thing", thing.thing_id)
        return thing

    def _onboard(
        self,
        tx: Transaction,
        credentials: Credentials,
        draft: OnboardingDraft,
        checked: Thing | None,
        new_hash: str,
    ) -> Onboarded | None:
        """None if the thing is not the one whose password was checked."""
        context = self._context
        principal = context.authenticate(tx, credentials)
        thing = self._find(tx, credentials, draft)
        if (thing is None) != (checked is None):
            return None
        if thing is None:
            thing = self._insert(tx, principal.app_id, draft, new_hash)
        elif checked is not None and thing.password_hash != checked.password_hash:
            return None
        place = Owner(thing.app_id, thing.subject)
        if draft.owner is not None:
            subject = _owner_subject(tx, principal, draft.owner)
            if tx.things.add_owner(place.app_id, place.id, subject):
                rehear_owners(tx, place.app_id, [subject])
        view = self._installations.ensure_mqtt(tx, place)
        token = context.secrets.access_token()
        holder = as_principal(place)
        tx.tokens.insert(secret_hash(token), holder, context.now_ms(), NEVER_MS)
        tx.tokens.keep_newest(holder, context.limits.max_tokens_per_principal)
        return Onboarded(thing.thing_id, token, view)

    def _insert(
        self, tx: Transaction, app_id: str, draft: OnboardingDraft, password_hash: str
    ) -> Thing:
        thing = Thing(
            app_id=app_id,
            thing_id=self._context.secrets.thing_id(),
            vendor_thing_id=draft.thing.value,
            created_ms=self._context.now_ms(),
            password_hash=password_hash,
            fields=draft.fields,
        )
        tx.things.insert(thing)
        react_to_user(self._context, tx, Owner(app_id, thing.subject), "THING_CREATED")
        return thing


def _owner_subject(tx: Transaction, principal: Principal, owner: ThingOwnerReference) -> str:
    """The owner named, who must be the calling user or a group he is in."""
    if principal.kind is not PrincipalKind.USER:
        raise refusal(principal, "onboard a thing for an owner")
    if owner.kind == "user":
        subject = resolve_user(tx, principal, owner.reference).subject
        if subject != principal.subject:
            raise refusal(principal, "onboard a thing for someone else")
        return subject
    group = resolve_group(tx, principal, owner.reference)
    if not tx.groups.is_member(group.app_id, group.group_id, principal.id):
        raise refusal(principal, "onboard a thing for a group of others")
    return group.subject
