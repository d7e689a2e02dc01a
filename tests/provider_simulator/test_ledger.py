"""What arrived is counted for every device, and kept for the last ones."""

from __future__ import annotations

import asyncio

from mqttpush.provider_simulator.ledger import LAST_LIMIT_DEVICES, Arrival, Ledger
from tests.support.loop import in_loop


def test_every_device_is_counted_and_the_last_ones_are_kept() -> None:
    ledger = Ledger()
    for number in range(LAST_LIMIT_DEVICES + 5):
        ledger.take(Arrival(str(number), b"", {}, number))
    ledger.take(Arrival("5", b"again", {}, 0))
    assert len(ledger.count_by_token) == LAST_LIMIT_DEVICES + 5
    assert len(ledger.last_by_token) == LAST_LIMIT_DEVICES
    assert ledger.last_by_token["5"].payload == b"again"
    assert ledger.report()["most_for_one_device"] == 2


@in_loop
async def test_who_waits_is_woken_by_the_push_he_waits_for() -> None:
    ledger = Ledger()
    waiting = [asyncio.create_task(ledger.wait_for(count)) for count in (1, 2)]
    await asyncio.sleep(0)
    ledger.take(Arrival("a", b"", {}, 0))
    await waiting[0]
    assert not waiting[1].done()
    ledger.take(Arrival("a", b"", {}, 0))
    await waiting[1]
    await ledger.wait_for(2)
