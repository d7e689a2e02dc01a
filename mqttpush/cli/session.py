"""Session: from the options to a client of the running server, with the rights the command needs.

Owns the local trick: on the server's machine the command line opens the server's store and mints a
short-lived admin token, so an operator needs no secret there. Everything else goes over REST.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mqttpush.cli.options import ServerOptions, reachable
from mqttpush.client import AppClient, make_http_client
from mqttpush.config import Settings
from mqttpush.errors import ConfigError, NotFound, ServerUnreachable

if TYPE_CHECKING:  # a remote command needs no store, so it does not wait for one to load
    from mqttpush.models import App, Credentials
    from mqttpush.operations import Operations

ADMIN_TOKEN_LIFETIME_S = 900
DSN_PREFIX = "sqlite:///"
READY_FILE = "server.json"


@dataclass(frozen=True, slots=True)
class AdminSession:
    """One app of a running server, with its administrator's rights."""

    client: AppClient
    token: str


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Operations]:
    """The domain on the server's store, which must exist."""
    path = database_path(settings)
    if not path.exists():
        raise ConfigError(
            "store.dsn",
            str(path),
            "no store there yet; start the server with the same settings, or name another one"
            " with --url, --app-id and --app-key",
            "mqttpush serve",
        )
    from mqttpush.server import open_operations

    async with open_operations(settings) as operations:
        yield operations


@asynccontextmanager
async def open_app(server: ServerOptions, *, is_any: bool = False) -> AsyncIterator[AppClient]:
    """A client with the app's public key alone.

    is_any: without --app-id take the oldest app, or make one, where others would have to ask.
    """
    app_id, app_key = server.app_id, server.app_key
    settings = server.settings()
    if not (app_id and app_key):
        async with open_store(settings) as operations:
            app = await _pick_app(operations, app_id, is_any=is_any)
        app_id, app_key = app.app_id, app_key or app.app_key
    url = server.url or server_url(settings)
    async with make_http_client(url) as http:
        yield AppClient(http=http, app_id=app_id, app_key=app_key)


@asynccontextmanager
async def open_admin(server: ServerOptions) -> AsyncIterator[AdminSession]:
    """A client with the administrator's rights."""
    if server.client_id and server.client_secret:
        async with open_app(server) as client:
            token = await client.log_in_admin(server.client_id, server.client_secret)
            yield AdminSession(client, token)
        return
    if server.url and server.app_key:
        raise ConfigError(
            "--client-secret",
            "command line",
            "an administrator's --client-id and --client-secret are needed on another machine",
            "MQTTPUSH_CLI_CLIENT_SECRET=... in the environment",
        )
    settings = server.settings()
    async with open_store(settings) as operations:
        app = await _pick_app(operations, server.app_id)
        token = await operations.apps.issue_admin_token(
            app.app_id, lifetime_s=ADMIN_TOKEN_LIFETIME_S
        )
    async with make_http_client(server.url or server_url(settings)) as http:
        yield AdminSession(AppClient(http=http, app_id=app.app_id, app_key=app.app_key), token)


@asynccontextmanager
async def open_local(server: ServerOptions) -> AsyncIterator[tuple[Operations, Credentials]]:
    """The verbs on the store itself, with the rights of the app's administrator."""
    from mqttpush.models import Credentials

    async with open_store(server.settings()) as operations:
        app = await _pick_app(operations, server.app_id)
        token = await operations.apps.issue_admin_token(
            app.app_id, lifetime_s=ADMIN_TOKEN_LIFETIME_S
        )
        yield operations, Credentials(app.app_id, token=token)


def database_path(settings: Settings) -> Path:
    """The database file of a sqlite:/// DSN."""
    return Path(settings.store.dsn.removeprefix(DSN_PREFIX))


def server_url(settings: Settings) -> str:
    """Where the server of these settings answers: what it wrote down, else what they say."""
    ready_file = database_path(settings).parent / READY_FILE
    try:
        url = json.loads(ready_file.read_text(encoding="utf-8")).get("http")
    except (OSError, ValueError, AttributeError):
        url = None
    if url:
        return reachable(str(url))
    if not settings.http.port:
        raise ServerUnreachable(str(ready_file), "no server runs on this store")
    host = settings.http.host
    return reachable(f"http://{f'[{host}]' if ':' in host else host}:{settings.http.port}")


async def _pick_app(operations: Operations, app_id: str | None, *, is_any: bool = False) -> App:
    if app_id:
        return await operations.apps.get(app_id)
    apps = await operations.apps.list()
    if is_any:
        return apps[0] if apps else (await operations.apps.create("simulation")).app
    if not apps:
        raise NotFound("app")
    if len(apps) > 1:
        known = ", ".join(f"{app.app_id} ({app.name})" for app in apps[:5])
        raise ConfigError("--app-id", "command line", f"there are several apps: {known}")
    return apps[0]
