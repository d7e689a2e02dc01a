"""Verbs of entities: the second dialect's view of an app's buckets and objects (spec kinvey 7).

A collection is a bucket of the app's scope, an entity an object in it: every write raises the
event that the other dialect's writes raise, and rights are the same `access`. Knows no status.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mqttpush.access import Verb, allows, is_closed, object_rule, refusal, require, resource_of
from mqttpush.errors import AlreadyExists, DomainError, InvalidRequest, NotFound
from mqttpush.kinvey import Permission
from mqttpush.models import (
    ANY_AUTHENTICATED,
    Credentials,
    Json,
    Object,
    ObjectEventType,
    Scope,
    Source,
    SourceKind,
)
from mqttpush.operations.buckets import drop_bucket
from mqttpush.operations.context import Context, ScopeReference
from mqttpush.operations.entity_documents import (
    Draft,
    checked_id,
    draft_of,
    project,
    put_grants,
    render,
    render_all,
)
from mqttpush.operations.hearing import rehear_source
from mqttpush.operations.places import Place, enter
from mqttpush.store import Transaction
from mqttpush.store.collections import Found, ObjectRule
from mqttpush.store.queries import EntityQuery, Test, Values

ANSWER_LIMIT: Final = 10_000  # spec kinvey 11
DELETE_PAGE: Final = 500  # entities deleted in one unit
DELETE_TRIES: Final = 3  # without any success, when everything changes all the time
DATA_TYPE: Final = "application/json"
READ_ONLY: Final = "WritesToCollectionDisallowed"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_APP: Final = ScopeReference()


@dataclass(frozen=True, slots=True)
class Stored:
    """An entity after a write, and whether the write made it."""

    entity: Json
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Collection:
    """A collection as a request names it, inside a unit."""

    place: Place
    bucket: Source

    @property
    def tx(self) -> Transaction:
        return self.place.tx

    def rules(self, *verbs: Verb) -> list[ObjectRule]:
        """What a query must keep to."""
        found = (object_rule(self.tx, self.place.principal, verb, self.bucket) for verb in verbs)
        return [rule for rule in found if rule is not None]

    def existing(self, entity_id: str, *verbs: Verb) -> Object:
        """Raises NotFound, NotAuthorized; InvalidRequest for a write where nobody writes."""
        item = self.tx.objects.get(self.bucket.key, entity_id)
        if item is None:
            raise self.place.object_not_found(entity_id)
        for verb in verbs:
            self.require(verb, item)
        return item

    def refuse_if_closed(self, verb: Verb) -> None:
        if not self.place.principal.is_admin and is_closed(self.bucket, verb):
            raise InvalidRequest("the collection is read-only", code=READ_ONLY)

    def require(self, verb: Verb, item: Object | None = None) -> None:
        self.refuse_if_closed(verb)
        principal, scope = self.place.principal, self.place.scope
        reads_all = verb is Verb.READ_OBJECT and allows(
            self.tx, principal, Verb.READ_OBJECTS, scope, self.bucket
        )
        if not reads_all:
            require(self.tx, principal, verb, scope, self.bucket, item)


class Entities:
    """Entities, and the collections they are in."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(
        self,
        credentials: Credentials,
        collection: str,
        entity: Mapping[str, Any],
        *,
        may_replace: bool = False,
    ) -> Stored:
        """A new entity, under its `_id` if it has one; makes the collection if that may be.

        may_replace: an entity of that `_id` is replaced (old API versions), else AlreadyExists is
        raised. Raises InvalidRequest, NotAuthorized, NotFound for a collection not declared.
        """
        draft = draft_of(entity)

        def unit(tx: Transaction) -> Stored:
            there = self._for_writing(tx, credentials, collection)
            return self._create(there, draft, may_replace=may_replace)

        return await self._context.store.write(unit)

    async def create_many(
        self, credentials: Credentials, collection: str, entities: Sequence[Any]
    ) -> list[Stored | DomainError]:
        """Each by itself, in order; what went wrong with one does not stop the others."""

        async def one(entity: Any) -> Stored | DomainError:
            try:
                if not isinstance(entity, dict):
                    raise InvalidRequest("an entity is an object", code="IncompleteRequestBody")
                return await self.create(credentials, collection, entity)
            except DomainError as exc:
                return exc

        # They wait for one commit, not each for its own; the store keeps their order.
        return await asyncio.gather(*map(one, entities))

    async def get(self, credentials: Credentials, collection: str, entity_id: str) -> Json:
        """Raises NotFound, NotAuthorized."""

        def unit(tx: Transaction) -> Json:
            there = self._existing(tx, credentials, collection, entity_id)
            return render(tx, there.bucket, there.existing(entity_id, Verb.READ_OBJECT))

        return await self._context.store.read(unit)

    async def find(
        self,
        credentials: Credentials,
        collection: str,
        query: EntityQuery,
        fields: Sequence[str] = (),
    ) -> list[Json]:
        """Those that match and may be read, at most `ANSWER_LIMIT`; raises InvalidRequest."""
        limit = ANSWER_LIMIT if query.limit is None else min(query.limit, ANSWER_LIMIT)

        def unit(tx: Transaction) -> list[Json]:
            there = self._enter(tx, credentials, collection)
            if there is None:
                return []
            rules = there.rules(Verb.READ_OBJECT)
            limit_bytes = self._context.limits.max_answer_bytes
            bounded = query._replace(limit=limit)
            items = tx.entities.find(there.bucket, bounded, rules, limit_bytes=limit_bytes)
            return [project(each, fields) for each in render_all(tx, there.bucket, items)]

        return await self._context.store.search(unit)

    async def count(self, credentials: Credentials, collection: str, query: EntityQuery) -> int:
        """How many match and may be read."""

        def unit(tx: Transaction) -> int:
            there = self._enter(tx, credentials, collection)
            if there is None:
                return 0
            return tx.entities.count(there.bucket, query, there.rules(Verb.READ_OBJECT))

        return await self._context.store.search(unit)

    async def put(
        self,
        credentials: Credentials,
        collection: str,
        entity_id: str,
        entity: Mapping[str, Any],
    ) -> Stored:
        """Replace the entity, or create it under this `_id`."""
        draft = draft_of({**entity, "_id": checked_id(entity_id)})

        def unit(tx: Transaction) -> Stored:
            there = self._for_writing(tx, credentials, collection, is_update=True)
            existing = tx.objects.get(there.bucket.key, entity_id)
            if existing is None:
                return self._create(there, draft, may_replace=False)
            return self._replace(there, existing, draft)

        return await self._context.store.write(unit)

    async def delete(self, credentials: Credentials, collection: str, entity_id: str) -> None:
        """Raises NotFound, NotAuthorized."""

        def unit(tx: Transaction) -> None:
            there = self._existing(tx, credentials, collection, entity_id)
            delete_entity(there.place, there.bucket, there.existing(entity_id, Verb.WRITE_OBJECT))

        await self._context.store.write(unit)

    async def delete_matching(
        self, credentials: Credentials, collection: str, query: EntityQuery
    ) -> int:
        """Those that match and may be read and written, a page in each unit; returns how many.

        What matches is searched for: a slow query must not hold up the writers. What was changed
        before its turn came is searched for again.
        """
        count = fruitless = 0
        while fruitless < DELETE_TRIES and (query.limit is None or count < query.limit):
            limit = ANSWER_LIMIT
            if query.limit is not None:
                limit = min(limit, query.limit - count)
            found = await self._candidates(credentials, collection, query._replace(limit=limit))
            done = 0
            for start in range(0, len(found), DELETE_PAGE):
                page = found[start : start + DELETE_PAGE]
                done += await self._delete_unchanged(credentials, collection, page)
            count += done
            if done == len(found) < limit:
                break
            fruitless = 0 if done else fruitless + 1
        return count

    async def _candidates(
        self, credentials: Credentials, collection: str, query: EntityQuery
    ) -> list[Found]:
        def unit(tx: Transaction) -> list[Found]:
            there = self._enter(tx, credentials, collection)
            if there is None:
                return []
            there.refuse_if_closed(Verb.WRITE_OBJECT)
            rules = there.rules(Verb.READ_OBJECT, Verb.WRITE_OBJECT)
            return tx.entities.look(there.bucket, query, rules)

        return await self._context.store.search(unit)

    async def _delete_unchanged(
        self, credentials: Credentials, collection: str, found: Sequence[Found]
    ) -> int:
        def unit(tx: Transaction) -> int:
            there = self._enter(tx, credentials, collection)
            if there is None:
                return 0
            these = EntityQuery(Test(("_id",), "$in", Values(each.object_id for each in found)))
            rules = there.rules(Verb.READ_OBJECT, Verb.WRITE_OBJECT)
            now = set(tx.entities.look(there.bucket, these, rules))
            unchanged = [each for each in found if each in now]
            for each in unchanged:
                item = tx.objects.get(there.bucket.key, each.object_id)
                assert item is not None  # it was just there
                delete_entity(there.place, there.bucket, item)
            return len(unchanged)

        return await self._context.store.write(unit)

    async def remove_collection(self, credentials: Credentials, collection: str) -> int:
        """Drop it with everything in it, for the administrator; returns how many entities."""

        def unit(tx: Transaction) -> int:
            there = self._enter(tx, credentials, collection)
            if there is None:
                return 0
            there.require(Verb.DROP_BUCKET)
            count = tx.entities.count(there.bucket, EntityQuery())
            drop_bucket(there.place, there.bucket)
            return count

        return await self._context.store.write(unit)

    async def declare(self, app_id: str, collection: str, permission: Permission) -> bool:
        """For the operator: make the collection, or give it this permission; is it new?"""
        check_name(collection)

        def unit(tx: Transaction) -> bool:
            if tx.apps.get(app_id) is None:
                raise NotFound("app", app_id)
            return self.declare_in(tx, app_id, collection, permission)

        return await self._context.store.write(unit)

    async def permissions(self, app_id: str) -> dict[str, Permission | None]:
        """For the operator: the app's collections; None for one with the scope's default rights."""

        def unit(tx: Transaction) -> dict[str, Permission | None]:
            buckets = tx.sources.list_of_scope(SourceKind.BUCKET, Scope(app_id), "", ANSWER_LIMIT)
            return {bucket.id: bucket.permission for bucket in buckets}

        return await self._context.store.read(unit)

    # --- inside a unit --------------------------------------------------------------------

    def declare_in(
        self, tx: Transaction, app_id: str, collection: str, permission: Permission
    ) -> bool:
        """`declare`, of an app that is there and a name that is checked."""
        scope = Scope(app_id)
        bucket = tx.sources.get(SourceKind.BUCKET, scope, collection)
        is_new = bucket is None
        if bucket is None:
            now_ms = self._context.now_ms()
            bucket = tx.sources.insert(SourceKind.BUCKET, scope, collection, "admin:", now_ms)
        tx.entities.set_permission(bucket.key, permission)
        rehear_source(tx, replace(bucket, permission=permission), ANY_AUTHENTICATED)
        return is_new

    def _enter(
        self, tx: Transaction, credentials: Credentials, collection: str
    ) -> _Collection | None:
        """None where it is not there, which counts as empty unless collections are declared."""
        check_name(collection)
        place = enter(self._context, tx, credentials, _APP, collection)
        if place.principal.is_anonymous:
            raise refusal(place.principal, "use collections")
        if place.bucket is not None:
            return _Collection(place, place.bucket)
        if tx.kinvey.settings(place.scope.app_id).are_collections_strict:
            raise NotFound("bucket", collection, scope=place.scope)
        return None

    def _existing(
        self, tx: Transaction, credentials: Credentials, collection: str, entity_id: str
    ) -> _Collection:
        there = self._enter(tx, credentials, collection)
        if there is None:
            raise NotFound("object", entity_id, bucket_id=collection)
        return there

    def _for_writing(
        self,
        tx: Transaction,
        credentials: Credentials,
        collection: str,
        *,
        is_update: bool = False,
    ) -> _Collection:
        """The collection, made if need be; an update asks for its own right later."""
        there = self._enter(tx, credentials, collection)
        if there is None:
            place = enter(self._context, tx, credentials, _APP, collection)
            return _Collection(place, make_collection(self._context, place))
        if not is_update:
            there.require(Verb.CREATE_OBJECTS)
        return there

    def _create(self, there: _Collection, draft: Draft, *, may_replace: bool) -> Stored:
        tx, principal = there.tx, there.place.principal
        there.require(Verb.CREATE_OBJECTS)
        if draft.entity_id:
            existing = tx.objects.get(there.bucket.key, draft.entity_id)
            if existing is not None and may_replace:
                return self._replace(there, existing, draft)
            if existing is not None:
                raise AlreadyExists("object", draft.entity_id, bucket_id=there.bucket.id)
        owner = principal.subject
        if principal.is_admin and draft.creator not in ("", principal.app_id):
            owner = f"user:{draft.creator}"
        item = insert_entity(self._context, there.place, there.bucket, draft, owner)
        return Stored(render(tx, there.bucket, item), is_new=True)

    def _replace(self, there: _Collection, existing: Object, draft: Draft) -> Stored:
        there.require(Verb.WRITE_OBJECT, existing)
        tx, place = there.tx, there.place
        # Who may only write sends back the rules he read: they stay as they are.
        may_rule = allows(
            tx, place.principal, Verb.CHANGE_OBJECT_ACL, place.scope, there.bucket, existing
        )
        grants = draft.grants if may_rule else None
        draft = draft._replace(grants=grants)
        item = replace_entity(self._context, place, there.bucket, existing, draft)
        return Stored(render(tx, there.bucket, item), is_new=False)


