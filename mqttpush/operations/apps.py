"""Verbs of apps: create, list, get, delete; tokens of their administrator."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from mqttpush.access import refusal
from mqttpush.credentials import secret_hash
from mqttpush.errors import InvalidRequest, NotFound
from mqttpush.events import AppRemoved, NetworkKeysChanged, RunsQueued
from mqttpush.models import App, Credentials, Principal, PrincipalKind, Scope, SourceKind
from mqttpush.networks import Network
from mqttpush.operations.context import Context
from mqttpush.operations.hearing import retell_source
from mqttpush.store import Transaction

APP_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # spec kinvey 1: keys may be kept
SECRET_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,127}")
NAME_LENGTH_LIMIT: Final = 100
HEEDED_BUCKETS: Final = 100_000  # more than a file of 16 MiB declares


@dataclass(frozen=True, slots=True)
class CreatedApp:
    """A new app with the one look at its secret; the store keeps a hash."""

    app: App
    client_secret: str


class Apps:
    """Verbs of the operator, on any app, and of an app's administrator, on his own."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(
        self, name: str, *, app_id: str | None = None, app_key: str | None = None
    ) -> CreatedApp:
        """Make an app; raises AlreadyExists for a taken ID, InvalidRequest for a bad one."""
        secrets = self._context.secrets
        if not 1 <= len(name) <= NAME_LENGTH_LIMIT:
            raise InvalidRequest(f"must have 1 to {NAME_LENGTH_LIMIT} characters", field="name")
        if app_id is not None and not APP_ID_PATTERN.fullmatch(app_id):
            raise InvalidRequest("must be 1 to 64 of A-Z a-z 0-9 _ -", field="appID")
        if app_key is not None and not SECRET_PATTERN.fullmatch(app_key):
            raise InvalidRequest("must be 1 to 127 printable ASCII characters", field="appKey")
        client_secret = secrets.client_secret()
        app = App(
            app_id=app_id or secrets.app_id(),
            name=name,
            app_key=app_key or secrets.app_key(),
            client_id=secrets.client_id(),
            client_secret_hash=secret_hash(client_secret),
            created_ms=self._context.now_ms(),
        )
        await self._context.store.write(lambda tx: tx.apps.insert(app))
        return CreatedApp(app, client_secret)

    async def list(self) -> list[App]:
        """All apps, oldest first."""
        return await self._context.store.read(lambda tx: tx.apps.list())

    async def get(self, app_id: str) -> App:
        """Raises NotFound."""

        def unit(tx: Transaction) -> App:
            app = tx.apps.get(app_id)
            if app is None:
                raise NotFound("app", app_id)
            return app

        return await self._context.store.read(unit)

    async def change(
        self,
        app_id: str,
        *,
        is_disabled: bool | None = None,
        is_app_key_checked: bool | None = None,
        is_thing_password_checked: bool | None = None,
        is_apns_payload_small: bool | None = None,
        is_delivery_once: bool | None = None,
    ) -> App:
        """Set the switches that are given; a disabled app's connections end. Raises NotFound."""
        given = {
            "is_disabled": is_disabled,
            "is_app_key_checked": is_app_key_checked,
            "is_thing_password_checked": is_thing_password_checked,
            "is_apns_payload_small": is_apns_payload_small,
            "is_delivery_once": is_delivery_once,
        }
        changes: dict[str, Any] = {name: on for name, on in given.items() if on is not None}

        def unit(tx: Transaction) -> App:
            app = tx.apps.get(app_id)
            if app is None:
                raise NotFound("app", app_id)
            changed = replace(app, **changes)
            tx.apps.update(changed)
            if changed.is_disabled:
                tx.emit(AppRemoved(app_id))
            return changed

        return await self._context.store.write(unit)

    async def delete(self, app_id: str) -> None:
        """Delete an app with everything in it and end its connections; raises NotFound."""
        await self._context.store.write(lambda tx: _delete(tx, app_id))

    async def delete_own(self, credentials: Credentials) -> None:
        """The same, asked by the app's administrator."""

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            if not principal.is_admin:
                raise refusal(principal, "delete the app")
            _delete(tx, principal.app_id)

        await self._context.store.write(unit)

    async def heed(self, credentials: Credentials) -> None:
        """What another process wrote of the app reaches its connections and pushes from here on.

        For the administrator: rights of collections, credentials of push networks, due runs.
        """

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            if not principal.is_admin:
                raise refusal(principal, "have changes heeded")
            scope = Scope(principal.app_id)
            for bucket in tx.sources.list_of_scope(SourceKind.BUCKET, scope, "", HEEDED_BUCKETS):
                retell_source(tx, bucket)
            for network in Network:
                tx.emit(NetworkKeysChanged(principal.app_id, network))
            tx.emit(RunsQueued())

        await self._context.store.write(unit)

    async def issue_admin_token(self, app_id: str, *, lifetime_s: int) -> str:
        """A short-lived token of the app's administrator, for the operator; raises NotFound."""
        context = self._context
        token = context.secrets.access_token()

        def unit(tx: Transaction) -> None:
            if tx.apps.get(app_id) is None:
                raise NotFound("app", app_id)
            now_ms = context.now_ms()
            tx.tokens.delete_expired(now_ms)
            tx.tokens.insert(
                secret_hash(token),
                Principal(app_id, PrincipalKind.ADMIN),
                now_ms,
                now_ms + lifetime_s * 1000,
            )

        await context.store.write(unit)
        return token


def _delete(tx: Transaction, app_id: str) -> None:
    if not tx.apps.delete(app_id):
        raise NotFound("app", app_id)
    tx.emit(AppRemoved(app_id))
