"""What the store does for buckets that are collections: the interface (spec kinvey 6 and 7).

Knows no SQL and no rule. Rights come in as an `ObjectRule`, so that what a query finds, counts and
sorts is decided among the objects that may be read, and nothing else can be learnt from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mqttpush.kinvey import Permission
from mqttpush.models import AclEntry, Object, Owner, Source, User
from mqttpush.store.queries import EntityQuery


class Found(NamedTuple):
    """An object as a search saw it; it has changed since unless all of this is still so."""

    object_id: str
    version: int
    created_ms: int


class ObjectRule(NamedTuple):
    """Which objects of a bucket somebody has a right to.

    subjects: that mean him. defaults: those of them that have the right unless an object's rules
    take it away. is_creators: so has who made the object.
    """

    verb: str
    subjects: tuple[str, ...]
    defaults: tuple[str, ...]
    is_creators: bool


class LiveClient(NamedTuple):
    """An installation registered for the Live Service, and what it follows.

    token_hash: of its session. expires_ms: when that ends.
    """

    installation_id: str
    owner: Owner
    device_id: str
    token_hash: bytes
    expires_ms: int
    source_keys: tuple[int, ...]


class EntityTable(Protocol):
    """Objects of collections, asked for by queries in the style of MongoDB."""

    def find(
        self,
        bucket: Source,
        query: EntityQuery,
        rules: Sequence[ObjectRule] = (),
        *,
        limit_bytes: int,
    ) -> list[Object]:
        """Objects that match and that all rules allow.

        Raises InvalidRequest with code ResultSetSizeExceeded for more than `limit_bytes` of them.
        """

    def look(
        self, bucket: Source, query: EntityQuery, rules: Sequence[ObjectRule] = ()
    ) -> list[Found]:
        """The same without what is in them."""

    def count(
        self, bucket: Source, query: EntityQuery, rules: Sequence[ObjectRule] = ()
    ) -> int: ...

    def rules_of(self, bucket: Source, object_ids: Sequence[str]) -> dict[str, list[AclEntry]]:
        """Access rules of these objects, those without any left out: one query."""

    def find_users(
        self, app_id: str, query: EntityQuery, viewer: str | None, *, limit_bytes: int
    ) -> list[User]:
        """Users who match, by the names of the second dialect, and whom `viewer` may see.

        viewer: a user's ID; None for the administrator, who sees all. Raises as `find` does.
        """

    def count_users(self, app_id: str, query: EntityQuery, viewer: str | None) -> int: ...

    def set_permission(self, source_key: int, permission: Permission | None) -> None: ...


class LiveTable(Protocol):
    """Who follows which collection live. All of a client goes with its installation."""

    def insert(
        self,
        installation_id: str,
        owner: Owner,
        device_id: str,
        token_hash: bytes,
        now_ms: int,
    ) -> None: ...

    def find(self, owner: Owner, device_id: str) -> LiveClient | None:
        """None too when its session has ended."""

    def owner_of_device(self, app_id: str, device_id: str) -> Owner | None:
        """Of the latest who registered it: for the admin, who has no device."""

    def by_installation(self, installation_id: str) -> LiveClient | None: ...
    def ids_of(self, owner: Owner) -> list[str]:
        """Installation IDs, the oldest first."""

    def ended(self, owner: Owner) -> list[str]:
        """Installation IDs of those whose session is gone."""

    def subscribe(self, installation_id: str, source_key: int) -> bool: ...
    def unsubscribe(self, installation_id: str, source_key: int) -> bool: ...
