"""Verbs of access rules: look at, grant, revoke, on scopes, buckets, objects and topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mqttpush.access import (
    BUCKET_VERBS,
    HEARING_VERB,
    OBJECT_VERBS,
    SCOPE_VERBS,
    TOPIC_VERBS,
    Verb,
    default_subjects,
    refusal,
    require,
    resource_of,
)
from mqttpush.errors import AlreadyExists, InvalidRequest, NotFound
from mqttpush.events import ObjectEvent
from mqttpush.models import (
    ANY_AUTHENTICATED,
    ANYBODY,
    AclEntry,
    Credentials,
    Object,
    ObjectEventType,
    Principal,
    Scope,
    Source,
    SourceKind,
)
from mqttpush.operations.context import (
    Context,
    Reference,
    ScopeReference,
    resolve_scope,
    resolve_thing,
    resolve_user,
)
from mqttpush.operations.filters import matching_filters
from mqttpush.operations.hearing import rehear_source
from mqttpush.store import Transaction

_VERBS: Final = {
    None: SCOPE_VERBS,
    SourceKind.BUCKET: BUCKET_VERBS,
    SourceKind.TOPIC: TOPIC_VERBS,
}
_CHANGE: Final = {
    None: Verb.CHANGE_SCOPE_ACL,
    SourceKind.BUCKET: Verb.CHANGE_BUCKET_ACL,
    SourceKind.TOPIC: Verb.CHANGE_TOPIC,
}


@dataclass(frozen=True, slots=True)
class ResourceReference:
    """What the rules are about: a scope, a bucket or topic in it, or an object of a bucket."""

    scope: ScopeReference
    kind: SourceKind | None = None
    source_id: str = ""
    object_id: str = ""


@dataclass(frozen=True, slots=True)
class SubjectReference:
    """Whom a rule is about. kind: `user`, `thing` or `group`; special: one of the two "anyone"."""

    kind: str
    reference: Reference
    special: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    tx: Transaction
    principal: Principal
    scope: Scope
    source: Source | None
    item: Object | None

    @property
    def resource(self) -> str:
        return resource_of(self.scope, self.source, self.item)

    @property
    def verbs(self) -> tuple[Verb, ...]:
        if self.item is not None:
            return OBJECT_VERBS
        return _VERBS[self.source.kind if self.source else None]

    def subjects(self, verb: Verb) -> list[str]:
        """Who has the right now: defaults and grants, less what was taken away."""
        rules = self.tx.acl.entries(self.scope.app_id, self.resource, verb.value)
        defaults = default_subjects(self.tx, verb, self.scope, self.source, self.item)
        named = dict.fromkeys([*defaults, *rules])
        return [
            subject
            for subject in named
            if rules.get(subject, True) and subject.partition(":")[2]  # admin has every right
        ]


class Acls:
    """Access rules are a white list: what is not listed is refused (spec kii 6.6)."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def list_all(
        self, credentials: Credentials, resource: ResourceReference
    ) -> Mapping[Verb, list[str]]:
        """Subjects of every verb of the resource, for who may change them."""

        def unit(tx: Transaction) -> Mapping[Verb, list[str]]:
            place = self._enter(tx, credentials, resource)
            return {verb: place.subjects(verb) for verb in place.verbs}

        return await self._context.store.read(unit)

    async def list_verb(
        self, credentials: Credentials, resource: ResourceReference, verb: str
    ) -> list[str]:
        """Subjects of one verb; raises NotFound("acl") for a verb the resource does not have."""

        def unit(tx: Transaction) -> list[str]:
            place = self._enter(tx, credentials, resource)
            return place.subjects(_verb(place, verb))

        return await self._context.store.read(unit)

    async def check(
        self,
        credentials: Credentials,
        resource: ResourceReference,
        verb: str,
        subject: SubjectReference,
    ) -> str:
        """The subject; raises NotFound("acl") unless it has the right."""

        def unit(tx: Transaction) -> str:
            place = self._enter(tx, credentials, resource)
            known_verb, named = _verb(place, verb), _subject(place, subject)
            if named not in place.subjects(known_verb):
                raise NotFound("acl", verb, subject=named)
            return named

        return await self._context.store.read(unit)

    async def grant(
        self,
        credentials: Credentials,
        resource: ResourceReference,
        verb: str,
        subject: SubjectReference,
    ) -> None:
        """Raises AlreadyExists("acl") if the subject has the right."""

        def unit(tx: Transaction) -> None:
            place = self._enter(tx, credentials, resource)
            known_verb, named = _verb(place, verb), _subject(place, subject)
            if named in place.subjects(known_verb):
                raise AlreadyExists("acl", verb, subject=named)
            _write(place, known_verb, named, is_granted=True)
            self._announce(place, known_verb, named)

        await self._context.store.write(unit)

    async def revoke(
        self,
        credentials: Credentials,
        resource: ResourceReference,
        verb: str,
        subject: SubjectReference,
    ) -> None:
        """Raises NotFound("acl") if the subject does not have the right."""

        def unit(tx: Transaction) -> None:
            place = self._enter(tx, credentials, resource)
            known_verb, named = _verb(place, verb), _subject(place, subject)
            if named not in place.subjects(known_verb):
                raise NotFound("acl", verb, subject=named)
            _write(place, known_verb, named, is_granted=False)
            self._announce(place, known_verb, named)

        await self._context.store.write(unit)

    def _enter(
        self, tx: Transaction, credentials: Credentials, resource: ResourceReference
    ) -> _Place:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, "use access rules")
        scope = resolve_scope(tx, principal, resource.scope)
        if resource.kind is None:
            require(tx, principal, Verb.CHANGE_SCOPE_ACL, scope)
            return _Place(tx, principal, scope, None, None)
        source = tx.sources.get(resource.kind, scope, resource.source_id)
        item = None
        verb = _CHANGE[resource.kind]
        if resource.object_id:
            verb = Verb.CHANGE_OBJECT_ACL
            item = tx.objects.get(source.key, resource.object_id) if source else None
        require(tx, principal, verb, scope, source, item)
        if source is None:
            raise NotFound(resource.kind.value, resource.source_id, scope=scope)
        if resource.object_id and item is None:
            facts = {"scope": scope, "bucket_id": source.id}
            raise NotFound("object", resource.object_id, **facts)
        return _Place(tx, principal, scope, source, item)

    def _announce(self, place: _Place, verb: Verb, subject: str) -> None:
        """An object's rules raise an event; a source's change who hears it."""
        source, item = place.source, place.item
        if source is None:
            return
        if item is not None:
            event_type = ObjectEventType.ACL_MODIFIED
            place.tx.emit(
                ObjectEvent(
                    event_type,
                    source,
                    item.object_id,
                    self._context.now_ms(),
                    place.principal.subject,
                    matching_filters(place.tx, source, event_type, item),
                )
            )
        elif verb is HEARING_VERB[source.kind]:
            rehear_source(place.tx, source, subject)


