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
    sources = [source]
    if source.kind is SourceKind.BUCKET:
        sources += [item.source for item in tx.sources.filters(source.key)]
    for each in sources:
        subscribers = set(tx.subscriptions.subjects_of_source(each.key))
        if subject not in (ANYBODY, ANY_AUTHENTICATED):
            subscribers &= set(_persons(tx, app_id, subject))
        for subscriber in subscribers:
            _rehear(tx, Owner(app_id, subscriber), each)


def _persons(tx: Transaction, app_id: str, subject: str) -> list[str]:
    kind, _, identifier = subject.partition(":")
    if kind != "group":
        return [subject]
    return [f"user:{user_id}" for user_id in tx.groups.members(app_id, identifier)]


def _rehear(tx: Transaction, owner: Owner, source: Source) -> None:
    is_heard = may_hear(tx, as_principal(owner), source)
    if tx.subscriptions.set_heard(source.key, owner, is_heard):
        change = SubscriptionAdded if is_heard else SubscriptionRemoved
        tx.emit(change(source.key, owner))
