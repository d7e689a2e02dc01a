"""FCM: access tokens, the message's JSON, and what its errors say."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from mqttpush.networks import Ending, Network, TokenFate
from mqttpush.networks.fcm import read_error
from mqttpush.provider_simulator import Cut, Fault, open_providers
from tests.networks.support import HOUR_S, Clock, fields_from, open_world
from tests.support.loop import in_loop

FCM = Network.FCM


@in_loop
async def test_many_sends_at_once_share_one_access_token() -> None:
    async with open_world() as world:
        sent = await asyncio.gather(*(world.send(FCM) for _ in range(50)))
        assert {result.ending for result in sent} == {Ending.DELIVERED}
        assert world.providers.fcm.oauth_count == 1


@in_loop
async def test_an_access_token_is_renewed_before_it_ends() -> None:
    async with open_world() as world:
        await world.send(FCM)
        world.clock.now_s += 3599 - 301
        await world.send(FCM)
        assert world.providers.fcm.oauth_count == 1
        world.clock.now_s += 2
        await world.send(FCM)
        assert world.providers.fcm.oauth_count == 2


@in_loop
async def test_an_access_token_serves_to_its_end_while_no_other_is_to_be_had() -> None:
    async with open_world() as world:
        await world.send(FCM)
        world.clock.now_s += 3599 - 299
        trouble = Fault(network=FCM, place="oauth", cut=Cut.RESET_BEFORE, times=None)
        world.providers.add_faults(trouble)
        for _ in range(5):
            assert (await world.send(FCM)).ending is Ending.DELIVERED
        # Not one a push: libcurl tries once more where a connection it had kept is cut.
        assert world.providers.fault_report()[0]["struck_count"] == 2
        world.clock.now_s += 300
        assert (await world.send(FCM)).ending is None
        world.providers.clear_faults()
        assert (await world.send(FCM)).ending is Ending.DELIVERED


@in_loop
async def test_an_access_token_that_is_refused_is_renewed_once_for_all() -> None:
    async with open_world() as world:
        await world.send(FCM)
        world.providers.fcm.expire_access_tokens()
        sent = await asyncio.gather(*(world.send(FCM) for _ in range(30)))
        assert {result.ending for result in sent} == {Ending.DELIVERED}
        assert world.providers.fcm.oauth_count == 2


@in_loop
async def test_a_service_that_refuses_every_token_is_not_asked_for_one_a_push() -> None:
    async with open_world() as world:
        world.providers.add_faults(Fault(network=FCM, code="UNAUTHENTICATED", times=None))
        for _ in range(10):
            assert (await world.send(FCM)).ending is Ending.CREDENTIALS_REFUSED
        assert world.providers.fcm.oauth_count == 2


@in_loop
async def test_a_withdrawn_key_is_said_clearly_and_not_tried_a_push() -> None:
    async with open_world() as world:
        email = world.keys(FCM).summary["clientEmail"]
        world.providers.fcm.delete_service_account(email)
        for _ in range(5):
            sent = await world.send(FCM)
            assert (sent.ending, sent.code) == (Ending.CREDENTIALS_REFUSED, "oauth:invalid_grant")
            assert "account not found" in sent.detail
        assert world.providers.fcm.ledger.refusals["account_not_found"] == 1
        world.clock.now_s += 11
        await world.send(FCM)
        assert world.providers.fcm.ledger.refusals["account_not_found"] == 2


@in_loop
async def test_a_wrong_clock_is_named() -> None:
    server_clock = Clock()
    server_clock.now_s += 7200
    async with open_providers(clock=server_clock) as providers, open_world(providers) as world:
        date = "Thu, 01 Jan 2026 00:00:00 GMT"
        world.providers.add_faults(
            Fault(network=FCM, place="oauth", code="clock_skew", headers={"date": date})
        )
        sent = await world.send(FCM)
    assert sent.ending is Ending.CREDENTIALS_REFUSED
    assert "clock" in sent.detail
    assert "reasonable timeframe" in sent.detail


@in_loop
async def test_a_clock_that_is_set_back_to_right_ends_a_refusal() -> None:
    right = Clock()
    wrong = Clock()
    wrong.now_s += 7200
    async with (
        open_providers(clock=right) as providers,
        open_world(providers, clock=wrong) as world,
    ):
        assert (await world.send(FCM)).code == "oauth:invalid_grant"
        wrong.now_s = right.now_s
        assert (await world.send(FCM)).ending is Ending.DELIVERED


@in_loop
async def test_a_push_that_may_have_arrived_is_not_called_unsent() -> None:
    async with open_world() as world:
        await world.send(FCM)
        # Twice: libcurl tries once more where a connection it had kept is cut.
        world.providers.add_faults(Fault(network=FCM, cut=Cut.RESET_AFTER, times=2))
        assert (await world.send(FCM)).code == "no_answer"
        world.providers.fcm.expire_access_tokens()
        world.providers.add_faults(Fault(network=FCM, place="oauth", cut=Cut.RESET_AFTER, times=2))
        assert (await world.send(FCM)).code == "unreachable"


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": Cut.RESET_BEFORE, "times": None},
        {"code": "internal_failure", "times": None},
        {"code": "rate_limited", "times": None},
        {"body": "{", "status": 200, "times": None},
    ],
)
@in_loop
async def test_a_token_endpoint_in_trouble_means_later(fault: dict[str, Any]) -> None:
    async with open_world() as world:
        world.providers.add_faults(Fault(network=FCM, place="oauth", **fault))
        sent = await world.send(FCM)
        assert (sent.ending, sent.token) == (None, TokenFate.KEEP)
        world.providers.clear_faults()
        assert (await world.send(FCM)).ending is Ending.DELIVERED


@in_loop
async def test_each_app_sends_with_its_own_account() -> None:
    async with open_world() as world:
        network = world.networks[FCM]
        first, second = (
            network.check(app, world.providers.fcm.make_service_account(f"project-{app}"))
            for app in ("one", "two")
        )
        for keys in (first, second):
            project = keys.summary["projectID"]
            [token] = world.providers.fcm.make_tokens(project=project)
            assert (await network.send(keys, world.push(FCM, token))).ending is Ending.DELIVERED
            other = second if keys is first else first
            sent = await network.send(other, world.push(FCM, token))
            assert (sent.ending, sent.token) == (Ending.TOKEN_MISMATCH, TokenFate.MARK)


@in_loop
async def test_credentials_that_were_replaced_are_not_used_again() -> None:
    async with open_world() as world:
        network = world.networks[FCM]
        old = network.check("app", fields_from(world.providers, FCM))
        await network.send(old, world.push(FCM, world.token(FCM)))
        new = network.check("app", world.providers.fcm.make_service_account("other-project"))
        [token] = world.providers.fcm.make_tokens(project="other-project")
        assert (await network.send(new, world.push(FCM, token))).ending is Ending.DELIVERED


def message(world: Any, token: str) -> dict[str, Any]:
    parsed: dict[str, Any] = orjson.loads(world.payload(FCM, token))
    return parsed


@in_loop
async def test_the_message_names_its_device_and_keeps_the_rest() -> None:
    async with open_world() as world:
        token = world.token(FCM)
        body = b'{"data":{"a":"\xc3\xa4"},"android":{"ttl":"3600s","collapse_key":"b"}}'
        assert (await world.send(FCM, token, body=body)).ending is Ending.DELIVERED
        sent = message(world, token)
    assert sent == {"message": {"token": token, **orjson.loads(body)}}


@in_loop
async def test_a_message_that_waited_carries_what_is_left_of_its_time() -> None:
    async with open_world() as world:
        token = world.token(FCM)
        push = world.push(FCM, token, body=b'{"android":{"ttl":"3600s"}}')
        world.clock.now_s += 1800
        await world.networks[FCM].send(world.keys(FCM), push)
        assert message(world, token)["message"]["android"] == {"ttl": "1800s"}
        forever = world.push(FCM, token, body=b"{}", ttl_s=None)
        await world.networks[FCM].send(world.keys(FCM), forever)
        assert message(world, token)["message"]["android"] == {"ttl": f"{HOUR_S}s"}
        long = forever._replace(expires_ms=int(world.clock() * 1000) + 10**11)
        await world.networks[FCM].send(world.keys(FCM), long)
        assert message(world, token)["message"]["android"] == {"ttl": "2419200s"}


@pytest.mark.parametrize("token", ["", "a b", "line\nfeed", 'quo"te', "x" * 10_240])
@in_loop
async def test_a_token_that_can_be_none_is_not_sent(token: str) -> None:
    async with open_world() as world:
        sent = await world.send(FCM, token)
        assert (sent.ending, sent.code) == (Ending.TOKEN_MISMATCH, "token_invalid")
        assert world.providers.fcm.oauth_count == 0


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("INVALID_ARGUMENT", Ending.PAYLOAD_REFUSED),
        ("INVALID_ARGUMENT.both", Ending.PAYLOAD_REFUSED),
        ("INVALID_ARGUMENT.bare", Ending.PAYLOAD_REFUSED),
        ("INVALID_ARGUMENT.token", Ending.TOKEN_REMOVED),
        ("INVALID_ARGUMENT.token_documented", Ending.TOKEN_REMOVED),
        ("SERVICE_DISABLED", Ending.CREDENTIALS_REFUSED),
    ],
)
@in_loop
async def test_a_bad_message_costs_nobody_his_token(code: str, ending: Ending) -> None:
    async with open_world() as world:
        world.providers.add_faults(Fault(network=FCM, code=code))
        assert (await world.send(FCM)).ending is ending


@in_loop
async def test_a_pause_that_is_asked_for_is_told_and_capped() -> None:
    async with open_world() as world:
        for asked, told in ((30, 30.0), (99_999, 86_400.0)):
            world.providers.add_faults(Fault(network=FCM, code="QUOTA_EXCEEDED", retry_after=asked))
            sent = await world.send(FCM)
            assert (sent.ending, sent.retry_after_s) == (None, told)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"error":null}',
        b'{"error":{"details":7}}',
        b'{"error":{"details":[1]}}',
    ],
)
def test_any_error_body_is_read(body: bytes) -> None:
    assert isinstance(read_error(body), tuple)
