"""Access: the one function that says who may do what.

Owns the verbs and the default rights of every scope (spec kii 1.7, 4.5, 6.5). Knows no route and no
socket. The one idea: a default right is a row in a table, naming roles; REST reads, subscribing,
delivery and replay all ask `allows`, so what is delivered is what is readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from mqttpush.errors import NotAuthorized
from mqttpush.models import (
    Object,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    Source,
    SourceKind,
)
from mqttpush.store import Transaction


class Verb(StrEnum):
    """What can be allowed; the values are the wire's."""

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
    CHANGE = "change"  # delete a topic, change access rules: never granted, only by role


class Role(StrEnum):
    """A relation between a principal and a resource; admin has every right and needs no role."""

    ANYBODY = "anybody"
    AUTHENTICATED = "any authenticated user or thing"
    SCOPE_OWNER = "the user or thing of the scope, or an owner of that thing"
    SOURCE_CREATOR = "creator of the bucket or topic"
    OBJECT_CREATOR = "creator of the object"


_OWN: Final = frozenset({Role.SCOPE_OWNER, Role.SOURCE_CREATOR})
_ANYBODY: Final = frozenset({Role.ANYBODY})
_AUTHENTICATED: Final = frozenset({Role.AUTHENTICATED})
_NOBODY: Final[frozenset[Role]] = frozenset()

_IN_APP_SCOPE: Final[Mapping[Verb, frozenset[Role]]] = {
    Verb.CREATE_NEW_BUCKET: _AUTHENTICATED,
    Verb.CREATE_NEW_TOPIC: _NOBODY,
    Verb.CREATE_OBJECTS: _AUTHENTICATED,
    Verb.QUERY_OBJECTS: _ANYBODY,
    Verb.READ_OBJECTS: _ANYBODY,
    Verb.DROP_BUCKET: _AUTHENTICATED,
    Verb.READ_OBJECT: _ANYBODY,
    Verb.WRITE_OBJECT: _AUTHENTICATED,
    Verb.SUBSCRIBE_TO_TOPIC: _AUTHENTICATED,
    Verb.SEND_MESSAGE: frozenset({Role.SOURCE_CREATOR}),
    Verb.CHANGE: frozenset({Role.SOURCE_CREATOR}),
}
_IN_OWNED_SCOPE: Final[Mapping[Verb, frozenset[Role]]] = {
    Verb.CREATE_NEW_BUCKET: frozenset({Role.SCOPE_OWNER}),
    Verb.CREATE_NEW_TOPIC: frozenset({Role.SCOPE_OWNER}),
    Verb.CREATE_OBJECTS: _OWN,
    Verb.QUERY_OBJECTS: _OWN,
    Verb.READ_OBJECTS: _OWN,
    Verb.DROP_BUCKET: _OWN,
    Verb.READ_OBJECT: _OWN | {Role.OBJECT_CREATOR},
    Verb.WRITE_OBJECT: _OWN | {Role.OBJECT_CREATOR},
    Verb.SUBSCRIBE_TO_TOPIC: _OWN,
    Verb.SEND_MESSAGE: _OWN,
    Verb.CHANGE: _OWN,
}
DEFAULT_ROLES: Final[Mapping[ScopeType, Mapping[Verb, frozenset[Role]]]] = {
    ScopeType.APP: _IN_APP_SCOPE,
    ScopeType.USER: _IN_OWNED_SCOPE,
    ScopeType.THING: _IN_OWNED_SCOPE,
}
# What lets a principal hear a source: the right that also lets it read the source by REST.
HEARING_VERB: Final = {
    SourceKind.BUCKET: Verb.QUERY_OBJECTS,
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

    A principal of another app may nothing. Cost: no query but for things' owners.
    """
    if principal.app_id != scope.app_id:
        return False
    if principal.is_admin:
        return True
    roles = DEFAULT_ROLES[scope.type][verb]
    if Role.ANYBODY in roles:
        return True
    if principal.is_anonymous:
        return False
    if Role.AUTHENTICATED in roles:
        return True
    subject = principal.subject
    if Role.SOURCE_CREATOR in roles and source is not None and source.creator == subject:
        return True
    if Role.OBJECT_CREATOR in roles and item is not None and item.owner == subject:
        return True
    return Role.SCOPE_OWNER in roles and owns_scope(tx, principal, scope)


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


def owns_scope(tx: Transaction, principal: Principal, scope: Scope) -> bool:
    """Is this the scope of the principal himself, or of a thing that he owns?"""
    if scope.type is ScopeType.USER:
        return principal.kind is PrincipalKind.USER and principal.id == scope.owner_id
    if scope.type is ScopeType.THING:
        if principal.kind is PrincipalKind.THING:
            return principal.id == scope.owner_id
        return tx.things.is_owner(scope.app_id, scope.owner_id, principal.subject)
    return False


def refusal(principal: Principal, verb: str) -> NotAuthorized:
    """The error for a principal without a right, with the facts the dialects show."""
    return NotAuthorized(verb, app_id=principal.app_id, principal_id=principal.id)
