"""Verbs of messages: send to a topic's subscribers, or directly to one user or thing."""

from __future__ import annotations

from mqttpush import payloads
from mqttpush.access import Verb, refusal, require
from mqttpush.models import Credentials, Message, MessageSent, PrincipalKind
from mqttpush.operations.context import (
    Context,
    Reference,
    ScopeReference,
    resolve_owner,
    resolve_scope,
)
from mqttpush.operations.topics import existing_topic
from mqttpush.store import Transaction


class Messages:
    """Accepting a message says nothing about its delivery (spec kii 6.4)."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def send_to_topic(
        self, credentials: Credentials, scope: ScopeReference, topic_id: str, message: Message
    ) -> str:
        """Returns the pushMessageID; raises NotFound, NotAuthorized, InvalidRequest (size)."""
        context = self._context
        message_id = context.secrets.uuid()

        def unit(tx: Transaction) -> None:
            principal = context.authenticate(tx, credentials)
            place = resolve_scope(tx, principal, scope)
            topic = existing_topic(tx, principal, place, topic_id)
            require(tx, principal, Verb.SEND_MESSAGE, place, topic)
            payload = None
            if "mqtt" in message.networks:
                now_ms = context.now_ms()
                payload = payloads.render_topic_message(message, topic, principal, now_ms)
            to = (message.to_development, message.to_production)
            tx.emit(MessageSent(message_id, topic, None, payload, *to))

        await context.store.write(unit)
        return message_id

    async def send_direct(
        self,
        credentials: Credentials,
        kind: PrincipalKind,
        target: Reference,
        message: Message,
    ) -> str:
        """Direct Push: the admin to anybody, a user to himself (spec kii 7)."""
        context = self._context
        message_id = context.secrets.uuid()

        def unit(tx: Transaction) -> None:
            principal = context.authenticate(tx, credentials)
            owner = resolve_owner(tx, principal, kind, target)
            is_self = kind is PrincipalKind.USER and principal.owner == owner
            if not (principal.is_admin or is_self):
                raise refusal(principal, "send a direct push")
            payload = None
            if "mqtt" in message.networks:
                now_ms = context.now_ms()
                payload = payloads.render_direct_message(message, owner, principal, now_ms)
            to = (message.to_development, message.to_production)
            tx.emit(MessageSent(message_id, None, owner, payload, *to))

        await context.store.write(unit)
        return message_id