def _verb(place: _Place, verb: str) -> Verb:
    for known in place.verbs:
        if known.value == verb:
            return known
    raise NotFound("acl", verb)


def _subject(place: _Place, subject: SubjectReference) -> str:
    if subject.special:
        return subject.special
    if subject.kind == "user":
        return resolve_user(place.tx, place.principal, subject.reference).subject
    if subject.kind == "thing":
        return resolve_thing(place.tx, place.principal, subject.reference).subject
    group_id = subject.reference.value
    if subject.kind != "group":
        raise InvalidRequest("must be UserID:, GroupID: or ThingID:", field="subject")
    if place.tx.groups.get(place.scope.app_id, group_id) is None:
        raise NotFound("group", group_id, app_id=place.scope.app_id)
    return f"group:{group_id}"


def _write(place: _Place, verb: Verb, subject: str, *, is_granted: bool) -> None:
    """Keep only what differs from the defaults."""
    tx, app_id = place.tx, place.scope.app_id
    is_default = subject in default_subjects(tx, verb, place.scope, place.source, place.item)
    if is_default == is_granted:
        tx.acl.delete(app_id, place.resource, verb.value, subject)
    else:
        tx.acl.put(app_id, place.resource, AclEntry(verb.value, subject, is_granted))


SPECIAL_SUBJECTS: Final = {
    "ANY_AUTHENTICATED_USER": ANY_AUTHENTICATED,
    "ANONYMOUS_USER": ANYBODY,
}
