"""Single steps of a unit of work, each on the real tables and on the model.

A step answers the same on both, or raises the same class. Steps keep what every verb keeps: rows
belong to an app that exists, and a subscriber is of the app of his source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from mqttpush.models import (
    AclEntry,
    DeviceType,
    Installation,
    Json,
    ObjectQuery,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Source,
    SourceKind,
)
from mqttpush.store import Transaction
from tests.store.model import Model
from tests.support import nouns


@dataclass(frozen=True)
class Operation:
    """One step; `name` shows in a failing example."""

    name: str
    on_store: Callable[[Transaction], Any]
    on_model: Callable[[Model], Any]

    def __repr__(self) -> str:
        return self.name


APPS = ("a1", "a2")
IDS = ("xx", "yy", "zz")
ALL = ObjectQuery({"type": "all"}, 1000)
SCOPES = tuple(s for a in APPS for s in (Scope(a), Scope(a, ScopeType.USER, "xx")))

app_ids = st.sampled_from(APPS)
ids = st.sampled_from(IDS)
scopes = st.sampled_from(SCOPES)
kinds = st.sampled_from([SourceKind.BUCKET, SourceKind.TOPIC])
times_ms = st.integers(1, 5)


Step = tuple[Callable[[Transaction], Any], Callable[[Model], Any]]


def where_app(
    app_id: str, on_store: Callable[[Transaction], Any], on_model: Callable[[Model], Any]
) -> Step:
    """The step where that app exists; nothing where it does not."""
    return (
        lambda tx: on_store(tx) if tx.apps.get(app_id) else None,
        lambda model: on_model(model) if app_id in model.app_by_id else None,
    )


def where_source(
    kind: SourceKind,
    scope: Scope,
    source_id: str,
    on_store: Callable[[Transaction, int], Any],
    on_model: Callable[[Model, int], Any],
) -> Step:
    """The step with the key which the source has there; nothing if there is no such source."""

    def store_step(tx: Transaction) -> Any:
        found = tx.sources.get(kind, scope, source_id)
        return found and on_store(tx, found.key)

    def model_step(model: Model) -> Any:
        found = model.source(kind, scope, source_id)
        return found and on_model(model, found.key)

    return store_step, model_step


def drawn(draw: st.DrawFn, subject: str, steps: dict[str, Step]) -> Operation:
    """One of the steps, named for what it is about."""
    name = draw(st.sampled_from(sorted(steps)))
    return Operation(f"{name} {subject}", *steps[name])


def any_operation() -> st.SearchStrategy[Operation]:
    """Any step; sources and objects more often than apps, which take all with them."""
    return st.one_of(
        insertions_of_apps(),
        apps(),
        users(),
        tokens(),
        installations(),
        sources(),
        subscriptions(),
        access_rules(),
        objects(),
    )


@st.composite
def insertions_of_apps(draw: st.DrawFn) -> Operation:
    """Only where there is none, so that most units have an app to work in."""
    app = nouns.app(draw(app_ids))
    return Operation(
        f"insert app {app.app_id} if needed",
        lambda tx: None if tx.apps.get(app.app_id) else tx.apps.insert(app),
        lambda model: None if app.app_id in model.app_by_id else model.insert_app(app),
    )


@st.composite
def apps(draw: st.DrawFn) -> Operation:
    app = nouns.app(draw(app_ids))
    steps: dict[str, Step] = {
        "insert": (lambda tx: tx.apps.insert(app), lambda model: model.insert_app(app)),
        "delete": (
            lambda tx: tx.apps.delete(app.app_id),
            lambda model: model.delete_app(app.app_id),
        ),
        "get": (
            lambda tx: tx.apps.get_by_client_id(app.client_id),
            lambda model: model.app_by_id.get(app.app_id),
        ),
    }
    return drawn(draw, f"app {app.app_id}", steps)


@st.composite
def users(draw: st.DrawFn) -> Operation:
    app_id, user_id, login_name = draw(app_ids), draw(ids), draw(st.none() | ids)
    user = nouns.user(user_id, app_id, login_name=login_name)
    steps: dict[str, Step] = {
        "insert": where_app(
            app_id, lambda tx: tx.users.insert(user), lambda model: model.insert_user(user)
        ),
        "delete": (
            lambda tx: tx.users.delete(app_id, user_id),
            lambda model: model.delete_user(app_id, user_id),
        ),
        "find": (
            lambda tx: tx.users.get_by(app_id, "login_name", login_name or "?"),
            lambda model: model.user_named(app_id, login_name or "?"),
        ),
    }
    return drawn(draw, f"user {app_id}/{user_id} named {login_name}", steps)


@st.composite
def tokens(draw: st.DrawFn) -> Operation:
    principal = Principal(draw(app_ids), PrincipalKind.USER, draw(ids))
    token, at_ms = draw(st.sampled_from([b"t1", b"t2", b"t3"])), draw(times_ms)

    def insert(tx: Transaction) -> None:
        tx.tokens.delete(token)
        tx.tokens.insert(token, principal, 0, at_ms)

    def holder(tx: Transaction) -> Principal | None:
        found = tx.tokens.holder(token, at_ms)
        return found.principal if found else None

    steps: dict[str, Step] = {
        "insert": where_app(
            principal.app_id, insert, lambda model: model.insert_token(token, principal, at_ms)
        ),
        "holder of": (holder, lambda model: model.holder(token, at_ms)),
        "delete all of the owner of": (
            lambda tx: tx.tokens.delete_of(principal.owner),
            lambda model: model.delete_tokens_of(principal.owner),
        ),
        "but for it delete all of the owner of": (
            lambda tx: tx.tokens.delete_of(principal.owner, but=token),
            lambda model: model.delete_tokens_of(principal.owner, but=token),
        ),
        "delete expired": (
            lambda tx: tx.tokens.delete_expired(at_ms),
            lambda model: model.delete_expired_tokens(at_ms),
        ),
    }
    return drawn(draw, f"token {token!r} of {principal.owner} at {at_ms}", steps)


@st.composite
def installations(draw: st.DrawFn) -> Operation:
    owner = nouns.owner(f"user:{draw(ids)}", draw(app_ids))
    item = nouns.installation(
        f"{draw(ids)}-{owner.app_id}",
        owner,
        device_type=draw(st.sampled_from(DeviceType)),
        registration_id=draw(ids),
        is_development=draw(st.booleans()),
    )
    key = (owner.app_id, item.device_type, item.registration_id)
    steps: dict[str, Step] = {
        "insert": where_app(
            owner.app_id,
            lambda tx: tx.installations.insert(item),
            lambda model: model.insert_installation(item),
        ),
        "update": (
            lambda tx: tx.installations.update(item),
            lambda model: model.update_installation(item),
        ),
        "delete": (
            lambda tx: tx.installations.delete(item.installation_id),
            lambda model: model.delete_installation(item.installation_id),
        ),
        "find by the start of": (
            lambda tx: sorted(tx.installations.list_by_prefix(*key), key=_installation_id),
            lambda model: sorted(model.installations_starting(*key), key=_installation_id),
        ),
        "list all of the owner of": (
            lambda tx: sorted(tx.installations.list_of(owner), key=_installation_id),
            lambda model: sorted(model.installations_of(owner), key=_installation_id),
        ),
        "find": (
            lambda tx: tx.installations.list_by_registration(*key),
            lambda model: model.installations_registered(*key),
        ),
    }
    return drawn(draw, f"installation {item.installation_id} {key} of {owner.subject}", steps)


def _installation_id(item: Installation) -> str:
    return item.installation_id


@st.composite
def sources(draw: st.DrawFn) -> Operation:
    kind, scope, source_id, other_id = draw(kinds), draw(scopes), draw(ids), draw(ids)
    steps: dict[str, Step] = {
        "insert": where_app(
            scope.app_id,
            lambda tx: _plain(tx.sources.insert(kind, scope, source_id, "user:xx", 1)),
            lambda model: _plain(model.insert_source(kind, scope, source_id, "user:xx")),
        ),
        "delete": where_source(
            kind,
            scope,
            source_id,
            lambda tx, key: tx.sources.delete(key),
            lambda model, key: model.delete_source(key),
        ),
        "delete all beside": (
            lambda tx: tx.sources.delete_scope(scope),
            lambda model: model.delete_scope(scope),
        ),
        f"list those after {other_id} beside": (
            lambda tx: [_plain(s) for s in tx.sources.list_of_scope(kind, scope, other_id, 2)],
            lambda model: [_plain(s) for s in model.sources_of_scope(kind, scope, other_id, 2)],
        ),
    }
    return drawn(draw, f"{kind} {scope.app_id}/{scope.path}{source_id}", steps)


def _plain(source: Source) -> tuple[object, ...]:
    """A source without its number, which is the store's own affair."""
    return (source.kind, source.scope, source.id, source.creator)


