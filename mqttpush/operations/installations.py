"""Verbs of installations and their MQTT endpoints: make, find, list, delete, connect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from mqttpush.access import owns_scope, refusal
from mqttpush.credentials import may_connect, secret_hash
from mqttpush.errors import DomainError, InvalidRequest, LimitReached, NotFound
from mqttpush.events import ClientAttached, InstallationChanged, InstallationRemoved
from mqttpush.models import (
    NEVER_MS,
    Credentials,
    DeviceType,
    Installation,
    MqttEndpoint,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
)
from mqttpush.networks import Network
from mqttpush.networks.tokens import check_token
from mqttpush.operations.context import Context, Reference, resolve_owner
from mqttpush.operations.live_sessions import MARK, attach_connection
from mqttpush.operations.uninstalling import tell_of_move, tell_of_new, uninstall
from mqttpush.store import ConnectRow, Transaction

_MQTT: Final = DeviceType.MQTT
_REGISTRATION_ID: Final = "installationRegistrationID"
NETWORK_BY_DEVICE_TYPE: Final = {
    DeviceType.ANDROID: Network.FCM,
    DeviceType.IOS: Network.APNS,
    DeviceType.JPUSH: Network.JPUSH,
    DeviceType.WEBPUSH: Network.WEBPUSH,
}
ONBOARDING_CLIENT_ID: Final = "anonymous"  # shared by any number of devices (spec kii 10.1)
# The server names an MQTT installation with a UUID; a client's own name must not look like one.
_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_SERVER_MADE: Final = re.compile(_UUID)
_CLIENT_MADE: Final = re.compile(rf"(?!{_UUID}$)[A-Za-z0-9_.-]{{1,64}}")


@dataclass(frozen=True, slots=True)
class InstallationDraft:
    """An installation as the client asks for it (spec kii 2.1).

    owner: only an administrator names one, as (kind, reference).
    """

    device_type: DeviceType
    registration_id: str | None
    is_development: bool
    owner: tuple[PrincipalKind, Reference] | None = None


@dataclass(frozen=True, slots=True)
class InstallationReference:
    """By ID, or by device type and registration ID."""

    installation_id: str = ""
    device_type: DeviceType | None = None
    registration_id: str = ""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint with its password, as only its owner and the admin see it."""

    endpoint: MqttEndpoint
    password: str
    now_ms: int

    @property
    def is_current(self) -> bool:
        """False when it has expired, or the server's key, and so the password, is another now."""
        is_password_known = secret_hash(self.password) == self.endpoint.password_hash
        return is_password_known and self.endpoint.expires_ms > self.now_ms


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """One MQTT CONNECT to be checked. handle: opaque, goes to the router when admitted."""

    handle: Any
    client_id: str
    username: str
    password: bytes


@dataclass(frozen=True, slots=True)
class ConnectAnswer:
    """is_known: username and password are right; is_admitted: and the client ID is its topic.

    mqtt_topic: empty for a connection that may only onboard.
    """

    is_known: bool
    is_admitted: bool
    mqtt_topic: str = ""
    app_id: str = ""


