"""The nouns: apps, principals, sources, objects, installations, events and messages.

Knows no SQL, HTTP or MQTT. Everything is immutable; a verb makes a new value. The one idea: who
acts and who may are written the same way, as a *subject* (`user:ID`, `thing:ID`, `group:ID`), so an
owner, a sender and an access rule compare as plain strings.

Times are milliseconds since the epoch (`_ms`), the unit of both dialects' wires and of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from mqttpush.kinvey import PasswordProof, Permission

Json = dict[str, Any]

NEVER_MS: Final = 2**63 - 1


# --- principals -----------------------------------------------------------------------------


class PrincipalKind(StrEnum):
    """Who can act (spec kii 1.1)."""

    ADMIN = "admin"
    USER = "user"
    THING = "thing"
    ANONYMOUS = "anonymous"


ANY_AUTHENTICATED: Final = "user:ANY_AUTHENTICATED_USER"
ANYBODY: Final = "user:ANONYMOUS_USER"


class Owner(NamedTuple):
    """Whose installation or subscription it is: one user or thing of one app."""

    app_id: str
    subject: str  # "user:ID" or "thing:ID"

    @property
    def kind(self) -> str:
        return self.subject.partition(":")[0]

    @property
    def id(self) -> str:
        return self.subject.partition(":")[2]

    @property
    def is_user(self) -> bool:
        return self.subject.startswith("user:")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts, already authenticated. depth: how many runs of server code led to what he does."""

    app_id: str
    kind: PrincipalKind
    id: str = ""  # userID or thingID; empty for admin and anonymous
    depth: int = field(default=0, compare=False)

    @property
    def subject(self) -> str:
        return f"{self.kind.value}:{self.id}"

    @property
    def is_admin(self) -> bool:
        return self.kind is PrincipalKind.ADMIN

    @property
    def is_anonymous(self) -> bool:
        return self.kind is PrincipalKind.ANONYMOUS

    @property
    def owner(self) -> Owner:
        """This user or thing as an owner; meaningless for admin and anonymous."""
        return Owner(self.app_id, self.subject)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought to say who it is; checked inside the transaction that uses it.

    app_id: from the path, or from the request's headers where the path has none.
    token: the bearer token, if any. app_key: the key sent along, if any. is_app_known: the
    connection that carried the request has proved the app already. address: the peer's, for
    counting failures. app_secret: the app's key or its master secret (spec kinvey 2). proof: whose
    password has been checked already.
    """

    app_id: str
    token: str | None = None
    app_key: str | None = None
    is_app_known: bool = False
    address: str = ""
    app_secret: str | None = None
    proof: PasswordProof | None = None


# --- apps, users, things, groups ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class App:
    """One tenant. A Kinvey environment is an app too: its secrets are `app_key` and the client's.

    is_app_key_checked: the strict switch of spec kii 0.3. is_thing_password_checked: who makes
    himself a thing's owner must know its password (1.5). is_apns_payload_small: Apple's old limit
    of 2,048 bytes holds (8.5.9). is_delivery_once: a message that does not say so goes to phones
    only of owners whom no live connection reached. All off by default, the first two as Kii's were.
    """

    app_id: str
    name: str
    app_key: str
    client_id: str
    client_secret_hash: bytes
    created_ms: int
    is_disabled: bool = False
    is_app_key_checked: bool = False
    is_thing_password_checked: bool = False
    is_apns_payload_small: bool = False
    is_delivery_once: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """A person. `fields` are the attributes the app gave, without those below."""

    app_id: str
    user_id: str
    created_ms: int
    login_name: str | None = None
    email_address: str | None = None
    phone_number: str | None = None
    password_hash: str | None = None  # None: a pseudo user
    is_disabled: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    modified_ms: int = 0  # 0: not since it was made
    is_public: bool = False  # other users may read it (spec kinvey 3)

    @property
    def subject(self) -> str:
        return f"user:{self.user_id}"


@dataclass(frozen=True, slots=True)
class Thing:
    """A device that acts by itself. `fields` are its other attributes, given or custom.

    is_online: it has a live MQTT connection, since `online_ms` (or has had none since then).
    """

    app_id: str
    thing_id: str
    vendor_thing_id: str
    created_ms: int
    password_hash: str
    is_disabled: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_online: bool = False
    online_ms: int = 0

    @property
    def subject(self) -> str:
        return f"thing:{self.thing_id}"


@dataclass(frozen=True, slots=True)
class Group:
    """Users who share a scope; the owner is one of the members."""

    app_id: str
    group_id: str
    name: str
    owner_user_id: str
    created_ms: int
    modified_ms: int

    @property
    def subject(self) -> str:
        return f"group:{self.group_id}"

    @property
    def scope(self) -> Scope:
        return Scope(self.app_id, ScopeType.GROUP, self.group_id)


# --- scopes and sources ---------------------------------------------------------------------


class ScopeType(StrEnum):
    """Spec kii 1.7; the values are the wire's."""

    APP = "APP"
    USER = "APP_AND_USER"
    GROUP = "APP_AND_GROUP"
    THING = "APP_AND_THING"


