"""The session in which a user changes his password goes on, as long as it was to and no longer."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.errors import NotAuthenticated
from mqttpush.models import Credentials, PrincipalKind
from mqttpush.operations import Operations
from mqttpush.operations.accounts import AccountDraft
from mqttpush.operations.context import ID, Reference
from mqttpush.store.blobs import open_blobs
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened

BEGAN_MS, CHANGED_MS, ENDS_MS = 1000, 2000, 3000


@pytest.mark.parametrize("dialect", ["kii", "kinvey"])
def test_a_token_that_ends_does_so_though_its_user_changed_his_password(dialect: str) -> None:
    @in_loop
    async def script() -> None:
        now = [BEGAN_MS]
        passwords = Passwords(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
        async with AsyncExitStack() as stack:
            stack.callback(passwords.close)
            store = (await stack.enter_async_context(opened())).store
            blobs = stack.enter_context(open_blobs(None))
            context = make_context(store, blobs, passwords, now_ms=lambda: now[0])
            operations = Operations.over(context)
            app = Credentials((await operations.apps.create("test")).app.app_id, is_app_known=True)
            draft = AccountDraft(username="joe", password="old")
            joe = (await operations.accounts.sign_up(app, draft)).account.user
            tokens = []
            for _ in range(2):
                grant = await operations.principals.log_in(
                    app,
                    kind=PrincipalKind.USER,
                    reference=Reference("login_name", "joe"),
                    password="old",
                    expires_ms=ENDS_MS,
                )
                tokens.append(Credentials(app.app_id, token=grant.token))
            own, other = tokens
            now[0] = CHANGED_MS
            if dialect == "kii":
                me = Reference(ID, joe.user_id)
                await operations.principals.change_password(own, me, "old", "new")
            else:
                await operations.accounts.change(own, joe.user_id, AccountDraft(password="new"))
            with pytest.raises(NotAuthenticated):
                await operations.accounts.get(other, None)
            assert (await operations.accounts.get(own, None)).session_ms == BEGAN_MS
            now[0] = ENDS_MS
            with pytest.raises(NotAuthenticated):
                await operations.accounts.get(own, None)

    script()
