"""Links in mails to users, on a clock of the test's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.errors import DomainError, InvalidGrant
from mqttpush.models import Credentials, User
from mqttpush.operations import Operations
from mqttpush.operations.account_links import AccountLinks, Purpose
from mqttpush.operations.accounts import AccountDraft
from mqttpush.store.blobs import open_blobs
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened

LIFETIME_S = 3600


class Clock:
    now_ms = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@dataclass(frozen=True, slots=True)
class Stage:
    """An app with one user."""

    clock: Clock
    operations: Operations
    links: AccountLinks
    admin: Credentials
    user: User

    @property
    def app_id(self) -> str:
        return self.user.app_id


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        passwords = Passwords(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
        stack.callback(passwords.close)
        store = (await stack.enter_async_context(opened())).store
        blobs = stack.enter_context(open_blobs(None))
        clock = Clock()
        context = make_context(store, blobs, passwords, now_ms=clock)
        operations = Operations.over(context)
        created = await operations.apps.create("test")
        app_id = created.app.app_id
        draft = AccountDraft("joe", "old", {"email": "joe@example.com"})
        session = await operations.accounts.sign_up(Credentials(app_id, is_app_known=True), draft)
        admin = Credentials(app_id, app_secret=created.client_secret)
        user = session.account.user
        yield Stage(clock, operations, AccountLinks(context), admin, user)


@pytest.mark.parametrize("purpose", [Purpose.PASSWORD, Purpose.ADDRESS])
@in_loop
async def test_a_link_ends_with_its_time(purpose: Purpose) -> None:
    async with staged() as stage:
        token = stage.links.token(purpose, stage.user, LIFETIME_S)
        stage.clock.now_ms += LIFETIME_S * 1000 - 1
        assert (await stage.links.look(stage.app_id, purpose, token)).user_id == stage.user.user_id
        stage.clock.now_ms += 1
        with pytest.raises(InvalidGrant):
            await stage.links.look(stage.app_id, purpose, token)


@in_loop
async def test_the_same_password_again_ends_the_link_too() -> None:
    async with staged() as stage:
        token = stage.links.token(Purpose.PASSWORD, stage.user, LIFETIME_S)
        await stage.links.set_password(stage.app_id, token, "old", "")
        with pytest.raises(InvalidGrant):
            await stage.links.set_password(stage.app_id, token, "other", "")


@in_loop
async def test_a_password_set_meanwhile_ends_the_link() -> None:
    async with staged() as stage:
        token = stage.links.token(Purpose.PASSWORD, stage.user, LIFETIME_S)
        draft = AccountDraft(password="changed")
        await stage.operations.accounts.change(stage.admin, stage.user.user_id, draft)
        with pytest.raises(InvalidGrant):
            await stage.links.look(stage.app_id, Purpose.PASSWORD, token)


@in_loop
async def test_nobody_who_is_suspended_or_gone_has_a_link() -> None:
    async with staged() as stage:
        token = stage.links.token(Purpose.PASSWORD, stage.user, LIFETIME_S)
        accounts, user_id = stage.operations.accounts, stage.user.user_id
        await accounts.suspend(stage.admin, user_id)
        with pytest.raises(InvalidGrant):
            await stage.links.set_password(stage.app_id, token, "new", "")
        await accounts.restore(stage.admin, user_id)
        found = await stage.links.look(stage.app_id, Purpose.PASSWORD, token)
        assert found.user_id == user_id
        await accounts.delete(stage.admin, user_id)
        with pytest.raises(InvalidGrant):
            await stage.links.look(stage.app_id, Purpose.PASSWORD, token)


@pytest.mark.parametrize(
    "token", ["", ".", "1..x", "9" * 20, f"1.{'a' * 64}.", f"\u0661.{'a' * 64}.joe", "a" * 100_000]
)
@in_loop
async def test_what_is_no_token_is_no_link(token: str) -> None:
    async with staged() as stage:
        with pytest.raises(DomainError):
            await stage.links.confirm_address(stage.app_id, token)
