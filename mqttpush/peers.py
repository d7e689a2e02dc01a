"""Peers: what counts as one address, lists of addresses, and rates of whatever they do.

Knows no socket, clock or protocol. The one idea: a rate is one number per key, the time at which
the rate so far would have been spent; so a limiter costs 8 bytes a key and forgets by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from math import inf

Network = IPv4Network | IPv6Network
# 65,536 keys of about 150 bytes: 10 MB at most, however many addresses a stranger has.
LIMITER_KEYS = 65_536
# Sums of intervals are not exact; a limiter must not refuse one early for that.
_ROUNDING_S = 1e-6


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


def charged(due: float, per_s: float, now: float, *, burst_s: float = 5.0) -> float:
    """A rate of one, in one number: the new `due`, one more counted; inf: the rate is spent.

    due: when the rate so far would have been spent, at first 0. `burst_s` seconds' worth may come
    at once, and one however low the rate is.
    """
    interval_s = 1 / per_s
    due = max(due, now) + interval_s
    return due if due - now <= max(burst_s, interval_s) + _ROUNDING_S else inf


class RateLimiter:
    """At most `per_s` a second for each key, `burst` at once."""

    __slots__ = ("_burst_s", "_due_by_key", "_interval_s")

    def __init__(self, per_s: float, burst: float) -> None:
        self._due_by_key: dict[object, float] = {}
        self.change(per_s, burst)

    def change(self, per_s: float, burst: float) -> None:
        """Another rate from here on; what has been spent stays spent."""
        self._interval_s = 1 / per_s
        self._burst_s = burst / per_s + _ROUNDING_S

    def is_spent(self, key: object, now: float) -> bool:
        return self.wait_s(key, now) > 0

    def wait_s(self, key: object, now: float) -> float:
        """How long until the key may be charged again; 0 or less: now."""
        return max(self._due_by_key.get(key, 0.0), now) + self._interval_s - now - self._burst_s

    def charge(self, key: object, now: float) -> None:
        due = max(self._due_by_key.pop(key, 0.0), now) + self._interval_s
        if len(self._due_by_key) >= LIMITER_KEYS:
            del self._due_by_key[next(iter(self._due_by_key))]  # charged longest ago
        self._due_by_key[key] = due

    def forgive(self, key: object) -> None:
        """As if the key had never been charged."""
        self._due_by_key.pop(key, None)

    def sweep(self, now: float) -> None:
        """Forget the keys that have nothing spent."""
        idle = [key for key, due in self._due_by_key.items() if due <= now]
        for key in idle:
            del self._due_by_key[key]


class Tally:
    """How many there are of each key now."""

    __slots__ = ("_count_by_key",)

    def __init__(self) -> None:
        self._count_by_key: dict[str, int] = {}

    def __getitem__(self, key: str) -> int:
        return self._count_by_key.get(key, 0)

    def add(self, key: str) -> None:
        self._count_by_key[key] = self._count_by_key.get(key, 0) + 1

    def remove(self, key: str) -> None:
        count = self._count_by_key.pop(key)
        if count > 1:
            self._count_by_key[key] = count - 1