class Installations:
    """Installations of users and things, on all networks."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, credentials: Credentials, draft: InstallationDraft) -> Installation:
        """Install a device; repeating it is fine (spec kii 2.1).

        A phone's token moves to the last owner who installs it. An owner has one MQTT
        installation, returned again with its endpoint. Raises InvalidRequest, NotAuthorized,
        NotFound for an owner the admin names.
        """
        context = self._context

        def unit(tx: Transaction) -> Installation:
            principal = context.authenticate(tx, credentials)
            owner = _owner_of_draft(tx, principal, draft)
            if draft.device_type is DeviceType.MQTT:
                return self._install_mqtt(tx, owner, draft)
            return self._install_phone(tx, owner, draft)

        return await context.store.write(unit)

    async def get(self, credentials: Credentials, reference: InstallationReference) -> Installation:
        """Raises NotFound, NotAuthorized."""
        return await self._context.store.read(lambda tx: self._visible(tx, credentials, reference))

    async def delete(self, credentials: Credentials, reference: InstallationReference) -> None:
        """Uninstall: an MQTT installation loses its credentials and its connection."""

        def unit(tx: Transaction) -> None:
            installation = self._visible(tx, credentials, reference)
            uninstall(self._context, tx, installation)

        await self._context.store.write(unit)

    async def list_visible(
        self, credentials: Credentials, owner: tuple[PrincipalKind, Reference] | None
    ) -> list[Installation]:
        """Those of `owner`, else one's own; the admin's own are all of the app."""

        def unit(tx: Transaction) -> list[Installation]:
            principal = self._context.authenticate(tx, credentials)
            if owner is not None:
                wanted = resolve_owner(tx, principal, *owner)
                _require_owner_right(tx, principal, wanted)
                return tx.installations.list_of(wanted)
            if principal.is_admin:
                return tx.installations.list_of_app(principal.app_id)
            if principal.is_anonymous:
                raise refusal(principal, "list installations")
            return tx.installations.list_of(principal.owner)

        return await self._context.store.read(unit)

    async def mqtt_endpoint(self, credentials: Credentials, installation_id: str) -> EndpointView:
        """Where and how this installation connects (spec kii 3.1); ready at once.

        Credentials that have expired are replaced, others are told again. Raises
        NotFound("installation") or, for a phone, NotFound("mqtt_endpoint").
        """
        reference = InstallationReference(installation_id)
        view = await self._context.store.read(
            lambda tx: self._view(tx, self._visible(tx, credentials, reference))
        )
        if view.is_current:
            return view

        def unit(tx: Transaction) -> EndpointView:
            installation = self._visible(tx, credentials, reference)
            if not self._view(tx, installation).is_current:
                self._renew_endpoint(tx, installation)
            return self._view(tx, installation)

        return await self._context.store.write(unit)

    def ensure_mqtt(self, tx: Transaction, owner: Owner) -> EndpointView:
        """The owner's MQTT installation and endpoint, made if need be: for other verbs' units."""
        own = [each for each in tx.installations.list_of(owner) if each.device_type == _MQTT]
        installation = self._existing_mqtt(tx, owner, own, None)
        if installation is None:
            draft = InstallationDraft(_MQTT, None, is_development=False)
            installation = self._install_mqtt(tx, owner, draft)
        view = self._view(tx, installation)
        if not view.is_current:
            self._renew_endpoint(tx, installation)
            view = self._view(tx, installation)
        return view

    async def connect(self, requests: Sequence[ConnectRequest]) -> list[ConnectAnswer]:
        """Check CONNECTs that came together and attach who may, in commit order: two queries.

        From this commit on the router delivers to the attached handles.
        """

        def unit(tx: Transaction) -> list[ConnectAnswer]:
            now_ms = self._context.now_ms()
            rows = tx.installations.connect_rows([request.username for request in requests])
            answers = [
                self._check_onboarding(tx, request)
                if request.client_id == ONBOARDING_CLIENT_ID
                else _check(rows.get(request.username), request, now_ms)
                for request in requests
            ]
            admitted = [
                (request, rows[request.username].installation)
                for request, answer in zip(requests, answers, strict=True)
                if answer.is_admitted and answer.mqtt_topic
            ]
            sources = tx.subscriptions.heard_by({i.owner for _, i in admitted})
            for request, installation in admitted:
                attached = ClientAttached(
                    request.handle,
                    installation.owner,
                    installation.installation_id,
                    installation.is_development,
                    rows[request.username].endpoint.expires_ms,
                    sources[installation.owner],
                )
                tx.emit(attached)
                if installation.registration_id.startswith(MARK):
                    attach_connection(tx, request.handle, installation.installation_id)
            return answers

        return await self._context.store.write(unit)

    def _check_onboarding(self, tx: Transaction, request: ConnectRequest) -> ConnectAnswer:
        """`type=oauth2&client_id={appID}` and `client_secret={appKey}` (spec kii 10.1)."""
        username = dict(parse_qsl(request.username))
        password = dict(parse_qsl(request.password.decode(errors="replace")))
        app_id = username.get("client_id", "")
        credentials = Credentials(app_id, app_key=password.get("client_secret"))
        try:
            self._context.authenticate(tx, credentials)
        except DomainError:
            return ConnectAnswer(is_known=False, is_admitted=False)
        is_admitted = username.get("type") == "oauth2"
        return ConnectAnswer(is_known=is_admitted, is_admitted=is_admitted, app_id=app_id)

    def _view(self, tx: Transaction, installation: Installation) -> EndpointView:
        installation_id = installation.installation_id
        endpoint = tx.installations.endpoint(installation_id)
        if endpoint is None:
            app_id = installation.owner.app_id
            raise NotFound("mqtt_endpoint", installation_id, app_id=app_id)
        password = self._context.secrets.mqtt_password(installation_id, endpoint.mqtt_topic)
        return EndpointView(endpoint, password, self._context.now_ms())

    def _renew_endpoint(self, tx: Transaction, installation: Installation) -> None:
        tx.installations.delete_endpoint(installation.installation_id)
        self._insert_endpoint(tx, installation.owner.app_id, installation.installation_id)
        tx.emit(InstallationRemoved(installation.owner, installation.installation_id))

    def _insert_endpoint(self, tx: Transaction, app_id: str, installation_id: str) -> None:
        context = self._context
        mqtt_topic = context.secrets.mqtt_topic()
        password = context.secrets.mqtt_password(installation_id, mqtt_topic)
        ttl_s = context.endpoint_ttl_s
        tx.installations.insert_endpoint(
            MqttEndpoint(
                installation_id,
                context.secrets.mqtt_username(app_id),
                secret_hash(password),
                mqtt_topic,
                context.now_ms() + ttl_s * 1000 if ttl_s else NEVER_MS,
            )
        )

    def _visible(
        self, tx: Transaction, credentials: Credentials, reference: InstallationReference
    ) -> Installation:
        principal = self._context.authenticate(tx, credentials)
        app_id = principal.app_id
        if reference.device_type is not None:
            installation = self._registered(tx, principal, reference)
        else:
            installation = tx.installations.get(app_id, reference.installation_id)
        if principal.is_anonymous:
            raise refusal(principal, "read the installation")
        if installation is None:
            raise NotFound(
                "installation",
                reference.installation_id,
                app_id=app_id,
                registration_id=reference.registration_id,
                device_type=reference.device_type,
            )
        _require_owner_right(tx, principal, installation.owner)
        return installation

    def _registered(
        self, tx: Transaction, principal: Principal, reference: InstallationReference
    ) -> Installation | None:
        """Of several owners' with that token, one's own."""
        device_type, token = reference.device_type, reference.registration_id
        assert device_type is not None
        if device_type is DeviceType.WEBPUSH:
            try:
                token = self._checked_token(device_type, token)
            except InvalidRequest:
                return None
        found = tx.installations.list_by_registration(principal.app_id, device_type, token)
        own = (each for each in found if each.owner == principal.owner)
        return next(own, found[0] if found else None)

    def _install_mqtt(
        self, tx: Transaction, owner: Owner, draft: InstallationDraft
    ) -> Installation:
        context = self._context
        own = [each for each in tx.installations.list_of(owner) if each.device_type == _MQTT]
        existing = self._existing_mqtt(tx, owner, own, draft.registration_id)
        if existing is not None:
            return self._update(tx, existing, owner, draft)
        if len(own) >= context.limits.max_mqtt_installations_per_owner:
            raise LimitReached("limits.max_mqtt_installations_per_owner")
        registration_id = draft.registration_id or context.secrets.uuid()
        installation = self._insert(tx, owner, draft, registration_id)
        self._insert_endpoint(tx, owner.app_id, installation.installation_id)
        return installation

    @staticmethod
    def _existing_mqtt(
        tx: Transaction, owner: Owner, own: list[Installation], registration_id: str | None
    ) -> Installation | None:
        """The one the server named, or (an extension) the one the client named.

        Two browsers of one user that name themselves do not displace each other. A name somebody
        else uses is refused: it must not lead to his credentials.
        """
        if registration_id is None:
            return next(
                (each for each in own if _SERVER_MADE.fullmatch(each.registration_id)), None
            )
        if not _CLIENT_MADE.fullmatch(registration_id):
            raise InvalidRequest(
                "must be 1 to 64 of A-Z a-z 0-9 _ . - and no UUID",
                field=_REGISTRATION_ID,
            )
        named = tx.installations.get_by_registration(owner.app_id, _MQTT, registration_id)
        if named is not None and named.owner != owner:
            raise InvalidRequest("is in use", field=_REGISTRATION_ID)
        return named

    def _install_phone(
        self, tx: Transaction, owner: Owner, draft: InstallationDraft
    ) -> Installation:
        if not draft.registration_id:
            raise InvalidRequest(
                f"is required for {draft.device_type.value}", field=_REGISTRATION_ID
            )
        token = self._checked_token(draft.device_type, draft.registration_id)
        installation = self._install_token(tx, owner, draft, token)
        if draft.device_type is DeviceType.WEBPUSH:
            self._forget_oldest_browsers(tx, installation)
        return installation

    def _install_token(
        self, tx: Transaction, owner: Owner, draft: InstallationDraft, token: str
    ) -> Installation:
        others = _same_device(tx, owner.app_id, draft.device_type, token)
        if not others:
            return self._insert(tx, owner, draft, token)
        # The last owner who installs a device has it alone (spec kii 2.3).
        kept = next((each for each in others if each.owner == owner), others[0])
        for other in others:
            if other is not kept:
                uninstall(self._context, tx, other)
        return self._update(tx, replace(kept, registration_id=token), owner, draft)

    def _forget_oldest_browsers(self, tx: Transaction, newest: Installation) -> None:
        """A browser costs nothing to invent, and each is a request of ours for each push."""
        others = [
            each
            for each in tx.installations.list_of(newest.owner)
            if each.device_type is DeviceType.WEBPUSH
            and each.installation_id != newest.installation_id
        ]
        others.sort(key=lambda each: each.updated_ms)
        excess = len(others) + 1 - self._context.limits.max_browsers_per_owner
        for each in others[: max(0, excess)]:
            uninstall(self._context, tx, each)

    def _checked_token(self, device_type: DeviceType, token: str) -> str:
        """The token as it is kept; raises InvalidRequest for one the network would not know."""
        network = NETWORK_BY_DEVICE_TYPE[device_type]
        return check_token(network, token, self._context.endpoint_rules, field=_REGISTRATION_ID)

    def _insert(
        self, tx: Transaction, owner: Owner, draft: InstallationDraft, registration_id: str
    ) -> Installation:
        now_ms = self._context.now_ms()
        installation = Installation(
            self._context.secrets.installation_id(),
            owner,
            draft.device_type,
            registration_id,
            draft.is_development,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        tx.installations.insert(installation)
        tell_of_new(self._context, tx, installation)
        return installation

    def _update(
        self, tx: Transaction, existing: Installation, owner: Owner, draft: InstallationDraft
    ) -> Installation:
        updated = replace(
            existing,
            owner=owner,
            is_development=draft.is_development,
            updated_ms=self._context.now_ms(),
            problem="",
        )
        tx.installations.update(updated)
        tell_of_move(self._context, tx, existing, updated)
        if (owner, draft.is_development) != (existing.owner, existing.is_development):
            tx.emit(InstallationChanged(existing.installation_id, owner, draft.is_development))
        return updated


def _same_device(
    tx: Transaction, app_id: str, device_type: DeviceType, token: str
) -> list[Installation]:
    """A browser that made new keys for the same endpoint is the same browser."""
    if device_type is DeviceType.WEBPUSH:
        endpoint, separator, _ = token.rpartition('"keys":')
        return tx.installations.list_by_prefix(app_id, device_type, endpoint + separator)
    return tx.installations.list_by_registration(app_id, device_type, token)


def _owner_of_draft(tx: Transaction, principal: Principal, draft: InstallationDraft) -> Owner:
    if principal.is_anonymous:
        raise refusal(principal, "install a device")
    if principal.is_admin:
        if draft.owner is None:
            raise InvalidRequest("an administrator names userID or thingID", field="userID")
        return resolve_owner(tx, principal, *draft.owner)
    if draft.owner is not None:
        kind = draft.owner[0].value
        raise InvalidRequest("only an administrator names the owner", field=f"{kind}ID")
    return principal.owner


def _require_owner_right(tx: Transaction, principal: Principal, owner: Owner) -> None:
    """Admin, the owner himself, or an owner of the owning thing (spec kii 2.2)."""
    if principal.is_admin or principal.owner == owner:
        return
    scope = Scope(owner.app_id, ScopeType.THING, owner.id)
    if owner.kind == PrincipalKind.THING.value and owns_scope(tx, principal, scope):
        return
    raise refusal(principal, "use the installation")


def _check(row: ConnectRow | None, request: ConnectRequest, now_ms: int) -> ConnectAnswer:
    if row is None or not may_connect(row, request.password, now_ms):
        return ConnectAnswer(is_known=False, is_admitted=False)
    mqtt_topic = row.endpoint.mqtt_topic
    return ConnectAnswer(
        is_known=True,
        is_admitted=request.client_id in (mqtt_topic, ""),  # MQTT 5: the server assigns it
        mqtt_topic=mqtt_topic,
        app_id=row.installation.owner.app_id,
    )
