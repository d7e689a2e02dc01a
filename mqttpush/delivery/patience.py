"""Patience: when a push is tried again, and when a whole network is left alone for a while.

Knows no clock and no network: times come in, times go out.
"""

from __future__ import annotations

from mqttpush.config import DeliverySettings
from mqttpush.delivery import Clock, RandomSource
from mqttpush.networks import Sent

# 2 ** 40 times the shortest wait is beyond any longest one; floats stay finite.
_MOST_DOUBLINGS = 40
# Of sums of fractions that should make one.
_ONE = 1 - 1e-6
# A tick of the event loop that sends to a thousand MQTT clients takes longer than that.
PACE_S = 0.002


class Backoff:
    """Waits between attempts: doubled each time, within bounds, spread by half of themselves."""

    def __init__(self, *, settings: DeliverySettings, random: RandomSource) -> None:
        self._settings = settings
        self._random = random

    def wait_s(self, failures: int) -> float:
        """failures: at least 1."""
        settings = self._settings
        doubled_s = settings.min_backoff_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        longest_s = min(doubled_s, settings.max_backoff_s)
        return self._random.uniform(longest_s / 2, longest_s)

    def asked_s(self, retry_after_s: float) -> float:
        """What a network asked for, within bounds."""
        return min(retry_after_s, self._settings.max_retry_after_s)


class Pacer:
    """Spreads the beginnings of pushes over time, so that other work finds its turn between them.

    A burst would be answered as a burst, and hold up the event loop for as long as it takes.
    """

    def __init__(self, *, clock: Clock, per_s: float) -> None:
        self._clock = clock
        self._per_s = per_s
        self._burst = max(1.0, per_s * PACE_S)
        self._room = self._burst
        self._seen_s = clock.time()

    def take(self) -> float:
        """0 if a push may begin now, else how long to wait, seconds."""
        now_s = self._clock.time()
        self._room = min(self._burst, self._room + (now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        if self._room < _ONE:
            return max(PACE_S, (1 - self._room) / self._per_s)
        self._room -= 1
        return 0.0


class Breaker:
    """Opens when a service only fails: a pause, then a single push to see if it is back."""

    def __init__(self, *, backoff: Backoff, failures_to_open: int) -> None:
        self._backoff = backoff
        self._failures_to_open = failures_to_open
        self._failures = 0
        self._openings = 0
        self.until_s = 0.0

    @property
    def is_trying(self) -> bool:
        """No success since it opened: one push at a time."""
        return self._openings > 0

    def is_open(self, now_s: float) -> bool:
        return now_s < self.until_s

    def succeeded(self) -> None:
        """The network answered something definite."""
        self._failures = self._openings = 0
        self.until_s = 0.0

    def failed(self, now_s: float, began_s: float) -> bool:
        """Did it open by this? Failures of pushes that began before it did do not count."""
        if began_s < self.until_s:
            return False
        self._failures += 1
        if self._failures < self._failures_to_open and not self.is_trying:
            return False
        self._openings += 1
        self.until_s = now_s + self._backoff.wait_s(self._openings)
        return True

    def trial_s(self) -> float:
        """How long others had better wait for what the single push tells."""
        return self._backoff.wait_s(max(1, self._openings))


class Patience:
    """With one app's pushes to one service: one app's failures are no reason to pause others."""

    __slots__ = ("_backoff", "_breaker", "_paused_until_s", "under_way")

    def __init__(self, *, backoff: Backoff, failures_to_open: int) -> None:
        self._backoff = backoff
        self._breaker = Breaker(backoff=backoff, failures_to_open=failures_to_open)
        self._paused_until_s = 0.0
        self.under_way = 0

    @property
    def free_s(self) -> float:
        """When the next push may begin."""
        return max(self._paused_until_s, self._breaker.until_s)

    @property
    def is_trying(self) -> bool:
        """A single push is under way to see if the service is back; others wait for it."""
        return self._breaker.is_trying and self.under_way > 0

    def is_open(self, now_s: float) -> bool:
        """It only fails, and is left alone."""
        return self._breaker.is_open(now_s)

    def wait_s(self, now_s: float) -> float:
        """0 if a push may begin now."""
        if self.free_s > now_s:
            return self.free_s - now_s
        return self._breaker.trial_s() if self.is_trying else 0.0

    def heed(self, sent: Sent, now_s: float, began_s: float) -> bool:
        """What came of a push; did it end the patience?"""
        if sent.ending is not None:
            self._breaker.succeeded()
        elif sent.retry_after_s > 0:
            until_s = now_s + self._backoff.asked_s(sent.retry_after_s)
            self._paused_until_s = max(self._paused_until_s, until_s)
        else:
            return self._breaker.failed(now_s, began_s)
        return False