_SCOPE_FOLDER = {
    ScopeType.APP: "",
    ScopeType.USER: "users/",
    ScopeType.GROUP: "groups/",
    ScopeType.THING: "things/",
}
_SCOPE_BY_FOLDER = {folder.rstrip("/"): kind for kind, folder in _SCOPE_FOLDER.items()}


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a bucket or topic lives: the app itself, or one of its users, groups or things."""

    app_id: str
    type: ScopeType = ScopeType.APP
    owner_id: str = ""

    @property
    def path(self) -> str:
        """`` or `users/ID/`: the front part of a source's URI, and the store's key of the scope."""
        folder = _SCOPE_FOLDER[self.type]
        return f"{folder}{self.owner_id}/" if folder else ""

    @staticmethod
    def from_path(app_id: str, path: str) -> Scope:
        """The inverse of `path`."""
        folder, _, rest = path.partition("/")
        return Scope(app_id, _SCOPE_BY_FOLDER[folder], rest.rstrip("/"))


class SourceKind(StrEnum):
    """What one can subscribe to."""

    BUCKET = "bucket"
    TOPIC = "topic"
    FILTER = "filter"  # a part of a bucket's events; its ID is `{bucketID}/{filterID}`


@dataclass(frozen=True, slots=True)
class Source:
    """A bucket, a topic or a named filter of a bucket.

    key: the store's number of it, unique over all apps and never used again; the router's index
    and every foreign key use it. creator: subject of who made it. may_have_filters: False saves
    looking for the named filters of a bucket. phone_networks: push networks its app has a key for.
    is_live: somebody follows it by the Live Service. Only a source looked up by its name knows
    these three. permission: of a bucket that is a collection too; None: its scope's default rights.
    """

    key: int
    kind: SourceKind
    scope: Scope
    id: str
    creator: str
    may_have_filters: bool = field(default=True, compare=False)
    phone_networks: tuple[str, ...] = field(default=(), compare=False)
    is_live: bool = field(default=False, compare=False)
    permission: Permission | None = field(default=None, compare=False)
    has_triggers: bool = field(default=False, compare=False)  # its app has, for server code

    @property
    def path(self) -> str:
        """`users/U/buckets/B`: the URI without its scheme, and the name of its access rules."""
        return f"{self.scope.path}{self.kind.value}s/{self.id}"

    @property
    def uri(self) -> str:
        return f"kiicloud://{self.path}"


@dataclass(frozen=True, slots=True)
class Filter:
    """A named filter: lets through events of these types whose object matches the clause.

    event_types: empty for all. clause: a query clause of spec kii 4.4; `all` matches any object.
    """

    source: Source
    event_types: frozenset[str]
    clause: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.source.id.partition("/")[2]


@dataclass(frozen=True, slots=True)
class AclEntry:
    """A change to the default rights: `subject` was granted `verb`, or it was taken away."""

    verb: str
    subject: str
    is_granted: bool


@dataclass(frozen=True, slots=True)
class Object:
    """A JSON object of a bucket. `document` holds the app's own fields only.

    owner: subject of its creator. version: 1 at creation, one more at each change.
    """

    object_id: str
    version: int
    created_ms: int
    modified_ms: int
    owner: str
    data_type: str
    document: str  # compact JSON, as stored


class ObjectQuery(NamedTuple):
    """Which objects of a bucket. clause: spec kii 4.4. order_by: a field, or None for creation.

    A page goes on from `after_key` in order of creation, from `offset` in any other.
    """

    clause: object
    limit: int
    order_by: object = None
    is_descending: bool = False
    after_key: int = 0
    offset: int = 0


# --- installations --------------------------------------------------------------------------


class DeviceType(StrEnum):
    """Push networks an installation can be of (spec kii 2.1); WEBPUSH is an extension."""

    ANDROID = "ANDROID"
    IOS = "IOS"
    JPUSH = "JPUSH"
    MQTT = "MQTT"
    WEBPUSH = "WEBPUSH"


@dataclass(frozen=True, slots=True)
class Installation:
    """One device of one owner. registration_id is the network's device token.

    updated_ms: when the device last registered. problem: why the network refuses the token, though
    the device may still be there; empty if it does not. platform, framework, service: what the
    second dialect knows of a device, else empty.
    """

    installation_id: str
    owner: Owner
    device_type: DeviceType
    registration_id: str
    is_development: bool
    created_ms: int
    updated_ms: int
    problem: str = ""
    platform: str = ""
    framework: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class MqttEndpoint:
    """Credentials and private topic of an MQTT installation.

    password_hash: SHA-256; the password itself is derived again from the server's key when the
    owner asks (see credentials). expires_ms: when the topic stops being valid, or `NEVER_MS`.
    """

    installation_id: str
    username: str
    password_hash: bytes
    mqtt_topic: str
    expires_ms: int = NEVER_MS


# --- events and messages --------------------------------------------------------------------


class ObjectEventType(StrEnum):
    """What can happen in a bucket (spec kii 4.2); the values are the wire's."""

    CREATED = "DATA_OBJECT_CREATED"
    UPDATED = "DATA_OBJECT_UPDATED"
    DELETED = "DATA_OBJECT_DELETED"
    BODY_UPDATED = "DATA_OBJECT_BODY_UPDATED"
    BODY_DELETED = "DATA_OBJECT_BODY_DELETED"
    ACL_MODIFIED = "DATA_OBJECT_ACL_MODIFIED"
    BUCKET_DELETED = "BUCKET_DELETED"


