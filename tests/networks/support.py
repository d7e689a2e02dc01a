"""Networks beside the provider simulator: credentials it gave out, tokens it knows, pushes."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mqttpush.config import NetworkSettings
from mqttpush.models import PhonePayload
from mqttpush.networks import Keys, Network, Push, PushNetwork, Sent
from mqttpush.networks.opening import open_networks
from mqttpush.provider_simulator import Providers, open_providers

TOPIC = "com.example.app"
# A payload of each network's own, as short as it may be.
BODIES: dict[Network, bytes] = {
    Network.FCM: b'{"data":{"greeting":"hello"}}',
    Network.APNS: b'{"aps":{"alert":{"body":"hello"}}}',
    Network.JPUSH: b'{"platform":"all","message":{"msg_content":"hello"}}',
    Network.WEBPUSH: b'{"greeting":"hello"}',
}
HOUR_S = 3600


class Clock:
    """Wall-clock seconds that pass when a test says so. They start now, as certificates do."""

    def __init__(self) -> None:
        self.now_s = float(int(time.time()))

    def __call__(self) -> float:
        return self.now_s


def settings_for(providers: Providers, **changes: Any) -> NetworkSettings:
    """Settings that lead to the simulator and nowhere else."""
    urls = providers.urls()
    values: dict[str, Any] = {
        "fcm_url": urls["fcm"],
        "fcm_token_url": urls["fcm_token"],
        "apns_url": urls["apns"],
        "apns_development_url": urls["apns_sandbox"],
        "jpush_url": urls["jpush"],
        "webpush_test_origins": [urls["webpush"]],
        "ca_file": str(providers.ca_file),
        "timeout_s": 10.0,
        "connect_timeout_s": 5.0,
    }
    return NetworkSettings(**{**values, **changes})


def fields_from(providers: Providers, network: Network) -> dict[str, Any]:
    """New credentials of the network, as an administrator would give them."""
    if network is Network.FCM:
        return dict(providers.fcm.make_service_account())
    if network is Network.APNS:
        key = providers.apns.make_key()
        return {"key": key.pem, "keyId": key.key_id, "teamId": key.team_id, "topic": TOPIC}
    if network is Network.JPUSH:
        pair = providers.jpush.make_pair()
        return {"appKey": pair.app_key, "masterSecret": pair.master_secret}
    vapid = providers.webpush.make_vapid()
    return {"privateKey": vapid.pem, "subject": vapid.subject}


def certificate_fields(providers: Providers, **options: Any) -> dict[str, str]:
    """APNs credentials in the form of a certificate."""
    made = providers.apns.make_certificate(TOPIC, password="secret", **options)
    return {"certificate": base64.b64encode(made.p12).decode(), "password": "secret"}


class World:
    """Networks with credentials of one app. keys: made when first asked for."""

    def __init__(
        self,
        providers: Providers,
        networks: Mapping[Network, PushNetwork],
        clock: Clock,
        fields: dict[Network, dict[str, Any]],
    ) -> None:
        self.providers = providers
        self.networks = networks
        self.clock = clock
        self.fields = fields
        self._keys: dict[Network, Keys] = {}

    def keys(self, network: Network) -> Keys:
        if network not in self._keys:
            fields = self.fields.get(network) or fields_from(self.providers, network)
            self._keys[network] = self.networks[network].check("app", fields)
        return self._keys[network]

    def token(self, network: Network) -> str:
        return self.providers.provider(network).make_tokens()[0]

    def push(self, network: Network, token: str, **changes: Any) -> Push:
        """A push that lives for an hour; changes: of the push or of its payload."""
        names = PhonePayload.__dataclass_fields__
        own = {name: changes.pop(name) for name in list(changes) if name in names}
        payload = PhonePayload(**{"body": BODIES[network], "ttl_s": HOUR_S, **own})
        expires_ms = int((self.clock() + HOUR_S) * 1000)
        values = {"is_development": False, "expires_ms": expires_ms, **changes}
        return Push(token, payload, **values)

    async def send(self, network: Network, token: str | None = None, **changes: Any) -> Sent:
        token = self.token(network) if token is None else token
        push = self.push(network, token, **changes)
        return await self.networks[network].send(self.keys(network), push)

    def headers(self, network: Network, token: str) -> Mapping[str, str]:
        """Those of the last push the device got."""
        arrival = self.providers.provider(network).last(token)
        assert arrival is not None
        return arrival.headers

    def payload(self, network: Network, token: str) -> bytes:
        arrival = self.providers.provider(network).last(token)
        assert arrival is not None
        return arrival.payload


@asynccontextmanager
async def open_world(
    providers: Providers | None = None,
    *,
    clock: Clock | None = None,
    fields: dict[Network, dict[str, Any]] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """Networks that lead to these providers, or to some in this loop."""
    clock = clock or Clock()
    if providers is None:
        async with (
            open_providers(clock=clock) as made,
            open_world(made, clock=clock, fields=fields, **settings) as world,
        ):
            yield world
        return
    networks = open_networks(settings_for(providers, **settings), clock=clock)
    try:
        yield World(providers, networks, clock, fields or {})
    finally:
        for network in networks.values():
            await network.close()


async def no_address(host: str, port: int) -> Sequence[str]:
    """A resolver that knows nobody."""
    raise OSError(f"{host} is unknown")
