"""Verbs of apps as Kinvey's clients know them: who enters, what is chosen for the app.

Knows no header and no status. The one idea: a request enters first, so that what it may be refused
for comes in the order its clients know (credentials, then body); the verb it goes on to asks again
who it is, in its own unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mqttpush.errors import NotAuthenticated, NotFound
from mqttpush.kinvey import KinveySettings, PasswordProof
from mqttpush.models import App, Credentials, Principal, PrincipalKind, User
from mqttpush.operations.context import Context
from mqttpush.store import Transaction

# From this version of the API on a user shows a session's token, never a password (spec kinvey 2).
SESSIONS_ONLY_VERSION: Final = 6


@dataclass(frozen=True, slots=True)
class Entry:
    """Who has come in, and what holds for the app; as of then.

    hooks_stamp: of the app's server code, 0 if it never had any; else `username` is known too.
    """

    principal: Principal
    settings: KinveySettings
    hooks_stamp: int = 0
    username: str = ""


class Environments:
    """Entering an app, and its settings."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def enter(self, credentials: Credentials) -> Entry:
        """Raises NotAuthenticated, PrincipalDisabled, LimitReached after too many wrong secrets."""
        if credentials.app_secret is None:
            return await self._enter(credentials)
        tries = self._context.failures.tries(credentials.app_id, "", credentials.address)
        tries.check()
        try:
            return await self._enter(credentials)
        except NotAuthenticated:
            tries.wrong()
            raise

    async def _enter(self, credentials: Credentials) -> Entry:
        def unit(tx: Transaction) -> Entry:
            principal = self._context.authenticate(tx, credentials)
            app_id = principal.app_id
            stamp = tx.server_code.hooks_stamp(app_id)
            is_named = stamp and principal.kind is PrincipalKind.USER
            user = tx.users.get(app_id, principal.id) if is_named else None
            username = (user.login_name if user else None) or ""
            return Entry(principal, tx.kinvey.settings(app_id), stamp, username)

        return await self._context.store.read(unit)

    async def prove_user(
        self, app_id: str, username: str, password: str, address: str, version: int | None
    ) -> Credentials:
        """Credentials for a user's name and password, which cost a hash each time.

        version: of the API, None for the app's own. Raises NotAuthenticated, LimitReached after
        too many wrong passwords.
        """
        context = self._context

        def find(tx: Transaction) -> tuple[User | None, int]:
            settings = tx.kinvey.settings(app_id)
            return tx.users.get_by(app_id, "login_name", username), settings.api_version

        user, default_version = await context.store.read(find)
        if (default_version if version is None else version) >= SESSIONS_ONLY_VERSION:
            raise NotAuthenticated(
                f"from API version {SESSIONS_ONLY_VERSION} on a user logs in and sends his token"
            )
        tries = context.failures.tries(app_id, f"login_name {username}", address)  # as at log-in
        tries.check()
        password_hash = user.password_hash if user else None
        is_right = await context.passwords.verify(password_hash, password, address)
        tries.check()
        if not is_right or user is None or password_hash is None:
            tries.wrong()
            raise NotAuthenticated("the user name or password is not valid")
        tries.right()
        proof = PasswordProof(user.user_id, password_hash)
        return Credentials(app_id, proof=proof, address=address)

    async def app(self, credentials: Credentials) -> App:
        """The app of whoever may enter it."""

        def unit(tx: Transaction) -> App:
            app = tx.apps.get(self._context.authenticate(tx, credentials).app_id)
            assert app is not None
            return app

        return await self._context.store.read(unit)

    async def settings(self, app_id: str) -> KinveySettings:
        """For the operator, and before it is known who asks."""
        return await self._context.store.read(lambda tx: tx.kinvey.settings(app_id))

    async def change_settings(self, app_id: str, changes: Mapping[str, Any]) -> KinveySettings:
        """For the operator: set those named, as KinveySettings has them; raises NotFound."""

        def unit(tx: Transaction) -> KinveySettings:
            if tx.apps.get(app_id) is None:
                raise NotFound("app", app_id)
            settings = replace(tx.kinvey.settings(app_id), **changes)
            tx.kinvey.put_settings(app_id, settings)
            return settings

        return await self._context.store.write(unit)
