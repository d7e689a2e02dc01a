"""Access rules of scopes, buckets, objects and topics: one form for all (spec kii 6.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from mqttpush.errors import InvalidRequest
from mqttpush.models import Credentials, Json, SourceKind
from mqttpush.operations.acls import SPECIAL_SUBJECTS, Acls, ResourceReference, SubjectReference
from mqttpush.operations.context import ID, Reference
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    bucket_id_of,
    credentials_of,
    gives,
    in_every_scope,
    kii_type,
    no_content,
    object_id_of,
    scope_of,
    thing_reference,
    topic_id_of,
    user_reference,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Handler, Route

_Verb = Callable[[Credentials, ResourceReference, str, SubjectReference], Awaitable[None]]

_SUBJECT_FIELD: Final = {"user": "userID", "group": "groupID", "thing": "thingID"}
_SPECIAL_NAME: Final = {subject: name for name, subject in SPECIAL_SUBJECTS.items()}


class AclRoutes:
    """…/acl below every resource that has access rules."""

    def __init__(self, acls: Acls) -> None:
        self._acls = acls

    def table(self) -> Iterator[Route]:
        yield from in_every_scope(self._table())

    def _table(self) -> Iterator[Route]:
        bucket = f"{APP}{{scope}}/buckets/{{bucketID}}"
        resources = {
            "the scope": f"{APP}{{scope}}",
            "a bucket": bucket,
            "an object": f"{bucket}/objects/{{objectID}}",
            "a topic": f"{APP}{{scope}}/topics/{{topicID}}",
        }
        shown = gives(answers.AccessRules, "ACLRetrievalResponse")
        allowed = gives(list[answers.Subject], "ACLVerbRetrievalResponse")
        found = gives(answers.Subject, "ACLSubjectRetrievalResponse")
        for name, path in resources.items():
            all_, verb = f"{path}/acl", f"{path}/acl/{{verb}}"
            one = f"{verb}/{{subject}}"
            grant, revoke = self._handler(self._acls.grant), self._handler(self._acls.revoke)
            yield Route("GET", all_, self.list_all, f"Access rules of {name}", answer=shown)
            yield Route("GET", verb, self.list_verb, f"Who may do this to {name}?", answer=allowed)
            yield Route("GET", one, self.check, f"May this one do this to {name}?", answer=found)
            yield Route("PUT", one, grant, f"Grant a right on {name}", (204, 409))
            yield Route("DELETE", one, revoke, f"Revoke a right on {name}", (204,))

    async def list_all(self, request: ApiRequest) -> ApiResponse:
        found = await self._acls.list_all(credentials_of(request), _resource(request))
        fields = {verb.value: _rendered(subjects) for verb, subjects in found.items() if subjects}
        return ApiResponse(200, fields, kii_type("ACLRetrievalResponse"))

    async def list_verb(self, request: ApiRequest) -> ApiResponse:
        verb = request.parameters["verb"]
        found = await self._acls.list_verb(credentials_of(request), _resource(request), verb)
        return ApiResponse(200, _rendered(found), kii_type("ACLVerbRetrievalResponse"))

    async def check(self, request: ApiRequest) -> ApiResponse:
        subject = await self._acls.check(
            credentials_of(request),
            _resource(request),
            request.parameters["verb"],
            _subject(request),
        )
        fields = _rendered([subject])[0]
        return ApiResponse(200, fields, kii_type("ACLSubjectRetrievalResponse"))

    def _handler(self, act: _Verb) -> Handler:
        async def handle(request: ApiRequest) -> ApiResponse:
            verb = request.parameters["verb"]
            await act(credentials_of(request), _resource(request), verb, _subject(request))
            return no_content()

        return handle


def _resource(request: ApiRequest) -> ResourceReference:
    scope = scope_of(request)
    if "topicID" in request.parameters:
        return ResourceReference(scope, SourceKind.TOPIC, topic_id_of(request))
    if "objectID" in request.parameters:
        bucket_id = bucket_id_of(request)
        return ResourceReference(scope, SourceKind.BUCKET, bucket_id, object_id_of(request))
    if "bucketID" in request.parameters:
        return ResourceReference(scope, SourceKind.BUCKET, bucket_id_of(request))
    return ResourceReference(scope)


def _subject(request: ApiRequest) -> SubjectReference:
    """`UserID:x`, `GroupID:x`, `ThingID:x`, the prefix in any case."""
    prefix, _, identifier = request.parameters["subject"].partition(":")
    prefix = prefix.lower()
    if prefix == "userid":
        special = SPECIAL_SUBJECTS.get(identifier, "")
        return SubjectReference("user", user_reference(identifier), special)
    if prefix == "thingid":
        return SubjectReference("thing", thing_reference(identifier))
    if prefix == "groupid":
        return SubjectReference("group", Reference(ID, identifier))
    raise InvalidRequest("must be UserID:, GroupID: or ThingID: and an ID", field="subject")


def _rendered(subjects: Sequence[str]) -> list[Json]:
    rendered = []
    for subject in subjects:
        kind, _, identifier = subject.partition(":")
        rendered.append({_SUBJECT_FIELD[kind]: _SPECIAL_NAME.get(subject, identifier)})
    return rendered
