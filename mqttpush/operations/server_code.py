"""Verbs of server code: hooks and services of an app, deployed versions, hook documents, the log.

Knows no runner: a version's source is checked by who deploys it. The one idea: what the current
version waits for is kept as rows (triggers, schedules), made anew whenever the current version or
its hook document changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from mqttpush.access import refusal
from mqttpush.errors import InvalidRequest, NotFound
from mqttpush.events import RunsQueued
from mqttpush.models import NEVER_MS, Credentials, Json, Principal, PrincipalKind
from mqttpush.operations.context import Context
from mqttpush.operations.hook_documents import (
    HookDocument,
    is_url,
    names_endpoint,
    next_cron_ms,
    next_interval_ms,
    read_document,
    require_allowed,
)
from mqttpush.operations.resealing import Resealed, Resealing
from mqttpush.server_code import (
    CodeVersion,
    Hook,
    HookKind,
    HookService,
    JobKind,
    LogLine,
    Schedule,
)
from mqttpush.store import Transaction

CURRENT: Final = "current"
VERSIONS_LIMIT: Final = 100
SOURCE_LIMIT_CHARACTERS: Final = 1_000_000
LOG_LIMIT: Final = 2000  # spec kinvey 11
VERSION: Final = "server_code_version"
HOOKS: Final = "server_code_hook_version"


@dataclass(frozen=True, slots=True)
class Runnable:
    """What running an endpoint of a version takes. depth: of who asks.

    principal: who asks; None for what reacts to data or is by the clock.
    """

    version: CodeVersion | None
    app_id: str
    depth: int
    principal: Principal | None = None
    username: str = ""


class ServerCode:
    """Code of apps: its operator's verbs take an app ID, its administrator's take credentials."""

    def __init__(self, context: Context) -> None:
        self._context = context

    # --- the operator's ---------------------------------------------------------------------

    async def delete_hook(self, app_id: str, kind: HookKind, name: str, function: str) -> None:
        """Raises NotFound."""

        def unit(tx: Transaction) -> None:
            if not tx.server_code.delete_hook(app_id, kind, name, function):
                raise NotFound("hook", f"{name} {function}", app_id=app_id)
            if kind is HookKind.ENDPOINT:
                tx.server_code.delete_schedules(app_id, JobKind.ENDPOINT, name)

        await self._context.store.write(unit)

    async def hooks(self, app_id: str) -> list[Hook]:
        """All of an app."""
        return await self._context.store.read(lambda tx: tx.server_code.hooks(app_id))

    async def put_service(self, app_id: str, name: str, url: str, secret: str) -> None:
        """Say where a service that hooks name is; raises NotFound("app"), InvalidRequest.

        secret: sent to it with each call, kept sealed; empty for none.
        """
        if not is_url(url) or not urlsplit(url).hostname:
            raise InvalidRequest("must be a URL such as http://127.0.0.1:10001", field="url")
        sealer = self._context.sealer
        sealed = sealer.seal(place_of_service(app_id, name), secret.encode()) if secret else b""

        def unit(tx: Transaction) -> None:
            _require_app(tx, app_id)
            tx.server_code.put_service(HookService(app_id, name, url, sealed))

        await self._context.store.write(unit)

    async def delete_service(self, app_id: str, name: str) -> None:
        """Raises NotFound."""

        def unit(tx: Transaction) -> None:
            if not tx.server_code.delete_service(app_id, name):
                raise NotFound("service", name, app_id=app_id)

        await self._context.store.write(unit)

    async def services(self, app_id: str) -> list[HookService]:
        """All of an app."""
        return await self._context.store.read(lambda tx: tx.server_code.services(app_id))

    async def reseal(self, old_key: bytes) -> Resealed:
        """Seal secrets of services anew; for the operator, after a change of the key."""

        def unit(tx: Transaction) -> Resealed:
            reseal = Resealing(self._context.sealer, old_key)
            for service in tx.server_code.all_services():
                place = place_of_service(service.app_id, service.name)
                sealed = reseal(place, service.sealed) if service.sealed else None
                if sealed is not None:
                    tx.server_code.put_service(service._replace(sealed=sealed))
            return reseal.result()

        return await self._context.store.write(unit)

    async def schedules(self, app_id: str) -> list[Schedule]:
        """All of an app."""
        return await self._context.store.read(lambda tx: tx.server_code.schedules(app_id))

    async def log(self, app_id: str, *, request_id: str | None, limit: int) -> list[LogLine]:
        """The latest lines, oldest first."""
        limit = min(limit, LOG_LIMIT)
        return await self._context.store.read(
            lambda tx: tx.server_code.log(app_id, request_id=request_id, limit=limit)
        )

    # --- the administrator's ----------------------------------------------------------------

    async def require_admin(self, credentials: Credentials) -> str:
        """The app's ID; raises what authenticating does, NotAuthorized."""
        return await self._context.store.read(lambda tx: self._admin(tx, credentials))

    async def deploy(self, credentials: Credentials, source: str) -> CodeVersion:
        """Keep a new version, not current yet; raises InvalidRequest when there are too many."""
        version_id = self._context.secrets.group_id()

        def unit(tx: Transaction) -> CodeVersion:
            app_id = self._admin(tx, credentials)
            if len(tx.server_code.versions(app_id)) >= VERSIONS_LIMIT:
                raise InvalidRequest(f"an app has at most {VERSIONS_LIMIT} versions: delete one")
            now_ms = self._context.now_ms()
            version = CodeVersion(app_id, version_id, source, None, False, now_ms)
            tx.server_code.insert_version(version)
            return version

        return await self._context.store.write(unit)

    async def versions(self, credentials: Credentials) -> list[CodeVersion]:
        """Newest first."""
        return await self._context.store.read(
            lambda tx: tx.server_code.versions(self._admin(tx, credentials))
        )

    async def version(self, credentials: Credentials, version_id: str) -> CodeVersion:
        """version_id: `current` too. Raises NotFound."""

        def unit(tx: Transaction) -> CodeVersion:
            return _existing(tx, self._admin(tx, credentials), version_id)

        return await self._context.store.read(unit)

    async def make_current(self, credentials: Credentials, version_id: str) -> None:
        """Its code runs from here on, and what its hook document waits for."""
        before = (await self.version(credentials, version_id)).hooks
        plan = await self._planned(before)

        def unit(tx: Transaction) -> None:
            version = _existing(tx, self._admin(tx, credentials), version_id)
            if version.hooks != before:
                raise InvalidRequest("its hooks are being changed: try again")
            tx.server_code.set_current(version.app_id, version.version_id)
            _arm(tx, version.app_id, plan)

        await self._context.store.write(unit)

    async def release_current(self, credentials: Credentials) -> None:
        """No version is current any more, and nothing is waited for; raises NotFound."""

        def unit(tx: Transaction) -> None:
            version = _existing(tx, self._admin(tx, credentials), CURRENT)
            tx.server_code.set_current(version.app_id, None)
            _arm(tx, version.app_id, NOTHING)

        await self._context.store.write(unit)

    async def delete_version(self, credentials: Credentials, version_id: str) -> None:
        """With its hook document; raises NotFound."""

        def unit(tx: Transaction) -> None:
            version = _existing(tx, self._admin(tx, credentials), version_id)
            tx.server_code.delete_version(version.app_id, version.version_id)
            if version.is_current:
                _arm(tx, version.app_id, NOTHING)

        await self._context.store.write(unit)

    async def put_hooks(
        self, credentials: Credentials, version_id: str, document: Mapping[str, Any]
    ) -> None:
        """Set a version's hook document.

        Where nothing is deployed and no endpoint is a script's function, `current` is a version
        made for the document. Raises InvalidRequest, NotFound.
        """
        await self.require_admin(credentials)  # before a stranger's document is read
        plan = await self._planned(document)
        for endpoint in plan.document.endpoints:
            require_allowed(endpoint, self._context.hooks)

        def unit(tx: Transaction) -> None:
            app_id = self._admin(tx, credentials)
            version = self._version_for_hooks(tx, app_id, version_id, plan.document)
            version = replace(version, hooks=dict(document))
            tx.server_code.set_hooks(version)
            if version.is_current:
                _arm(tx, app_id, plan)

        await self._context.store.write(unit)

    async def get_hooks(self, credentials: Credentials, version_id: str) -> Json:
        """Raises NotFound for a version without a hook document."""

        def unit(tx: Transaction) -> Json:
            return _hooked(tx, self._admin(tx, credentials), version_id)[1]

        return await self._context.store.read(unit)

    async def delete_hooks(self, credentials: Credentials, version_id: str) -> None:
        """Raises NotFound."""

        def unit(tx: Transaction) -> None:
            version, _ = _hooked(tx, self._admin(tx, credentials), version_id)
            version = replace(version, hooks=None)
            tx.server_code.set_hooks(version)
            if version.is_current:
                _arm(tx, version.app_id, NOTHING)

        await self._context.store.write(unit)

    async def runnable(self, credentials: Credentials, version_id: str, endpoint: str) -> Runnable:
        """For anybody of the app: a function of the version, or what its hook document names.

        Raises NotFound, NotAuthorized for server code (it may not call server code).
        """

        def unit(tx: Transaction) -> Runnable:
            principal = self._context.authenticate(tx, credentials)
            if principal.depth:
                raise refusal(principal, "call server code from server code")
            version = _existing(tx, principal.app_id, version_id)
            if ":" in endpoint and not names_endpoint(version.hooks or {}, endpoint):
                raise NotFound("server_code_endpoint", endpoint, app_id=principal.app_id)
            user = (
                tx.users.get(principal.app_id, principal.id)
                if principal.kind is PrincipalKind.USER
                else None
            )
            username = (user.login_name if user else None) or ""
            return Runnable(version, principal.app_id, principal.depth, principal, username)

        return await self._context.store.read(unit)

    # --- inside a unit ----------------------------------------------------------------------

    def put_hook(self, tx: Transaction, hook: Hook) -> None:
        """Make or replace a hook, an endpoint or common code, of an app that is there."""
        tx.server_code.put_hook(replace(hook, modified_ms=self._context.now_ms()))

    def schedule_endpoint(
        self, tx: Transaction, app_id: str, name: str, start_ms: int, interval: str | None
    ) -> None:
        """One schedule an endpoint, a second takes its place (spec kinvey 8.9).

        interval: of `INTERVALS_MS`, None for once.
        """
        plan = orjson.dumps({"start": start_ms, "interval": interval}).decode()
        due_ms = next_interval_ms(start_ms, interval, self._context.now_ms())
        if due_ms == NEVER_MS:  # once, and that was before
            tx.server_code.delete_schedules(app_id, JobKind.ENDPOINT, name)
            return
        tx.server_code.put_schedule(
            Schedule(app_id, JobKind.ENDPOINT, name, plan, name, {}, due_ms)
        )
        tx.emit(RunsQueued())

    def _admin(self, tx: Transaction, credentials: Credentials) -> str:
        principal = self._context.authenticate(tx, credentials)
        if not principal.is_admin:
            raise refusal(principal, "manage server code")
        return principal.app_id

    def _version_for_hooks(
        self, tx: Transaction, app_id: str, version_id: str, read: HookDocument
    ) -> CodeVersion:
        is_scriptless = all(":" in endpoint for endpoint in read.endpoints)
        if version_id != CURRENT or tx.server_code.current_version(app_id) or not is_scriptless:
            return _existing(tx, app_id, version_id)
        version = CodeVersion(
            app_id, self._context.secrets.group_id(), "", None, True, self._context.now_ms()
        )
        tx.server_code.insert_version(version)
        return version

    async def _planned(self, document: Mapping[str, Any] | None) -> _Plan:
        """What a hook document makes due, and when first; in a thread, for it may take long."""
        if not document:
            return NOTHING

        def plan() -> _Plan:
            read, now_ms = read_document(document), self._context.now_ms()
            return _Plan(read, tuple(next_cron_ms(each.cron, now_ms) for each in read.schedules))

        return await asyncio.to_thread(plan)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A hook document, and when each of its schedules is due first."""

    document: HookDocument
    due_ms: tuple[int, ...]


NOTHING: Final = _Plan(HookDocument((), ()), ())


def _arm(tx: Transaction, app_id: str, plan: _Plan) -> None:
    """Make triggers and schedules those of the plan."""
    tx.server_code.set_triggers(app_id, plan.document.triggers)
    tx.server_code.delete_schedules(app_id, JobKind.SERVER_CODE)
    for entry, due_ms in zip(plan.document.schedules, plan.due_ms, strict=True):
        if due_ms < NEVER_MS:
            own = (entry.name, entry.cron, entry.endpoint, entry.parameters, due_ms)
            tx.server_code.put_schedule(Schedule(app_id, JobKind.SERVER_CODE, *own))
    tx.emit(RunsQueued())


def place_of_service(app_id: str, name: str) -> str:
    """What the seal of its secret is bound to."""
    return f"the secret of service {name} of app {app_id}"


def _require_app(tx: Transaction, app_id: str) -> None:
    if tx.apps.get(app_id) is None:
        raise NotFound("app", app_id)


def _existing(tx: Transaction, app_id: str, version_id: str) -> CodeVersion:
    table = tx.server_code
    is_current = version_id == CURRENT
    version = table.current_version(app_id) if is_current else table.version(app_id, version_id)
    if version is None:
        raise NotFound(VERSION, version_id, app_id=app_id)
    return version


def _hooked(tx: Transaction, app_id: str, version_id: str) -> tuple[CodeVersion, Json]:
    version = _existing(tx, app_id, version_id)
    if version.hooks is None:
        raise NotFound(HOOKS, version_id, app_id=app_id)
    return version, version.hooks
