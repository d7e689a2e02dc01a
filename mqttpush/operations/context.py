"""What every verb needs, and how a reference in a request becomes a noun.

Owns the resolving of references (`me`, an e-mail address, a vendor thing ID) inside the unit that
uses them. Knows no wire spelling: a dialect hands in a `Reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mqttpush import credentials as checks
from mqttpush.access import refusal
from mqttpush.config import (
    DeliverySettings,
    HookSettings,
    LimitSettings,
    LiveSettings,
    NetworkSettings,
    Settings,
)
from mqttpush.credentials import FailureCounter, Passwords, SecretMaker
from mqttpush.errors import NotFound
from mqttpush.models import (
    Credentials,
    Group,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Thing,
)
from mqttpush.networks import Network, PushNetwork
from mqttpush.networks.addresses import EndpointRules
from mqttpush.sealing import Sealer
from mqttpush.store import Store, Transaction
from mqttpush.store.blobs import Blobs


@dataclass(slots=True)
class Context:
    """Shared by the verbs; it changes at a reload of the settings, and never else.

    now_ms: the wall clock, milliseconds since the epoch.
    """

    store: Store
    blobs: Blobs
    now_ms: Callable[[], int]
    secrets: SecretMaker
    passwords: Passwords
    failures: FailureCounter
    limits: LimitSettings
    endpoint_ttl_s: int  # 0: MQTT credentials do not expire
    sealer: Sealer
    networks: Mapping[Network, PushNetwork] = field(default_factory=dict)
    endpoint_rules: EndpointRules = field(default_factory=lambda: EndpointRules(NetworkSettings()))
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    hooks: HookSettings = field(default_factory=HookSettings)
    live: LiveSettings = field(default_factory=LiveSettings)

    def reload(self, settings: Settings) -> None:
        """Take new limits; they hold from the next verb on."""
        unlimited = settings.http.unlimited_addresses
        self.limits, self.live = settings.limits, settings.live
        self.endpoint_ttl_s = settings.mqtt.endpoint_ttl_s
        self.failures.apply(settings.security, unlimited)
        self.passwords.unlimit(unlimited)

    def authenticate(self, tx: Transaction, credentials: Credentials) -> Principal:
        """Who acts; see credentials.authenticate for what it raises."""
        service_secret = self.secrets.service_secret
        principal = checks.authenticate(tx, credentials, self.now_ms(), service_secret)
        tx.depth = principal.depth
        return principal


ME = "me"
ID = "id"


@dataclass(frozen=True, slots=True)
class Reference:
    """How a request names a user or thing.

    field: `id`, `me` (value empty), for users also `login_name`, `email_address`, `phone_number`,
    for things `vendor_thing_id`.
    """

    field: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class ScopeReference:
    """How a request names a scope; `owner` is None for the app's own."""

    type: ScopeType = ScopeType.APP
    owner: Reference | None = None


def tried_name(thing: Thing) -> str:
    """What wrong passwords for a thing are counted by, whichever way it is named."""
    return f"vendor_thing_id {thing.vendor_thing_id}"


def resolve_user(tx: Transaction, principal: Principal, reference: Reference) -> Owner:
    """The user meant; raises NotFound("user"), or NotAuthorized for `me` without a user."""
    app_id = principal.app_id
    if reference.field == ME:
        if principal.kind is not PrincipalKind.USER:
            raise refusal(principal, "act as the calling user")
        return principal.owner
    if principal.kind is PrincipalKind.USER and reference == Reference(ID, principal.id):
        return principal.owner  # the token's own user: authentication has just seen him
    if reference.field == ID:
        user = tx.users.get(app_id, reference.value)
    else:
        user = tx.users.get_by(app_id, reference.field, reference.value)
    if user is None:
        raise NotFound("user", reference.value, field=reference.field, app_id=app_id)
    return Owner(app_id, user.subject)


def resolve_thing(tx: Transaction, principal: Principal, reference: Reference) -> Owner:
    """The thing meant; raises NotFound("thing"), or NotAuthorized for `me` without a thing."""
    app_id = principal.app_id
    if reference.field == ME:
        if principal.kind is not PrincipalKind.THING:
            raise refusal(principal, "act as the calling thing")
        return principal.owner
    if reference.field == ID:
        thing = tx.things.get(app_id, reference.value)
    else:
        thing = tx.things.get_by_vendor_id(app_id, reference.value)
    if thing is None:
        raise NotFound("thing", reference.value, field=reference.field, app_id=app_id)
    return Owner(app_id, thing.subject)


def resolve_group(tx: Transaction, principal: Principal, reference: Reference) -> Group:
    """The group meant, by its ID; raises NotFound("group")."""
    group = tx.groups.get(principal.app_id, reference.value)
    if group is None:
        raise NotFound("group", reference.value, app_id=principal.app_id)
    return group


def resolve_owner(
    tx: Transaction, principal: Principal, kind: PrincipalKind, reference: Reference
) -> Owner:
    """The user or thing meant, by `kind`."""
    if kind is PrincipalKind.USER:
        return resolve_user(tx, principal, reference)
    return resolve_thing(tx, principal, reference)


def resolve_scope(tx: Transaction, principal: Principal, reference: ScopeReference) -> Scope:
    """The scope meant; raises NotFound for an unknown user, thing or group."""
    if reference.owner is None:
        return Scope(principal.app_id)
    if reference.type is ScopeType.USER:
        owner = resolve_user(tx, principal, reference.owner)
    elif reference.type is ScopeType.THING:
        owner = resolve_thing(tx, principal, reference.owner)
    else:
        group = resolve_group(tx, principal, reference.owner)
        return Scope(principal.app_id, reference.type, group.group_id)
    return Scope(principal.app_id, reference.type, owner.id)


def require_self_or_admin(principal: Principal, owner: Owner, action: str) -> None:
    """Raises NotAuthorized unless `principal` is that owner or the app's admin."""
    if not (principal.is_admin or principal.owner == owner):
        raise refusal(principal, action)


def as_principal(owner: Owner) -> Principal:
    """The owner as one who acts, to ask what he may."""
    return Principal(owner.app_id, PrincipalKind(owner.kind), owner.id)
