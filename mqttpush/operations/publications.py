"""Verbs of bodies beyond their object: publish for anybody to read, move to another object.

An address is a secret that says what it leads to: who has it needs no right and no account.
"""

from __future__ import annotations

from mqttpush.bodies import Body, Publication
from mqttpush.errors import InvalidRequest, NotFound
from mqttpush.models import NEVER_MS, Credentials, ObjectEventType
from mqttpush.operations.bodies import ObjectReference, OpenBody, open_newest, publish
from mqttpush.operations.context import Context
from mqttpush.operations.places import Place, enter
from mqttpush.store import Transaction


class Publications:
    """Public addresses of bodies, and bodies that change their object."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def publish(
        self, credentials: Credentials, reference: ObjectReference, expires_ms: int = NEVER_MS
    ) -> Publication:
        """For who may read the body; without an end always the same address.

        Raises NotFound, NotAuthorized.
        """
        context = self._context

        def unit(tx: Transaction) -> Publication:
            place = self._enter(tx, credentials, reference)
            bucket, item = place.readable_object(reference.object_id)
            _require_body(place, tx.bodies.get(bucket.key, item.object_id), reference)
            if expires_ms == NEVER_MS:
                known = tx.bodies.published_for_good(bucket.key, item.object_id)
                if known is not None:
                    return known
            publication_id = context.secrets.access_token()
            made = Publication(publication_id, bucket.key, item.object_id, expires_ms)
            tx.bodies.publish(made, context.now_ms())
            return made

        return await context.store.write(unit)

    async def open(self, publication_id: str) -> OpenBody:
        """The body to read, for anybody; raises NotFound, InvalidRequest once its time is over."""
        context = self._context

        def unit(tx: Transaction) -> Body:
            found = tx.bodies.publication(publication_id)
            body = tx.bodies.get(found.source_key, found.object_id) if found else None
            if found is None or body is None:
                raise NotFound("publication", publication_id)
            if found.expires_ms <= context.now_ms():
                raise InvalidRequest("its time is over", code="PUBLICATION_EXPIRED")
            return body

        return await open_newest(context.blobs, lambda: context.store.read(unit))

    async def move(
        self, credentials: Credentials, reference: ObjectReference, target: ObjectReference
    ) -> None:
        """Make the object's body that of the target, in place of any it has.

        For who may write both. Raises NotFound, NotAuthorized.
        """
        context = self._context

        def unit(tx: Transaction) -> None:
            place, to = (
                self._enter(tx, credentials, reference),
                self._enter(tx, credentials, target),
            )
            bucket, item = place.writable_object(reference.object_id)
            to_bucket, to_item = to.writable_object(target.object_id)
            body = tx.bodies.get(bucket.key, item.object_id)
            found = _require_body(place, body, reference)
            if (bucket.key, item.object_id) == (to_bucket.key, to_item.object_id):
                return
            now_ms = context.now_ms()
            tx.bodies.delete(bucket.key, item.object_id)
            place.emit(ObjectEventType.BODY_DELETED, bucket, item, now_ms)
            moved = Body(found.blob, found.content_type, found.size_bytes, now_ms)
            publish(to, to_bucket, to_item, moved)
            tx.bodies.forget_garbage([found.blob])  # it went with its first row

        await context.store.write(unit)
        context.blobs.has_garbage.set()  # what the target had before

    def _enter(
        self, tx: Transaction, credentials: Credentials, reference: ObjectReference
    ) -> Place:
        return enter(self._context, tx, credentials, reference.scope, reference.bucket_id)


def _require_body(place: Place, body: Body | None, reference: ObjectReference) -> Body:
    if body is None:
        facts = {"scope": place.scope, "bucket_id": reference.bucket_id}
        raise NotFound("body", reference.object_id, **facts)
    return body
