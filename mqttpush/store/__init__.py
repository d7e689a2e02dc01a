"""The store: what must last, written by units of work that commit together.

Owns the interface; `open_store` picks the implementation by the DSN. Knows no rule: a unit brings
the rules. The one idea: a unit of work is a plain function of a `Transaction`, run in the store's
thread; all units waiting are committed by one `fsync`, each caller is answered after the commit
that holds its unit, and what the units `emit` is handed on in commit order before any later commit
exists. So authentication, authorisation, the write and its events are one atomic step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from mqttpush.bodies import Body, Publication, Upload
from mqttpush.commands import Command
from mqttpush.events import Committed
from mqttpush.kinvey import KinveySettings
from mqttpush.models import (
    AclEntry,
    App,
    Audience,
    DeviceType,
    Filter,
    Group,
    Installation,
    Json,
    MessageRecord,
    MqttEndpoint,
    Object,
    ObjectQuery,
    Outcome,
    Owner,
    Principal,
    Scope,
    Source,
    SourceKind,
    Thing,
    User,
)
from mqttpush.store.collections import EntityTable, LiveTable
from mqttpush.store.network_keys import NetworkKeyTable
from mqttpush.store.pushes import PushTable
from mqttpush.store.server_code import ServerCodeTable

Result = TypeVar("Result")
OnCommit = Callable[[Sequence[Committed]], None]


class TokenHolder(NamedTuple):
    """The principal an access token stands for, and who of the two is switched off."""

    principal: Principal
    is_app_disabled: bool
    is_principal_disabled: bool


class ConnectRow(NamedTuple):
    """What a CONNECT is checked against."""

    endpoint: MqttEndpoint
    installation: Installation
    is_enabled: bool  # neither the app nor the owner is disabled


class AppTable(Protocol):
    """Apps. Deleting one deletes everything in it."""

    def insert(self, app: App) -> None: ...
    def get(self, app_id: str) -> App | None: ...
    def update(self, app: App) -> None:
        """Write name and switches."""

    def networks(self, app_id: str) -> tuple[str, ...]:
        """Push networks the app has credentials for."""

    def set_network(self, app_id: str, network: str, is_configured: bool) -> None: ...
    def get_by_client_id(self, client_id: str) -> App | None: ...
    def list(self) -> list[App]: ...
    def delete(self, app_id: str) -> bool: ...


class UserTable(Protocol):
    """Users. Unique within an app: user ID, login name, e-mail address, phone number."""

    def insert(self, user: User) -> None:
        """Raises AlreadyExists naming the field whose value is taken."""

    def get(self, app_id: str, user_id: str) -> User | None: ...
    def get_by(self, app_id: str, field: str, value: str) -> User | None:
        """field: `login_name`, `email_address` or `phone_number`."""

    def update(self, user: User) -> None:
        """Write everything but the IDs; raises AlreadyExists as `insert` does."""

    def delete(self, app_id: str, user_id: str) -> bool: ...


class ThingTable(Protocol):
    """Things and their owners. Unique within an app: thing ID, vendor thing ID."""

    def insert(self, thing: Thing) -> None:
        """Raises AlreadyExists for a taken vendor thing ID."""

    def get(self, app_id: str, thing_id: str) -> Thing | None: ...
    def get_by_vendor_id(self, app_id: str, vendor_thing_id: str) -> Thing | None: ...
    def delete(self, app_id: str, thing_id: str) -> bool: ...
    def update(self, thing: Thing) -> None:
        """Write everything but the IDs."""

    def set_online(self, thing: Owner, is_online: bool, now_ms: int) -> bool:
        """False if it was so already, or the thing is gone."""

    def set_all_offline(self, now_ms: int) -> None: ...
    def owners(self, app_id: str, thing_id: str) -> list[str]:
        """Subjects: `user:ID`, `group:ID`."""

    def owned_by(self, app_id: str, subject: str) -> list[str]:
        """Thing IDs."""

    def add_owner(self, app_id: str, thing_id: str, subject: str) -> bool: ...
    def remove_owner(self, app_id: str, thing_id: str, subject: str) -> bool: ...


class GroupTable(Protocol):
    """Groups and their members; the owner is a member."""

    def insert(self, group: Group) -> None:
        """Raises AlreadyExists."""

    def update(self, group: Group) -> None:
        """Write name, owner and time of an existing one."""

    def get(self, app_id: str, group_id: str) -> Group | None: ...
    def delete(self, app_id: str, group_id: str) -> bool: ...
    def list_of_member(self, app_id: str, user_id: str) -> list[Group]: ...
    def list_of_owner(self, app_id: str, user_id: str) -> list[Group]: ...
    def members(self, app_id: str, group_id: str) -> list[str]: ...
    def is_member(self, app_id: str, group_id: str, user_id: str) -> bool: ...
    def add_member(self, app_id: str, group_id: str, user_id: str) -> bool: ...
    def remove_member(self, app_id: str, group_id: str, user_id: str) -> bool: ...
    def remove_user(self, app_id: str, user_id: str) -> None:
        """Out of all groups."""


class AclTable(Protocol):
    """Changes to default rights. resource: a URI without its scheme, `` for the app's scope."""

    def entries(self, app_id: str, resource: str, verb: str) -> dict[str, bool]:
        """Subject -> was it granted (else taken away)? On most requests' path: one look-up."""

    def put(self, app_id: str, resource: str, entry: AclEntry) -> None: ...
    def delete(self, app_id: str, resource: str, verb: str, subject: str) -> None: ...
    def delete_resource(self, app_id: str, resource: str) -> None:
        """All entries of the resource and of what lies below it."""

    def delete_subject(self, app_id: str, subject: str) -> None: ...


