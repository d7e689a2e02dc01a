"""Addresses: where a browser's subscription may make this server connect to.

Owns the shape of an endpoint's URL, the hosts allowed, the resolution of their names and what a
public address is. Knows no HTTP. The one idea: endpoints come from strangers, so a name is resolved
here, once, every address it has must be public, and the connection goes to such an address itself -
a second answer of the name's owner, later, reaches nobody.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from mqttpush.config import NetworkSettings
from mqttpush.errors import DeliveryError, InvalidRequest
from mqttpush.networks.kept import SharedWork

# Resolves a host name to all its addresses.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# Stricter than any URL parser, so that no two of them can read it differently: a host of letters,
# digits, dots and hyphens; no user-info, no brackets, no other port, no fragment, no backslash.
_URL: Final = re.compile(
    r"(?i:https)://(?P<host>[A-Za-z0-9.-]{1,253})(?::443)?(?P<path>/[!-\"$-\[\]-~]*)?"
)
_PATH: Final = re.compile(r"(?:/[!-\"$-\[\]-~]*)?")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
# The last label of 0x7f.1, 2130706433 or 0177.0.0.1: what inet_aton would take for an address.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_URL_CHARACTERS: Final = 2048

_NAT64: Final = IPv6Network("64:ff9b::/96")
# Not public whatever the library of this Python says of them: ways to reach IPv4 through IPv6, the
# relays of 6to4, and what is kept for local use.
_NOT_PUBLIC: Final = (
    ip_network("::/96"),
    ip_network("::ffff:0:0/96"),
    ip_network("64:ff9b:1::/48"),
    ip_network("100::/64"),
    ip_network("2001::/23"),
    ip_network("2001:db8::/32"),
    ip_network("2002::/16"),
    ip_network("3fff::/20"),
    ip_network("5f00::/16"),
    ip_network("fec0::/10"),
    ip_network("100.64.0.0/10"),
    ip_network("192.0.0.0/24"),
    ip_network("192.88.99.0/24"),
    ip_network("198.18.0.0/15"),
)
# A name is asked again after that; the operator of a push service moves hosts more slowly.
_CACHE_S: Final = 60.0
_MAX_CACHED: Final = 1024
_MAX_ADDRESSES: Final = 16


class AddressRefused(DeliveryError):
    """The endpoint's host is not one this server connects to."""


class AddressUnknown(DeliveryError):
    """The name could not be resolved now."""

    retryable = True


class EndpointRefused(InvalidRequest):
    """The URL itself is not one this server connects to."""


class Endpoint(NamedTuple):
    """An endpoint's URL, taken apart. is_simulator: named in the settings, so not looked at."""

    url: str
    origin: str
    host: str
    is_simulator: bool = False


class EndpointRules:
    """Which URLs may be an endpoint, without asking the network anything."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._simulators = tuple(settings.webpush_test_origins)
        hosts = settings.webpush_hosts
        self._is_any_allowed = "*" in hosts
        self._hosts = frozenset(host for host in hosts if not host.startswith("*"))
        self._suffixes = tuple(host[1:] for host in hosts if host.startswith("*."))

    def parse(self, url: str) -> Endpoint:
        """The endpoint of a subscription. Raises EndpointRefused (field `endpoint`)."""
        if len(url) > _MAX_URL_CHARACTERS:
            raise _wrong(f"is longer than {_MAX_URL_CHARACTERS} characters")
        for origin in self._simulators:
            if url.startswith(origin) and _PATH.fullmatch(url, len(origin)):
                return Endpoint(url, origin, "", is_simulator=True)
        found = _URL.fullmatch(url)
        if found is None:
            raise _wrong("must be an https URL on port 443 without user name or fragment")
        host = found["host"].lower()
        labels = host.split(".")
        if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)):
            raise _wrong("must name a host with its full name")
        if _NUMBER.fullmatch(labels[-1]):
            raise _wrong("must name a host, not an address")
        if not (self._is_any_allowed or host in self._hosts or host.endswith(self._suffixes)):
            raise _wrong("is not on a push service's host (networks.webpush_hosts)")
        return Endpoint(url, f"https://{host}", host)


def _wrong(problem: str) -> EndpointRefused:
    return EndpointRefused(problem, field="endpoint")


def is_public(address: str) -> bool:
    """May this server connect to the address on behalf of a stranger?"""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.scope_id:
        return False  # of one link of ours
    if isinstance(parsed, IPv6Address) and parsed in _NAT64:
        return is_public(str(IPv4Address(int(parsed) & 0xFFFF_FFFF)))
    if any(parsed.version == kept.version and parsed in kept for kept in _NOT_PUBLIC):
        return False
    return parsed.is_global and not (
        parsed.is_multicast or parsed.is_reserved or parsed.is_link_local or parsed.is_unspecified
    )


class Addresses:
    """Names to checked addresses. timeout_s: longest wait for a name; clock: seconds."""

    def __init__(self, *, resolve: Resolve, timeout_s: float, clock: Callable[[], float]) -> None:
        self._resolve = resolve
        self._timeout_s = timeout_s
        self._clock = clock
        # When the name was asked, and its addresses.
        self._cached: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._under_way: dict[str, SharedWork[str]] = {}

    async def find(self, host: str) -> str:
        """One address of the host, all of which are public, at most a minute old.

        Raises AddressRefused, or AddressUnknown if the name cannot be resolved in time.
        """
        cached = self._cached.get(host)
        if cached is not None and 0 <= self._clock() - cached[0] < _CACHE_S:
            return cached[1][0]
        work = self._under_way.setdefault(host, SharedWork())
        try:
            return await work.run(lambda: self._look_up(host))
        finally:
            if not work.is_under_way:
                self._under_way.pop(host, None)

    async def _look_up(self, host: str) -> str:
        try:
            async with asyncio.timeout(self._timeout_s):
                addresses = list(dict.fromkeys(await self._resolve(host, 443)))
        except (OSError, UnicodeError) as exc:  # TimeoutError is an OSError
            raise AddressUnknown(f"the name {host} cannot be resolved: {exc}") from exc
        if not addresses:
            raise AddressUnknown(f"the name {host} has no address")
        if not all(map(is_public, addresses)):
            raise AddressRefused(f"{host} has an address that is not public")
        self._cached[host] = (self._clock(), addresses[:_MAX_ADDRESSES])
        self._cached.move_to_end(host)
        if len(self._cached) > _MAX_CACHED:
            self._cached.popitem(last=False)
        return addresses[0]

    def set_aside(self, host: str, address: str) -> None:
        """The address did not answer: the next one is tried first."""
        cached = self._cached.get(host)
        if cached is not None and cached[1][0] == address:
            cached[1].append(cached[1].pop(0))


def connect_to(host: str, address: str) -> str:
    """How the HTTP client is told to reach the host at the address."""
    shown = f"[{address}]" if ":" in address else address
    return f"{host}:443:{shown}:443"
