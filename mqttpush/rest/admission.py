"""Admission over HTTP: how many connections, how many requests a second, from which address.

Knows no socket, clock or dialect. The one idea: a connection is its peer's, a request its client's;
the two differ behind a proxy that the settings list, and only there is X-Forwarded-For believed.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from mqttpush.config import HttpSettings
from mqttpush.errors import LimitReached
from mqttpush.metrics import Metrics
from mqttpush.peers import Networks, RateLimiter, Tally, address_key

# So many connections over `http.max_connections` may still hear that there are too many.
REFUSED_POLITELY: Final = 1000
_BURST_S: Final = 5.0


class HttpAdmission:
    """Counts of connections and rates of requests, by address. clock: seconds, monotonic."""

    def __init__(
        self, settings: HttpSettings, metrics: Metrics, *, clock: Callable[[], float]
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self.connection_count = 0
        self._connections_by_address = Tally()
        self.apply(settings)
        metrics.http_connections.read = lambda: self.connection_count

    def apply(self, settings: HttpSettings) -> None:
        """Take new limits; rates start anew, counts stay."""
        self._settings = settings
        self._unlimited = Networks(settings.unlimited_addresses)
        self._proxies = Networks(settings.forwarded_from)
        self.believes_proxies = bool(self._proxies)
        per_s = settings.max_requests_per_s_per_address
        self._requests = RateLimiter(per_s, burst=max(_BURST_S * per_s, 1)) if per_s else None

    def open(self, peer: str) -> bool:
        """Count a new connection; False: close it at once and do not call `closed`."""
        settings = self._settings
        if self.connection_count >= settings.max_connections + REFUSED_POLITELY:
            self._metrics.limits_reached.add("http.max_connections")
            return False
        key = address_key(peer)
        is_full = self._connections_by_address[key] >= settings.max_connections_per_address
        if is_full and not (self._unlimited.contains(peer) or self._proxies.contains(peer)):
            self._metrics.limits_reached.add("http.max_connections_per_address")
            return False
        self.connection_count += 1
        self._connections_by_address.add(key)
        return True

    def closed(self, peer: str) -> None:
        """A connection counted by `open` is gone."""
        self.connection_count -= 1
        self._connections_by_address.remove(address_key(peer))

    def client_of(self, peer: str, forwarded_for: str | None) -> str:
        """Whose request it is. Proxies append to X-Forwarded-For whom they have heard from: the
        last in it that is no listed proxy itself; what stands before was written by anybody.
        """
        if forwarded_for is None or not self._proxies.contains(peer):
            return peer
        client = peer
        for entry in reversed(forwarded_for.split(",")):
            heard_from = _address(entry.strip())
            if heard_from is None:
                break
            client = heard_from
            if not self._proxies.contains(client):
                break
        return client

    def check(self, client: str) -> None:
        """Count a request; raises LimitReached when there are too many of this client."""
        if self._requests is None or self._unlimited.contains(client):
            return
        key, now = address_key(client), self._clock()
        wait_s = self._requests.wait_s(key, now)
        if wait_s > 0:
            raise LimitReached("http.max_requests_per_s_per_address", retry_after_s=wait_s)
        self._requests.charge(key, now)

    def sweep(self) -> None:
        """Forget addresses that have nothing spent."""
        if self._requests is not None:
            self._requests.sweep(self._clock())


def _address(entry: str) -> str | None:
    """An address as proxies spell it, some with a port; None for anything else."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return str(ip_address(entry))
    except ValueError:
        return None
