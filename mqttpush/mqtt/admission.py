"""Admission: who may open a connection, and how often, before anybody looks at credentials.

Owns counts and rates by address and by client ID. Knows no socket, clock or packet. The one idea: a
rate is one number per key, the time at which the rate so far would have been spent; so a limiter
costs 8 bytes a key and forgets by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mqttpush.config import MqttSettings
from mqttpush.metrics import Metrics
from mqttpush.mqtt.packets import ReasonCode

Network = IPv4Network | IPv6Network
# 65,536 keys of about 150 bytes: 10 MB at most, however many addresses a stranger has.
LIMITER_KEYS = 65_536


class Networks:
    """A list of addresses and networks from the settings."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._networks: list[Network] = [ip_network(entry, strict=False) for entry in entries]
        self.contains = lru_cache(maxsize=4096)(self._contains)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def _contains(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)


@lru_cache(maxsize=4096)
def address_key(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 an IPv6 subscriber has to himself."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Network((parsed, 64), strict=False).network_address)
    return address


class RateLimiter:
    """At most `per_s` a second for each key, `burst` at once."""

    __slots__ = ("_burst_s", "_due_by_key", "_interval_s")

    def __init__(self, per_s: float, burst: float) -> None:
        self._interval_s = 1 / per_s
        self._burst_s = burst / per_s
        self._due_by_key: dict[object, float] = {}

    def is_spent(self, key: object, now: float) -> bool:
        due = self._due_by_key.get(key, 0.0)
        return max(due, now) + self._interval_s - now > self._burst_s

    def charge(self, key: object, now: float) -> None:
        due = max(self._due_by_key.pop(key, 0.0), now) + self._interval_s
        if len(self._due_by_key) >= LIMITER_KEYS:
            del self._due_by_key[next(iter(self._due_by_key))]  # charged longest ago
        self._due_by_key[key] = due

    def sweep(self, now: float) -> None:
        """Forget the keys that have nothing spent."""
        idle = [key for key, due in self._due_by_key.items() if due <= now]
        for key in idle:
            del self._due_by_key[key]


class Admission:
    """Counts of connections and rates of CONNECTs, by address and in all."""

    def __init__(self, settings: MqttSettings, metrics: Metrics) -> None:
        self._metrics = metrics
        self.unauthenticated_count = 0
        self.authenticated_count = 0
        self._unauthenticated_by_address: dict[str, int] = {}
        self._authenticated_by_address: dict[str, int] = {}
        self.apply(settings)

    def apply(self, settings: MqttSettings) -> None:
        """Take new limits; rates start anew, counts stay."""
        self._settings = settings
        self._unlimited = Networks(settings.unlimited_addresses)
        per_s = settings.max_connects_per_s_per_address
        self._connects = RateLimiter(per_s, burst=max(5 * per_s, 1))
        self._takeovers = RateLimiter(settings.max_takeovers_per_s_per_client, burst=5)
        per_minute = settings.max_failed_connects_per_minute
        self._failures = RateLimiter(per_minute / 60, burst=per_minute)

    def open(self, address: str) -> bool:
        """Count a new connection; False: close it at once and do not call `closed`."""
        settings = self._settings
        key = address_key(address)
        count = self._unauthenticated_by_address.get(key, 0)
        if self.unauthenticated_count >= settings.max_unauthenticated:
            self._reached("max_unauthenticated")
            return False
        if count >= settings.max_unauthenticated_per_address and not self._is_unlimited(address):
            self._reached("max_unauthenticated_per_address")
            return False
        self.unauthenticated_count += 1
        self._unauthenticated_by_address[key] = count + 1
        return True

    def check(self, address: str, client_id: str, now: float) -> ReasonCode | None:
        """Why a CONNECT is refused without a look at its credentials; None: go on. Counts it."""
        reason = self.check_room(address)
        if reason is not None or self._is_unlimited(address):
            return reason
        key = address_key(address)
        if self._connects.is_spent(key, now):
            return self._refused(
                "max_connects_per_s_per_address", ReasonCode.CONNECTION_RATE_EXCEEDED
            )
        self._connects.charge(key, now)
        # By address and client ID: by client ID alone, a stranger could lock out its owner.
        if self._failures.is_spent((key, client_id), now):
            return self._refused("max_failed_connects_per_minute", ReasonCode.BANNED)
        return None

    def check_room(self, address: str) -> ReasonCode | None:
        """Why one more connection may not be admitted: asked before authentication and after it."""
        settings = self._settings
        if self.authenticated_count >= settings.max_connections:
            return self._refused("max_connections", ReasonCode.SERVER_BUSY)
        count = self._authenticated_by_address.get(address_key(address), 0)
        if count >= settings.max_connections_per_address and not self._is_unlimited(address):
            return self._refused("max_connections_per_address", ReasonCode.QUOTA_EXCEEDED)
        return None

    def authenticated(self, address: str) -> None:
        """A connection counted by `open` has been admitted."""
        key = address_key(address)
        self._leave_unauthenticated(key)
        self.authenticated_count += 1
        self._authenticated_by_address[key] = self._authenticated_by_address.get(key, 0) + 1

    def failed(self, address: str, client_id: str, now: float) -> None:
        """Credentials were wrong."""
        if not self._is_unlimited(address):
            self._failures.charge((address_key(address), client_id), now)

    def may_take_over(self, client_id: str, now: float) -> bool:
        """Only a takeover with right credentials is charged, so nobody else can use this up."""
        if self._takeovers.is_spent(client_id, now):
            self._reached("max_takeovers_per_s_per_client")
            return False
        self._takeovers.charge(client_id, now)
        return True

    def closed(self, address: str, *, was_authenticated: bool) -> None:
        """The socket of a connection counted by `open` is gone."""
        key = address_key(address)
        if not was_authenticated:
            self._leave_unauthenticated(key)
            return
        self.authenticated_count -= 1
        _decrement(self._authenticated_by_address, key)

    def sweep(self, now: float) -> None:
        for limiter in (self._connects, self._takeovers, self._failures):
            limiter.sweep(now)

    def _is_unlimited(self, address: str) -> bool:
        return self._unlimited.contains(address)

    def _leave_unauthenticated(self, key: str) -> None:
        self.unauthenticated_count -= 1
        _decrement(self._unauthenticated_by_address, key)

    def _refused(self, limit: str, reason: ReasonCode) -> ReasonCode:
        self._reached(limit)
        return reason

    def _reached(self, limit: str) -> None:
        self._metrics.limits_reached.add(f"mqtt.{limit}")


def _decrement(counts: dict[str, int], key: str) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1