def check_name(collection: str) -> None:
    """Raises InvalidRequest unless it can be a collection's name."""
    if not _NAME.fullmatch(collection):
        problem = "must be 1 to 128 of A-Z a-z 0-9 _ -, and begin with a letter or digit"
        raise InvalidRequest(problem, field="collection", code="InvalidIdentifier")


def make_collection(context: Context, place: Place) -> Source:
    """Where nothing is yet, by its first write; raises NotAuthorized, NotFound if declared only."""
    tx, app_id = place.tx, place.scope.app_id
    if tx.kinvey.settings(app_id).are_collections_strict:
        raise NotFound("bucket", place.bucket_id, scope=place.scope)
    require(tx, place.principal, Verb.CREATE_NEW_BUCKET, place.scope)
    creator, now_ms = place.principal.subject, context.now_ms()
    bucket = tx.sources.insert(SourceKind.BUCKET, place.scope, place.bucket_id, creator, now_ms)
    tx.entities.set_permission(bucket.key, Permission.SHARED)
    return replace(bucket, permission=Permission.SHARED)


def insert_entity(
    context: Context,
    place: Place,
    bucket: Source,
    draft: Draft,
    owner: str,
    *,
    is_published: bool = True,
) -> Object:
    """Write a new entity and its event."""
    now_ms = context.now_ms()
    entity_id = draft.entity_id or context.secrets.uuid().replace("-", "")[:24]
    item = Object(entity_id, 1, now_ms, now_ms, owner, DATA_TYPE, draft.text)
    place.tx.objects.insert(bucket.key, item)
    if draft.grants:
        put_grants(place.tx, bucket, item, draft.grants)
    place.emit(ObjectEventType.CREATED, bucket, item, now_ms, is_published=is_published)
    return item


def replace_entity(
    context: Context,
    place: Place,
    bucket: Source,
    existing: Object,
    draft: Draft,
    *,
    is_published: bool = True,
) -> Object:
    """Write an entity anew, and the event of it. The draft's grants are its rules from here on."""
    now_ms = context.now_ms()
    version = existing.version + 1
    item = replace(existing, version=version, modified_ms=now_ms, document=draft.text)
    place.tx.objects.replace(bucket.key, item)
    if draft.grants is not None:
        put_grants(place.tx, bucket, item, draft.grants)
    place.emit(ObjectEventType.UPDATED, bucket, item, now_ms, is_published=is_published)
    return item


def delete_entity(place: Place, bucket: Source, item: Object) -> None:
    """With its rules, and the event of it."""
    place.tx.objects.delete(bucket.key, item.object_id)
    place.tx.acl.delete_resource(place.scope.app_id, resource_of(place.scope, bucket, item))
    place.emit(ObjectEventType.DELETED, bucket, item, item.modified_ms)
