"""On demand: push networks opened when the first of them is wanted.

Most commands of the command line send nothing; they need not wait for these libraries to load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mqttpush.config import NetworkSettings
from mqttpush.networks import Network, PushNetwork


class OnDemand(Mapping[Network, PushNetwork]):
    """All push networks. clock: wall-clock seconds."""

    def __init__(self, settings: NetworkSettings, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._opened: Mapping[Network, PushNetwork] | None = None

    def __getitem__(self, network: Network) -> PushNetwork:
        if self._opened is None:
            from mqttpush.networks.opening import open_networks

            self._opened = open_networks(self._settings, clock=self._clock)
        return self._opened[network]

    def __iter__(self) -> Iterator[Network]:
        return iter(Network)

    def __len__(self) -> int:
        return len(Network)

    async def close(self) -> None:
        """End all connections."""
        for network in (self._opened or {}).values():
            await network.close()
