"""Peers: addresses, lists of them, rates by key."""

from __future__ import annotations

from mqttpush.peers import LIMITER_KEYS, Networks, RateLimiter, Tally, address_key


def test_an_ipv6_subscriber_counts_as_one_address() -> None:
    assert address_key("2001:db8:1:2::1") == address_key("2001:db8:1:2:ffff::9")
    assert address_key("2001:db8:1:2::1") != address_key("2001:db8:1:3::1")
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_key("192.0.2.1") == "192.0.2.1"
    assert address_key("") == ""


def test_a_network_of_the_settings_contains_mapped_addresses() -> None:
    networks = Networks(["10.0.0.0/8"])
    assert networks.contains("10.1.2.3")
    assert networks.contains("::ffff:10.1.2.3")
    assert not networks.contains("192.0.2.1")
    assert not networks.contains("no address")


def test_a_limiter_forgets_what_is_not_spent() -> None:
    limiter = RateLimiter(per_s=1, burst=2)
    limiter.charge("a", 0.0)
    limiter.charge("a", 0.0)
    assert limiter.is_spent("a", 0.5)
    limiter.sweep(1.5)
    assert limiter.is_spent("a", 0.5)
    limiter.sweep(2.0)
    assert not limiter.is_spent("a", 0.5)


def test_a_limiter_holds_a_bounded_number_of_keys() -> None:
    limiter = RateLimiter(per_s=1, burst=1)
    for number in range(LIMITER_KEYS + 10):
        limiter.charge(number, 0.0)
    assert not limiter.is_spent(0, 0.0)
    assert limiter.is_spent(LIMITER_KEYS + 9, 0.0)


def test_a_limiter_says_how_long_to_wait_and_forgives() -> None:
    limiter = RateLimiter(per_s=7 / 300, burst=7)
    for _ in range(7):
        assert not limiter.is_spent("a", 1000.0)
        limiter.charge("a", 1000.0)
    assert limiter.is_spent("a", 1000.0)
    assert 42 < limiter.wait_s("a", 1000.0) < 43
    assert not limiter.is_spent("a", 1043.0)
    limiter.forgive("a")
    assert not limiter.is_spent("a", 1000.0)


def test_a_limiter_that_changes_its_rate_forgets_nothing() -> None:
    limiter = RateLimiter(per_s=1, burst=1)
    limiter.charge("a", 1000.0)
    limiter.change(per_s=2, burst=1)
    assert limiter.is_spent("a", 1000.9)
    assert not limiter.is_spent("a", 1001.0)
    limiter.charge("a", 1001.0)
    assert not limiter.is_spent("a", 1001.5)


def test_a_tally_keeps_nothing_of_keys_that_have_gone() -> None:
    tally = Tally()
    tally.add("a")
    tally.add("a")
    tally.remove("a")
    assert (tally["a"], tally["b"]) == (1, 0)
    tally.remove("a")
    assert tally["a"] == 0
    assert not tally._count_by_key
