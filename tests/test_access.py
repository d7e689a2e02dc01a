"""Access: the tables of default rights, written from the specification (kii 1.7, 4.5, 6.5).

Each row of a table names who has the right; everybody else of the cast has not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from mqttpush.access import Verb, allows, require
from mqttpush.errors import NotAuthorized
from mqttpush.models import (
    AclEntry,
    Group,
    Object,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Source,
    SourceKind,
)
from mqttpush.store import Transaction
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.stores import opened

APP = "app-1"
Answer = TypeVar("Answer")


def user(user_id: str, app_id: str = APP) -> Principal:
    return Principal(app_id, PrincipalKind.USER, user_id)


def thing(thing_id: str, app_id: str = APP) -> Principal:
    return Principal(app_id, PrincipalKind.THING, thing_id)


# Everybody who could ask. `user`: of the user scope; `thing`: of the thing scope.
CAST = {
    "admin": Principal(APP, PrincipalKind.ADMIN),
    "anonymous": Principal(APP, PrincipalKind.ANONYMOUS),
    "user": user("user"),
    "other user": user("other"),
    "thing": thing("thing"),
    "other thing": thing("other"),
    "thing's owner": user("keeper"),
    "member of thing's owner group": user("mate"),
    "group owner": user("boss"),
    "group member": user("member"),
    "source creator": user("maker"),
    "object creator": user("writer"),
    "admin of another app": Principal("app-2", PrincipalKind.ADMIN),
    "same user ID of another app": user("user", "app-2"),
    "anonymous of another app": Principal("app-2", PrincipalKind.ANONYMOUS),
}
STRANGERS = {"admin of another app", "same user ID of another app", "anonymous of another app"}
EVERYBODY = CAST.keys() - STRANGERS
AUTHENTICATED = EVERYBODY - {"anonymous"}
SCOPES = {
    "app": Scope(APP),
    "user": Scope(APP, ScopeType.USER, "user"),
    "group": Scope(APP, ScopeType.GROUP, "team"),
    "thing": Scope(APP, ScopeType.THING, "thing"),
}
THING_SIDE = {"thing", "thing's owner", "member of thing's owner group"}
GROUP_SIDE = {"group owner", "group member"}

CREATE, QUERY, READ = Verb.CREATE_OBJECTS, Verb.QUERY_OBJECTS, Verb.READ_OBJECTS
READ_ONE, WRITE_ONE = Verb.READ_OBJECT, Verb.WRITE_OBJECT

# (scope, verb) -> who, besides the admin.
SCOPE_RIGHTS: dict[tuple[str, Verb], set[str]] = {  # spec kii 1.7
    ("app", Verb.CREATE_NEW_BUCKET): set(AUTHENTICATED),
    ("app", Verb.CREATE_NEW_TOPIC): set(),
    ("group", Verb.CREATE_NEW_BUCKET): GROUP_SIDE,
    ("group", Verb.CREATE_NEW_TOPIC): GROUP_SIDE,
    ("user", Verb.CREATE_NEW_BUCKET): {"user"},
    ("user", Verb.CREATE_NEW_TOPIC): {"user"},
    ("thing", Verb.CREATE_NEW_BUCKET): THING_SIDE,
    ("thing", Verb.CREATE_NEW_TOPIC): THING_SIDE,
    ("app", Verb.CHANGE_SCOPE_ACL): set(),
    ("group", Verb.CHANGE_SCOPE_ACL): {"group owner"},
    ("user", Verb.CHANGE_SCOPE_ACL): {"user"},
    ("thing", Verb.CHANGE_SCOPE_ACL): THING_SIDE,
}
MAKER, WRITER = {"source creator"}, {"object creator"}
BUCKET_RIGHTS: dict[tuple[str, Verb], set[str]] = {  # spec kii 4.5, first table
    ("app", CREATE): set(AUTHENTICATED),
    ("app", QUERY): set(EVERYBODY),
    ("app", READ): set(EVERYBODY),
    ("app", Verb.DROP_BUCKET): set(AUTHENTICATED),
    ("app", Verb.CHANGE_BUCKET_ACL): set(),
    ("group", CREATE): GROUP_SIDE | MAKER,
    ("group", QUERY): GROUP_SIDE | MAKER,
    ("group", READ): GROUP_SIDE | MAKER,
    ("group", Verb.DROP_BUCKET): {"group owner"} | MAKER,
    ("group", Verb.CHANGE_BUCKET_ACL): {"group owner"},
    ("user", CREATE): {"user"} | MAKER,
    ("user", QUERY): {"user"} | MAKER,
    ("user", READ): {"user"} | MAKER,
    ("user", Verb.DROP_BUCKET): {"user"} | MAKER,
    ("user", Verb.CHANGE_BUCKET_ACL): {"user"},
    ("thing", CREATE): THING_SIDE | MAKER,
    ("thing", QUERY): THING_SIDE | MAKER,
    ("thing", READ): THING_SIDE | MAKER,
    ("thing", Verb.DROP_BUCKET): THING_SIDE | MAKER,
    ("thing", Verb.CHANGE_BUCKET_ACL): THING_SIDE,
}
OBJECT_RIGHTS: dict[tuple[str, Verb], set[str]] = {  # spec kii 4.5, below the table
    ("app", READ_ONE): set(EVERYBODY),
    ("app", WRITE_ONE): set(AUTHENTICATED),
    ("app", Verb.CHANGE_OBJECT_ACL): WRITER,
    ("group", READ_ONE): GROUP_SIDE | MAKER | WRITER,
    ("group", WRITE_ONE): GROUP_SIDE | MAKER | WRITER,
    ("group", Verb.CHANGE_OBJECT_ACL): {"group owner"} | WRITER,
    ("user", READ_ONE): {"user"} | MAKER | WRITER,
    ("user", WRITE_ONE): {"user"} | MAKER | WRITER,
    ("user", Verb.CHANGE_OBJECT_ACL): {"user"} | WRITER,
    ("thing", READ_ONE): THING_SIDE | MAKER | WRITER,
    ("thing", WRITE_ONE): THING_SIDE | MAKER | WRITER,
    ("thing", Verb.CHANGE_OBJECT_ACL): THING_SIDE | WRITER,
}
TOPIC_RIGHTS: dict[tuple[str, Verb], set[str]] = {  # spec kii 6.5, 6.6
    ("app", Verb.SUBSCRIBE_TO_TOPIC): set(AUTHENTICATED),
    ("app", Verb.SEND_MESSAGE): MAKER,
    ("app", Verb.CHANGE_TOPIC): MAKER,
    ("group", Verb.SUBSCRIBE_TO_TOPIC): GROUP_SIDE | MAKER,
    ("group", Verb.SEND_MESSAGE): GROUP_SIDE | MAKER,
    ("group", Verb.CHANGE_TOPIC): {"group owner"} | MAKER,
    ("user", Verb.SUBSCRIBE_TO_TOPIC): {"user"} | MAKER,
    ("user", Verb.SEND_MESSAGE): {"user"} | MAKER,
    ("user", Verb.CHANGE_TOPIC): {"user"} | MAKER,
    ("thing", Verb.SUBSCRIBE_TO_TOPIC): THING_SIDE | MAKER,
    ("thing", Verb.SEND_MESSAGE): THING_SIDE | MAKER,
    ("thing", Verb.CHANGE_TOPIC): THING_SIDE | MAKER,
}


def fill(tx: Transaction) -> None:
    """The cast, a group of two, and a thing owned by a user and by a group."""
    for app_id in (APP, "app-2"):
        tx.apps.insert(nouns.app(app_id))
    for principal in CAST.values():
        if principal.kind is PrincipalKind.USER:
            tx.users.insert(nouns.user(principal.id, principal.app_id))
    for thing_id in ("thing", "other"):
        tx.things.insert(nouns.thing(thing_id))
    make_group(tx, "team", "boss", "member")
    make_group(tx, "family", "keeper", "mate")
    tx.things.add_owner(APP, "thing", "user:keeper")
    tx.things.add_owner(APP, "thing", "group:family")


def make_group(tx: Transaction, group_id: str, owner: str, *others: str) -> None:
    tx.groups.insert(Group(APP, group_id, group_id, owner, nouns.NOW_MS, nouns.NOW_MS))
    for member in (owner, *others):
        if not tx.groups.is_member(APP, group_id, member):
            tx.groups.add_member(APP, group_id, member)


def a_source(kind: SourceKind, scope: Scope) -> Source:
    return nouns.source(1, kind=kind, scope=scope, creator="user:maker")


AN_OBJECT = Object("object", 1, 0, 0, "user:writer", "application/json", "{}")


async def asked(work: Callable[[Transaction], Answer]) -> Answer:
    async with opened() as stage:
        await stage.store.write(fill)
        return await stage.store.write(work)


async def who_may(
    verb: Verb, scope: Scope, source: Source | None = None, item: Object | None = None
) -> set[str]:
    def work(tx: Transaction) -> set[str]:
        return {name for name, who in CAST.items() if allows(tx, who, verb, scope, source, item)}

    return await asked(work)


def rows(table: dict[tuple[str, Verb], set[str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("scope_name", "verb", "expected"),
        [(scope, verb, who | {"admin"}) for (scope, verb), who in table.items()],
        ids=[f"{scope}: {verb}" for scope, verb in table],
    )


@pytest.mark.spec("kii 1.7")
@rows(SCOPE_RIGHTS)
@in_loop
async def test_default_rights_in_a_scope(scope_name: str, verb: Verb, expected: set[str]) -> None:
    assert await who_may(verb, SCOPES[scope_name]) == expected


@pytest.mark.spec("kii 4.5")
@rows(BUCKET_RIGHTS)
@in_loop
async def test_default_rights_on_a_bucket(scope_name: str, verb: Verb, expected: set[str]) -> None:
    scope = SCOPES[scope_name]
    assert await who_may(verb, scope, a_source(SourceKind.BUCKET, scope)) == expected


@pytest.mark.spec("kii 4.5")
@rows(OBJECT_RIGHTS)
@in_loop
async def test_default_rights_on_an_object(scope_name: str, verb: Verb, expected: set[str]) -> None:
    scope = SCOPES[scope_name]
    assert await who_may(verb, scope, a_source(SourceKind.BUCKET, scope), AN_OBJECT) == expected


@pytest.mark.spec("kii 6.5")
@rows(TOPIC_RIGHTS)
@in_loop
async def test_default_rights_on_a_topic(scope_name: str, verb: Verb, expected: set[str]) -> None:
    scope = SCOPES[scope_name]
    assert await who_may(verb, scope, a_source(SourceKind.TOPIC, scope)) == expected


@pytest.mark.spec("kii 1.7")
@in_loop
async def test_a_thing_has_no_rights_in_the_scope_of_its_owner() -> None:
    def work(tx: Transaction) -> bool:
        scope = Scope(APP, ScopeType.USER, "keeper")
        topic = nouns.source(1, kind=SourceKind.TOPIC, scope=scope)
        return allows(tx, CAST["thing"], Verb.SUBSCRIBE_TO_TOPIC, scope, topic)

    assert not await asked(work)


@pytest.mark.spec("kii 1.6")
@in_loop
async def test_leaving_the_group_takes_its_rights_at_once() -> None:
    def work(tx: Transaction) -> bool:
        tx.groups.remove_member(APP, "team", "member")
        return allows(tx, CAST["group member"], Verb.CREATE_NEW_TOPIC, SCOPES["group"])

    assert not await asked(work)


@pytest.mark.spec("kii 1.5")
@in_loop
async def test_losing_the_thing_takes_the_rights_in_its_scope() -> None:
    def work(tx: Transaction) -> bool:
        tx.things.remove_owner(APP, "thing", "user:keeper")
        tx.things.remove_owner(APP, "thing", "group:family")
        return allows(tx, CAST["thing's owner"], Verb.CREATE_NEW_TOPIC, SCOPES["thing"])

    assert not await asked(work)


async def who_may_subscribe_after(*entries: AclEntry, scope_name: str = "user") -> set[str]:
    """Besides the admin, whom no rule touches."""
    scope = SCOPES[scope_name]
    topic = a_source(SourceKind.TOPIC, scope)

    def work(tx: Transaction) -> set[str]:
        for entry in entries:
            tx.acl.put(APP, topic.path, entry)
        verb = Verb.SUBSCRIBE_TO_TOPIC
        return {name for name, who in CAST.items() if allows(tx, who, verb, scope, topic)}

    return await asked(work) - {"admin"}


def granted(subject: str, verb: Verb = Verb.SUBSCRIBE_TO_TOPIC) -> AclEntry:
    return AclEntry(verb.value, subject, True)


def revoked(subject: str, verb: Verb = Verb.SUBSCRIBE_TO_TOPIC) -> AclEntry:
    return AclEntry(verb.value, subject, False)


@pytest.mark.spec("kii 6.6")
@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([granted("user:other")], {"user", "source creator", "other user"}),
        ([granted("thing:other")], {"user", "source creator", "other thing"}),
        ([granted("group:team")], {"user", "source creator", *GROUP_SIDE}),
        ([granted("user:ANY_AUTHENTICATED_USER")], set(AUTHENTICATED) - {"admin"}),
        ([revoked("user:user")], {"source creator"}),
        ([revoked("user:user"), revoked("user:maker")], set()),
        ([revoked("user:other")], {"user", "source creator"}),
        ([granted("user:other", Verb.SEND_MESSAGE)], {"user", "source creator"}),
    ],
    ids=lambda value: ", ".join(map(str, value)) if isinstance(value, list) else "",
)
@in_loop
async def test_a_rule_adds_its_subject_or_takes_it_away(
    entries: list[AclEntry], expected: set[str]
) -> None:
    assert await who_may_subscribe_after(*entries) == expected


@pytest.mark.spec("kii 6.6")
@in_loop
async def test_taking_any_authenticated_from_an_app_topic_leaves_whom_a_rule_names() -> None:
    found = await who_may_subscribe_after(
        revoked("user:ANY_AUTHENTICATED_USER"), granted("user:other"), scope_name="app"
    )
    assert found == {"other user"}


@in_loop
async def test_the_same_name_in_a_rule_of_another_app_means_nobody_here() -> None:
    def work(tx: Transaction) -> bool:
        tx.acl.put(APP, SCOPES["user"].path, granted("user:user", Verb.CREATE_NEW_TOPIC))
        stranger = CAST["same user ID of another app"]
        return allows(tx, stranger, Verb.CREATE_NEW_TOPIC, SCOPES["user"])

    assert not await asked(work)


@in_loop
async def test_a_refusal_tells_who_was_refused() -> None:
    def work(tx: Transaction) -> NotAuthorized:
        with pytest.raises(NotAuthorized) as refused:
            require(tx, CAST["other user"], Verb.CREATE_NEW_TOPIC, SCOPES["user"])
        return refused.value

    refusal = await asked(work)
    assert (refusal.app_id, refusal.principal_id) == (APP, "other")
