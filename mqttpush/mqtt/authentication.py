"""Authentication: the CONNECTs of one loop tick, checked together.

Owns the queue of attempts and the one task that works it off. Knows no user or credential: checking
is an injected callable. The one idea: while a batch is with the store, the next one gathers by
itself, so a reconnect storm costs a few queries instead of two per client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from mqttpush.errors import MqttPushError
from mqttpush.mqtt.connection import Rules, State
from mqttpush.mqtt.handle import Handle
from mqttpush.mqtt.packets import ReasonCode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectAttempt:
    """One CONNECT waiting for authentication; `client_id` is empty if the client has none."""

    handle: Handle
    client_id: str
    username: str
    password: bytes = field(repr=False)
    protocol_version: int
    address: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """The client may connect; its handle is attached to the router already.

    mqtt_topic: its private topic, empty for an onboarding connection. An empty client ID becomes
    `mqtt_topic`.
    """

    mqtt_topic: str
    app_id: str
    is_onboarding: bool = False


class RefusalReason(Enum):
    """Why a CONNECT is refused; the value is the MQTT 5 reason code."""

    BAD_CREDENTIALS = ReasonCode.BAD_USER_NAME_OR_PASSWORD
    IDENTIFIER_REJECTED = ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    NOT_AUTHORIZED = ReasonCode.NOT_AUTHORIZED
    SERVER_UNAVAILABLE = ReasonCode.SERVER_UNAVAILABLE
    SERVER_BUSY = ReasonCode.SERVER_BUSY
    BANNED = ReasonCode.BANNED


@dataclass(frozen=True, slots=True)
class Refused:
    """The client may not connect."""

    reason: RefusalReason


class Authenticate(Protocol):
    """Checks the CONNECTs that arrived together, and attaches the admitted handles to the router.

    Answers in order. When it raises, all are refused with Server unavailable and none may be
    attached.
    """

    async def __call__(
        self, attempts: Sequence[ConnectAttempt]
    ) -> Sequence[Admitted | Refused]: ...


class AuthenticationQueue:
    """Bounded by twice the number of unauthenticated connections, of which each waits once."""

    def __init__(
        self,
        *,
        rules: Rules,
        authenticate: Authenticate,
        on_answer: Callable[[ConnectAttempt, Admitted | Refused], None],
    ) -> None:
        self._rules = rules
        self._authenticate = authenticate
        self._on_answer = on_answer
        self._waiting: list[ConnectAttempt] = []
        self._task: asyncio.Task[None] | None = None
        self._is_task_due = False

    def add(self, attempt: ConnectAttempt) -> None:
        """Answered later through `on_answer`, unless its connection has ended before."""
        self._waiting.append(attempt)
        if len(self._waiting) > 2 * self._rules.settings.max_unauthenticated:
            self._waiting = [each for each in self._waiting if _is_waited_for(each)]
        if self._task is None and not self._is_task_due:
            # Not now: the other CONNECTs of this tick belong to the same batch.
            self._is_task_due = True
            asyncio.get_running_loop().call_soon(self._start)

    async def stop(self) -> None:
        """Nobody is answered any more."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self) -> None:
        self._is_task_due = False
        self._task = asyncio.get_running_loop().create_task(
            self._work(), name="mqtt authentication"
        )

    async def _work(self) -> None:
        """One task for all connections; ends when nobody waits."""
        try:
            while batch := self._take_batch():
                for attempt, answer in zip(batch, await self._ask(batch), strict=True):
                    self._on_answer(attempt, answer)
        finally:
            self._task = None

    def _take_batch(self) -> list[ConnectAttempt]:
        """The next attempts; who has gone or was refused meanwhile costs the store nothing."""
        size = self._rules.settings.max_authenticate_batch
        batch: list[ConnectAttempt] = []
        while self._waiting and not batch:
            taken, self._waiting = self._waiting[:size], self._waiting[size:]
            batch = [attempt for attempt in taken if _is_waited_for(attempt)]
        return batch

    async def _ask(self, batch: Sequence[ConnectAttempt]) -> Sequence[Admitted | Refused]:
        try:
            async with asyncio.timeout(self._rules.settings.authenticate_timeout_s):
                answers = await self._authenticate(batch)
            if len(answers) != len(batch):
                raise RuntimeError("the authenticator answered too few or too many")
            return answers
        except (MqttPushError, TimeoutError) as exc:
            logger.warning("CONNECTs refused, authentication is not available: %s", exc)
        except Exception:
            logger.exception("CONNECTs refused, authentication failed")
        return [Refused(RefusalReason.SERVER_UNAVAILABLE)] * len(batch)  # fail closed


def _is_waited_for(attempt: ConnectAttempt) -> bool:
    return attempt.handle.connection.state is State.CHECKING
