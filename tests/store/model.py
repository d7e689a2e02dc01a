"""The store as dictionaries: what each table must answer, in the plainest code.

Owns no durability and no thread. A unit of work written against `Tables` runs on this and on a real
transaction alike; the two must never differ.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from itertools import count

from mqttpush.errors import AlreadyExists
from mqttpush.models import (
    AclEntry,
    App,
    DeviceType,
    Installation,
    Object,
    Owner,
    Principal,
    Scope,
    Source,
    SourceKind,
    User,
)


@dataclass
class Model:
    """Rows by key. Every key starts with the app's ID, so that an app's rows go with it."""

    app_by_id: dict[str, App] = field(default_factory=dict)
    user_by_id: dict[tuple[str, str], User] = field(default_factory=dict)
    holder_by_token: dict[bytes, tuple[Principal, int]] = field(default_factory=dict)
    installation_by_id: dict[str, Installation] = field(default_factory=dict)
    source_by_key: dict[int, Source] = field(default_factory=dict)
    heard_by_subscription: dict[tuple[int, Owner], bool] = field(default_factory=dict)
    acl: dict[tuple[str, str], dict[tuple[str, str], bool]] = field(default_factory=dict)
    object_by_id: dict[tuple[int, str], tuple[int, Object]] = field(default_factory=dict)
    keys: count[int] = field(default_factory=lambda: count(1))

    def copied(self) -> Model:
        return copy.deepcopy(self)

    # --- apps and users -------------------------------------------------------------------

    def insert_app(self, app: App) -> None:
        if app.app_id in self.app_by_id:
            raise AlreadyExists("app", app.app_id)
        self.app_by_id[app.app_id] = app

    def delete_app(self, app_id: str) -> bool:
        if self.app_by_id.pop(app_id, None) is None:
            return False
        for user in [u for u in self.user_by_id.values() if u.app_id == app_id]:
            del self.user_by_id[app_id, user.user_id]
        for token, (principal, _) in list(self.holder_by_token.items()):
            if principal.app_id == app_id:
                del self.holder_by_token[token]
        for item in list(self.installation_by_id.values()):
            if item.owner.app_id == app_id:
                del self.installation_by_id[item.installation_id]
        for source in [s for s in self.source_by_key.values() if s.scope.app_id == app_id]:
            self.delete_source(source.key)
        for key in [key for key in self.acl if key[0] == app_id]:
            del self.acl[key]
        return True

    def insert_user(self, user: User) -> None:
        for other in self.user_by_id.values():
            if other.app_id == user.app_id and (
                other.user_id == user.user_id
                or (user.login_name is not None and other.login_name == user.login_name)
            ):
                raise AlreadyExists("user", user.user_id)
        self.user_by_id[user.app_id, user.user_id] = user

    def delete_user(self, app_id: str, user_id: str) -> bool:
        return self.user_by_id.pop((app_id, user_id), None) is not None

    def user_named(self, app_id: str, login_name: str) -> User | None:
        named = (
            user
            for user in self.user_by_id.values()
            if (user.app_id, user.login_name) == (app_id, login_name)
        )
        return next(named, None)

    # --- tokens ---------------------------------------------------------------------------

    def insert_token(self, token: bytes, principal: Principal, expires_ms: int) -> None:
        self.holder_by_token[token] = (principal, expires_ms)

    def holder(self, token: bytes, now_ms: int) -> Principal | None:
        principal, expires_ms = self.holder_by_token.get(token, (None, 0))
        if principal is None or expires_ms <= now_ms:
            return None
        return principal if (principal.app_id, principal.id) in self.user_by_id else None

    def delete_tokens_of(self, owner: Owner, but: bytes | None = None) -> int:
        own = [t for t, (p, _) in self.holder_by_token.items() if p.owner == owner]
        gone = [token for token in own if token != but]
        for token in gone:
            del self.holder_by_token[token]
        return len(gone)

    def delete_expired_tokens(self, now_ms: int) -> int:
        gone = [t for t, (_, expires_ms) in self.holder_by_token.items() if expires_ms <= now_ms]
        for token in gone:
            del self.holder_by_token[token]
        return len(gone)

    # --- installations --------------------------------------------------------------------

    def insert_installation(self, item: Installation) -> None:
        if item.installation_id in self.installation_by_id:
            raise AlreadyExists("installation", item.installation_id)
        self._require_free(item)
        self.installation_by_id[item.installation_id] = item

    def update_installation(self, item: Installation) -> None:
        """Of one that is not there: nothing."""
        existing = self.installation_by_id.get(item.installation_id)
        if existing is not None:
            kept = {"device_type": existing.device_type, "created_ms": existing.created_ms}
            updated = replace(item, **kept)  # type: ignore[arg-type]
            self._require_free(updated)
            self.installation_by_id[item.installation_id] = updated

    def _require_free(self, item: Installation) -> None:
        """An owner registers a device token once."""
        for other in self.installation_by_id.values():
            if other.installation_id != item.installation_id and (
                (other.owner, other.device_type, other.registration_id)
                == (item.owner, item.device_type, item.registration_id)
            ):
                raise AlreadyExists("installation", item.installation_id)

    def delete_installation(self, installation_id: str) -> bool:
        return self.installation_by_id.pop(installation_id, None) is not None

    def installations_registered(
        self, app_id: str, device_type: DeviceType, registration_id: str
    ) -> list[Installation]:
        key = (app_id, device_type, registration_id)
        items = self.installation_by_id.values()
        found = [i for i in items if (i.owner.app_id, i.device_type, i.registration_id) == key]
        return sorted(found, key=lambda item: item.owner.subject)

    def installations_starting(
        self, app_id: str, device_type: DeviceType, prefix: str
    ) -> list[Installation]:
        return [
            item
            for item in self.installation_by_id.values()
            if (item.owner.app_id, item.device_type) == (app_id, device_type)
            and item.registration_id.startswith(prefix)
        ]

    def installations_of(self, owner: Owner) -> list[Installation]:
        return [item for item in self.installation_by_id.values() if item.owner == owner]

    # --- sources and subscriptions ----------------------------------------------------------

    def insert_source(self, kind: SourceKind, scope: Scope, source_id: str, creator: str) -> Source:
        if self.source(kind, scope, source_id) is not None:
            raise AlreadyExists(kind.value, source_id)
        source = Source(next(self.keys), kind, scope, source_id, creator)
        self.source_by_key[source.key] = source
        return source

    def source(self, kind: SourceKind, scope: Scope, source_id: str) -> Source | None:
        wanted = (kind, scope, source_id)
        sources = self.source_by_key.values()
        return next((s for s in sources if (s.kind, s.scope, s.id) == wanted), None)

    def sources_of_scope(
        self, kind: SourceKind, scope: Scope, after_id: str, limit: int
    ) -> list[Source]:
        found = [
            s
            for s in self.source_by_key.values()
            if (s.kind, s.scope) == (kind, scope) and s.id > after_id
        ]
        return sorted(found, key=lambda source: source.id)[:limit]

    def delete_source(self, source_key: int) -> None:
        self.source_by_key.pop(source_key, None)
        for subscription in [key for key in self.heard_by_subscription if key[0] == source_key]:
            del self.heard_by_subscription[subscription]
        for key in [key for key in self.object_by_id if key[0] == source_key]:
            del self.object_by_id[key]

    def delete_scope(self, scope: Scope) -> None:
        for source in [s for s in self.source_by_key.values() if s.scope == scope]:
            self.delete_source(source.key)

    def subscribe(self, source_key: int, owner: Owner) -> bool:
        is_new = (source_key, owner) not in self.heard_by_subscription
        self.heard_by_subscription.setdefault((source_key, owner), True)
        return is_new

    def unsubscribe(self, source_key: int, owner: Owner) -> bool:
        return self.heard_by_subscription.pop((source_key, owner), None) is not None

    def set_heard(self, source_key: int, owner: Owner, is_heard: bool) -> bool:
        if self.heard_by_subscription.get((source_key, owner)) is not (not is_heard):
            return False
        self.heard_by_subscription[source_key, owner] = is_heard
        return True

    def unsubscribe_from_all(self, owner: Owner) -> None:
        for key in [key for key in self.heard_by_subscription if key[1] == owner]:
            del self.heard_by_subscription[key]

    # --- access rules ---------------------------------------------------------------------

    def acl_entries(self, app_id: str, resource: str, verb: str) -> dict[str, bool]:
        entries = self.acl.get((app_id, resource), {})
        return {subject: granted for (v, subject), granted in entries.items() if v == verb}

    def put_acl(self, app_id: str, resource: str, entry: AclEntry) -> None:
        entries = self.acl.setdefault((app_id, resource), {})
        entries[entry.verb, entry.subject] = entry.is_granted

    def delete_acl(self, app_id: str, resource: str, verb: str, subject: str) -> None:
        self.acl.get((app_id, resource), {}).pop((verb, subject), None)

    def delete_acl_of_resource(self, app_id: str, resource: str) -> None:
        for app, path in list(self.acl):
            if app == app_id and (path == resource or path.startswith(f"{resource}/")):
                del self.acl[app, path]

    def delete_acl_of_subject(self, app_id: str, subject: str) -> None:
        for (app, _), entries in self.acl.items():
            for key in [key for key in entries if app == app_id and key[1] == subject]:
                del entries[key]

    # --- objects --------------------------------------------------------------------------

    def insert_object(self, source_key: int, item: Object) -> bool:
        if (source_key, item.object_id) in self.object_by_id:
            return False
        self.object_by_id[source_key, item.object_id] = (next(self.keys), item)
        return True

    def replace_object(self, source_key: int, item: Object) -> None:
        """Of an object that is not there: nothing. Creation time and owner stay."""
        key, existing = self.object_by_id.get((source_key, item.object_id), (0, None))
        if existing is not None:
            self.object_by_id[source_key, item.object_id] = (key, item)

    def delete_object(self, source_key: int, object_id: str) -> bool:
        return self.object_by_id.pop((source_key, object_id), None) is not None

    def object(self, source_key: int, object_id: str) -> Object | None:
        return self.object_by_id.get((source_key, object_id), (0, None))[1]

    def objects_of(self, source_key: int) -> list[Object]:
        rows = [row for key, row in self.object_by_id.items() if key[0] == source_key]
        return [item for _, item in sorted(rows, key=lambda row: row[0])]
