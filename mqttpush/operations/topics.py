"""Verbs of topics: make, look for, list, delete (spec kii 6)."""

from __future__ import annotations

from dataclasses import dataclass

from mqttpush.access import Verb, allows, refusal, require
from mqttpush.errors import NotFound
from mqttpush.events import SourceRemoved
from mqttpush.models import Credentials, Principal, Scope, Source, SourceKind
from mqttpush.operations import phones
from mqttpush.operations.context import Context, ScopeReference, resolve_scope
from mqttpush.store import Transaction


@dataclass(frozen=True, slots=True)
class TopicPage:
    """Some topics of a scope, by ID. next_after: the ID to go on from, None at the end."""

    topics: list[Source]
    next_after: str | None


class Topics:
    """Topics in every scope."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, credentials: Credentials, scope: ScopeReference, topic_id: str) -> None:
        """Raises AlreadyExists, NotAuthorized."""
        context = self._context

        def unit(tx: Transaction) -> None:
            principal = context.authenticate(tx, credentials)
            place = resolve_scope(tx, principal, scope)
            require(tx, principal, Verb.CREATE_NEW_TOPIC, place)
            creator = principal.subject
            tx.sources.insert(SourceKind.TOPIC, place, topic_id, creator, context.now_ms())

        await context.store.write(unit)

    async def check(self, credentials: Credentials, scope: ScopeReference, topic_id: str) -> None:
        """Raises NotFound unless the topic exists; any authenticated principal may ask."""

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            place = resolve_scope(tx, principal, scope)
            existing_topic(tx, principal, place, topic_id)

        await self._context.store.read(unit)

    async def delete(self, credentials: Credentials, scope: ScopeReference, topic_id: str) -> None:
        """Delete a topic with its subscriptions; raises NotFound, NotAuthorized.

        Phones get the messages that were accepted before.
        """

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            place = resolve_scope(tx, principal, scope)
            topic = existing_topic(tx, principal, place, topic_id)
            require(tx, principal, Verb.CHANGE_TOPIC, place, topic)
            phones.before_sources_end(self._context, tx, place.app_id, [topic.key])
            tx.acl.delete_resource(place.app_id, topic.path)
            tx.sources.delete(topic.key)
            tx.emit(SourceRemoved(topic.key))

        await self._context.store.write(unit)

    async def list(
        self, credentials: Credentials, scope: ScopeReference, *, after: str, limit: int
    ) -> TopicPage:
        """Topics the principal may subscribe to (admin: all), IDs greater than `after`."""

        def unit(tx: Transaction) -> TopicPage:
            principal = self._context.authenticate(tx, credentials)
            if principal.is_anonymous:
                raise refusal(principal, "list topics")
            place = resolve_scope(tx, principal, scope)
            rows = tx.sources.list_of_scope(SourceKind.TOPIC, place, after, limit + 1)
            topics = [
                topic
                for topic in rows[:limit]
                if allows(tx, principal, Verb.SUBSCRIBE_TO_TOPIC, place, topic)
            ]
            return TopicPage(topics, rows[limit - 1].id if len(rows) > limit else None)

        return await self._context.store.read(unit)


def existing_topic(tx: Transaction, principal: Principal, scope: Scope, topic_id: str) -> Source:
    """Raises NotFound; whether a topic exists is for any authenticated principal to know."""
    if principal.is_anonymous:
        raise refusal(principal, "look for a topic")
    topic = tx.sources.get(SourceKind.TOPIC, scope, topic_id)
    if topic is None:
        raise NotFound("topic", topic_id, scope=scope)
    return topic
