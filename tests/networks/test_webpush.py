"""Web Push: encryption, VAPID, headers, and only to where it may go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import jwt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.config import NetworkSettings
from mqttpush.models import PhonePayload
from mqttpush.networks import Ending, Network, Push, TokenFate
from mqttpush.networks.http import Answer, HttpClient, WayFailed
from mqttpush.networks.webpush import (
    MAX_PLAINTEXT_BYTES,
    WebPushNetwork,
    delivery_headers,
    generate_key,
    topic,
)
from mqttpush.provider_simulator import Fault, open_providers
from tests.networks.support import HOUR_S, Clock, no_address, open_world
from tests.networks.test_tokens import subscription
from tests.support.loop import in_loop

WEBPUSH = Network.WEBPUSH


@in_loop
async def test_the_browser_reads_what_was_sent() -> None:
    async with open_world() as world:
        token = world.token(WEBPUSH)
        for size in (1, 100, MAX_PLAINTEXT_BYTES):
            body = b"x" * size
            sent = await world.send(WEBPUSH, token, body=body, collapse_key="bucket")
            assert (sent.ending, size) == (Ending.DELIVERED, size)
            assert world.payload(WEBPUSH, token) == body
        headers = world.headers(WEBPUSH, token)
        assert headers["content-encoding"] == "aes128gcm"
        assert (headers["ttl"], headers["urgency"], headers["topic"]) == ("3600", "high", "bucket")


@in_loop
async def test_a_payload_over_the_record_is_refused_by_the_service() -> None:
    async with open_world() as world:
        sent = await world.send(WEBPUSH, body=b"x" * (MAX_PLAINTEXT_BYTES + 1))
    assert (sent.ending, sent.token) == (Ending.PAYLOAD_REFUSED, TokenFate.KEEP)


def claims_of(line: str) -> dict[str, Any]:
    token = line.partition("t=")[2].partition(",")[0]
    parsed: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return parsed


@in_loop
async def test_one_vapid_token_serves_a_service_for_hours() -> None:
    async with open_world() as world:
        token = world.token(WEBPUSH)
        lines = []
        for passed_s in (0, 21_500, 200):
            world.clock.now_s += passed_s
            assert (await world.send(WEBPUSH, token)).ending is Ending.DELIVERED
            lines.append(world.headers(WEBPUSH, token)["authorization"])
        claims = claims_of(lines[2])
        assert claims["aud"] == world.providers.urls()["webpush"]
        assert 0 < claims["exp"] - world.clock() <= 86_400
    assert lines[0] == lines[1] != lines[2]


@in_loop
async def test_a_refused_vapid_token_is_signed_again_once() -> None:
    async with open_world() as world:
        world.providers.add_faults(Fault(network=WEBPUSH, code="bad_vapid"))
        assert (await world.send(WEBPUSH)).ending is Ending.DELIVERED
        world.providers.add_faults(Fault(network=WEBPUSH, code="bad_vapid", times=None))
        sent = await asyncio.gather(*(world.send(WEBPUSH) for _ in range(10)))
        assert {result.ending for result in sent} == {Ending.CREDENTIALS_REFUSED}
        assert world.providers.fault_report()[1]["struck_count"] <= 11


@in_loop
async def test_a_subscription_of_another_key_is_marked() -> None:
    async with open_world() as world:
        [token] = world.providers.webpush.make_tokens(vapid_public_key="another")
        sent = await world.send(WEBPUSH, token)
    assert (sent.ending, sent.token) == (Ending.TOKEN_MISMATCH, TokenFate.MARK)


@in_loop
async def test_a_subscription_that_is_gone_is_removed() -> None:
    async with open_world() as world:
        gone, never = world.providers.webpush.make_tokens(2)
        world.providers.webpush.kill([gone])
        world.providers.webpush.forget([never])
        for token in (gone, never):
            assert (await world.send(WEBPUSH, token)).token is TokenFate.REMOVE


class Resolver:
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked_count = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked_count += 1
        return self.addresses


def network_with(resolve: Any, http: HttpClient | None = None, **settings: Any) -> WebPushNetwork:
    return WebPushNetwork(
        settings=NetworkSettings(**settings), clock=Clock(), resolve=resolve, http=http
    )


def push_to(token: str) -> Push:
    expires_ms = int((Clock()() + HOUR_S) * 1000)
    return Push(token, PhonePayload(b"{}"), is_development=False, expires_ms=expires_ms)


FIELDS = {"privateKey": generate_key(), "subject": "mailto:push@example.com"}


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.1.2.3", "::1"])
@in_loop
async def test_a_service_with_a_private_address_is_not_reached(address: str) -> None:
    network = network_with(Resolver("8.8.8.8", address))
    sent = await network.send(network.check("app", FIELDS), push_to(subscription()))
    await network.close()
    assert (sent.ending, sent.token) == (Ending.ADDRESS_REFUSED, TokenFate.MARK)


class DeafClient(HttpClient):
    """Connects to nobody, and tells whom it was to connect to."""

    def __init__(self) -> None:
        super().__init__(NetworkSettings())
        self.ways: list[str] = []

    async def post(
        self, url: str, headers: Sequence[str], body: bytes, *, connect_to: str = ""
    ) -> Answer:
        self.ways.append(connect_to)
        raise WayFailed("nobody answers", was_sent=False)


@in_loop
async def test_a_service_is_reached_at_the_very_addresses_that_were_checked() -> None:
    client, resolver = DeafClient(), Resolver("8.8.8.8", "2001:4860:4860::8888")
    network = network_with(resolver, client)
    keys = network.check("app", FIELDS)
    for _ in range(3):
        assert (await network.send(keys, push_to(subscription()))).code == "unreachable"
    await network.close()
    host = orjson.loads(subscription())["endpoint"].split("/")[2]
    first, other = f"{host}:443:8.8.8.8:443", f"{host}:443:[2001:4860:4860::8888]:443"
    assert client.ways == [first, other, first]
    assert resolver.asked_count == 1


@in_loop
async def test_a_stranger_s_host_is_not_even_resolved() -> None:
    resolver = Resolver("8.8.8.8")
    network = network_with(resolver)
    token = subscription(endpoint="https://evil.example/x")
    sent = await network.send(network.check("app", FIELDS), push_to(token))
    await network.close()
    assert sent.ending is Ending.ADDRESS_REFUSED
    assert resolver.asked_count == 0


@in_loop
async def test_a_name_that_cannot_be_resolved_now_means_later() -> None:
    network = network_with(no_address)
    keys = network.check("app", FIELDS)
    sent = await network.send(keys, push_to(subscription()))
    assert (sent.ending, sent.code, sent.token) == (None, "unreachable", TokenFate.KEEP)
    assert (await network.test(keys, subscription())).code == "unreachable"
    await network.close()


@in_loop
async def test_a_redirect_to_somewhere_else_is_not_followed() -> None:
    async with open_providers() as providers, open_world(providers) as world:
        elsewhere = {"location": f"{providers.urls()['control']}/reset"}
        world.providers.add_faults(Fault(network=WEBPUSH, status=307, headers=elsewhere))
        sent = await world.send(WEBPUSH)
    assert (sent.ending, sent.token) == (Ending.ADDRESS_REFUSED, TokenFate.MARK)


@in_loop
async def test_what_a_stranger_s_server_says_is_shown_to_nobody() -> None:
    async with open_world() as world:
        words = orjson.dumps({"reason": "internal-host-name", "message": "secret"}).decode()
        world.providers.add_faults(Fault(network=WEBPUSH, status=400, body=words))
        sent = await world.send(WEBPUSH)
    assert (sent.code, sent.detail) == ("400", "")


@pytest.mark.parametrize(
    "token", ["", "[]", "{}", "x" * 10_240, subscription(keys={"auth": "AA", "p256dh": "BB"})]
)
@in_loop
async def test_what_is_no_subscription_is_not_sent(token: str) -> None:
    network = network_with(no_address)
    sent = await network.send(network.check("app", FIELDS), push_to(token))
    await network.close()
    assert (sent.ending, sent.code) == (Ending.TOKEN_MISMATCH, "token_invalid")


def headers(**changes: Any) -> dict[str, str]:
    payload = PhonePayload(b"{}", **changes)
    push = Push("", payload, is_development=False, expires_ms=2_000_000)
    return dict(line.split(": ", 1) for line in delivery_headers(push, 1000.0))


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({}, "TTL", "1000"),
        ({"ttl_s": 60}, "TTL", "60"),
        ({"ttl_s": 5000}, "TTL", "1000"),
        ({"ttl_s": 0}, "TTL", "0"),
        ({"is_urgent": False}, "Urgency", "normal"),
        ({"push_type": "very-low"}, "Urgency", "very-low"),
        ({"collapse_key": "bucket"}, "Topic", "bucket"),
        ({"collapse_key": "x" * 32}, "Topic", "x" * 32),
    ],
)
def test_a_header_follows_the_payload(changes: dict[str, Any], name: str, value: str) -> None:
    assert headers(**changes)[name] == value


@pytest.mark.parametrize(
    ("left_ms", "ttl"),
    [(1000, "1"), (999, "1"), (1, "1"), (0, "0"), (-1, "0"), (-5000, "0"), (1001, "2")],
)
def test_a_second_that_has_begun_is_not_lost(left_ms: int, ttl: str) -> None:
    now_s = 1_763_800_000.123
    expires_ms = 1_763_800_000_123 + left_ms
    push = Push("", PhonePayload(b"{}"), is_development=False, expires_ms=expires_ms)
    assert f"TTL: {ttl}" in delivery_headers(push, now_s)


@given(st.integers(0, 4 * 10**12), st.integers(-(10**6), 10**7), st.floats(0, 0.9999))
def test_no_push_may_be_held_back_for_a_second_more(now: int, left_ms: int, part: float) -> None:
    now_s = (now + part) / 1000
    push = Push("", PhonePayload(b"{}"), is_development=False, expires_ms=now + left_ms)
    exact_s = push.expires_ms / 1000 - now_s
    assert max(0.0, exact_s) - 0.001 <= push.left_s(now_s) <= max(0.0, exact_s) + 1.001


@pytest.mark.parametrize("key", ["x" * 33, "line\r\nbreak: x", "ü", "a.b", " ", "\ud800"])
def test_a_collapse_key_no_service_would_take_is_hashed(key: str) -> None:
    assert len(topic(key)) == 32
    assert topic(key) == topic(key) != topic(key + "y")