@st.composite
def subscriptions(draw: st.DrawFn) -> Operation:
    kind, scope, source_id = draw(kinds), draw(scopes), draw(ids)
    owner = nouns.owner(f"{draw(st.sampled_from(['user', 'thing']))}:{draw(ids)}", scope.app_id)
    source = (kind, scope, source_id)
    is_heard = draw(st.booleans())
    steps: dict[str, Step] = {
        "subscribe to": where_source(
            *source,
            lambda tx, key: tx.subscriptions.insert(key, owner, 1),
            lambda model, key: model.subscribe(key, owner),
        ),
        "unsubscribe from": where_source(
            *source,
            lambda tx, key: tx.subscriptions.delete(key, owner),
            lambda model, key: model.unsubscribe(key, owner),
        ),
        "is subscribed to": where_source(
            *source,
            lambda tx, key: tx.subscriptions.contains(key, owner),
            lambda model, key: (key, owner) in model.heard_by_subscription,
        ),
        f"set heard {is_heard}": where_source(
            *source,
            lambda tx, key: tx.subscriptions.set_heard(key, owner, is_heard),
            lambda model, key: model.set_heard(key, owner, is_heard),
        ),
        "unsubscribe from all, not only": (
            lambda tx: tx.subscriptions.delete_of(owner),
            lambda model: model.unsubscribe_from_all(owner),
        ),
    }
    name = f"{kind} {scope.app_id}/{scope.path}{source_id} as {owner.subject}"
    return drawn(draw, name, steps)