class TokenTable(Protocol):
    """Access tokens, by the SHA-256 of the token."""

    def insert(
        self, token_hash: bytes, principal: Principal, created_ms: int, expires_ms: int
    ) -> None: ...

    def holder(self, token_hash: bytes, now_ms: int) -> TokenHolder | None:
        """Whom the token speaks for; None if it is unknown or expired, or its holder is gone.

        On every request's path: one indexed query.
        """

    def created_ms(self, token_hash: bytes) -> int | None:
        """When the token was made; None if it is unknown."""

    def delete(self, token_hash: bytes) -> bool: ...
    def keep_newest(self, principal: Principal, count: int) -> None:
        """Delete the oldest of a principal's tokens that are too many."""

    def delete_of(self, owner: Owner, *, but: bytes | None = None) -> int:
        """Delete all of an owner's tokens, but for one as it is; returns how many."""

    def delete_expired(self, now_ms: int) -> int: ...


class InstallationTable(Protocol):
    """Installations and the endpoints of those of type MQTT."""

    def insert(self, installation: Installation) -> None:
        """Raises AlreadyExists: an owner registers a device token once."""

    def update(self, installation: Installation) -> None:
        """Write all but ID, app, device type and the time it was made; raises AlreadyExists."""

    def set_problem(self, installation_id: str, problem: str) -> None:
        """Why the network refuses the token; empty: it does not."""

    def get(self, app_id: str, installation_id: str) -> Installation | None: ...
    def get_by_registration(
        self, app_id: str, device_type: DeviceType, registration_id: str
    ) -> Installation | None:
        """One of those with that device token."""

    def list_by_registration(
        self, app_id: str, device_type: DeviceType, registration_id: str
    ) -> list[Installation]:
        """All with that device token: one an owner, in order of subject."""

    def list_by_prefix(
        self, app_id: str, device_type: DeviceType, prefix: str
    ) -> list[Installation]:
        """All whose device token starts so."""

    def list_of(self, owner: Owner) -> list[Installation]: ...
    def list_of_app(self, app_id: str) -> list[Installation]: ...
    def delete(self, installation_id: str) -> bool: ...
    def insert_endpoint(self, endpoint: MqttEndpoint) -> None: ...
    def endpoint(self, installation_id: str) -> MqttEndpoint | None: ...
    def delete_endpoint(self, installation_id: str) -> None: ...

    def connect_rows(self, usernames: Sequence[str]) -> dict[str, ConnectRow]:
        """What is known of each username, unknown ones left out: one query for all."""


