"""APNs: provider tokens, certificates, both environments, headers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from mqttpush.models import PhonePayload
from mqttpush.networks import Ending, Network, Push, TokenFate
from mqttpush.networks.apns import collapse_id, delivery_headers
from mqttpush.provider_simulator import Fault
from tests.networks.support import HOUR_S, TOPIC, certificate_fields, fields_from, open_world
from tests.support.loop import in_loop

APNS = Network.APNS


@in_loop
async def test_a_provider_token_is_signed_again_before_apple_calls_it_old() -> None:
    async with open_world() as world:
        token = world.token(APNS)
        start_s = world.clock()
        lines: set[str] = set()
        for age_s in (0, 1200, 2999, 3001, 6002):
            world.clock.now_s = start_s + age_s
            assert (await world.send(APNS, token)).ending is Ending.DELIVERED
            lines.add(world.headers(APNS, token)["authorization"])
        assert len(lines) == 3


@in_loop
async def test_an_expired_provider_token_is_signed_again_once_for_all() -> None:
    async with open_world() as world:
        await world.send(APNS)
        world.clock.now_s += 2
        world.providers.apns.expire_provider_tokens()
        sent = await asyncio.gather(*(world.send(APNS) for _ in range(30)))
        assert {result.ending for result in sent} == {Ending.DELIVERED}


@in_loop
async def test_a_clock_that_apple_never_believes_does_not_cost_a_signature_a_push() -> None:
    async with open_world() as world:
        world.providers.add_faults(Fault(network=APNS, code="ExpiredProviderToken", times=None))
        for _ in range(60):  # the simulator, as Apple, minds 50 tokens in 20 minutes
            sent = await world.send(APNS)
            assert (sent.ending, sent.code) == (Ending.CREDENTIALS_REFUSED, "ExpiredProviderToken")
        assert world.providers.fault_report()[0]["struck_count"] == 61


@in_loop
async def test_a_key_of_several_apps_signs_once_for_all() -> None:
    async with open_world() as world:
        fields = fields_from(world.providers, APNS)
        lines = set()
        for app, topic in (("one", "com.example.one"), ("two", "com.example.two"), ("one", TOPIC)):
            keys = world.networks[APNS].check(app, {**fields, "topic": topic})
            token = world.token(APNS)
            sent = await world.networks[APNS].send(keys, world.push(APNS, token))
            assert sent.ending is Ending.DELIVERED
            lines.add(world.headers(APNS, token)["authorization"])
        assert len(lines) == 1


@in_loop
async def test_nothing_is_sent_once_the_network_is_closed() -> None:
    async with open_world() as world:
        await world.send(APNS)
        await world.networks[APNS].close()
        sent = await world.send(APNS)
        assert (sent.ending, sent.code) == (None, "unreachable")


@in_loop
async def test_too_many_provider_tokens_are_not_answered_with_another() -> None:
    async with open_world() as world:
        fault = Fault(network=APNS, code="TooManyProviderTokenUpdates", times=None, retry_after=60)
        world.providers.add_faults(fault)
        sent = await world.send(APNS)
        assert (sent.ending, sent.retry_after_s) == (None, 60.0)
        assert world.providers.fault_report()[0]["struck_count"] == 1


@in_loop
async def test_an_installation_under_development_is_reached_at_the_sandbox() -> None:
    async with open_world() as world:
        for environment, is_development in (("sandbox", True), ("production", False)):
            [token] = world.providers.apns.make_tokens(environment=environment)
            sent = await world.send(APNS, token, is_development=is_development)
            assert sent.ending is Ending.DELIVERED
            sent = await world.send(APNS, token, is_development=not is_development)
            assert (sent.ending, sent.token) == (Ending.TOKEN_MISMATCH, TokenFate.MARK)
            assert sent.code == "BadDeviceToken"


@in_loop
async def test_each_environment_may_have_a_key_of_its_own() -> None:
    async with open_world() as world:
        network = world.networks[APNS]
        fields: dict[str, Any] = {}
        for environment in ("production", "sandbox"):
            key = world.providers.apns.make_key(environment=environment)
            made = {"key": key.pem, "keyId": key.key_id, "teamId": key.team_id, "topic": TOPIC}
            fields = {**fields, **made} if not fields else {**fields, "development": made}
        keys = network.check("app", fields)
        for is_development in (False, True):
            push = world.push(APNS, world.token(APNS), is_development=is_development)
            assert (await network.send(keys, push)).ending is Ending.DELIVERED
        assert (await network.test(keys, None)).ending is Ending.DELIVERED
        alone = network.check("other", {"development": fields["development"]})
        sent = await network.send(alone, world.push(APNS, world.token(APNS)))
        assert sent.ending is Ending.NOT_CONFIGURED


@in_loop
async def test_a_certificate_is_shown_in_the_handshake() -> None:
    async with open_world() as world:
        network = world.networks[APNS]
        keys = network.check("app", certificate_fields(world.providers))
        token = world.token(APNS)
        for is_development in (False, True):
            push = world.push(APNS, token, is_development=is_development)
            assert (await network.send(keys, push)).ending is Ending.DELIVERED
        assert "authorization" not in world.headers(APNS, token)
        sandbox_only = network.check(
            "two", certificate_fields(world.providers, environment="sandbox")
        )
        sent = await network.send(sandbox_only, world.push(APNS, token))
        assert (sent.ending, sent.code) == (Ending.CREDENTIALS_REFUSED, "BadCertificateEnvironment")


@in_loop
async def test_a_certificate_that_has_expired_meanwhile_is_not_sent_with() -> None:
    async with open_world() as world:
        network = world.networks[APNS]
        fields = certificate_fields(world.providers, lifetime=timedelta(days=2))
        keys = network.check("app", fields)
        world.clock.now_s += 3 * 86_400
        sent = await network.send(keys, world.push(APNS, world.token(APNS)))
        assert (sent.ending, sent.code) == (Ending.CREDENTIALS_REFUSED, "certificate_expired")
        assert world.providers.apns.ledger.accepted_count == 0


@in_loop
async def test_two_keys_never_share_a_connection() -> None:
    async with open_world() as world:
        network = world.networks[APNS]
        everyone = []
        for app in ("one", "two", "one"):  # the third replaces the first
            key = world.providers.apns.make_key()
            fields = {"key": key.pem, "keyId": key.key_id, "teamId": key.team_id, "topic": TOPIC}
            everyone.append(network.check(app, fields))
        pushes = [network.send(keys, world.push(APNS, world.token(APNS))) for keys in everyone * 5]
        assert {result.ending for result in await asyncio.gather(*pushes)} == {Ending.DELIVERED}


@in_loop
async def test_no_token_dies_in_the_future() -> None:
    async with open_world() as world:
        for since_ms in (2**63, int(world.clock() * 1000) + 1):
            world.providers.add_faults(Fault(network=APNS, code="Unregistered", since_ms=since_ms))
            sent = await world.send(APNS)
            assert sent.dead_since_ms == int(world.clock() * 1000)


@in_loop
async def test_a_dead_token_is_told_with_its_time() -> None:
    async with open_world() as world:
        token = world.token(APNS)
        world.providers.apns.kill([token], since_ms=1_700_000_000_123)
        sent = await world.send(APNS, token)
    assert (sent.ending, sent.token) == (Ending.TOKEN_REMOVED, TokenFate.REMOVE)
    assert (sent.code, sent.dead_since_ms) == ("Unregistered", 1_700_000_000_123)


@in_loop
async def test_a_test_with_a_wrong_key_says_so_and_one_with_a_dead_device_does_not() -> None:
    async with open_world() as world:
        network = world.networks[APNS]
        good = dict(world.keys(APNS).fields)
        wrong = network.check("wrong", {**good, "teamId": "AAAAAAAAAA"})
        assert (await network.test(wrong, None)).ending is Ending.CREDENTIALS_REFUSED
        token = world.token(APNS)
        world.providers.apns.kill([token])
        assert (await network.test(world.keys(APNS), token)).ending is Ending.TOKEN_REMOVED
        assert (await network.test(world.keys(APNS), "nonsense")).code == "token_invalid"


@in_loop
@pytest.mark.parametrize(
    ("environment", "detail"), [("production", "production"), ("sandbox", "`development` is true")]
)
async def test_a_test_says_which_environment_a_device_is_of(environment: str, detail: str) -> None:
    async with open_world() as world:
        network, keys = world.networks[APNS], world.keys(APNS)
        (token,) = world.providers.apns.make_tokens(1, environment=environment)
        sent = await network.test(keys, token)
        assert (sent.ending, detail in sent.detail) == (Ending.DELIVERED, True)
        (foreign,) = world.providers.apns.make_tokens(1, topic="com.example.other")
        assert (await network.test(keys, foreign)).ending is Ending.TOKEN_MISMATCH
        (dead,) = world.providers.apns.make_tokens(1, environment=environment)
        world.providers.apns.kill([dead])
        assert (await network.test(keys, dead)).ending is Ending.TOKEN_REMOVED


def headers(**changes: Any) -> dict[str, str]:
    names = PhonePayload.__dataclass_fields__
    own = {name: changes.pop(name) for name in list(changes) if name in names}
    payload = PhonePayload(**{"body": b"{}", "ttl_s": HOUR_S, **own})
    values = {"is_development": False, "expires_ms": 1_800_000_000_999, **changes}
    lines = delivery_headers(Push("00", payload, **values), TOPIC)
    return dict(line.split(": ", 1) for line in lines)


def test_the_headers_say_what_the_push_is() -> None:
    identifier = str(uuid4())
    assert headers(collapse_key="bucket", push_id=identifier.upper()) == {
        "apns-topic": TOPIC,
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "1800000001",
        "content-type": "application/json",
        "apns-collapse-id": "bucket",
        "apns-id": identifier,
    }


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"is_urgent": False}, "apns-priority", "5"),
        ({"push_type": "background"}, "apns-priority", "5"),
        ({"push_type": "voip"}, "apns-topic", f"{TOPIC}.voip"),
        ({"push_type": "controls"}, "apns-topic", f"{TOPIC}.push-type.controls"),
        ({"push_type": "high"}, "apns-push-type", "alert"),
        ({"push_type": "x\r\ny: z"}, "apns-push-type", "alert"),
        ({"ttl_s": 0}, "apns-expiration", "0"),
        ({"push_id": "no UUID"}, "apns-id", None),
        ({"push_id": "\r\n" + "0" * 34}, "apns-id", None),
        ({"collapse_key": ""}, "apns-collapse-id", None),
    ],
)
def test_a_header_follows_the_payload(changes: dict[str, Any], name: str, value: str) -> None:
    assert headers(**changes).get(name) == value


@pytest.mark.parametrize("key", ["x" * 65, "line\r\nbreak: x", "ü", "\x00", " ", "\ud800"])
def test_a_collapse_key_apple_would_not_take_is_hashed(key: str) -> None:
    assert len(collapse_id(key)) == 64
    assert collapse_id(key).isalnum()
    assert collapse_id(key) == collapse_id(key) != collapse_id(key + "y")
