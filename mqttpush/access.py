"""Access: the one function that says who may do what.

Owns the verbs and the default rights of every scope (spec kii 1.7, 4.5, 6.5), and how stored access
rules change them. Knows no route and no socket. The one idea: a default right names roles, a role
names subjects, a rule adds or takes away a subject; REST reads, subscribing and delivery all ask
`allows`, so what is delivered is what is readable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from mqttpush.errors import NotAuthorized
from mqttpush.kinvey import Permission
from mqttpush.models import (
    ANY_AUTHENTICATED,
    ANYBODY,
    Object,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Source,
    SourceKind,
)
from mqttpush.store import Transaction
from mqttpush.store.collections import ObjectRule


class Verb(StrEnum):
    """What can be allowed; the values are the wire's. The last four are never granted by a rule."""

    CREATE_NEW_BUCKET = "CREATE_NEW_BUCKET"
    CREATE_NEW_TOPIC = "CREATE_NEW_TOPIC"
    CREATE_OBJECTS = "CREATE_OBJECTS_IN_BUCKET"
    QUERY_OBJECTS = "QUERY_OBJECTS_IN_BUCKET"
    READ_OBJECTS = "READ_OBJECTS_IN_BUCKET"
    DROP_BUCKET = "DROP_BUCKET_WITH_ALL_CONTENT"
    READ_OBJECT = "READ_EXISTING_OBJECT"
    WRITE_OBJECT = "WRITE_EXISTING_OBJECT"
    SUBSCRIBE_TO_TOPIC = "SUBSCRIBE_TO_TOPIC"
    SEND_MESSAGE = "SEND_MESSAGE_TO_TOPIC"
    CHANGE_SCOPE_ACL = "change the access rules of the scope"
    CHANGE_BUCKET_ACL = "change the access rules of the bucket"
    CHANGE_OBJECT_ACL = "change the access rules of the object"
    CHANGE_TOPIC = "delete the topic or change its access rules"


class Role(StrEnum):
    """A relation between a principal and a resource; admin has every right and needs no role."""

    ANYBODY = "anybody, without a token too"
    AUTHENTICATED = "any user or thing"
    SCOPE_OWNER = "the user or thing of the scope, an owner of that thing, a member of that group"
    GROUP_OWNER = "as before, but of a group only its owner"
    SOURCE_CREATOR = "creator of the bucket or topic"
    OBJECT_CREATOR = "creator of the object"


Rights = Mapping[Verb, frozenset[Role]]

_NOBODY: Final[frozenset[Role]] = frozenset()
_ANYBODY: Final = frozenset({Role.ANYBODY, Role.AUTHENTICATED})
_AUTHENTICATED: Final = frozenset({Role.AUTHENTICATED})
_SCOPE_OWNER: Final = frozenset({Role.SCOPE_OWNER})
_MASTER: Final = frozenset({Role.GROUP_OWNER})
_SOURCE_CREATOR: Final = frozenset({Role.SOURCE_CREATOR})
_OBJECT_CREATOR: Final = frozenset({Role.OBJECT_CREATOR})

