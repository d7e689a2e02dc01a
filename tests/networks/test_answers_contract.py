"""Every row of the table of answers, through the simulator: an answer means what its row says."""

from __future__ import annotations

from typing import Any

import pytest

from mqttpush.networks import Ending, Network, TokenFate
from mqttpush.networks.answers import TABLE, Meaning
from mqttpush.provider_simulator import Fault, Providers
from tests.networks.support import Clock, open_world
from tests.support.loop import in_loop

OAUTH = "oauth:"
ROWS = [
    pytest.param(network, status, code, meaning, id=f"{network}-{status}-{code or 'bare'}")
    for network, rows in TABLE.items()
    for (status, code), meaning in rows.items()
]


def fault_for(network: Network, status: int, code: str) -> Fault:
    place = "oauth" if code.startswith(OAUTH) else "send"
    code = code.removeprefix(OAUTH)
    return Fault(network=network, place=place, status=status, code=code, times=None)


@pytest.mark.parametrize(("network", "status", "code", "meaning"), ROWS)
@in_loop
async def test_an_answer_means_what_its_row_says(
    network: Network,
    status: int,
    code: str,
    meaning: Meaning,
    providers: Providers,
    fields: dict[Network, dict[str, Any]],
) -> None:
    async with open_world(providers, clock=Clock(), fields=fields) as world:
        token = world.token(network)
        providers.add_faults(fault_for(network, status, code))
        sent = await world.send(network, token)
        attempts = providers.fault_report()[0]["struck_count"]
    assert (sent.ending, sent.token) == (meaning.ending, meaning.token)
    assert attempts == (2 if meaning.renews else 1)
    if status >= 300:
        assert sent.code == (code or str(status))


@pytest.mark.parametrize("network", list(Network))
@pytest.mark.parametrize("status", [300, 304, 402, 404, 409, 418, 422, 451, 499, 507, 599])
@in_loop
async def test_an_answer_without_a_row_costs_no_token(
    network: Network, status: int, providers: Providers, fields: dict[Network, dict[str, Any]]
) -> None:
    if (status, "") in TABLE[network]:
        return
    async with open_world(providers, clock=Clock(), fields=fields) as world:
        providers.add_faults(Fault(network=network, status=status, code="NobodyKnows"))
        sent = await world.send(network)
    assert sent.token is TokenFate.KEEP
    assert sent.ending in (None, Ending.PAYLOAD_REFUSED, Ending.CREDENTIALS_REFUSED)


@pytest.mark.parametrize("network", list(Network))
@in_loop
async def test_a_plain_push_arrives(
    network: Network, providers: Providers, fields: dict[Network, dict[str, Any]]
) -> None:
    async with open_world(providers, clock=Clock(), fields=fields) as world:
        token = world.token(network)
        sent = await world.send(network, token)
        assert sent.ending is Ending.DELIVERED, sent
        assert b"hello" in world.payload(network, token)
        assert providers.provider(network).count(token) == 1


@pytest.mark.parametrize("network", list(Network))
@in_loop
async def test_a_test_of_good_credentials_reaches_no_device(
    network: Network, providers: Providers, fields: dict[Network, dict[str, Any]]
) -> None:
    async with open_world(providers, clock=Clock(), fields=fields) as world:
        before = providers.provider(network).ledger.accepted_count
        sent = await world.networks[network].test(world.keys(network), None)
        after = providers.provider(network).ledger.accepted_count
    assert sent.ending is Ending.DELIVERED, sent
    assert before == after


@pytest.mark.parametrize("network", list(Network))
@in_loop
async def test_a_dry_run_reaches_no_device(
    network: Network, providers: Providers, fields: dict[Network, dict[str, Any]]
) -> None:
    async with open_world(providers, clock=Clock(), fields=fields) as world:
        token = world.token(network)
        sent = await world.send(network, token, is_dry_run=True)
        assert sent.ending is Ending.DELIVERED, sent
        assert providers.provider(network).count(token) == 0