class SourceTable(Protocol):
    """Buckets and topics, and who subscribed to them."""

    def insert(
        self, kind: SourceKind, scope: Scope, source_id: str, creator: str, now_ms: int
    ) -> Source:
        """Raises AlreadyExists."""

    def get(self, kind: SourceKind, scope: Scope, source_id: str) -> Source | None: ...
    def list_of_scope(
        self, kind: SourceKind, scope: Scope, after_id: str, limit: int
    ) -> list[Source]:
        """Sources with an ID greater than `after_id`, in order of ID."""

    def keys_of_scope(self, scope: Scope) -> list[int]: ...
    def delete(self, source_key: int) -> None: ...
    def delete_scope(self, scope: Scope) -> None: ...
    def insert_filter(self, item: Filter, bucket_key: int) -> None:
        """Add what the source of kind filter lets through."""

    def replace_filter(self, item: Filter) -> None: ...
    def filters(self, bucket_key: int) -> list[Filter]:
        """Named filters of a bucket. On the path of every object write: one look-up."""


class SubscriptionTable(Protocol):
    """Subscriptions of users and things to buckets, topics and named filters.

    A subscription lives while its owner may not hear the source, but then it is not *heard*.
    """

    def insert(self, source_key: int, owner: Owner, now_ms: int) -> bool:
        """A heard one; False when it was there already."""

    def contains(self, source_key: int, owner: Owner) -> bool: ...
    def delete(self, source_key: int, owner: Owner) -> bool: ...
    def delete_of(self, owner: Owner) -> None: ...
    def set_heard(self, source_key: int, owner: Owner, is_heard: bool) -> bool:
        """False if it was so already."""

    def list_of(self, owner: Owner) -> list[Source]:
        """What the owner is subscribed to, heard or not."""

    def page_of_source(self, source_key: int, after: str, limit: int) -> list[str]:
        """Subjects greater than `after`, in order."""

    def subjects_of_source(self, source_key: int) -> list[str]: ...

    def heard_by(self, owners: Iterable[Owner]) -> dict[Owner, tuple[int, ...]]:
        """Source keys that each of `owners` hears: one query for all."""


class ObjectTable(Protocol):
    """JSON objects of buckets."""

    def insert(self, source_key: int, item: Object) -> bool:
        """False when the ID is taken."""

    def get(self, source_key: int, object_id: str) -> Object | None: ...
    def replace(self, source_key: int, item: Object) -> None: ...
    def delete(self, source_key: int, object_id: str) -> bool: ...

    def query(self, source_key: int, query: ObjectQuery) -> list[tuple[int, Object]]:
        """(key, object) of those that match; raises InvalidRequest for a bad clause."""

    def count(self, source_key: int, clause: object) -> int:
        """How many match; raises InvalidRequest for a bad clause."""

    def matches(self, item: Object, clause: object) -> bool:
        """Would `query` find it? Raises InvalidRequest for a bad clause."""


class CommandTable(Protocol):
    """Commands to things, and the states things report."""

    def insert(self, command: Command) -> None: ...
    def update(self, command: Command) -> None:
        """Write state, results, modification time and deadline."""

    def get(self, thing: Owner, command_id: str) -> Command | None: ...
    def list_of(self, thing: Owner, before: tuple[int, str], limit: int) -> list[Command]:
        """The latest created before, newest first."""

    def waiting_of(self, thing: Owner, now_ms: int) -> list[Command]:
        """Those still to be handed over (their deadline is ahead, and not never), oldest first."""

    def overdue(self, now_ms: int, limit: int) -> list[Command]:
        """Those that waited for their thing too long."""

    def delete_older(self, created_ms: int, limit: int) -> int: ...
    def put_state(self, thing: Owner, alias: str, state: Json, now_ms: int) -> None: ...
    def states(self, thing: Owner) -> dict[str, Json]:
        """By alias; the empty one is of the form without traits."""


class MessageTable(Protocol):
    """Accepted messages and what became of them."""

    def insert(self, record: MessageRecord) -> None: ...
    def get(self, app_id: str, message_id: str) -> MessageRecord | None: ...
    def add_outcomes(self, message_id: str, outcomes: Iterable[Outcome]) -> None:
        """Counts of the same network and outcome add up; an unknown message is passed over."""

    def outcomes(self, message_id: str) -> list[Outcome]: ...
    def delete_older(self, sent_ms: int, limit: int) -> int:
        """Delete at most `limit` sent before; returns how many."""


