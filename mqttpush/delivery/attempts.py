"""Attempts: one delivery -> one request to a network -> what is to be written down.

Knows no queue. The one idea: what the network's answer means was decided by the network; here it
becomes an ending, or a time for the next attempt that still lies within the push's life.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from mqttpush.config import DeliverySettings
from mqttpush.delivery import Clock
from mqttpush.delivery.patience import Backoff
from mqttpush.metrics import Metrics
from mqttpush.models import PhonePayload
from mqttpush.networks import Ending, Keys, Push, PushNetwork, Sent, TokenFate
from mqttpush.pushes import Attempt, Delivery, PushJob

_log = logging.getLogger(__name__)

# A push whose time is over at once is still tried: the network drops it if the device is away.
SHORTEST_TRY_MS: Final = 30_000
PAUSED: Final = "service_paused"
_BROKEN: Final = Sent(None, "internal_error")


class Attempter:
    """Sends over one network."""

    def __init__(
        self,
        *,
        name: str,
        network: PushNetwork,
        settings: DeliverySettings,
        backoff: Backoff,
        clock: Clock,
        now_ms: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self._name = name
        self._network = network
        self._settings = settings
        self._backoff = backoff
        self._clock = clock
        self._now_ms = now_ms
        self._metrics = metrics

    def settled(self, delivery: Delivery) -> Attempt | None:
        """Its ending if it is not to be sent at all."""
        if not (delivery.is_allowed and delivery.token) or delivery.payload is None:
            return self._ended(delivery, Ending.WITHDRAWN, "")
        if self._now_ms() >= self._give_up_ms(delivery.job, delivery.payload):
            return self._ended(delivery, Ending.EXPIRED, "")
        return None

    def without_keys(self, delivery: Delivery, ending: Ending) -> Attempt:
        return self._ended(delivery, ending, "")

    def put_off(self, delivery: Delivery, wait_s: float) -> Attempt:
        """Its service is left alone for so long: no request is made, and none is counted."""
        payload = delivery.payload
        assert payload is not None
        ready_ms = self._now_ms() + round(wait_s * 1000)
        if ready_ms >= self._give_up_ms(delivery.job, payload):
            return self._ended(delivery, Ending.EXPIRED, PAUSED)
        return Attempt(delivery, None, PAUSED, delivery.attempts, ready_ms)

    async def send(self, keys: Keys, delivery: Delivery) -> tuple[Attempt, Sent]:
        """One request; `delivery` is not settled."""
        job, payload = delivery.job, delivery.payload
        assert payload is not None
        started_ms, started_s = self._now_ms(), self._clock.time()
        push = Push(
            delivery.token,
            payload,
            delivery.is_development,
            job.created_ms + self._ttl_ms(payload),
            delivery.push_id,
        )
        try:
            sent = await self._network.send(keys, push)
        except Exception:
            _log.exception("sending over %s failed", self._name)
            sent = _BROKEN
        self._metrics.phone_send_latency.observe(self._name, self._clock.time() - started_s)
        if sent.ending is None:
            return self._again(delivery, payload, sent), sent
        attempt = self._ended(delivery, sent.ending, sent.code, attempts=delivery.attempts + 1)
        if sent.token is TokenFate.REMOVE:
            dead_since_ms = sent.dead_since_ms
            if dead_since_ms is None:
                dead_since_ms = started_ms
            attempt = attempt._replace(is_dead=True, dead_since_ms=dead_since_ms)
        elif sent.token is TokenFate.MARK:
            attempt = attempt._replace(problem=sent.code)
        elif sent.ending is Ending.DELIVERED and delivery.has_problem:
            attempt = attempt._replace(problem="")
        return attempt, sent

    def _again(self, delivery: Delivery, payload: PhonePayload, sent: Sent) -> Attempt:
        attempts = delivery.attempts + 1
        wait_s = self._backoff.wait_s(attempts)
        if sent.retry_after_s > 0:
            wait_s = max(wait_s, self._backoff.asked_s(sent.retry_after_s))
        ready_ms = self._now_ms() + round(wait_s * 1000)
        if ready_ms >= self._give_up_ms(delivery.job, payload):
            return self._ended(delivery, Ending.EXPIRED, sent.code, attempts=attempts)
        reason = "unavailable"
        if sent is _BROKEN:
            reason = "error"
        elif sent.retry_after_s > 0:
            reason = "throttled"
        self._metrics.phone_retries.add(self._name, reason)
        return Attempt(delivery, None, sent.code, attempts, ready_ms)

    def _ended(
        self, delivery: Delivery, ending: Ending, code: str, *, attempts: int | None = None
    ) -> Attempt:
        self._metrics.phone_pushes.add(self._name, ending.value)
        if attempts is None:
            attempts = delivery.attempts
        return Attempt(delivery, ending.value, code, attempts, self._now_ms())

    def _ttl_ms(self, payload: PhonePayload) -> int:
        ttl_s = self._settings.default_ttl_s if payload.ttl_s is None else payload.ttl_s
        return ttl_s * 1000

    def _give_up_ms(self, job: PushJob, payload: PhonePayload) -> int:
        own_ms = job.created_ms + max(self._ttl_ms(payload), SHORTEST_TRY_MS)
        return min(own_ms, job.expires_ms)