_IN_APP: Final[Rights] = {
    Verb.CREATE_NEW_BUCKET: _AUTHENTICATED,
    Verb.CREATE_NEW_TOPIC: _NOBODY,
    Verb.CREATE_OBJECTS: _AUTHENTICATED,
    Verb.QUERY_OBJECTS: _ANYBODY,
    Verb.READ_OBJECTS: _ANYBODY,
    Verb.DROP_BUCKET: _AUTHENTICATED,
    Verb.READ_OBJECT: _ANYBODY | _OBJECT_CREATOR,
    Verb.WRITE_OBJECT: _AUTHENTICATED | _OBJECT_CREATOR,
    Verb.SUBSCRIBE_TO_TOPIC: _AUTHENTICATED,
    Verb.SEND_MESSAGE: _SOURCE_CREATOR,
    Verb.CHANGE_SCOPE_ACL: _NOBODY,
    Verb.CHANGE_BUCKET_ACL: _NOBODY,
    Verb.CHANGE_OBJECT_ACL: _OBJECT_CREATOR,
    Verb.CHANGE_TOPIC: _SOURCE_CREATOR,
}
_IN_OWNED: Final[Rights] = {
    Verb.CREATE_NEW_BUCKET: _SCOPE_OWNER,
    Verb.CREATE_NEW_TOPIC: _SCOPE_OWNER,
    Verb.CREATE_OBJECTS: _SCOPE_OWNER | _SOURCE_CREATOR,
    Verb.QUERY_OBJECTS: _SCOPE_OWNER | _SOURCE_CREATOR,
    Verb.READ_OBJECTS: _SCOPE_OWNER | _SOURCE_CREATOR,
    # In a group the owner and the bucket's creator, not every member.
    Verb.DROP_BUCKET: _MASTER | _SOURCE_CREATOR,
    Verb.READ_OBJECT: _SCOPE_OWNER | _SOURCE_CREATOR | _OBJECT_CREATOR,
    Verb.WRITE_OBJECT: _SCOPE_OWNER | _SOURCE_CREATOR | _OBJECT_CREATOR,
    Verb.SUBSCRIBE_TO_TOPIC: _SCOPE_OWNER | _SOURCE_CREATOR,
    Verb.SEND_MESSAGE: _SCOPE_OWNER | _SOURCE_CREATOR,
    Verb.CHANGE_SCOPE_ACL: _MASTER,
    Verb.CHANGE_BUCKET_ACL: _MASTER,
    Verb.CHANGE_OBJECT_ACL: _MASTER | _OBJECT_CREATOR,
    Verb.CHANGE_TOPIC: _MASTER | _SOURCE_CREATOR,
}
DEFAULT_RIGHTS: Final[Mapping[ScopeType, Rights]] = {
    ScopeType.APP: _IN_APP,
    ScopeType.USER: _IN_OWNED,
    ScopeType.GROUP: _IN_OWNED,
    ScopeType.THING: _IN_OWNED,
}
# A bucket with a permission of its own has these instead (spec kinvey 7.3).
_SHARED: Final[Rights] = {
    Verb.CREATE_OBJECTS: _AUTHENTICATED,
    Verb.QUERY_OBJECTS: _AUTHENTICATED,
    Verb.READ_OBJECTS: _AUTHENTICATED,
    Verb.DROP_BUCKET: _NOBODY,
    Verb.READ_OBJECT: _AUTHENTICATED | _OBJECT_CREATOR,
    Verb.WRITE_OBJECT: _OBJECT_CREATOR,
    Verb.CHANGE_BUCKET_ACL: _NOBODY,
    Verb.CHANGE_OBJECT_ACL: _OBJECT_CREATOR,
}
_PRIVATE: Final = {
    Verb.QUERY_OBJECTS: _NOBODY,
    Verb.READ_OBJECTS: _NOBODY,
    Verb.READ_OBJECT: _OBJECT_CREATOR,
}
_FULL: Final = {Verb.WRITE_OBJECT: _AUTHENTICATED | _OBJECT_CREATOR}
PERMISSION_RIGHTS: Final[Mapping[Permission, Rights]] = {
    Permission.PRIVATE: {**_SHARED, **_PRIVATE},
    Permission.SHARED: _SHARED,
    Permission.READ_ONLY: _SHARED,
    Permission.FULL: {**_SHARED, **_FULL},
}
# What no rule can grant in a read-only bucket.
_WRITING: Final = frozenset({Verb.CREATE_OBJECTS, Verb.WRITE_OBJECT, Verb.CHANGE_OBJECT_ACL})
SCOPE_VERBS: Final = (Verb.CREATE_NEW_BUCKET, Verb.CREATE_NEW_TOPIC)
BUCKET_VERBS: Final = (
    Verb.CREATE_OBJECTS,
    Verb.QUERY_OBJECTS,
    Verb.READ_OBJECTS,
    Verb.DROP_BUCKET,
)
OBJECT_VERBS: Final = (Verb.READ_OBJECT, Verb.WRITE_OBJECT)
TOPIC_VERBS: Final = (Verb.SUBSCRIBE_TO_TOPIC, Verb.SEND_MESSAGE)
_RULED: Final = frozenset({*SCOPE_VERBS, *BUCKET_VERBS, *OBJECT_VERBS, *TOPIC_VERBS})
# What lets a principal hear a source: the right that also lets it read the source by REST.
HEARING_VERB: Final = {
    SourceKind.BUCKET: Verb.QUERY_OBJECTS,
    SourceKind.FILTER: Verb.QUERY_OBJECTS,
    SourceKind.TOPIC: Verb.SUBSCRIBE_TO_TOPIC,
}