@dataclass(frozen=True, slots=True)
class Message:
    """What a sender asked to send (spec kii 8), already valid in itself.

    data: flat; goes to every network. networks: the enabled ones only, each with its own part of
    the request (`data` inside it is merged over the common data). is_once: phones only of owners
    who have no live connection; None: as the app has it.
    """

    data: Mapping[str, Any]
    networks: Mapping[str, Mapping[str, Any]]
    is_once: bool | None = None
    message_type: str | None = None
    to_development: bool = True
    to_production: bool = True
    sends_app_id: bool = False
    sends_sender: bool = True
    sends_when: bool = False
    sends_origin: bool = False
    sends_object_scope: bool = True
    sends_topic_id: bool = True


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a push is for: who hears a source, or these owners, or every user of the app.

    filter_keys: who hears one of these filters, too. installation_ids: besides the owners' devices
    these phones. Nobody gets a push twice on one device.
    """

    app_id: str
    source: Source | None = None
    filter_keys: tuple[int, ...] = ()
    owners: tuple[Owner, ...] = ()
    installation_ids: tuple[str, ...] = ()
    is_everybody: bool = False

    @property
    def place(self) -> str:
        """Path of the topic, user or thing; `everybody` or `several` where there is no such one."""
        if self.source is not None:
            return self.source.path
        if len(self.owners) == 1 and not self.installation_ids:
            return f"{self.owners[0].kind}s/{self.owners[0].id}"
        return "everybody" if self.is_everybody else "several"

    @staticmethod
    def of_topic(topic: Source) -> Audience:
        return Audience(topic.scope.app_id, source=topic)

    @staticmethod
    def of_owners(*owners: Owner) -> Audience:
        """At least one, all of one app."""
        return Audience(owners[0].app_id, owners=owners)


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """What is kept of an accepted message. place: of its audience."""

    message_id: str
    app_id: str
    place: str
    sender: str
    sent_ms: int


@dataclass(frozen=True, slots=True)
class PhonePayload:
    """A rendered push as one push network carries it.

    body: the JSON of the network's own format, without the device token. collapse_key: a later push
    with the same key may replace this one. ttl_s: how long the network may hold it back; None: the
    server's default. is_urgent: delivered at once (APNs priority 10, FCM and Web Push high).
    push_type: APNs' own header.
    """

    body: bytes
    collapse_key: str = ""
    ttl_s: int | None = None
    is_urgent: bool = True
    push_type: str = "alert"


class Outcome(NamedTuple):
    """So many recipients of a network met this end: `delivered`, or why not."""

    network: str
    outcome: str
    recipients: int
