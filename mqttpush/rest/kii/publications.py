"""Bodies for anybody to read, and bodies moved to another object (spec kii 4.2)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from mqttpush.errors import InvalidRequest
from mqttpush.models import NEVER_MS, ScopeType
from mqttpush.operations.bodies import ObjectReference
from mqttpush.operations.context import ID, Reference, ScopeReference
from mqttpush.operations.publications import Publications
from mqttpush.rest.kii.bodies import file_answer, object_of
from mqttpush.rest.kii.wire import (
    APP,
    bucket_id_from,
    credentials_of,
    gives,
    in_every_scope,
    kii_type,
    no_content,
    object_id_from,
    takes,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

_Ms = Annotated[int, Field(ge=1, le=NEVER_MS)]


class PublicationRequest(BaseModel):
    """Body of …/body/publish: until when, milliseconds since 1970, or for how many seconds."""

    model_config = ConfigDict(extra="ignore")

    expiresAt: _Ms | None = None  # noqa: N815
    expiresIn: Annotated[int, Field(ge=1, le=10**10)] | None = None  # noqa: N815


@with_config(ConfigDict(extra="forbid"))
class Published(TypedDict):
    """Answer: where anybody may read the body."""

    publicationID: str
    url: str


class ObjectScope(BaseModel):
    """The scope of another object."""

    model_config = ConfigDict(extra="ignore")

    type: ScopeType
    appID: str | None = None  # noqa: N815
    userID: str | None = None  # noqa: N815
    groupID: str | None = None  # noqa: N815
    thingID: str | None = None  # noqa: N815


class BodyMove(BaseModel):
    """Body of …/body/move."""

    model_config = ConfigDict(extra="ignore")

    targetObjectScope: ObjectScope  # noqa: N815
    targetBucketID: str  # noqa: N815
    targetObjectID: str  # noqa: N815


class PublicationRoutes:
    """…/body/publish, …/body/move and the public addresses."""

    def __init__(self, publications: Publications) -> None:
        self._publications = publications

    def table(self) -> Iterator[Route]:
        yield from in_every_scope(self._table())
        yield Route(
            "GET",
            "/api/x/{publicationID}",
            self.read,
            "Read a published body",
            (200, 206, 410, 416),
            answer=Content(None, ("*/*",)),
            parameters=("Range",),
        )

    def _table(self) -> Iterator[Route]:
        body = f"{APP}{{scope}}/buckets/{{bucketID}}/objects/{{objectID}}/body"
        wanted = takes(PublicationRequest, "ObjectBodyPublicationRequest")
        made = gives(Published, "ObjectBodyPublicationResponse")
        to = takes(BodyMove, "ObjectBodyMoveRequest")
        publish = "Let anybody read the body of an object"
        yield Route("POST", f"{body}/publish", self.publish, publish, (201,), wanted, made)
        yield Route("POST", f"{body}/move", self.move, "Move a body to another object", (204,), to)

    async def publish(self, request: ApiRequest) -> ApiResponse:
        wanted = request.parse(PublicationRequest)
        if wanted.expiresAt is not None and wanted.expiresIn is not None:
            raise InvalidRequest("not together with expiresAt", field="expiresIn")
        expires_ms = wanted.expiresAt or NEVER_MS
        if wanted.expiresIn is not None:
            expires_ms = round(time.time() * 1000) + wanted.expiresIn * 1000
        found = await self._publications.publish(
            credentials_of(request), object_of(request), expires_ms
        )
        url = f"{request.base_url}/api/x/{found.publication_id}"
        headers = {"location": url}
        if found.expires_ms < _LAST_DATE_MS:
            headers["expires"] = formatdate(found.expires_ms / 1000, usegmt=True)
        fields = {"publicationID": found.publication_id, "url": url}
        return ApiResponse(201, fields, kii_type("ObjectBodyPublicationResponse"), headers)

    async def read(self, request: ApiRequest) -> ApiResponse:
        opened = await self._publications.open(request.parameters["publicationID"])
        return file_answer(request, opened)

    async def move(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(BodyMove)
        target = ObjectReference(
            _scope(request, body.targetObjectScope),
            bucket_id_from(body.targetBucketID),
            object_id_from(body.targetObjectID),
        )
        await self._publications.move(credentials_of(request), object_of(request), target)
        return no_content()


_LAST_DATE_MS: Final = 253_402_300_800_000  # the year 10000, which no date header can tell
_OWNER_FIELD: Final = {
    ScopeType.USER: "userID",
    ScopeType.GROUP: "groupID",
    ScopeType.THING: "thingID",
}


def _scope(request: ApiRequest, scope: ObjectScope) -> ScopeReference:
    if scope.appID not in (None, request.parameters["appID"]):
        raise InvalidRequest("is another app", field="targetObjectScope.appID")
    if scope.type is ScopeType.APP:
        return ScopeReference()
    name = _OWNER_FIELD[scope.type]
    owner_id = getattr(scope, name)
    if owner_id is None:
        raise InvalidRequest("is required", field=f"targetObjectScope.{name}")
    return ScopeReference(scope.type, Reference(ID, owner_id))
