"""Presence: which things are online, kept in the store, told to who asked (spec kii 1.4).

A thing is online while it has a live MQTT connection. A change is a message to the thing's own
topic `_presence` (an extension): its owners, and the thing, may make and subscribe to it as to any
topic of the thing's scope.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from mqttpush import payloads
from mqttpush.errors import MqttPushError
from mqttpush.events import MessageSent
from mqttpush.models import Audience, Owner, PrincipalKind, Scope, ScopeType, SourceKind
from mqttpush.operations import phones
from mqttpush.operations.context import Context
from mqttpush.store import Transaction

_log = logging.getLogger(__name__)

TOPIC_ID: Final = "_presence"
# After the store refused.
RETRY_S: Final = 1.0


class Presence:
    """Writes down what the router sees, the latest of each thing, all waiting at once."""

    def __init__(self, context: Context, *, retry_s: float = RETRY_S) -> None:
        self._context = context
        self._retry_s = retry_s
        self._is_online_by_thing: dict[Owner, bool] = {}
        self._wake = asyncio.Event()

    def changed(self, owner: Owner, is_online: bool) -> None:
        """The first connection of an owner came, or the last one went."""
        if owner.kind == PrincipalKind.THING.value:
            self._is_online_by_thing[owner] = is_online
            self._wake.set()

    async def record(self) -> None:
        """Keep the store in step; runs until cancelled. At first nothing is connected."""
        is_begun = False
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            changes, self._is_online_by_thing = self._is_online_by_thing, {}
            if await self._write(partial(self._apply, changes=changes, is_first=not is_begun)):
                is_begun = True
            else:
                # Later changes win over those that could not be written.
                self._is_online_by_thing = changes | self._is_online_by_thing
                asyncio.get_running_loop().call_later(self._retry_s, self._wake.set)

    async def _write(self, unit: Callable[[Transaction], None]) -> bool:
        try:
            await self._context.store.write(unit)
        except MqttPushError as exc:
            _log.warning("presence of things could not be written: %s", exc)
            return False
        return True

    def _apply(self, tx: Transaction, changes: dict[Owner, bool], *, is_first: bool) -> None:
        now_ms = self._context.now_ms()
        if is_first:
            tx.things.set_all_offline(now_ms)
        for thing, is_online in changes.items():
            if not tx.things.set_online(thing, is_online, now_ms):
                continue
            scope = Scope(thing.app_id, ScopeType.THING, thing.id)
            topic = tx.sources.get(SourceKind.TOPIC, scope, TOPIC_ID)
            if topic is not None:
                rendered = payloads.render_presence(topic, thing, is_online, now_ms)
                message_id = self._context.secrets.uuid()
                told = MessageSent(message_id, Audience.of_topic(topic), rendered.payloads)
                # A phone misses it rather than that no thing's presence is written.
                on_phones = (told, rendered.phone_payloads)
                tx.emit(phones.enqueue(self._context, tx, *on_phones, may_be_refused=False))
