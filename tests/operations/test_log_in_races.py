"""What happens to a user while his password is checked, which takes its time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.errors import InvalidGrant, MqttPushError, NotFound, PrincipalDisabled
from mqttpush.models import Credentials
from mqttpush.operations import Operations
from mqttpush.operations.accounts import AccountDraft
from mqttpush.store.blobs import open_blobs
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened

Deed = Callable[["Stage"], Awaitable[object]]


class InterruptedPasswords(Passwords):
    """Does something else before it says whether a password fits."""

    def __init__(self) -> None:
        super().__init__(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def verify(
        self,
        password_hash: str | None,
        password: str,
        address: str = "",
        *,
        is_thing: bool = False,
    ) -> bool:
        is_right = await super().verify(password_hash, password, address, is_thing=is_thing)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return is_right


class Stage:
    """An app with one user, `joe`."""

    def __init__(self, operations: Operations, app_id: str, admin: Credentials) -> None:
        self.accounts = operations.accounts
        self.app = Credentials(app_id, is_app_known=True)
        self.admin = admin
        self.user_id = ""

    async def sign_up(self) -> None:
        draft = AccountDraft(username="joe", password="old")
        session = await self.accounts.sign_up(self.app, draft)
        self.user_id = session.account.user.user_id


@asynccontextmanager
async def _stage(passwords: InterruptedPasswords) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        stack.callback(passwords.close)
        store = (await stack.enter_async_context(opened())).store
        blobs = stack.enter_context(open_blobs(None))
        operations = Operations.over(make_context(store, blobs, passwords, now_ms=lambda: 1))
        app = (await operations.apps.create("test")).app
        token = await operations.apps.issue_admin_token(app.app_id, lifetime_s=3600)
        stage = Stage(operations, app.app_id, Credentials(app.app_id, token=token))
        await stage.sign_up()
        yield stage


async def change_password(stage: Stage) -> None:
    await stage.accounts.change(stage.admin, stage.user_id, AccountDraft(password="new"))


async def suspend(stage: Stage) -> None:
    await stage.accounts.suspend(stage.admin, stage.user_id)


async def delete(stage: Stage) -> None:
    await stage.accounts.delete(stage.admin, stage.user_id)


@pytest.mark.spec("kinvey 2")
@pytest.mark.parametrize(
    ("deed", "refused"),
    [(change_password, InvalidGrant), (suspend, PrincipalDisabled), (delete, InvalidGrant)],
)
def test_no_session_begins_by_what_no_longer_holds(
    deed: Deed, refused: type[MqttPushError]
) -> None:
    @in_loop
    async def script() -> None:
        passwords = InterruptedPasswords()
        async with _stage(passwords) as stage:
            passwords.meanwhile = lambda: deed(stage)
            with pytest.raises(refused):
                await stage.accounts.log_in(stage.app, "joe", "old")
            if deed is delete:
                with pytest.raises(NotFound):
                    await stage.accounts.get(stage.admin, stage.user_id)

    script()
