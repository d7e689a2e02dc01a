"""Verbs of the Live Service: register a client, follow a collection, connect (spec kinvey 6).

A registered client is an MQTT installation of the user, so it can connect by MQTT, and by streams
of other transports. Its session is the token it registered with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from mqttpush.access import refusal
from mqttpush.credentials import secret_hash
from mqttpush.errors import InvalidRequest, LimitReached
from mqttpush.events import LiveAttached, LiveFollowed, LiveLeft
from mqttpush.models import (
    NEVER_MS,
    Credentials,
    DeviceType,
    Installation,
    MqttEndpoint,
    Owner,
    Principal,
    PrincipalKind,
)
from mqttpush.operations.context import Context, ScopeReference
from mqttpush.operations.entities import check_name, make_collection
from mqttpush.operations.installations import EndpointView
from mqttpush.operations.live_sessions import MARK, end_client, end_dead_sessions
from mqttpush.operations.places import enter
from mqttpush.store import Transaction
from mqttpush.store.collections import LiveClient

_DEVICE_ID: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Registered:
    """A live client: whose, and its MQTT endpoint."""

    owner: Owner
    endpoint: EndpointView


class Live:
    """Live clients, what they follow, and their connections."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def register(self, credentials: Credentials, user_id: str, device_id: str) -> Registered:
        """For the user himself; repeating it in one session changes nothing.

        Raises InvalidRequest where the service is off, NotAuthorized, LimitReached.
        """
        check_device_id(device_id)

        def unit(tx: Transaction) -> Registered:
            owner, token_hash = self._user(tx, credentials, user_id)
            end_dead_sessions(tx, owner)
            client = tx.live.find(owner, device_id)
            if client is not None and client.token_hash == token_hash:
                return Registered(owner, self._view(tx, client.installation_id))
            if client is not None:
                end_client(tx, owner, client.installation_id)
            self._make_room(tx, owner)
            return Registered(owner, self._install(tx, owner, device_id, token_hash))

        return await self._context.store.write(unit)

    async def unregister(self, credentials: Credentials, user_id: str, device_id: str) -> None:
        """For the user himself; an unknown client is fine."""

        def unit(tx: Transaction) -> None:
            owner, _ = self._user(tx, credentials, user_id)
            client = tx.live.find(owner, device_id)
            if client is not None:
                end_client(tx, owner, client.installation_id)

        await self._context.store.write(unit)

    async def follow(self, credentials: Credentials, collection: str, device_id: str) -> None:
        """From here on the client hears of entities that are created or updated, and readable.

        Raises InvalidRequest unless it is registered, NotFound for a collection not declared,
        LimitReached.
        """
        check_name(collection)

        def unit(tx: Transaction) -> None:
            client = self._client(tx, credentials, device_id)
            place = enter(self._context, tx, credentials, ScopeReference(), collection)
            own = client.source_keys
            if place.bucket is not None and place.bucket.key in own:
                return
            if len(own) >= self._context.live.max_collections_per_client:
                raise LimitReached("live.max_collections_per_client")
            bucket = place.bucket or make_collection(self._context, place)
            if tx.live.subscribe(client.installation_id, bucket.key):
                tx.emit(LiveFollowed(client.installation_id, bucket.key))

        await self._context.store.write(unit)

    async def leave(self, credentials: Credentials, collection: str, device_id: str) -> None:
        """The contrary; what is not followed is fine."""
        check_name(collection)

        def unit(tx: Transaction) -> None:
            client = self._client(tx, credentials, device_id)
            place = enter(self._context, tx, credentials, ScopeReference(), collection)
            if place.bucket is None:
                return
            if tx.live.unsubscribe(client.installation_id, place.bucket.key):
                tx.emit(LiveLeft(client.installation_id, place.bucket.key))

        await self._context.store.write(unit)

    async def attach(
        self, credentials: Credentials, device_id: str, stream: Any, *, is_spare: bool = False
    ) -> None:
        """Let a stream hear what its client follows, from this commit on; for its session only.

        is_spare: only if nothing else is connected for the client; else the stream is closed.
        Raises InvalidRequest unless it is registered.
        """

        def unit(tx: Transaction) -> None:
            client = self._client(tx, credentials, device_id)
            if credentials.token is None or client.token_hash != secret_hash(credentials.token):
                raise _NOT_REGISTERED
            attached = LiveAttached(
                stream,
                client.owner,
                client.installation_id,
                client.expires_ms,
                client.source_keys,
                is_mqtt=False,
                is_spare=is_spare,
            )
            tx.emit(attached)

        await self._context.store.write(unit)

    async def device_of(self, credentials: Credentials, name: str) -> str:
        """The client that a transport means which calls itself by this name: that device, if it is
        one of the session, else the one registered last in it. Raises as `attach` does.
        """

        def unit(tx: Transaction) -> str:
            principal = self._enter(tx, credentials)
            owner, token = principal.owner, credentials.token
            if token is None or principal.kind is not PrincipalKind.USER:
                raise refusal(principal, "listen without a session")
            clients = map(tx.live.by_installation, reversed(tx.live.ids_of(owner)))
            token_hash = secret_hash(token)
            own = [each.device_id for each in clients if each and each.token_hash == token_hash]
            if not own:
                raise _NOT_REGISTERED
            return name if name in own else own[0]

        return await self._context.store.read(unit)

    # --- inside a unit --------------------------------------------------------------------

    def _enter(self, tx: Transaction, credentials: Credentials) -> Principal:
        principal = self._context.authenticate(tx, credentials)
        if not tx.kinvey.settings(principal.app_id).is_live_service_on:
            raise InvalidRequest("the Live Service is off", code="FeatureUnavailable")
        return principal

    def _user(self, tx: Transaction, credentials: Credentials, user_id: str) -> tuple[Owner, bytes]:
        """Himself, and the hash of his session; raises NotAuthorized."""
        principal = self._enter(tx, credentials)
        is_himself = principal.kind is PrincipalKind.USER and principal.id == user_id
        if not is_himself or credentials.token is None:
            raise refusal(principal, "register without a session of that user")
        return principal.owner, secret_hash(credentials.token)

    def _client(self, tx: Transaction, credentials: Credentials, device_id: str) -> LiveClient:
        """His own by that name; the administrator may name anybody's."""
        principal = self._enter(tx, credentials)
        owner: Owner | None = principal.owner
        if principal.is_admin:
            owner = tx.live.owner_of_device(principal.app_id, device_id)
        elif principal.kind is not PrincipalKind.USER:
            raise refusal(principal, "use the Live Service")
        client = tx.live.find(owner, device_id) if owner is not None else None
        if client is None:
            raise _NOT_REGISTERED
        return client

    def _make_room(self, tx: Transaction, owner: Owner) -> None:
        """A user has so many MQTT installations: his oldest live clients go first."""
        limit = self._context.limits.max_mqtt_installations_per_owner
        own = [
            each for each in tx.installations.list_of(owner) if each.device_type is DeviceType.MQTT
        ]
        oldest = tx.live.ids_of(owner)
        for installation_id in oldest[: max(0, len(own) - limit + 1)]:
            end_client(tx, owner, installation_id)
        if len(own) - len(oldest) >= limit:
            raise LimitReached("limits.max_mqtt_installations_per_owner")

    def _install(
        self, tx: Transaction, owner: Owner, device_id: str, token_hash: bytes
    ) -> EndpointView:
        context, now_ms = self._context, self._context.now_ms()
        installation_id = context.secrets.installation_id()
        name = f"{MARK}{owner.id}:{device_id}"
        installation = Installation(
            installation_id,
            owner,
            DeviceType.MQTT,
            name,
            is_development=False,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        tx.installations.insert(installation)
        tx.live.insert(installation_id, owner, device_id, token_hash, now_ms)
        client = tx.live.by_installation(installation_id)
        assert client is not None
        mqtt_topic = context.secrets.mqtt_topic()
        password = context.secrets.mqtt_password(installation_id, mqtt_topic)
        ttl_s = context.endpoint_ttl_s
        endpoint = MqttEndpoint(
            installation_id,
            context.secrets.mqtt_username(owner.app_id),
            secret_hash(password),
            mqtt_topic,
            min(client.expires_ms, now_ms + ttl_s * 1000 if ttl_s else NEVER_MS),
        )
        tx.installations.insert_endpoint(endpoint)
        return EndpointView(endpoint, password, now_ms)

    def _view(self, tx: Transaction, installation_id: str) -> EndpointView:
        endpoint = tx.installations.endpoint(installation_id)
        assert endpoint is not None  # made with the installation
        password = self._context.secrets.mqtt_password(installation_id, endpoint.mqtt_topic)
        return EndpointView(endpoint, password, self._context.now_ms())


_NOT_REGISTERED: Final = InvalidRequest("register-realtime comes first", code="BadRequest")


def check_device_id(device_id: str) -> None:
    """Raises InvalidRequest unless it can name a device."""
    if not _DEVICE_ID.fullmatch(device_id):
        problem = "must be a text of 1 to 200 characters"
        raise InvalidRequest(problem, field="deviceId", code="ParameterValueOutOfRange")
