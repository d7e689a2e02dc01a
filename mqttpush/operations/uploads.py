"""Verbs of bodies that arrive in parts: start, send, look, commit, cancel (spec kii 4.2).

The one idea: a part counts when all of it is on disk, and what counts never changes. So a part sent
again is taken from where the upload stands, one that broke off leaves no trace, and only the commit
is seen by others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mqttpush.bodies import Body, Part, Upload
from mqttpush.errors import InvalidRequest, LimitReached, NotFound
from mqttpush.models import Credentials, Object, Source
from mqttpush.operations.bodies import (
    ALWAYS,
    BodyCondition,
    ObjectReference,
    check_condition,
    publish,
)
from mqttpush.operations.context import Context
from mqttpush.operations.places import Place, enter
from mqttpush.store import Transaction

DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class UploadReference:
    """How a request names an upload."""

    object: ObjectReference
    upload_id: str


@dataclass(frozen=True, slots=True)
class _Found:
    place: Place
    bucket: Source
    item: Object
    upload: Upload


class Uploads:
    """Uploads of one's own, on objects one may write; the administrator's are all."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # A file takes one writer; the server is the only one of its store.
        self._busy: set[str] = set()

    async def start(self, credentials: Credentials, reference: ObjectReference) -> Upload:
        """Raises NotFound, NotAuthorized, LimitReached."""
        context = self._context

        def unit(tx: Transaction) -> Upload:
            place = enter(context, tx, credentials, reference.scope, reference.bucket_id)
            bucket, item = place.writable_object(reference.object_id)
            app_id, creator = place.scope.app_id, place.principal.subject
            if tx.uploads.count_of(app_id, creator) >= context.limits.max_uploads_per_owner:
                raise LimitReached("limits.max_uploads_per_owner")
            upload = Upload(
                upload_id=context.secrets.uuid(),
                app_id=app_id,
                creator=creator,
                source_key=bucket.key,
                object_id=item.object_id,
                blob=context.secrets.blob(),
                content_type=DEFAULT_CONTENT_TYPE,
                received_bytes=0,
                total_bytes=None,
                expires_ms=self._expires_ms(),
            )
            tx.uploads.insert(upload)
            return upload

        return await context.store.write(unit)

    async def put_part(
        self,
        credentials: Credentials,
        reference: UploadReference,
        content_type: str,
        part: Part,
        chunks: AsyncIterator[bytes],
    ) -> Upload:
        """Append a part; bytes that are there already are passed over.

        Raises NotFound, NotAuthorized, InvalidRequest for a gap, another total, or chunks that are
        not as long as the part says.
        """
        context = self._context

        def unit(tx: Transaction) -> Upload:
            upload = replace(
                self._find(tx, credentials, reference).upload,
                content_type=content_type,
                received_bytes=received_bytes,
                total_bytes=part.total_bytes,
                expires_ms=self._expires_ms(),
            )
            tx.uploads.update(upload)
            return upload

        with self._alone(reference.upload_id):
            upload = await self.get(credentials, reference)
            self._check(part, upload)
            if part.end_byte <= upload.received_bytes:
                return upload
            with context.blobs.naming(upload.blob):
                rest = _rest(chunks, part, upload.received_bytes)
                received_bytes = await context.blobs.write(
                    upload.blob, rest, offset=upload.received_bytes
                )
                return await context.store.write(unit)

    async def commit(
        self,
        credentials: Credentials,
        reference: UploadReference,
        condition: BodyCondition = ALWAYS,
    ) -> Body:
        """Make a complete upload the object's body; raises InvalidRequest for one that is not."""
        context = self._context

        def complete(tx: Transaction) -> _Found:
            found = self._find(tx, credentials, reference)
            check_condition(found.place, found.bucket, found.item, condition)
            upload = found.upload
            if not upload.is_complete:
                total = upload.total_bytes or "unknown"
                raise InvalidRequest(f"{upload.received_bytes} bytes of {total} have arrived")
            return found

        def unit(tx: Transaction) -> Body:
            found = complete(tx)
            upload = found.upload
            body = Body(upload.blob, upload.content_type, upload.received_bytes, context.now_ms())
            publish(found.place, found.bucket, found.item, body)
            tx.uploads.delete(upload.upload_id)
            return body

        with self._alone(reference.upload_id):
            upload = (await context.store.read(complete)).upload
            with context.blobs.naming(upload.blob):
                await context.blobs.cut(upload.blob, upload.received_bytes)
                body = await context.store.write(unit)
        context.blobs.has_garbage.set()
        return body

    async def cancel(self, credentials: Credentials, reference: UploadReference) -> None:
        """Throw an upload away; raises NotFound, NotAuthorized."""

        def unit(tx: Transaction) -> None:
            tx.uploads.delete(self._find(tx, credentials, reference).upload.upload_id)

        await self._context.store.write(unit)
        self._context.blobs.has_garbage.set()

    async def get(self, credentials: Credentials, reference: UploadReference) -> Upload:
        """How far an upload is; raises NotFound, NotAuthorized."""
        return await self._context.store.read(
            lambda tx: self._find(tx, credentials, reference).upload
        )

    def _find(
        self, tx: Transaction, credentials: Credentials, reference: UploadReference
    ) -> _Found:
        named = reference.object
        place = enter(self._context, tx, credentials, named.scope, named.bucket_id)
        bucket, item = place.writable_object(named.object_id)
        upload = tx.uploads.get(reference.upload_id)
        if (
            upload is None
            or (upload.source_key, upload.object_id) != (bucket.key, item.object_id)
            or upload.expires_ms <= self._context.now_ms()
            or not (place.principal.is_admin or upload.creator == place.principal.subject)
        ):
            raise NotFound("upload", reference.upload_id, scope=place.scope)
        return _Found(place, bucket, item, upload)

    def _check(self, part: Part, upload: Upload) -> None:
        if part.total_bytes > self._context.limits.max_body_bytes:
            raise LimitReached("limits.max_body_bytes")
        if upload.total_bytes not in (None, part.total_bytes):
            problem = f"the body has {upload.total_bytes} bytes, not {part.total_bytes}"
        elif part.start_byte > upload.received_bytes:
            problem = f"byte {upload.received_bytes} is next"
        else:
            return
        raise InvalidRequest(problem, field="Content-Range")

    @contextmanager
    def _alone(self, upload_id: str) -> Iterator[None]:
        if upload_id in self._busy:
            problem = "another request works on this upload"
            raise InvalidRequest(problem, code="OPERATION_NOT_ALLOWED")
        self._busy.add(upload_id)
        try:
            yield
        finally:
            self._busy.remove(upload_id)

    def _expires_ms(self) -> int:
        return self._context.now_ms() + self._context.limits.upload_expiry_s * 1000


async def _rest(
    chunks: AsyncIterator[bytes], part: Part, received_bytes: int
) -> AsyncIterator[bytes]:
    """The bytes of the part from `received_bytes` on; raises InvalidRequest for a wrong length."""
    position = part.start_byte
    async for chunk in chunks:
        known_bytes = max(0, received_bytes - position)
        position += len(chunk)
        if position > part.end_byte:
            break
        if known_bytes < len(chunk):
            yield chunk[known_bytes:]
    if position != part.end_byte:
        raise InvalidRequest("the body is not as long as it says", field="Content-Range")