class BodyTable(Protocol):
    """Bodies of objects. A row that goes, with its object or alone, leaves its blob as garbage."""

    def get(self, source_key: int, object_id: str) -> Body | None: ...
    def put(self, source_key: int, object_id: str, body: Body) -> None:
        """The object's body from here on, in place of any other."""

    def delete(self, source_key: int, object_id: str) -> bool: ...

    def publish(self, publication: Publication, now_ms: int) -> None:
        """Keep the address; those of the body that ended a day before now are forgotten."""

    def published_for_good(self, source_key: int, object_id: str) -> Publication | None: ...
    def publication(self, publication_id: str) -> Publication | None:
        """None too while its app is disabled."""

    def garbage(self, limit: int) -> list[str]:
        """Blobs whose row is gone."""

    def forget_garbage(self, blobs: Sequence[str]) -> None: ...
    def unnamed(self, blobs: Sequence[str]) -> list[str]:
        """Those of `blobs` that neither a body nor an upload names."""


class UploadTable(Protocol):
    """Bodies that arrive in parts. One that goes leaves its blob as garbage, as a body does."""

    def insert(self, upload: Upload) -> None: ...
    def get(self, upload_id: str) -> Upload | None: ...
    def update(self, upload: Upload) -> None:
        """Write content type, sizes and expiry of an existing one."""

    def delete(self, upload_id: str) -> bool:
        """Its blob is no garbage if a body names it by then."""

    def count_of(self, app_id: str, creator: str) -> int: ...
    def expired(self, now_ms: int, limit: int) -> list[str]:
        """IDs."""


class KinveyTable(Protocol):
    """What the second dialect keeps of an app."""

    def settings(self, app_id: str) -> KinveySettings:
        """The defaults for an app that chose none, or that there is not."""

    def put_settings(self, app_id: str, settings: KinveySettings) -> None: ...
    def count_device_owners(self, app_id: str) -> int:
        """Users who are enabled and have a phone."""

    def count_devices(self, audience: Audience) -> dict[tuple[str, str], int]:
        """Device tokens of enabled users, by network and variant; owners or the whole app."""


class Transaction(Protocol):
    """What a unit of work sees: the tables as of now, its own writes included.

    Only valid inside the unit, in the store's thread. A unit that raises leaves no trace.
    """

    @property
    def apps(self) -> AppTable: ...
    @property
    def network_keys(self) -> NetworkKeyTable: ...
    @property
    def users(self) -> UserTable: ...
    @property
    def things(self) -> ThingTable: ...
    @property
    def groups(self) -> GroupTable: ...
    @property
    def acl(self) -> AclTable: ...
    @property
    def tokens(self) -> TokenTable: ...
    @property
    def installations(self) -> InstallationTable: ...
    @property
    def sources(self) -> SourceTable: ...
    @property
    def subscriptions(self) -> SubscriptionTable: ...
    @property
    def objects(self) -> ObjectTable: ...
    @property
    def bodies(self) -> BodyTable: ...
    @property
    def uploads(self) -> UploadTable: ...
    @property
    def commands(self) -> CommandTable: ...
    @property
    def messages(self) -> MessageTable: ...
    @property
    def pushes(self) -> PushTable: ...
    @property
    def server_code(self) -> ServerCodeTable: ...
    @property
    def kinvey(self) -> KinveyTable: ...
    @property
    def entities(self) -> EntityTable: ...
    @property
    def live(self) -> LiveTable: ...

    depth: int  # how many runs of server code led to this unit; set when it authenticates

    def emit(self, committed: Committed) -> None:
        """Hand this on, in commit order, once the unit is durable."""


class Store(Protocol):
    """A place for everything that must last.

    The methods raise what the unit raised, StoreUnavailable when the store is away or too slow,
    LimitReached when too many units wait.
    """

    async def write(self, unit: Callable[[Transaction], Result]) -> Result:
        """Run `unit` and return its result after the commit that holds it."""

    async def read(self, unit: Callable[[Transaction], Result]) -> Result:
        """Run a unit that writes nothing, on the latest commit, beside the writers."""

    async def search(self, unit: Callable[[Transaction], Result]) -> Result:
        """The same for a unit that may be slow: it holds up other searches only.

        Raises LimitReached for one that was not begun within `store.query_timeout_s`.
        """

    async def check(self) -> None:
        """Raises StoreUnavailable unless the store answers now (readiness)."""

    async def close(self) -> None:
        """Commit what waits, then close."""
