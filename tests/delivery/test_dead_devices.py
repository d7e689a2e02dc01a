"""Devices that a network calls dead: whoever should know of their end does."""

from __future__ import annotations

import pytest

from mqttpush.config import HookSettings
from mqttpush.models import Audience
from mqttpush.networks import Ending, Sent, TokenFate
from mqttpush.server_code import Job, JobKind, Trigger
from mqttpush.store import Transaction
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.phones import phones_on


@pytest.mark.spec("kii 11")
@in_loop
async def test_server_code_is_told_of_a_dead_device_however_much_waits_to_run() -> None:
    """Nobody could be told to try again, and what came of the push must be written down."""
    async with phones_on() as world:
        (anna,) = await world.users(1)
        store = world.context.store
        world.context.hooks = HookSettings(max_queued_runs_per_app=1)
        trigger = Trigger("installations", "INSTALLATION_DELETED", "m:f")
        waiting = Job(anna.app_id, JobKind.SERVER_CODE, "m:f", "users", ready_ms=nouns.NOW_MS)

        def prepare(tx: Transaction) -> None:
            tx.server_code.set_triggers(anna.app_id, (trigger,))
            tx.server_code.insert_job(waiting)

        await store.write(prepare)
        world.network.answer = lambda _: Sent(Ending.TOKEN_REMOVED, "404", TokenFate.REMOVE)
        ended = await world.until_ended(await world.send(Audience.of_owners(anna)), 1)
        assert ended == {Ending.TOKEN_REMOVED.value: 1}
        jobs = await store.read(
            lambda tx: tx.server_code.due_jobs(
                nouns.NOW_MS + 60_000, 9, per_app=9, after="", but=()
            )
        )
        assert [job.parameters.get("type") for job in jobs] == [None, trigger.event]
        assert jobs[1].parameters["userID"] == anna.id
