"""An app full of phones, written into a server's store before the server starts.

For tests of the whole: the real server, real requests to the provider simulator, very many devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from mqttpush.config import Settings, load_settings
from mqttpush.metrics import Metrics
from mqttpush.models import Credentials, DeviceType, Installation, Owner, Scope, SourceKind
from mqttpush.networks import Network
from mqttpush.provider_simulator import Providers
from mqttpush.provider_simulator.kit import settings_for
from mqttpush.server import open_operations
from mqttpush.store import Transaction
from mqttpush.store.sqlite import open_sqlite
from tests.support import nouns
from tests.support.server import environment

TOPIC = "news"
PAGE = 2000
DEVICE_TYPES = {
    Network.FCM: DeviceType.ANDROID,
    Network.APNS: DeviceType.IOS,
    Network.JPUSH: DeviceType.JPUSH,
    Network.WEBPUSH: DeviceType.WEBPUSH,
}


@dataclass(frozen=True, slots=True)
class PhoneApp:
    """app: as `mqttpush app create --json` prints it. token: of its administrator."""

    app: dict[str, str]
    token: str


def simulator_settings(providers: Providers) -> dict[str, str]:
    """Settings of a server that is to use the simulator, as `start_server` takes them."""
    return {
        name.replace(".", "__").upper(): (
            value if isinstance(value, str) else orjson.dumps(value).decode()
        )
        for name, value in settings_for(providers).items()
    }


def make_phone_app(
    folder: Path,
    settings: Mapping[str, str],
    credentials: Mapping[Network, Mapping[str, Any]],
    tokens: Mapping[Network, Sequence[str]],
    *,
    name: str = "phones",
    topic: str = TOPIC,
) -> PhoneApp:
    """The same in the store of a server that is to be started in `folder` with these settings."""
    loaded = load_settings(None, environment(folder, settings))
    return fill_phone_app(loaded, credentials, tokens, name=name, topic=topic)


def fill_phone_app(
    settings: Settings,
    credentials: Mapping[Network, Mapping[str, Any]],
    tokens: Mapping[Network, Sequence[str]],
    *,
    name: str = "phones",
    topic: str = TOPIC,
) -> PhoneApp:
    """An app with these credentials; each token is a phone of a user of its own, who hears `topic`.

    No server may run on the store.
    """
    return asyncio.run(_make(settings, credentials, tokens, name, topic))


async def _make(
    settings: Settings,
    credentials: Mapping[Network, Mapping[str, Any]],
    tokens: Mapping[Network, Sequence[str]],
    name: str,
    topic: str,
) -> PhoneApp:
    async with open_operations(settings) as operations:
        created = await operations.apps.create(name)
        app = created.app
        token = await operations.apps.issue_admin_token(app.app_id, lifetime_s=3600)
        admin = Credentials(app.app_id, token=token)
        for network, fields in credentials.items():
            await operations.networks.set(admin, network, fields)
    opening = open_sqlite(settings.store, metrics=Metrics(), on_commit=lambda _: None)
    async with opening as store:
        key = await store.write(
            lambda tx: (
                tx.sources.insert(SourceKind.TOPIC, Scope(app.app_id), topic, "admin:", 1).key
            )
        )
        for network, own in tokens.items():
            for start in range(0, len(own), PAGE):
                page = own[start : start + PAGE]

                def unit(
                    tx: Transaction,
                    page: Sequence[str] = page,
                    start: int = start,
                    network: Network = network,
                ) -> None:
                    for number, each in enumerate(page, start):
                        owner = Owner(app.app_id, f"user:{network.value}-{number:07}")
                        tx.users.insert(nouns.user(owner.id, app.app_id))
                        tx.installations.insert(_phone(owner, network, each))
                        tx.subscriptions.insert(key, owner, 1)

                await store.write(unit)
    facts = {"appID": app.app_id, "appKey": app.app_key, "clientID": app.client_id}
    return PhoneApp({**facts, "clientSecret": created.client_secret}, token)


def _phone(owner: Owner, network: Network, token: str) -> Installation:
    made = nouns.installation(
        f"{owner.app_id}-{owner.id}",
        owner,
        device_type=DEVICE_TYPES[network],
        registration_id=token,
    )
    return replace(made, is_development=False)
