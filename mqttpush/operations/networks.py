"""Verbs of push networks: the credentials an app shows them; set, show, delete, test.

Owns what is kept and that it is kept sealed. Knows no network's format: each checks its own. The
one idea: credentials are checked whole before anything is written, and from then on only the
networks themselves and those who hold the key ever see them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mqttpush.access import refusal
from mqttpush.errors import InvalidRequest, NotFound, SealBroken
from mqttpush.events import NetworkKeysChanged
from mqttpush.models import Credentials, Principal
from mqttpush.networks import Ending, Keys, Network, Sent
from mqttpush.operations.context import Context
from mqttpush.operations.resealing import Resealed, Resealing
from mqttpush.store import Transaction
from mqttpush.store.network_keys import SealedKeys

FIELDS_LIMIT_BYTES: Final = 65_536
UNREADABLE: Final = "credentials_unreadable"
_NAMES: Final = frozenset(Network)
_MANAGE: Final = "manage credentials of push networks"


@dataclass(frozen=True, slots=True)
class NetworkView:
    """What may be shown of credentials. problem: why they are of no use, or empty."""

    network: str
    summary: Mapping[str, Any]
    changed_ms: int
    problem: str = ""


class Networks:
    """Credentials of the apps for push networks.

    All but `public_key`, `keys` and `reseal` are the admin's.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def set(
        self, credentials: Credentials, network: str, fields: Mapping[str, Any]
    ) -> NetworkView:
        """Check and keep; whatever was there is replaced.

        Web Push without a `privateKey` keeps the pair it has, or gets a new one. Raises
        InvalidRequest that names a field, and then nothing is changed.
        """
        context = self._context
        before = await context.store.read(lambda tx: self._kept(tx, credentials, network))
        app_id = before.app_id
        if network == Network.WEBPUSH and not fields.get("privateKey"):
            fields = {**fields, "privateKey": self._web_push_key(app_id, before.sealed)}
        kept = await self.checked(app_id, network, fields)

        def unit(tx: Transaction) -> None:
            self._admin(tx, credentials)
            self.keep(tx, app_id, network, kept)

        await context.store.write(unit)
        return NetworkView(network, orjson.loads(kept.summary), kept.changed_ms)

    async def checked(self, app_id: str, network: str, fields: Mapping[str, Any]) -> SealedKeys:
        """Credentials as they are kept; raises InvalidRequest that names a field."""
        context = self._context
        # In a thread: a certificate's password may take long to try.
        keys = await asyncio.to_thread(context.networks[Network(network)].check, app_id, fields)
        secret = orjson.dumps(dict(keys.fields))
        if len(secret) > FIELDS_LIMIT_BYTES:
            raise InvalidRequest(f"has more than {FIELDS_LIMIT_BYTES} bytes", field=network)
        sealed = context.sealer.seal(_place(app_id, network), secret)
        return SealedKeys(sealed, orjson.dumps(dict(keys.summary)).decode(), context.now_ms())

    def keep(self, tx: Transaction, app_id: str, network: str, kept: SealedKeys) -> None:
        """Inside a unit: the app has these from here on."""
        tx.network_keys.put(app_id, network, kept)
        self._changed(tx, app_id, network, is_configured=True)

    async def get(self, credentials: Credentials, network: str) -> NetworkView:
        """Raises NotFound("network")."""
        found = await self._context.store.read(lambda tx: self._kept(tx, credentials, network))
        if found.sealed is None:
            raise NotFound("network", network, app_id=found.app_id)
        return self._view(found.app_id, network, found.sealed)

    async def public_key(self, credentials: Credentials, network: str) -> str:
        """What browsers need to subscribe, for anybody of the app; only Web Push has one.

        Raises NotFound("network").
        """

        def unit(tx: Transaction) -> str:
            app_id = self._context.authenticate(tx, credentials).app_id
            kept = tx.network_keys.get(app_id, network)
            if kept is None or network != Network.WEBPUSH:
                raise NotFound("network", network, app_id=app_id)
            return str(orjson.loads(kept.summary)["publicKey"])

        return await self._context.store.read(unit)

    async def list(self, credentials: Credentials) -> list[NetworkView]:
        """Those the app has credentials for."""

        def unit(tx: Transaction) -> tuple[str, dict[str, SealedKeys]]:
            app_id = self._admin(tx, credentials).app_id
            return app_id, tx.network_keys.list_of(app_id)

        app_id, found = await self._context.store.read(unit)
        return [self._view(app_id, name, kept) for name, kept in found.items()]

    async def delete(self, credentials: Credentials, network: str) -> None:
        """What still waits for the network ends as not configured. Raises NotFound("network")."""

        def unit(tx: Transaction) -> None:
            app_id = self._admin(tx, credentials).app_id
            if not tx.network_keys.delete(app_id, network):
                raise NotFound("network", network, app_id=app_id)
            self._changed(tx, app_id, network, is_configured=False)

        await self._context.store.write(unit)

    async def test(self, credentials: Credentials, network: str, token: str | None) -> Sent:
        """Ask the network whether it is content, without a push anybody sees.

        token: of a device, to have that checked too. Raises NotFound("network").
        """
        found = await self._context.store.read(lambda tx: self._kept(tx, credentials, network))
        if found.sealed is None:
            raise NotFound("network", network, app_id=found.app_id)
        try:
            keys = self._opened(found.app_id, network, found.sealed)
        except SealBroken as exc:
            return Sent(Ending.CREDENTIALS_REFUSED, UNREADABLE, detail=str(exc))
        return await self._context.networks[Network(network)].test(keys, token)

    async def keys(self, app_id: str, network: str) -> Keys | None:
        """For those who send; None if the app has none. Raises SealBroken."""
        kept = await self._context.store.read(lambda tx: tx.network_keys.get(app_id, network))
        return None if kept is None else self._opened(app_id, network, kept)

    async def reseal(self, old_key: bytes) -> Resealed:
        """Seal anew what an older key sealed; for the operator, after a change of the key."""

        def unit(tx: Transaction) -> Resealed:
            reseal = Resealing(self._context.sealer, old_key)
            for app_id, network, kept in tx.network_keys.list_all():
                sealed = reseal(_place(app_id, network), kept.sealed)
                if sealed is not None:
                    tx.network_keys.put(app_id, network, kept._replace(sealed=sealed))
            return reseal.result()

        return await self._context.store.write(unit)

    def _admin(self, tx: Transaction, credentials: Credentials) -> Principal:
        principal = self._context.authenticate(tx, credentials)
        if not principal.is_admin:
            raise refusal(principal, _MANAGE)
        return principal

    def _kept(self, tx: Transaction, credentials: Credentials, network: str) -> _Kept:
        app_id = self._admin(tx, credentials).app_id
        if network not in _NAMES:
            raise NotFound("network", network, app_id=app_id)
        return _Kept(app_id, tx.network_keys.get(app_id, network))

    @staticmethod
    def _changed(tx: Transaction, app_id: str, network: str, *, is_configured: bool) -> None:
        tx.apps.set_network(app_id, network, is_configured)
        tx.emit(NetworkKeysChanged(app_id, network))

    def _web_push_key(self, app_id: str, kept: SealedKeys | None) -> str:
        """The key browsers know already: with another one their subscriptions would be lost."""
        if kept is not None:
            try:
                return str(self._opened(app_id, Network.WEBPUSH, kept).fields["privateKey"])
            except SealBroken as exc:
                problem = f"is needed: {exc.place} {exc.problem}"
                raise InvalidRequest(problem, field="privateKey") from exc
        from mqttpush.networks.webpush import generate_key  # loads much, and is seldom wanted

        return generate_key()

    def _view(self, app_id: str, network: str, kept: SealedKeys) -> NetworkView:
        problem = ""
        try:
            self._opened(app_id, network, kept)
        except SealBroken as exc:
            problem = str(exc)
        return NetworkView(network, orjson.loads(kept.summary), kept.changed_ms, problem)

    def _opened(self, app_id: str, network: str, kept: SealedKeys) -> Keys:
        fields = orjson.loads(self._context.sealer.open(_place(app_id, network), kept.sealed))
        return Keys(app_id, Network(network), fields, orjson.loads(kept.summary))


@dataclass(frozen=True, slots=True)
class _Kept:
    app_id: str
    sealed: SealedKeys | None


def _place(app_id: str, network: str) -> str:
    return f"the {network} credentials of app {app_id}"
