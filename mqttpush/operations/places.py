"""Where a unit on objects works, and for whom: what verbs of objects and of bodies share.

Knows no wire spelling. The one idea: who may not read a bucket is not told what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mqttpush.access import Verb, allows, require
from mqttpush.errors import NotFound
from mqttpush.events import ObjectEvent
from mqttpush.models import (
    Credentials,
    Object,
    ObjectEventType,
    Principal,
    Scope,
    Source,
    SourceKind,
)
from mqttpush.operations.context import Context, ScopeReference, resolve_scope
from mqttpush.operations.entity_documents import publish
from mqttpush.operations.filters import matching_filters
from mqttpush.operations.phones import enqueue_event
from mqttpush.operations.triggers import react_to_object
from mqttpush.store import Transaction

_PUBLISHED: Final = frozenset({ObjectEventType.CREATED, ObjectEventType.UPDATED})


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket as a request names it, whether it is there or not."""

    context: Context
    tx: Transaction
    principal: Principal
    scope: Scope
    bucket_id: str
    bucket: Source | None

    def existing_bucket(self) -> Source:
        """Raises NotFound, or NotAuthorized for who may not know."""
        if self.bucket is None:
            require(self.tx, self.principal, Verb.QUERY_OBJECTS, self.scope)
            raise NotFound("bucket", self.bucket_id, scope=self.scope)
        return self.bucket

    def existing_object(self, object_id: str) -> tuple[Source, Object]:
        """Raises NotFound, or NotAuthorized for who may not know."""
        bucket = self.existing_bucket()
        item = self.tx.objects.get(bucket.key, object_id)
        if item is None:
            require(self.tx, self.principal, Verb.READ_OBJECTS, self.scope, bucket)
            raise self.object_not_found(object_id)
        return bucket, item

    def readable_object(self, object_id: str) -> tuple[Source, Object]:
        """Raises NotFound, NotAuthorized."""
        bucket, item = self.existing_object(object_id)
        if not allows(self.tx, self.principal, Verb.READ_OBJECTS, self.scope, bucket):
            require(self.tx, self.principal, Verb.READ_OBJECT, self.scope, bucket, item)
        return bucket, item

    def writable_object(self, object_id: str) -> tuple[Source, Object]:
        """Raises NotFound, NotAuthorized."""
        bucket, item = self.existing_object(object_id)
        require(self.tx, self.principal, Verb.WRITE_OBJECT, self.scope, bucket, item)
        return bucket, item

    def object_not_found(self, object_id: str) -> NotFound:
        return NotFound("object", object_id, scope=self.scope, bucket_id=self.bucket_id)

    def emit(
        self,
        event_type: ObjectEventType,
        bucket: Source,
        item: Object | None,
        modified_ms: int,
        *,
        is_published: bool = True,
    ) -> None:
        """item: None for an event of the bucket itself. is_published: to the Live Service too."""
        event = ObjectEvent(
            event_type,
            bucket,
            item.object_id if item else "",
            modified_ms,
            self.principal.subject,
            matching_filters(self.tx, bucket, event_type, item),
        )
        self.tx.emit(event)
        enqueue_event(self.context, self.tx, event)
        if bucket.has_triggers:
            react_to_object(self.context, self.tx, event)
        if bucket.is_live and is_published and item is not None and event_type in _PUBLISHED:
            publish(self.tx, bucket, item)


def enter(
    context: Context,
    tx: Transaction,
    credentials: Credentials,
    reference: ScopeReference,
    bucket_id: str,
) -> Place:
    """Authenticate and resolve; raises what these raise."""
    principal = context.authenticate(tx, credentials)
    scope = resolve_scope(tx, principal, reference)
    bucket = tx.sources.get(SourceKind.BUCKET, scope, bucket_id)
    return Place(context, tx, principal, scope, bucket_id, bucket)
