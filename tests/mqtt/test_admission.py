"""Admission: counts and rates by address and client ID."""

from __future__ import annotations

import pytest

from mqttpush.metrics import Metrics
from mqttpush.mqtt.admission import Admission
from mqttpush.mqtt.packets import ReasonCode
from tests.mqtt.support import settings


def make(**changes: object) -> Admission:
    return Admission(settings(**changes), Metrics())


def test_unauthenticated_connections_are_bounded_in_all_and_by_address() -> None:
    guard = make(max_unauthenticated=3, max_unauthenticated_per_address=2)
    assert [guard.open("192.0.2.1", 0) for _ in range(3)] == [True, True, False]
    assert [guard.open("192.0.2.2", 0) for _ in range(2)] == [True, False]
    guard.closed("192.0.2.1", was_authenticated=False)
    assert guard.open("192.0.2.2", 0)


def test_sockets_a_second_of_one_address_are_bounded() -> None:
    guard = make(max_sockets_per_s_per_address=2)
    assert [guard.open("192.0.2.1", 100.0) for _ in range(11)] == [True] * 10 + [False]
    assert guard.open("192.0.2.2", 100.0)
    assert guard.open("192.0.2.1", 100.5)
    assert all(guard.open("127.0.0.1", 100.0) for _ in range(20))


def test_a_proxy_that_has_not_named_its_client_has_no_limit_of_its_own() -> None:
    guard = make(max_sockets_per_s_per_address=1, max_unauthenticated_per_address=2)
    assert all(guard.open("192.0.2.1", 0, is_proxy=True) for _ in range(20))


def test_an_authenticated_connection_leaves_the_count_of_the_others() -> None:
    guard = make(max_unauthenticated=1, max_connections=1, max_connections_per_address=1)
    assert guard.open("192.0.2.1", 0)
    guard.authenticated("192.0.2.1")
    assert guard.open("192.0.2.1", 0)
    assert guard.check("192.0.2.1", "a", 0) is ReasonCode.SERVER_BUSY
    guard.closed("192.0.2.1", was_authenticated=True)
    assert guard.check("192.0.2.1", "a", 0) is None


def test_connections_of_one_address_are_bounded() -> None:
    guard = make(max_connections_per_address=1)
    assert guard.open("192.0.2.1", 0)
    guard.authenticated("192.0.2.1")
    assert guard.check("192.0.2.1", "a", 0) is ReasonCode.QUOTA_EXCEEDED
    assert guard.check("192.0.2.2", "a", 0) is None


def test_connects_a_second_of_one_address_are_bounded() -> None:
    guard = make(max_connects_per_s_per_address=2)
    answers = [guard.check("192.0.2.1", str(i), 100.0) for i in range(11)]
    assert answers == [None] * 10 + [ReasonCode.CONNECTION_RATE_EXCEEDED]
    assert guard.check("192.0.2.2", "a", 100.0) is None
    assert guard.check("192.0.2.1", "a", 100.5) is None


def test_wrong_credentials_lock_out_one_client_id_at_one_address() -> None:
    guard = make(max_failed_connects_per_minute=3)
    for _ in range(3):
        assert guard.check("192.0.2.1", "victim", 0) is None
        guard.failed("192.0.2.1", "victim", 0)
    assert guard.check("192.0.2.1", "victim", 0) is ReasonCode.BANNED
    guard.apply(settings(max_failed_connects_per_minute=3))
    assert guard.check("192.0.2.1", "victim", 0) is ReasonCode.BANNED
    assert guard.check("192.0.2.1", "other", 0) is None
    assert guard.check("192.0.2.2", "victim", 0) is None
    assert guard.check("192.0.2.1", "victim", 20) is None


def test_unlimited_addresses_have_no_limit_of_their_own() -> None:
    guard = make(
        unlimited_addresses=["198.51.100.0/24"],
        max_unauthenticated_per_address=1,
        max_connections_per_address=1,
        max_connects_per_s_per_address=0.1,
    )
    for _ in range(5):
        assert guard.open("198.51.100.7", 0)
        assert guard.check("198.51.100.7", "a", 0) is None
        guard.authenticated("198.51.100.7")


@pytest.mark.parametrize("network", ["10.0.0.0/33", "localhost", ""])
def test_a_network_that_is_none_is_a_configuration_error(network: str) -> None:
    with pytest.raises(ValueError, match="unlimited_addresses"):
        settings(unlimited_addresses=[network])
