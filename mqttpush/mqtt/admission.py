"""Admission: who may open a connection, and how often, before anybody looks at credentials.

Owns counts and rates by address and by client ID. Knows no socket, clock or packet.
"""

from __future__ import annotations

from mqttpush.config import MqttSettings
from mqttpush.metrics import Metrics
from mqttpush.mqtt.packets import ReasonCode
from mqttpush.peers import Networks, RateLimiter, Tally, address_key


class Admission:
    """Counts of connections and rates of CONNECTs, by address and in all."""

    def __init__(self, settings: MqttSettings, metrics: Metrics) -> None:
        self._metrics = metrics
        self.unauthenticated_count = 0
        self.authenticated_count = 0
        self._unauthenticated_by_address = Tally()
        self._authenticated_by_address = Tally()
        self._sockets, self._connects = RateLimiter(1, 1), RateLimiter(1, 1)
        self._connects_of_client, self._takeovers = RateLimiter(1, 1), RateLimiter(1, 1)
        self._failures = RateLimiter(1, 1)
        self.apply(settings)

    def apply(self, settings: MqttSettings) -> None:
        """Take new limits; what has been counted and spent stays."""
        self._settings = settings
        self._unlimited = Networks(settings.unlimited_addresses)
        per_s = settings.max_sockets_per_s_per_address
        self._sockets.change(per_s, burst=max(5 * per_s, 1))
        per_s = settings.max_connects_per_s_per_address
        self._connects.change(per_s, burst=max(5 * per_s, 1))
        # A minute's worth: a fleet on a bad network, or a test, comes back often and then rests.
        per_s = settings.max_connects_per_s_per_client
        self._connects_of_client.change(per_s, burst=max(60 * per_s, 1))
        self._takeovers.change(settings.max_takeovers_per_s_per_client, burst=5)
        per_minute = settings.max_failed_connects_per_minute
        self._failures.change(per_minute / 60, burst=per_minute)

    def open(self, address: str, now: float, *, is_proxy: bool = False) -> bool:
        """Count a new connection; False: close it at once and do not call `closed`.

        is_proxy: it brings the address that is bounded later, when it has said its header.
        """
        settings = self._settings
        key = address_key(address)
        if self.unauthenticated_count >= settings.max_unauthenticated:
            self._reached("max_unauthenticated")
            return False
        if not is_proxy and not self._is_unlimited(address):
            if self._sockets.is_spent(key, now):
                self._reached("max_sockets_per_s_per_address")
                return False
            self._sockets.charge(key, now)
            if self._unauthenticated_by_address[key] >= settings.max_unauthenticated_per_address:
                self._reached("max_unauthenticated_per_address")
                return False
        self.unauthenticated_count += 1
        self._unauthenticated_by_address.add(key)
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
        count = self._authenticated_by_address[address_key(address)]
        if count >= settings.max_connections_per_address and not self._is_unlimited(address):
            return self._refused("max_connections_per_address", ReasonCode.QUOTA_EXCEEDED)
        return None

    def authenticated(self, address: str) -> None:
        """A connection counted by `open` has been admitted."""
        key = address_key(address)
        self._leave_unauthenticated(key)
        self.authenticated_count += 1
        self._authenticated_by_address.add(key)

    def failed(self, address: str, client_id: str, now: float) -> None:
        """Credentials were wrong."""
        if not self._is_unlimited(address):
            self._failures.charge((address_key(address), client_id), now)

    def check_client(self, client_id: str, now: float) -> ReasonCode | None:
        """Why a client with right credentials is refused all the same. Counts it.

        Asked after authentication, so that nobody else can use up what a client may do.
        """
        if self._connects_of_client.is_spent(client_id, now):
            return self._refused(
                "max_connects_per_s_per_client", ReasonCode.CONNECTION_RATE_EXCEEDED
            )
        self._connects_of_client.charge(client_id, now)
        return None

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
        self._authenticated_by_address.remove(key)

    def sweep(self, now: float) -> None:
        self._sockets.sweep(now)
        self._connects.sweep(now)
        self._connects_of_client.sweep(now)
        self._takeovers.sweep(now)
        self._failures.sweep(now)

    def _is_unlimited(self, address: str) -> bool:
        return self._unlimited.contains(address)

    def _leave_unauthenticated(self, key: str) -> None:
        self.unauthenticated_count -= 1
        self._unauthenticated_by_address.remove(key)

    def _refused(self, limit: str, reason: ReasonCode) -> ReasonCode:
        self._reached(limit)
        return reason

    def _reached(self, limit: str) -> None:
        self._metrics.limits_reached.add(f"mqtt.{limit}")
