"""One provider simulator for all tests that only add faults and devices to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mqttpush.networks import Network
from mqttpush.provider_simulator import Providers
from tests.networks.support import fields_from
from tests.support.providers import running_providers


@pytest.fixture(scope="session")
def running() -> Iterator[Providers]:
    with running_providers() as running:
        yield running.providers


@pytest.fixture(scope="session")
def fields(running: Providers) -> dict[Network, dict[str, Any]]:
    """Credentials of each network, made once: RSA keys take their time."""
    return {network: fields_from(running, network) for network in Network}


@pytest.fixture
def providers(running: Providers) -> Iterator[Providers]:
    yield running
    running.reset()
