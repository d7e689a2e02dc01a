"""Verbs of buckets and their objects: every change raises one event (spec kii 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import orjson

from mqttpush.access import Verb, require, resource_of
from mqttpush.errors import AlreadyExists, InvalidRequest, VersionConflict
from mqttpush.events import SourceRemoved
from mqttpush.models import (
    Credentials,
    Json,
    Object,
    ObjectEventType,
    ObjectQuery,
    Source,
    SourceKind,
)
from mqttpush.operations.context import Context, ScopeReference
from mqttpush.operations.phones import before_sources_end
from mqttpush.operations.places import Place, enter
from mqttpush.store import Transaction

DOCUMENT_LIMIT_CHARACTERS: Final = 65_534  # spec kii 12
# Made by the server and shown beside the app's own fields, so a client may send them back.
RESERVED_FIELDS: Final = frozenset(
    {"_id", "_owner", "_created", "_modified", "_version", "_dataType"}
)


@dataclass(frozen=True, slots=True)
class Condition:
    """When a write applies (spec kii 4.3).

    version: only if this is the object's. must_be_absent: only if there is none.
    """

    version: int | None = None
    must_be_absent: bool = False


ALWAYS: Final = Condition()


@dataclass(frozen=True, slots=True)
class Written:
    """An object after a write, and whether the write created it."""

    item: Object
    is_new: bool


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """A part of a bucket. last_key: of the last object, if more follow; None at the end."""

    items: list[Object]
    last_key: int | None


class Buckets:
    """Buckets and objects in every scope."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create_object(
        self,
        credentials: Credentials,
        scope: ScopeReference,
        bucket_id: str,
        document: Json,
        data_type: str,
    ) -> Object:
        """A new object under an ID of ours; makes the bucket if the principal may."""
        text = _document_text(document)

        def unit(tx: Transaction) -> Object:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            bucket = self._bucket_for_new_object(place, bucket_id)
            return self._insert(place, bucket, self._context.secrets.uuid(), text, data_type)

        return await self._context.store.write(unit)

    async def put_object(
        self,
        credentials: Credentials,
        scope: ScopeReference,
        bucket_id: str,
        object_id: str,
        document: Json,
        data_type: str,
        condition: Condition = ALWAYS,
    ) -> Written:
        """Replace the object, or create it under this ID."""
        text = _document_text(document)

        def unit(tx: Transaction) -> Written:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            bucket = place.bucket
            existing = tx.objects.get(bucket.key, object_id) if bucket else None
            if bucket is not None and existing is not None:
                require(tx, place.principal, Verb.WRITE_OBJECT, place.scope, bucket, existing)
                _check(existing, bucket, condition)
                return Written(
                    self._replace(place, bucket, existing, text, data_type), is_new=False
                )
            if condition.version is not None:
                raise place.object_not_found(object_id)
            bucket = self._bucket_for_new_object(place, bucket_id)
            item = self._insert(place, bucket, object_id, text, data_type)
            return Written(item, is_new=True)

        return await self._context.store.write(unit)

    async def patch_object(
        self,
        credentials: Credentials,
        scope: ScopeReference,
        bucket_id: str,
        object_id: str,
        changes: Json,
        condition: Condition = ALWAYS,
    ) -> Written:
        """Set the given top-level fields; with `must_be_absent` create the object of them."""
        changes = _own_fields(changes)

        def unit(tx: Transaction) -> Written:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            bucket = place.bucket
            existing = tx.objects.get(bucket.key, object_id) if bucket else None
            if bucket is not None and existing is not None:
                require(tx, place.principal, Verb.WRITE_OBJECT, place.scope, bucket, existing)
                _check(existing, bucket, condition)
                text = _document_text({**orjson.loads(existing.document), **changes})
                item = self._replace(place, bucket, existing, text, existing.data_type)
                return Written(item, is_new=False)
            if not condition.must_be_absent:
                raise place.object_not_found(object_id)
            bucket = self._bucket_for_new_object(place, bucket_id)
            text = _document_text(changes)
            item = self._insert(place, bucket, object_id, text, "application/json")
            return Written(item, is_new=True)

        return await self._context.store.write(unit)

    async def delete_object(
        self,
        credentials: Credentials,
        scope: ScopeReference,
        bucket_id: str,
        object_id: str,
        condition: Condition = ALWAYS,
    ) -> None:
        """Raises NotFound, NotAuthorized, VersionConflict."""

        def unit(tx: Transaction) -> None:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            bucket, existing = place.writable_object(object_id)
            _check(existing, bucket, replace(condition, must_be_absent=False))
            tx.objects.delete(bucket.key, object_id)
            tx.acl.delete_resource(place.scope.app_id, resource_of(place.scope, bucket, existing))
            place.emit(ObjectEventType.DELETED, bucket, existing, existing.modified_ms)

        await self._context.store.write(unit)

    async def get_object(
        self, credentials: Credentials, scope: ScopeReference, bucket_id: str, object_id: str
    ) -> Object:
        """Raises NotFound, NotAuthorized."""

        def unit(tx: Transaction) -> Object:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            return place.readable_object(object_id)[1]

        return await self._context.store.read(unit)

    async def query(
        self,
        credentials: Credentials,
        scope: ScopeReference,
        bucket_id: str,
        query: ObjectQuery,
    ) -> ObjectPage:
        """Objects that match, at most `query.limit`; raises InvalidRequest for a bad clause."""

        def unit(tx: Transaction) -> ObjectPage:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            bucket = place.existing_bucket()
            require(tx, place.principal, Verb.QUERY_OBJECTS, place.scope, bucket)
            # One more than asked for says whether there is a next page.
            rows = tx.objects.query(bucket.key, query._replace(limit=query.limit + 1))
            last_key = rows[query.limit - 1][0] if len(rows) > query.limit else None
            return ObjectPage([item for _, item in rows[: query.limit]], last_key)

        return await self._context.store.search(unit)

    async def count(
        self, credentials: Credentials, scope: ScopeReference, bucket_id: str, clause: object
    ) -> int:
        """How many objects match; raises InvalidRequest for a bad clause."""

        def unit(tx: Transaction) -> int:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            bucket = place.existing_bucket()
            require(tx, place.principal, Verb.QUERY_OBJECTS, place.scope, bucket)
            return tx.objects.count(bucket.key, clause)

        return await self._context.store.search(unit)

    async def create(
        self, credentials: Credentials, scope: ScopeReference, bucket_id: str
    ) -> Source:
        """Make an empty bucket; raises AlreadyExists, NotAuthorized."""

        def unit(tx: Transaction) -> Source:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            require(tx, place.principal, Verb.CREATE_NEW_BUCKET, place.scope)
            if place.bucket is not None:
                raise AlreadyExists("bucket", bucket_id, scope=place.scope)
            return _insert_bucket(place, bucket_id, self._context.now_ms())

        return await self._context.store.write(unit)

    async def delete(self, credentials: Credentials, scope: ScopeReference, bucket_id: str) -> None:
        """Drop a bucket with its objects and subscriptions: one event (spec kii 4.2)."""

        def unit(tx: Transaction) -> None:
            place = enter(self._context, tx, credentials, scope, bucket_id)
            bucket = place.existing_bucket()
            require(tx, place.principal, Verb.DROP_BUCKET, place.scope, bucket)
            drop_bucket(place, bucket)

        await self._context.store.write(unit)

    # --- inside a unit --------------------------------------------------------------------

    def _bucket_for_new_object(self, place: Place, bucket_id: str) -> Source:
        if place.bucket is None:
            require(place.tx, place.principal, Verb.CREATE_NEW_BUCKET, place.scope)
            return _insert_bucket(place, bucket_id, self._context.now_ms())
        require(place.tx, place.principal, Verb.CREATE_OBJECTS, place.scope, place.bucket)
        return place.bucket

    def _insert(
        self, place: Place, bucket: Source, object_id: str, text: str, data_type: str
    ) -> Object:
        now_ms = self._context.now_ms()
        item = Object(object_id, 1, now_ms, now_ms, place.principal.subject, data_type, text)
        place.tx.objects.insert(bucket.key, item)
        place.emit(ObjectEventType.CREATED, bucket, item, item.modified_ms)
        return item

    def _replace(
        self, place: Place, bucket: Source, existing: Object, text: str, data_type: str
    ) -> Object:
        item = replace(
            existing,
            version=existing.version + 1,
            modified_ms=self._context.now_ms(),
            data_type=data_type,
            document=text,
        )
        place.tx.objects.replace(bucket.key, item)
        place.emit(ObjectEventType.UPDATED, bucket, item, item.modified_ms)
        return item


