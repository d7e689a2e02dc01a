"""Verbs of commands: ask a thing to do something, hear what came of it; a thing's own state.

Spec kii 10.6. A command is handed to the thing's live connection by the router. A thing that is
offline fails it at once, or, an extension, is waited for as long as the command says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from mqttpush import payloads
from mqttpush.access import owns_scope, refusal
from mqttpush.commands import Command, CommandState
from mqttpush.errors import MqttPushError, NotFound
from mqttpush.events import CommandSent, MessageSent
from mqttpush.models import (
    NEVER_MS,
    Audience,
    Credentials,
    Json,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
)
from mqttpush.operations import phones
from mqttpush.operations.context import Context, Reference, resolve_thing
from mqttpush.store import Transaction

_log = logging.getLogger(__name__)

SWEEP_EVERY_S: Final = 1.0
BATCH: Final = 500
# A command is overdue only when the router must have told what became of it.
ROUTING_GRACE_MS: Final = 2000
QUEUE_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class CommandDraft:
    """A command as its issuer wants it. ttl_s: how long an offline thing is waited for."""

    body: Mapping[str, Any]
    ttl_s: int = 0


class Commands:
    """Commands to things and the states they report."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._routed: deque[tuple[CommandSent, bool]] = deque()
        self._online: deque[Owner] = deque()
        self._wake = asyncio.Event()

    async def create(self, credentials: Credentials, thing: Reference, draft: CommandDraft) -> str:
        """For the thing's owners and the admin; returns the commandID.

        Raises InvalidRequest for a payload over the limit, NotFound, NotAuthorized.
        """
        context = self._context
        command_id = context.secrets.uuid()

        def unit(tx: Transaction) -> None:
            principal, place = self._enter(tx, credentials, thing, "command the thing")
            if principal.kind is PrincipalKind.THING:
                raise refusal(principal, "command itself")
            now_ms = context.now_ms()
            body = {**draft.body, "commandID": command_id, "issuer": principal.subject}
            payload = payloads.sized("mqtt", body)
            command = Command(
                command_id,
                place,
                principal.subject,
                CommandState.SENDING,
                body,
                [],
                now_ms,
                now_ms,
                now_ms + draft.ttl_s * 1000,
            )
            tx.commands.insert(command)
            tx.emit(CommandSent(command_id, place, payload))

        await context.store.write(unit)
        return command_id

    async def get(self, credentials: Credentials, thing: Reference, command_id: str) -> Command:
        """For the thing, its owners and the admin; raises NotFound("command")."""

        def unit(tx: Transaction) -> Command:
            _, place = self._enter(tx, credentials, thing, "read commands of the thing")
            return _existing(tx, place, command_id)

        return await self._context.store.read(unit)

    async def list_of(
        self, credentials: Credentials, thing: Reference, *, before: tuple[int, str], limit: int
    ) -> list[Command]:
        """The latest before (time of creation, command ID), newest first."""

        def unit(tx: Transaction) -> list[Command]:
            _, place = self._enter(tx, credentials, thing, "read commands of the thing")
            return tx.commands.list_of(place, before, limit)

        return await self._context.store.read(unit)

    async def report(
        self,
        credentials: Credentials,
        thing: Reference,
        command_id: str,
        results: Sequence[Any],
        *,
        is_done: bool,
    ) -> None:
        """The thing tells what came of a command; the issuer's devices get a push (10.6)."""

        def unit(tx: Transaction) -> None:
            principal, place = self._enter(tx, credentials, thing, "report for the thing")
            if not (principal.is_admin or principal.owner == place):
                raise refusal(principal, "report for the thing")
            command = _existing(tx, place, command_id)
            state = CommandState.DONE if is_done else CommandState.INCOMPLETE
            now_ms = self._context.now_ms()
            done = replace(command, state=state, results=results, modified_ms=now_ms)
            tx.commands.update(done)
            _tell_issuer(self._context, tx, done)

        await self._context.store.write(unit)

    async def put_state(
        self, credentials: Credentials, thing: Reference, states: Mapping[str, Json]
    ) -> None:
        """A thing says how it is, by trait alias or, without traits, under the empty alias."""

        def unit(tx: Transaction) -> None:
            principal, place = self._enter(tx, credentials, thing, "set the thing's state")
            if not (principal.is_admin or principal.owner == place):
                raise refusal(principal, "set the thing's state")
            for alias, state in states.items():
                tx.commands.put_state(place, alias, state, self._context.now_ms())

        await self._context.store.write(unit)

    async def patch_states(
        self, credentials: Credentials, thing: Reference, changes: Sequence[Mapping[str, Json]]
    ) -> None:
        """A thing says what has changed, one after the other: fields by trait alias."""

        def unit(tx: Transaction) -> None:
            principal, place = self._enter(tx, credentials, thing, "set the thing's state")
            if not (principal.is_admin or principal.owner == place):
                raise refusal(principal, "set the thing's state")
            states = tx.commands.states(place)
            for change in changes:
                for alias, fields in change.items():
                    states[alias] = {**states.get(alias, {}), **fields}
            for alias in {alias for change in changes for alias in change}:
                tx.commands.put_state(place, alias, states[alias], self._context.now_ms())

        await self._context.store.write(unit)

    async def states(self, credentials: Credentials, thing: Reference) -> dict[str, Json]:
        """What the thing last said, for itself, its owners and the admin."""

        def unit(tx: Transaction) -> dict[str, Json]:
            _, place = self._enter(tx, credentials, thing, "read the thing's state")
            return tx.commands.states(place)

        return await self._context.store.read(unit)

    def came_online(self, thing: Owner) -> None:
        """The thing has subscribed: what waits for it goes out with the next write."""
        if len(self._online) < QUEUE_LIMIT:  # more than that, and their commands fail in time
            self._online.append(thing)
            self._wake.set()

    def _hand_over(self, tx: Transaction, things: list[Owner]) -> None:
        now_ms = self._context.now_ms()
        for thing in things:
            for command in tx.commands.waiting_of(thing, now_ms):
                payload = payloads.sized("mqtt", command.body)
                tx.emit(CommandSent(command.command_id, thing, payload))

    def routed(self, command: CommandSent, taken_count: int) -> None:
        """The router has handed the command to `taken_count` connections of its thing."""
        if len(self._routed) < QUEUE_LIMIT:  # else the sweep finds it
            self._routed.append((command, taken_count > 0))
            self._wake.set()

    async def record(self) -> None:
        """Write down what became of commands, fail the overdue; runs until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                while self._routed:
                    count = min(len(self._routed), BATCH)
                    batch = [self._routed.popleft() for _ in range(count)]
                    await self._context.store.write(partial(self._record, batch=batch))
                while self._online:
                    count = min(len(self._online), BATCH)
                    things = [self._online.popleft() for _ in range(count)]
                    await self._context.store.write(partial(self._hand_over, things=things))
                while await self._context.store.read(self._overdue):
                    await self._context.store.write(self._fail_overdue)
            except MqttPushError as exc:
                _log.warning("the fate of commands could not be written: %s", exc)

    def _record(self, tx: Transaction, batch: list[tuple[CommandSent, bool]]) -> None:
        now_ms = self._context.now_ms()
        for sent, is_taken in batch:
            command = tx.commands.get(sent.thing, sent.command_id)
            if command is None or command.state is not CommandState.SENDING:
                continue  # the thing was quicker, or is gone
            if is_taken:
                tx.commands.update(replace(command, deadline_ms=NEVER_MS))
            elif command.deadline_ms <= now_ms:
                self._fail(tx, command)

    def _overdue(self, tx: Transaction) -> list[Command]:
        return tx.commands.overdue(self._context.now_ms() - ROUTING_GRACE_MS, BATCH)

    def _fail_overdue(self, tx: Transaction) -> None:
        for command in self._overdue(tx):
            self._fail(tx, command)

    def _fail(self, tx: Transaction, command: Command) -> None:
        now_ms = self._context.now_ms()
        failed = replace(command, state=CommandState.SEND_FAILED, modified_ms=now_ms)
        tx.commands.update(failed)

    def _enter(
        self, tx: Transaction, credentials: Credentials, thing: Reference, action: str
    ) -> tuple[Principal, Owner]:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, action)
        place = resolve_thing(tx, principal, thing)
        scope = Scope(place.app_id, ScopeType.THING, place.id)
        if not (principal.is_admin or owns_scope(tx, principal, scope)):
            raise refusal(principal, action)
        return principal, place


def _existing(tx: Transaction, thing: Owner, command_id: str) -> Command:
    command = tx.commands.get(thing, command_id)
    if command is None:
        raise NotFound("command", command_id, app_id=thing.app_id)
    return command


def _tell_issuer(context: Context, tx: Transaction, command: Command) -> None:
    kind = command.issuer.partition(":")[0]
    if kind == PrincipalKind.ADMIN.value:
        return
    issuer = Owner(command.thing.app_id, command.issuer)
    rendered = payloads.render_command_result(command, issuer)
    told = MessageSent(context.secrets.uuid(), Audience.of_owners(issuer), rendered.payloads)
    tx.emit(phones.enqueue(context, tx, told, rendered.phone_payloads))
