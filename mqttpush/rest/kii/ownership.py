"""Who owns a thing (spec kii 1.5)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from mqttpush.errors import InvalidRequest
from mqttpush.operations.context import ID, Reference
from mqttpush.operations.ownership import Ownership, ThingOwnerReference
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    credentials_of,
    no_content,
    takes,
    thing_reference,
    user_reference,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route


class OwnershipRequest(BaseModel):
    """Body of POST …/ownership: one of the two, and the password where the app wants it."""

    model_config = ConfigDict(extra="ignore")

    userID: str | None = Field(None, max_length=200)  # noqa: N815
    groupID: str | None = Field(None, max_length=200)  # noqa: N815
    thingPassword: str | None = Field(None, max_length=200)  # noqa: N815


class OwnershipRoutes:
    """…/things/{thingID}/ownership."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership

    def table(self) -> Iterator[Route]:
        base = f"{APP}/things/{{thingID}}/ownership"
        one = f"{base}/{{owner}}"
        wanted = takes(OwnershipRequest, "ThingOwnershipRequest")
        yield Route(
            "GET", base, self.list_owners, "Owners of a thing", answer=Content(answers.Owners)
        )
        yield Route("POST", base, self.add, "Add an owner", (204, 409, 429), wanted)
        yield Route("GET", one, self.check, "Does this one own the thing?", (204,))
        yield Route("PUT", one, self.put, "Add an owner", (204, 409))
        yield Route("DELETE", one, self.remove, "Remove an owner", (204,))

    async def list_owners(self, request: ApiRequest) -> ApiResponse:
        subjects = await self._ownership.list_owners(credentials_of(request), _thing(request))
        owners: dict[str, list[str]] = {"users": [], "groups": []}
        for subject in subjects:
            kind, _, identifier = subject.partition(":")
            owners[f"{kind}s"].append(identifier)
        return ApiResponse(200, owners)

    async def add(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(OwnershipRequest)
        if (body.userID is None) == (body.groupID is None):
            raise InvalidRequest("name one of userID and groupID", field="userID")
        text = f"user:{body.userID}" if body.userID is not None else f"group:{body.groupID}"
        await self._ownership.add(
            credentials_of(request), _thing(request), owner_of(text), body.thingPassword
        )
        return no_content()

    async def put(self, request: ApiRequest) -> ApiResponse:
        await self._ownership.add(credentials_of(request), _thing(request), _owner(request))
        return no_content()

    async def check(self, request: ApiRequest) -> ApiResponse:
        await self._ownership.check(credentials_of(request), _thing(request), _owner(request))
        return no_content()

    async def remove(self, request: ApiRequest) -> ApiResponse:
        await self._ownership.remove(credentials_of(request), _thing(request), _owner(request))
        return no_content()


def owner_of(text: str) -> ThingOwnerReference:
    """`user:{userID}` or `group:{groupID}`, the prefix in any case."""
    kind, _, identifier = text.partition(":")
    kind = kind.lower()
    if kind == "user":
        return ThingOwnerReference(kind, user_reference(identifier))
    if kind == "group":
        return ThingOwnerReference(kind, Reference(ID, identifier))
    raise InvalidRequest("must be user:{userID} or group:{groupID}", field="owner")


def _owner(request: ApiRequest) -> ThingOwnerReference:
    return owner_of(request.parameters["owner"])


def _thing(request: ApiRequest) -> Reference:
    return thing_reference(request.parameters["thingID"])