def allows(
    tx: Transaction,
    principal: Principal,
    verb: Verb,
    scope: Scope,
    source: Source | None = None,
    item: Object | None = None,
) -> bool:
    """May `principal` do `verb` in `scope`, on `source`, on object `item` (as far as they apply)?

    A principal of another app may nothing. Cost: one look-up for rules; one more for a group or a
    thing's owners, if no cheaper role fits.
    """
    if principal.app_id != scope.app_id:
        return False
    if principal.is_admin:
        return True
    if source is not None and is_closed(source, verb):
        return False
    rules: dict[str, bool] = {}
    if verb in _RULED:
        rules = tx.acl.entries(scope.app_id, resource_of(scope, source, item), verb.value)
    for subject in default_subjects(tx, verb, scope, source, item):
        if rules.get(subject, True) and is_subject(tx, principal, subject):
            return True
    return any(
        is_granted and is_subject(tx, principal, subject) for subject, is_granted in rules.items()
    )


def require(
    tx: Transaction,
    principal: Principal,
    verb: Verb,
    scope: Scope,
    source: Source | None = None,
    item: Object | None = None,
) -> None:
    """Raises NotAuthorized unless `allows`."""
    if not allows(tx, principal, verb, scope, source, item):
        raise refusal(principal, verb)


def may_hear(tx: Transaction, principal: Principal, source: Source) -> bool:
    """May `principal` hear what happens in `source`? A filter is heard as its bucket is."""
    place = source
    if source.kind is SourceKind.FILTER:
        bucket = tx.sources.get(SourceKind.BUCKET, source.scope, source.id.partition("/")[0])
        assert bucket is not None  # its filters go with it
        place = bucket
    return allows(tx, principal, HEARING_VERB[source.kind], source.scope, place)


def default_subjects(
    tx: Transaction,
    verb: Verb,
    scope: Scope,
    source: Source | None = None,
    item: Object | None = None,
) -> Iterator[str]:
    """Subjects who have the right by default, the cheapest to know first."""
    roles = _roles(verb, scope, source)
    if Role.AUTHENTICATED in roles:
        yield ANY_AUTHENTICATED
    if Role.ANYBODY in roles:
        yield ANYBODY
    if Role.SOURCE_CREATOR in roles and source is not None:
        yield source.creator
    if Role.OBJECT_CREATOR in roles and item is not None:
        yield item.owner
    if Role.SCOPE_OWNER in roles:
        yield from _scope_owners(tx, scope)
    if Role.GROUP_OWNER in roles:
        yield from _scope_masters(tx, scope)


def is_closed(source: Source, verb: Verb) -> bool:
    """Can no rule let a user do this here? The collection is read-only."""
    return source.permission is Permission.READ_ONLY and verb in _WRITING


def readers(tx: Transaction, bucket: Source, item: Object) -> frozenset[str] | None:
    """Who, beside the admin, may read the object: users and things; None for everybody known.

    `allows` says the same of each of them. Cost: two look-ups, and one per group named.
    """
    found: set[str] = set()
    for verb, of in ((Verb.READ_OBJECTS, None), (Verb.READ_OBJECT, item)):
        resource = resource_of(bucket.scope, bucket, of)
        rules = tx.acl.entries(bucket.scope.app_id, resource, verb.value)
        defaults = default_subjects(tx, verb, bucket.scope, bucket, of)
        found.update(subject for subject in defaults if rules.get(subject, True))
        found.update(subject for subject, is_granted in rules.items() if is_granted)
    if found & {ANYBODY, ANY_AUTHENTICATED}:
        return None
    for subject in [each for each in found if each.startswith("group:")]:
        members = tx.groups.members(bucket.scope.app_id, subject.partition(":")[2])
        found.update(f"user:{user_id}" for user_id in members)
    return frozenset(found)


