"""JPush: its JSON, environment, time and pauses."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from mqttpush.networks import Ending, Network, TokenFate
from mqttpush.networks.jpush import read_error
from mqttpush.provider_simulator import Fault
from tests.networks.support import HOUR_S, open_world
from tests.support.loop import in_loop

JPUSH = Network.JPUSH
BODY = {"platform": "all", "message": {"msg_content": "ä", "extras": {"a": "1"}}}


@in_loop
async def test_the_call_names_one_device_its_environment_and_its_time() -> None:
    async with open_world() as world:
        token = world.token(JPUSH)
        options: dict[str, Any] = {"time_to_live": 60, "apns_collapse_id": "b"}
        body = orjson.dumps({**BODY, "options": options})
        sent = await world.send(JPUSH, token, body=body, is_development=True)
        assert sent.ending is Ending.DELIVERED
        expected = {**options, "apns_production": False}
        audience = {"registration_id": [token]}
        assert orjson.loads(world.payload(JPUSH, token)) == {
            **BODY,
            "audience": audience,
            "options": expected,
        }


@in_loop
async def test_a_push_that_waited_carries_what_is_left_of_its_time() -> None:
    async with open_world() as world:
        token = world.token(JPUSH)
        push = world.push(JPUSH, token)
        for passed_s, left_s in ((0, HOUR_S), (1800, 1800), (3599.01, 1), (7200, 0)):
            later = push._replace(expires_ms=push.expires_ms - int(passed_s * 1000))
            await world.networks[JPUSH].send(world.keys(JPUSH), later)
            options = orjson.loads(world.payload(JPUSH, token))["options"]
            assert options == {"time_to_live": left_s, "apns_production": True}


@in_loop
async def test_a_wrong_secret_is_the_credentials_fault() -> None:
    async with open_world() as world:
        network = world.networks[JPUSH]
        wrong = network.check("app", {**world.keys(JPUSH).fields, "masterSecret": "0" * 24})
        sent = await network.send(wrong, world.push(JPUSH, world.token(JPUSH)))
        assert (sent.ending, sent.code) == (Ending.CREDENTIALS_REFUSED, "1004")
        assert (await network.test(wrong, None)).code == "1004"


@in_loop
async def test_a_device_nobody_knows_is_removed() -> None:
    async with open_world() as world:
        token = world.token(JPUSH)
        world.providers.jpush.kill([token])
        sent = await world.send(JPUSH, token)
    assert (sent.ending, sent.token, sent.code) == (
        Ending.TOKEN_REMOVED,
        TokenFate.REMOVE,
        "1011",
    )


@in_loop
async def test_the_rate_headers_say_how_long_to_pause() -> None:
    async with open_world() as world:
        world.providers.add_faults(Fault(network=JPUSH, code="2002"))
        assert (await world.send(JPUSH)).retry_after_s == 60.0
        world.providers.add_faults(Fault(network=JPUSH, code="1030"))
        assert (await world.send(JPUSH)).retry_after_s == 0.0


@pytest.mark.parametrize("token", ["", "a b", "line\n", 'quo"te', "x" * 10_240])
@in_loop
async def test_a_token_that_can_be_none_is_not_sent(token: str) -> None:
    async with open_world() as world:
        assert (await world.send(JPUSH, token)).code == "token_invalid"
        assert (await world.networks[JPUSH].test(world.keys(JPUSH), token or " ")).code
        assert not world.providers.jpush.ledger.refusals


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"error":7}', b'{"error":{"code":{}}}'])
def test_any_error_body_is_read(body: bytes) -> None:
    assert isinstance(read_error(body), tuple)
