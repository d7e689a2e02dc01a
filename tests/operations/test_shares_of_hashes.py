"""Whoever has a password hashed has it on his address's share of the queue."""

from __future__ import annotations

from contextlib import AsyncExitStack

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.models import Credentials
from mqttpush.operations import Operations
from mqttpush.operations.context import ID, Reference
from mqttpush.operations.onboarding import OnboardingDraft
from mqttpush.store.blobs import open_blobs
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened

ADDRESS = "192.0.2.1"


class WatchedPasswords(Passwords):
    """Notes for whom a thing's password is hashed."""

    def __init__(self) -> None:
        super().__init__(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
        self.addresses: list[str] = []

    async def hash_of_thing(self, password: str, address: str = "") -> str:
        self.addresses.append(address)
        return await super().hash_of_thing(password, address)


@in_loop
async def test_a_thing_s_new_password_counts_for_who_sets_it() -> None:
    passwords = WatchedPasswords()
    async with AsyncExitStack() as stack:
        stack.callback(passwords.close)
        store = (await stack.enter_async_context(opened())).store
        blobs = stack.enter_context(open_blobs(None))
        operations = Operations.over(make_context(store, blobs, passwords, now_ms=lambda: 1))
        app_id = (await operations.apps.create("test")).app.app_id
        token = await operations.apps.issue_admin_token(app_id, lifetime_s=3600)
        admin = Credentials(app_id, token=token, address=ADDRESS)
        onboarding = operations.onboarding
        draft = OnboardingDraft(Reference("vendor_thing_id", "lamp"), "123456")
        thing = Reference(ID, (await onboarding.onboard(admin, draft)).thing_id)
        await onboarding.rename(admin, thing, "lamp-2", "123456")
        await onboarding.set_password(admin, thing, "654321")
        assert passwords.addresses == [ADDRESS] * 3
