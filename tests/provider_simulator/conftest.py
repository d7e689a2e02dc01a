"""Providers that hold no socket, for what they check; made anew for each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mqttpush.provider_simulator.apns import ApnsProvider
from mqttpush.provider_simulator.faults import FaultPlan
from mqttpush.provider_simulator.fcm import FcmProvider
from mqttpush.provider_simulator.jpush import JpushProvider
from mqttpush.provider_simulator.keys import Authority
from mqttpush.provider_simulator.providers import Providers
from mqttpush.provider_simulator.webpush import WebPushProvider
from tests.provider_simulator.support import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def providers(clock: FakeClock) -> Providers:
    faults = FaultPlan()
    shared: dict[str, Any] = {"clock": clock, "faults": faults}
    made = Providers(
        FcmProvider(**shared),
        ApnsProvider(authority=Authority(), **shared),
        JpushProvider(**shared),
        WebPushProvider(**shared),
        ca_file=Path("no-file"),
        _faults=faults,
    )
    made.fcm.token_uri = "http://fcm.test/token"
    made.webpush.url = "https://push.test"
    return made