def object_rule(
    tx: Transaction, principal: Principal, verb: Verb, bucket: Source
) -> ObjectRule | None:
    """Which objects of the bucket `principal` may do `verb` on, for a query; None for all.

    verb: READ_OBJECT, which reading the whole bucket includes, or WRITE_OBJECT. `allows` says the
    same of each object.
    """
    if principal.is_admin:
        return None
    app_id, scope = bucket.scope.app_id, bucket.scope
    reads_all = verb is Verb.READ_OBJECT and allows(tx, principal, Verb.READ_OBJECTS, scope, bucket)
    if reads_all:
        return None
    subjects: list[str] = []
    if principal.app_id == app_id and not is_closed(bucket, verb):
        subjects = [principal.subject, ANYBODY]
        if not principal.is_anonymous:
            subjects.append(ANY_AUTHENTICATED)
        if principal.kind is PrincipalKind.USER:
            groups = tx.groups.list_of_member(app_id, principal.id)
            subjects += [group.subject for group in groups]
    defaults = set(default_subjects(tx, verb, scope, bucket))
    return ObjectRule(
        verb=verb.value,
        subjects=tuple(subjects),
        defaults=tuple(each for each in subjects if each in defaults),
        is_creators=Role.OBJECT_CREATOR in _roles(verb, scope, bucket),
    )


def is_subject(tx: Transaction, principal: Principal, subject: str) -> bool:
    """Does the subject of a right mean this principal: himself, everybody, one of his groups?"""
    if subject in (ANYBODY, principal.subject):
        return True
    if principal.is_anonymous:
        return False
    if subject == ANY_AUTHENTICATED:
        return True
    kind, _, group_id = subject.partition(":")
    return (
        kind == "group"
        and principal.kind is PrincipalKind.USER
        and tx.groups.is_member(principal.app_id, group_id, principal.id)
    )


def owns_scope(tx: Transaction, principal: Principal, scope: Scope) -> bool:
    """Is this his own scope, that of a thing he owns, or of a group he is in?"""
    return any(is_subject(tx, principal, subject) for subject in _scope_owners(tx, scope))


def resource_of(scope: Scope, source: Source | None = None, item: Object | None = None) -> str:
    """The name access rules are kept under: the resource's URI without its scheme."""
    if source is None:
        return scope.path
    return f"{source.path}/objects/{item.object_id}" if item is not None else source.path


def refusal(principal: Principal, verb: str) -> NotAuthorized:
    """The error for a principal without a right, with the facts the dialects show."""
    return NotAuthorized(verb, app_id=principal.app_id, principal_id=principal.id)


def _roles(verb: Verb, scope: Scope, source: Source | None) -> frozenset[Role]:
    if source is not None and source.permission is not None:
        return PERMISSION_RIGHTS[source.permission][verb]
    return DEFAULT_RIGHTS[scope.type][verb]


def _scope_owners(tx: Transaction, scope: Scope) -> Iterator[str]:
    if scope.type is ScopeType.USER:
        yield f"user:{scope.owner_id}"
    elif scope.type is ScopeType.GROUP:
        yield f"group:{scope.owner_id}"
    elif scope.type is ScopeType.THING:
        yield f"thing:{scope.owner_id}"
        yield from tx.things.owners(scope.app_id, scope.owner_id)


def _scope_masters(tx: Transaction, scope: Scope) -> Iterator[str]:
    if scope.type is not ScopeType.GROUP:
        yield from _scope_owners(tx, scope)
        return
    group = tx.groups.get(scope.app_id, scope.owner_id)
    if group is not None:
        yield f"user:{group.owner_user_id}"
