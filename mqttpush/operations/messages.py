"""Verbs of messages: send to a topic's subscribers or to one user or thing; ask what became of it.

Accepting a message says nothing about its delivery (spec kii 6.4). What became of it is recorded
after routing, away from the sender's answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mqttpush import payloads
from mqttpush.access import Verb, refusal, require
from mqttpush.errors import MqttPushError, NotFound
from mqttpush.events import MessageSent, PhonesEnded
from mqttpush.models import (
    App,
    Audience,
    Credentials,
    Message,
    MessageRecord,
    Outcome,
    Owner,
    Principal,
    PrincipalKind,
)
from mqttpush.networks import Ending
from mqttpush.operations import phones
from mqttpush.operations.context import (
    Context,
    Reference,
    ScopeReference,
    resolve_owner,
    resolve_scope,
)
from mqttpush.operations.topics import existing_topic
from mqttpush.store import Transaction

_log = logging.getLogger(__name__)

DELIVERED: Final = Ending.DELIVERED.value
NOT_CONNECTED: Final = "not_connected"
NOT_TAKEN: Final = "not_taken"  # connected, but not subscribed yet or not reading
CLEANING_EVERY_S: Final = 300.0
CLEANING_BATCH: Final = 1000
# Waiting outcomes: 10,000 of about 300 bytes are 3 MB; more than that and records are lost first.
QUEUE_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a message, as far as it is known.

    waiting: by network, devices that wait for it, and whether these are all.
    """

    record: MessageRecord
    outcomes: list[Outcome]
    waiting: Mapping[str, tuple[int, bool]]


@dataclass(frozen=True, slots=True)
class _Routed:
    message: MessageSent
    live_count: int
    taken_count: int


class Messages:
    """Sending, and the record of what was sent."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._routed: deque[_Routed] = deque()
        self._reached: list[tuple[str, list[Owner]]] = []
        self._wake = asyncio.Event()

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
            now_ms = context.now_ms()
            app = _app_of(tx, principal)
            rendered = payloads.render_topic_message(
                message, topic, principal, now_ms, is_apns_small=app.is_apns_payload_small
            )
            sent = _sent(message_id, Audience.of_topic(topic), message, rendered, app)
            phones.send(context, tx, principal, sent, rendered.phone_payloads)

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
            now_ms = context.now_ms()
            app = _app_of(tx, principal)
            rendered = payloads.render_direct_message(
                message, owner, principal, now_ms, is_apns_small=app.is_apns_payload_small
            )
            sent = _sent(message_id, Audience.of_owners(owner), message, rendered, app)
            phones.send(context, tx, principal, sent, rendered.phone_payloads)

        await context.store.write(unit)
        return message_id

    async def fate(self, credentials: Credentials, message_id: str) -> Fate:
        """What became of a message, for its sender and the admin; raises NotFound("message")."""

        def unit(tx: Transaction) -> Fate:
            principal = self._context.authenticate(tx, credentials)
            record = tx.messages.get(principal.app_id, message_id)
            if record is None or not (principal.is_admin or record.sender == principal.subject):
                raise NotFound("message", message_id, app_id=principal.app_id)
            outcomes = tx.messages.outcomes(message_id)
            return Fate(record, outcomes, tx.pushes.waiting_of_message(message_id))

        return await self._context.store.read(unit)

    def routed(self, message: MessageSent, live_count: int, taken_count: int) -> None:
        """The router has handed the message to `taken_count` of `live_count` connections."""
        if len(self._routed) < QUEUE_LIMIT:
            self._routed.append(_Routed(message, live_count, taken_count))
            self._wake.set()

    def reached(self, message: MessageSent, owners: list[Owner]) -> None:
        """Live connections of these owners took it: their phones need not (delivery `once`)."""
        if len(self._reached) < QUEUE_LIMIT:  # else their phones get it too
            self._reached.append((message.message_id, owners))
            self._wake.set()

    async def record(self) -> None:
        """Write down what became of messages; forget old ones, and commands; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._clean(), name="old messages")
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._reached or self._routed:
                    if self._reached:
                        await self._record_reached()
                    if self._routed:
                        await self._record_one(self._routed.popleft())

    async def _clean(self) -> None:
        """A task of its own: there may be millions, and phones wait for who was reached."""
        while True:
            try:
                await self._forget_old()
            except MqttPushError as exc:
                _log.warning("old messages could not be cleaned: %s", exc)
            await asyncio.sleep(CLEANING_EVERY_S)

    async def _record_reached(self) -> None:
        """All that wait together: phones are held back only so long."""
        reached, self._reached = self._reached, []

        def unit(tx: Transaction) -> None:
            for message_id, owners in reached:
                tx.pushes.add_reached(message_id, owners)

        try:
            await self._context.store.write(unit)
        except MqttPushError as exc:
            _log.warning("whom live connections reached is not recorded: %s", exc)

    async def _record_one(self, routed: _Routed) -> None:
        message = routed.message
        try:
            to = (message.to_development, message.to_production)
            if not (message.payloads or message.unconfigured):
                return  # what becomes of phones is added as it happens
            recipients = await self._context.store.read(
                lambda tx: tx.pushes.count(message.audience, *to)
            )
            outcomes = _outcomes(routed, recipients)

            def unit(tx: Transaction) -> None:
                tx.messages.add_outcomes(message.message_id, outcomes)
                for outcome in outcomes:
                    if outcome.network in message.unconfigured:
                        tx.emit(PhonesEnded(*outcome))

            await self._context.store.write(unit)
        except MqttPushError as exc:
            _log.warning("outcome of message %s is not recorded: %s", message.message_id, exc)

    async def _forget_old(self) -> None:
        now_ms = self._context.now_ms()
        oldest_ms = now_ms - self._context.limits.message_retention_s * 1000
        oldest_event_ms = now_ms - self._context.delivery.event_retention_s * 1000
        while await self._context.store.write(
            lambda tx: (
                tx.messages.delete_older(oldest_ms, CLEANING_BATCH)
                + tx.pushes.delete_older(oldest_ms, now_ms, CLEANING_BATCH)
                + tx.pushes.delete_events(oldest_event_ms, CLEANING_BATCH)
                + tx.commands.delete_older(oldest_ms, CLEANING_BATCH)
            )
        ):
            pass


def _app_of(tx: Transaction, principal: Principal) -> App:
    app = tx.apps.get(principal.app_id)
    assert app is not None  # authentication has just seen it
    return app


def _sent(
    message_id: str, audience: Audience, message: Message, rendered: payloads.Rendered, app: App
) -> MessageSent:
    is_once = app.is_delivery_once if message.is_once is None else message.is_once
    return MessageSent(
        message_id,
        audience,
        rendered.payloads,
        to_development=message.to_development,
        to_production=message.to_production,
        is_once=is_once,
    )


def _outcomes(routed: _Routed, recipients: Mapping[str, int]) -> list[Outcome]:
    """What is known when it is routed; what becomes of phones is added as it happens."""
    message = routed.message
    outcomes = [
        Outcome(network, Ending.NOT_CONFIGURED.value, recipients.get(network, 0))
        for network in message.unconfigured
    ]
    if "mqtt" in message.payloads:
        # Who connected or left since routing makes the two counts differ by a few.
        away_count = max(0, recipients.get("mqtt", 0) - routed.live_count)
        outcomes += [
            Outcome("mqtt", DELIVERED, routed.taken_count),
            Outcome("mqtt", NOT_TAKEN, routed.live_count - routed.taken_count),
            Outcome("mqtt", NOT_CONNECTED, away_count),
        ]
    return [outcome for outcome in outcomes if outcome.recipients > 0]
