"""Verbs of named filters: a part of a bucket's events, by type and by a clause on the object.

An extension of spec kii 5, whose URL was made for more filters than `all`. A filter is a source of
its own: one subscribes to it, and an event tells the router which filters let it through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mqttpush.access import Verb, allows, refusal, require
from mqttpush.errors import LimitReached, NotFound
from mqttpush.events import SourceRemoved
from mqttpush.models import (
    Credentials,
    Filter,
    Object,
    ObjectEventType,
    Principal,
    Source,
    SourceKind,
)
from mqttpush.operations.context import Context, ScopeReference, resolve_scope
from mqttpush.store import Transaction

_PROBE: Final = Object("", 1, 0, 0, "user:", "application/json", "{}")


@dataclass(frozen=True, slots=True)
class FilterReference:
    """One filter of one bucket."""

    scope: ScopeReference
    bucket_id: str
    filter_id: str


class Filters:
    """Made by who may query the bucket; changed by who made them or rules the bucket."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def put(
        self,
        credentials: Credentials,
        reference: FilterReference,
        event_types: frozenset[str],
        clause: Mapping[str, Any],
    ) -> bool:
        """Make or replace a filter; returns whether it is new.

        Raises InvalidRequest for a bad clause, LimitReached, NotFound("bucket"), NotAuthorized.
        """
        limits = self._context.limits

        def unit(tx: Transaction) -> bool:
            principal, bucket = self._enter(tx, credentials, reference)
            tx.objects.matches(_PROBE, clause)  # raises for a bad clause
            filters = tx.sources.filters(bucket.key)
            existing = _find(filters, reference.filter_id)
            if existing is not None:
                _require_change(tx, principal, bucket, existing)
                tx.sources.replace_filter(Filter(existing.source, event_types, clause))
                return False
            if len(filters) >= limits.max_filters_per_bucket:
                raise LimitReached("limits.max_filters_per_bucket")
            own = [item for item in filters if item.source.creator == principal.subject]
            if len(own) >= limits.max_filters_per_owner and not principal.is_admin:
                raise LimitReached("limits.max_filters_per_owner")
            source = tx.sources.insert(
                SourceKind.FILTER,
                bucket.scope,
                f"{bucket.id}/{reference.filter_id}",
                principal.subject,
                self._context.now_ms(),
            )
            tx.sources.insert_filter(Filter(source, event_types, clause), bucket.key)
            return True

        return await self._context.store.write(unit)

    async def get(self, credentials: Credentials, reference: FilterReference) -> Filter:
        """Raises NotFound("filter"), NotAuthorized."""

        def unit(tx: Transaction) -> Filter:
            _, bucket = self._enter(tx, credentials, reference)
            return _existing(tx, bucket, reference.filter_id)

        return await self._context.store.read(unit)

    async def list(
        self, credentials: Credentials, scope: ScopeReference, bucket_id: str
    ) -> list[Filter]:
        """Named filters of a bucket, for who may query it."""

        def unit(tx: Transaction) -> list[Filter]:
            _, bucket = self._enter(tx, credentials, FilterReference(scope, bucket_id, ""))
            return tx.sources.filters(bucket.key)

        return await self._context.store.read(unit)

    async def delete(self, credentials: Credentials, reference: FilterReference) -> None:
        """Delete a filter with its subscriptions."""

        def unit(tx: Transaction) -> None:
            principal, bucket = self._enter(tx, credentials, reference)
            existing = _existing(tx, bucket, reference.filter_id)
            _require_change(tx, principal, bucket, existing)
            tx.sources.delete(existing.source.key)
            tx.emit(SourceRemoved(existing.source.key))

        await self._context.store.write(unit)

    def _enter(
        self, tx: Transaction, credentials: Credentials, reference: FilterReference
    ) -> tuple[Principal, Source]:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, "use filters")
        scope = resolve_scope(tx, principal, reference.scope)
        bucket = tx.sources.get(SourceKind.BUCKET, scope, reference.bucket_id)
        require(tx, principal, Verb.QUERY_OBJECTS, scope, bucket)
        if bucket is None:
            raise NotFound("bucket", reference.bucket_id, scope=scope)
        return principal, bucket


def matching_filters(
    tx: Transaction, bucket: Source, event_type: ObjectEventType, item: Object | None
) -> tuple[int, ...]:
    """Keys of the bucket's filters that let this event through. item: None for the bucket's end."""
    if not bucket.may_have_filters:
        return ()
    return tuple(
        each.source.key
        for each in tx.sources.filters(bucket.key)
        if (not each.event_types or event_type.value in each.event_types)
        and (item is None or tx.objects.matches(item, each.clause))
    )


def _find(filters: list[Filter], filter_id: str) -> Filter | None:
    return next((each for each in filters if each.id == filter_id), None)


def _existing(tx: Transaction, bucket: Source, filter_id: str) -> Filter:
    existing = _find(tx.sources.filters(bucket.key), filter_id)
    if existing is None:
        raise NotFound("filter", filter_id, scope=bucket.scope)
    return existing


def _require_change(
    tx: Transaction, principal: Principal, bucket: Source, existing: Filter
) -> None:
    is_own = existing.source.creator == principal.subject
    if not is_own and not allows(tx, principal, Verb.CHANGE_BUCKET_ACL, bucket.scope, bucket):
        raise refusal(principal, "change the filter")