def drop_bucket(place: Place, bucket: Source) -> None:
    """With its objects, filters and subscriptions: one event."""
    tx = place.tx
    filters = tx.sources.filters(bucket.key)
    place.emit(ObjectEventType.BUCKET_DELETED, bucket, None, place.context.now_ms())
    before_sources_end(place.context, tx, place.scope.app_id, [bucket.key])
    tx.acl.delete_resource(place.scope.app_id, bucket.path)
    for key in (bucket.key, *(each.source.key for each in filters)):
        tx.sources.delete(key)
        tx.emit(SourceRemoved(key))


def _insert_bucket(place: Place, bucket_id: str, now_ms: int) -> Source:
    return place.tx.sources.insert(
        SourceKind.BUCKET, place.scope, bucket_id, place.principal.subject, now_ms
    )


def _check(existing: Object, bucket: Source, condition: Condition) -> None:
    if condition.must_be_absent:
        raise AlreadyExists("object", existing.object_id, scope=bucket.scope, bucket_id=bucket.id)
    if condition.version is not None and condition.version != existing.version:
        raise VersionConflict(
            "object",
            existing.object_id,
            existing.version,
            scope=bucket.scope,
            bucket_id=bucket.id,
        )


def _own_fields(document: Json) -> Json:
    if RESERVED_FIELDS.isdisjoint(document):
        return document
    return {key: value for key, value in document.items() if key not in RESERVED_FIELDS}


def _document_text(document: Json) -> str:
    """Compact JSON of the app's own fields; raises InvalidRequest over the limit."""
    text = orjson.dumps(_own_fields(document)).decode()
    if len(text) > DOCUMENT_LIMIT_CHARACTERS:
        raise InvalidRequest(
            f"the object has {len(text)} characters, {DOCUMENT_LIMIT_CHARACTERS} are allowed"
        )
    return text
