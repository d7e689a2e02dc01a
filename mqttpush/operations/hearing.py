"""Hearing: keeps every subscription's "is heard" true when a right changes.

A verb that changes a right calls this in its own unit, so the change, the subscriptions it touches
and what the live index is told are one step. The rule itself is `access.may_hear`.
"""

from __future__ import annotations

from collections.abc import Iterable

from mqttpush.access import may_hear
from mqttpush.events import SubscriptionAdded, SubscriptionRemoved
from mqttpush.models import ANY_AUTHENTICATED, ANYBODY, Owner, Source, SourceKind
from mqttpush.operations.context import as_principal
from mqttpush.store import Transaction


def rehear_owners(tx: Transaction, app_id: str, subjects: Iterable[str]) -> None:
    """The rights of these users, things or groups (their members) changed: ask again for all."""
    persons = {person for subject in subjects for person in _persons(tx, app_id, subject)}
    for person in persons:
        owner = Owner(app_id, person)
        for source in tx.subscriptions.list_of(owner):
            _rehear(tx, owner, source)


def rehear_source(tx: Transaction, source: Source, subject: str) -> None:
    """A rule of `source` about `subject` changed: ask again for the subscribers it means.

    Cost: one question per subscriber meant; a rule about everybody asks for all of them.
    """
    app_id = source.scope.app_id
    for each in _with_filters(tx, source):
        subscribers = set(tx.subscriptions.subjects_of_source(each.key))
        if subject not in (ANYBODY, ANY_AUTHENTICATED):
            subscribers &= set(_persons(tx, app_id, subject))
        for subscriber in subscribers:
            _rehear(tx, Owner(app_id, subscriber), each)


def retell_source(tx: Transaction, source: Source) -> None:
    """Tell the live index of all subscribers of `source`: it may have missed what changed."""
    for each in _with_filters(tx, source):
        for subscriber in tx.subscriptions.subjects_of_source(each.key):
            _rehear(tx, Owner(source.scope.app_id, subscriber), each, is_told_anyway=True)


def _with_filters(tx: Transaction, source: Source) -> list[Source]:
    if source.kind is not SourceKind.BUCKET:
        return [source]
    return [source, *(item.source for item in tx.sources.filters(source.key))]


def _persons(tx: Transaction, app_id: str, subject: str) -> list[str]:
    kind, _, identifier = subject.partition(":")
    if kind != "group":
        return [subject]
    return [f"user:{user_id}" for user_id in tx.groups.members(app_id, identifier)]


def _rehear(tx: Transaction, owner: Owner, source: Source, *, is_told_anyway: bool = False) -> None:
    is_heard = may_hear(tx, as_principal(owner), source)
    if tx.subscriptions.set_heard(source.key, owner, is_heard) or is_told_anyway:
        change = SubscriptionAdded if is_heard else SubscriptionRemoved
        tx.emit(change(source.key, owner))
