"""Verbs of subscriptions: of users and things, to buckets and topics (spec kii 5 and 6.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mqttpush.access import HEARING_VERB, Verb, allows, may_hear, owns_scope, refusal, require
from mqttpush.errors import AlreadyExists, NotFound
from mqttpush.events import SubscriptionAdded, SubscriptionRemoved
from mqttpush.models import (
    Credentials,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Source,
    SourceKind,
)
from mqttpush.operations.context import (
    ME,
    Context,
    Reference,
    ScopeReference,
    as_principal,
    resolve_owner,
    resolve_scope,
)
from mqttpush.store import Transaction

# A missing bucket is told as a missing filter (spec kii 5); a topic by its own name.
_MISSING_NOUN: Final = {
    SourceKind.BUCKET: "filter",
    SourceKind.FILTER: "filter",
    SourceKind.TOPIC: "topic",
}

_RULING_VERB: Final = {
    SourceKind.BUCKET: Verb.CHANGE_BUCKET_ACL,
    SourceKind.FILTER: Verb.CHANGE_BUCKET_ACL,
    SourceKind.TOPIC: Verb.CHANGE_TOPIC,
}


@dataclass(frozen=True, slots=True)
class SubscriptionReference:
    """One subscription: of whom, to what."""

    kind: SourceKind
    scope: ScopeReference
    source_id: str
    subscriber_kind: PrincipalKind
    subscriber: Reference = Reference(ME)  # noqa: RUF009 immutable


@dataclass(frozen=True, slots=True)
class _Place:
    tx: Transaction
    principal: Principal
    scope: Scope
    source: Source | None
    subscriber: Owner


@dataclass(frozen=True, slots=True)
class SubscriberPage:
    """Subjects of some subscribers. next_after: where to go on, None at the end."""

    subjects: list[str]
    next_after: str | None


class Subscriptions:
    """Who hears which bucket or topic."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def subscribe(self, credentials: Credentials, reference: SubscriptionReference) -> None:
        """Subscribe; the *subscriber* needs the right to hear the source.

        A missing bucket is made, with the subscriber as its creator, if he may make it. Raises
        AlreadyExists("subscription"), NotFound, NotAuthorized.
        """

        def unit(tx: Transaction) -> None:
            place = self._enter(tx, credentials, reference)
            subscriber = as_principal(place.subscriber)
            source = place.source
            if source is None:
                source = self._make_bucket(place, reference)
            if not may_hear(tx, subscriber, source):
                raise refusal(subscriber, HEARING_VERB[source.kind])
            now_ms = self._context.now_ms()
            if not tx.subscriptions.insert(source.key, place.subscriber, now_ms):
                raise AlreadyExists(
                    "subscription", source.id, scope=place.scope, subject=place.subscriber.subject
                )
            tx.emit(SubscriptionAdded(source.key, place.subscriber))

        await self._context.store.write(unit)

    async def check(self, credentials: Credentials, reference: SubscriptionReference) -> None:
        """Raises NotFound("subscription") unless subscribed."""

        def unit(tx: Transaction) -> None:
            place = self._enter(tx, credentials, reference)
            source = _existing(place, reference)
            if not tx.subscriptions.contains(source.key, place.subscriber):
                raise _not_subscribed(place, source)

        await self._context.store.read(unit)

    async def unsubscribe(self, credentials: Credentials, reference: SubscriptionReference) -> None:
        """Raises NotFound("subscription") if there is none."""

        def unit(tx: Transaction) -> None:
            place = self._enter(tx, credentials, reference)
            source = _existing(place, reference)
            if not tx.subscriptions.delete(source.key, place.subscriber):
                raise _not_subscribed(place, source)
            tx.emit(SubscriptionRemoved(source.key, place.subscriber))

        await self._context.store.write(unit)

    async def list_of(
        self, credentials: Credentials, kind: PrincipalKind, subscriber: Reference
    ) -> list[Source]:
        """What a user or thing is subscribed to (an extension); for him and the admin."""

        def unit(tx: Transaction) -> list[Source]:
            principal = self._context.authenticate(tx, credentials)
            owner = resolve_owner(tx, principal, kind, subscriber)
            _require_subscriber_right(tx, principal, owner)
            return tx.subscriptions.list_of(owner)

        return await self._context.store.read(unit)

    async def list_subscribers(
        self,
        credentials: Credentials,
        kind: SourceKind,
        scope: ScopeReference,
        source_id: str,
        *,
        after: str,
        limit: int,
    ) -> SubscriberPage:
        """Who is subscribed (an extension); for who may change the source's access rules."""

        def unit(tx: Transaction) -> SubscriberPage:
            principal = self._context.authenticate(tx, credentials)
            place = resolve_scope(tx, principal, scope)
            source = tx.sources.get(kind, place, source_id)
            ruled = source
            if kind is SourceKind.FILTER:
                ruled = tx.sources.get(SourceKind.BUCKET, place, source_id.partition("/")[0])
            require(tx, principal, _RULING_VERB[kind], place, ruled)
            if source is None:
                raise NotFound(_MISSING_NOUN[kind], source_id, scope=place)
            subjects = tx.subscriptions.page_of_source(source.key, after, limit + 1)
            next_after = subjects[limit - 1] if len(subjects) > limit else None
            return SubscriberPage(subjects[:limit], next_after)

        return await self._context.store.read(unit)

    def _enter(
        self, tx: Transaction, credentials: Credentials, reference: SubscriptionReference
    ) -> _Place:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, "subscribe")
        subscriber = resolve_owner(tx, principal, reference.subscriber_kind, reference.subscriber)
        _require_subscriber_right(tx, principal, subscriber)
        scope = resolve_scope(tx, principal, reference.scope)
        source = tx.sources.get(reference.kind, scope, reference.source_id)
        return _Place(tx, principal, scope, source, subscriber)

    def _make_bucket(self, place: _Place, reference: SubscriptionReference) -> Source:
        subscriber = as_principal(place.subscriber)
        may_make = reference.kind is SourceKind.BUCKET and (
            place.principal.is_admin
            or allows(place.tx, subscriber, Verb.CREATE_NEW_BUCKET, place.scope)
        )
        if not may_make:
            return _existing(place, reference)
        return place.tx.sources.insert(
            SourceKind.BUCKET,
            place.scope,
            reference.source_id,
            subscriber.subject,
            self._context.now_ms(),
        )


def _require_subscriber_right(tx: Transaction, principal: Principal, subscriber: Owner) -> None:
    """Admin, the subscriber himself, or an owner of the subscribing thing (spec kii 5)."""
    if principal.is_admin or principal.owner == subscriber:
        return
    scope = Scope(subscriber.app_id, ScopeType.THING, subscriber.id)
    if subscriber.kind == PrincipalKind.THING.value and owns_scope(tx, principal, scope):
        return
    raise refusal(principal, "subscribe for someone else")


def _existing(place: _Place, reference: SubscriptionReference) -> Source:
    if place.source is None:
        noun = _MISSING_NOUN[reference.kind]
        raise NotFound(noun, reference.source_id, scope=place.scope)
    return place.source


def _not_subscribed(place: _Place, source: Source) -> NotFound:
    return NotFound("subscription", source.id, scope=place.scope, subject=place.subscriber.subject)