@st.composite
def access_rules(draw: st.DrawFn) -> Operation:
    app_id, subject = draw(app_ids), f"user:{draw(ids)}"
    resource = draw(st.sampled_from(["", "buckets/xx", "buckets/xx/objects/yy", "buckets/xxx"]))
    entry = AclEntry(draw(st.sampled_from(["READ", "WRITE"])), subject, draw(st.booleans()))
    steps: dict[str, Step] = {
        "put": where_app(
            app_id,
            lambda tx: tx.acl.put(app_id, resource, entry),
            lambda model: model.put_acl(app_id, resource, entry),
        ),
        "entries": (
            lambda tx: tx.acl.entries(app_id, resource, entry.verb),
            lambda model: model.acl_entries(app_id, resource, entry.verb),
        ),
        "delete": (
            lambda tx: tx.acl.delete(app_id, resource, entry.verb, subject),
            lambda model: model.delete_acl(app_id, resource, entry.verb, subject),
        ),
        "delete all of the resource of": (
            lambda tx: tx.acl.delete_resource(app_id, resource),
            lambda model: model.delete_acl_of_resource(app_id, resource),
        ),
        "delete all of the subject of": (
            lambda tx: tx.acl.delete_subject(app_id, subject),
            lambda model: model.delete_acl_of_subject(app_id, subject),
        ),
    }
    return drawn(draw, f"rule {app_id} {resource!r} {entry}", steps)


@st.composite
def objects(draw: st.DrawFn) -> Operation:
    scope, source_id, object_id = draw(scopes), draw(ids), draw(ids)
    document = f'{{"n":{draw(times_ms)}}}'
    item = nouns.json_object(object_id, version=draw(times_ms), document=document)
    bucket = (SourceKind.BUCKET, scope, source_id)
    steps: dict[str, Step] = {
        "insert": where_source(
            *bucket,
            lambda tx, key: tx.objects.insert(key, item),
            lambda model, key: model.insert_object(key, item),
        ),
        "replace": where_source(
            *bucket,
            lambda tx, key: tx.objects.replace(key, item),
            lambda model, key: model.replace_object(key, item),
        ),
        "delete": where_source(
            *bucket,
            lambda tx, key: tx.objects.delete(key, object_id),
            lambda model, key: model.delete_object(key, object_id),
        ),
        "get": where_source(
            *bucket,
            lambda tx, key: tx.objects.get(key, object_id),
            lambda model, key: model.object(key, object_id),
        ),
    }
    return drawn(draw, f"object {scope.app_id}/{scope.path}{source_id}/{object_id}", steps)


def everything_in(tx: Transaction) -> Json:
    """All rows a transaction shows, in the form of `everything_in_model`."""
    sources = [
        source
        for scope in SCOPES
        for kind in (SourceKind.BUCKET, SourceKind.TOPIC)
        for source in tx.sources.list_of_scope(kind, scope, "", 100)
    ]
    owners = [nouns.owner(f"{k}:{i}", a) for a in APPS for k in ("user", "thing") for i in IDS]
    plain_by_key = {source.key: _plain(source) for source in sources}
    return {
        "apps": [app.app_id for app in tx.apps.list()],
        "users": [user for a in APPS for i in IDS if (user := tx.users.get(a, i))],
        "installations": {
            item.installation_id: item for a in APPS for item in tx.installations.list_of_app(a)
        },
        "sources": set(plain_by_key.values()),
        "subscriptions": {
            (_plain(source), owner)
            for owner in owners
            for source in tx.subscriptions.list_of(owner)
        },
        "heard": {
            (plain_by_key[key], owner)
            for owner, keys in tx.subscriptions.heard_by(owners).items()
            for key in keys
        },
        "objects": {
            plain_by_key[source.key]: objects_of
            for source in sources
            if (objects_of := [item for _, item in tx.objects.query(source.key, ALL)])
        },
    }


def everything_in_model(model: Model) -> Json:
    """All rows of the model, sources by name."""
    plain_by_key = {source.key: _plain(source) for source in model.source_by_key.values()}
    return {
        "apps": sorted(model.app_by_id),
        "users": [user for _, user in sorted(model.user_by_id.items())],
        "installations": model.installation_by_id,
        "sources": set(plain_by_key.values()),
        "subscriptions": {(plain_by_key[key], o) for key, o in model.heard_by_subscription},
        "heard": {
            (plain_by_key[key], owner)
            for (key, owner), is_heard in model.heard_by_subscription.items()
            if is_heard
        },
        "objects": {
            plain: objects_of
            for key, plain in plain_by_key.items()
            if (objects_of := model.objects_of(key))
        },
    }
