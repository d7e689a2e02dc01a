"""Verbs of object bodies: replace, read, delete; each change raises one event (spec kii 4.2).

A body comes from outside while no unit runs, so rights and conditions are checked twice: before its
first byte is taken, and in the unit that makes it visible. How bodies arrive in parts is `uploads`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from mqttpush.bodies import Body
from mqttpush.errors import (
    AlreadyExists,
    LimitReached,
    NotFound,
    StoreUnavailable,
    VersionConflict,
)
from mqttpush.models import Credentials, Object, ObjectEventType, Source
from mqttpush.operations.context import Context, ScopeReference
from mqttpush.operations.places import Place, enter
from mqttpush.store import Transaction
from mqttpush.store.blobs import Blobs


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """How a request names an object."""

    scope: ScopeReference
    bucket_id: str
    object_id: str


@dataclass(frozen=True, slots=True)
class BodyCondition:
    """When a verb applies (spec kii 4.3). blob: only to this body. must_be_absent: to none."""

    blob: str | None = None
    must_be_absent: bool = False


ALWAYS: Final = BodyCondition()


@dataclass(frozen=True, slots=True)
class OpenBody:
    """A body ready to be read; whoever gets it closes the file."""

    body: Body
    file: BinaryIO


class Bodies:
    """Bodies of objects in every scope."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def put(
        self,
        credentials: Credentials,
        reference: ObjectReference,
        content_type: str,
        chunks: AsyncIterator[bytes],
        condition: BodyCondition = ALWAYS,
        *,
        size_bytes: int | None = None,
    ) -> Body:
        """Make `chunks` the object's body; a sender who goes away leaves the old one.

        size_bytes: how many will come, if that is known. Raises NotFound, NotAuthorized,
        VersionConflict, AlreadyExists, LimitReached.
        """
        context = self._context
        limit_bytes = context.limits.max_body_bytes

        def writable(tx: Transaction) -> tuple[Place, Source, Object]:
            place = enter(context, tx, credentials, reference.scope, reference.bucket_id)
            bucket, item = place.writable_object(reference.object_id)
            check_condition(place, bucket, item, condition)
            return place, bucket, item

        def unit(tx: Transaction) -> Body:
            body = Body(blob, content_type, received_bytes, context.now_ms())
            publish(*writable(tx), body)
            return body

        await context.store.read(writable)
        if size_bytes is not None and size_bytes > limit_bytes:
            raise LimitReached("limits.max_body_bytes")
        blob = context.secrets.blob()
        with context.blobs.naming(blob):
            received_bytes = await context.blobs.write(blob, _limited(chunks, limit_bytes))
            body = await context.store.write(unit)
        context.blobs.has_garbage.set()
        return body

    async def get(
        self,
        credentials: Credentials,
        reference: ObjectReference,
        condition: BodyCondition = ALWAYS,
    ) -> Body:
        """What is known of the body; raises NotFound, NotAuthorized, VersionConflict."""

        def unit(tx: Transaction) -> Body:
            place = enter(self._context, tx, credentials, reference.scope, reference.bucket_id)
            bucket, item = place.readable_object(reference.object_id)
            check_condition(place, bucket, item, condition)
            return _existing(place, bucket, item)

        return await self._context.store.read(unit)

    async def open(
        self,
        credentials: Credentials,
        reference: ObjectReference,
        condition: BodyCondition = ALWAYS,
    ) -> OpenBody:
        """The body to read, as it is now, whatever becomes of it later; raises as `get`."""
        return await open_newest(
            self._context.blobs, lambda: self.get(credentials, reference, condition)
        )

    async def delete(
        self,
        credentials: Credentials,
        reference: ObjectReference,
        condition: BodyCondition = ALWAYS,
    ) -> None:
        """Raises NotFound, NotAuthorized, VersionConflict."""
        context = self._context

        def unit(tx: Transaction) -> None:
            place = enter(context, tx, credentials, reference.scope, reference.bucket_id)
            bucket, item = place.writable_object(reference.object_id)
            check_condition(place, bucket, item, condition)
            _existing(place, bucket, item)
            tx.bodies.delete(bucket.key, item.object_id)
            place.emit(ObjectEventType.BODY_DELETED, bucket, item, context.now_ms())

        await context.store.write(unit)
        context.blobs.has_garbage.set()


async def open_newest(blobs: Blobs, find: Callable[[], Awaitable[Body]]) -> OpenBody:
    """The body that `find` finds, whatever becomes of it later; raises what `find` raises."""
    looked_for = ""
    while True:
        body = await find()
        file = await blobs.open(body.blob)
        if file is not None:
            return OpenBody(body, file)
        if body.blob == looked_for:
            raise StoreUnavailable("bodies", f"the file {body.blob} is missing")
        looked_for = body.blob  # replaced since we looked, its file gone: look again


def publish(place: Place, bucket: Source, item: Object, body: Body) -> None:
    """Make the body visible, inside a unit that has checked everything."""
    place.tx.bodies.put(bucket.key, item.object_id, body)
    place.emit(ObjectEventType.BODY_UPDATED, bucket, item, body.modified_ms)


def check_condition(place: Place, bucket: Source, item: Object, condition: BodyCondition) -> None:
    """Raises AlreadyExists, NotFound, VersionConflict when the condition does not hold."""
    if condition == ALWAYS:
        return
    existing = place.tx.bodies.get(bucket.key, item.object_id)
    facts = {"scope": place.scope, "bucket_id": bucket.id}
    if condition.must_be_absent:
        if existing is not None:
            raise AlreadyExists("body", item.object_id, **facts)
    elif existing is None:
        raise NotFound("body", item.object_id, **facts)
    elif condition.blob != existing.blob:
        raise VersionConflict("body", item.object_id, existing.blob, **facts)


def _existing(place: Place, bucket: Source, item: Object) -> Body:
    body = place.tx.bodies.get(bucket.key, item.object_id)
    if body is None:
        raise NotFound("body", item.object_id, scope=place.scope, bucket_id=bucket.id)
    return body


async def _limited(chunks: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit_bytes:
            raise LimitReached("limits.max_body_bytes")
        yield chunk
