"""What another process wrote of an app is told to those who follow commits."""

from __future__ import annotations

from contextlib import closing

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.events import NetworkKeysChanged, RunsQueued
from mqttpush.models import Credentials
from mqttpush.networks import Network
from mqttpush.operations import Operations
from mqttpush.store.blobs import open_blobs
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened


@in_loop
async def test_credentials_of_every_network_are_read_anew_and_due_runs_looked_for() -> None:
    passwords = Passwords(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
    with closing(passwords), open_blobs(None) as blobs:
        async with opened() as store:
            context = make_context(store.store, blobs, passwords, now_ms=lambda: 1)
            apps = Operations.over(context).apps
            app_id = (await apps.create("test")).app.app_id
            token = await apps.issue_admin_token(app_id, lifetime_s=60)
            store.batches.clear()
            await apps.heed(Credentials(app_id, token=token))
            changed = [NetworkKeysChanged(app_id, network) for network in Network]
            assert store.committed == [*changed, RunsQueued()]
