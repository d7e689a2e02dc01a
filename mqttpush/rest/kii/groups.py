"""Groups and their members (spec kii 1.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from mqttpush.errors import InvalidRequest
from mqttpush.models import Group, Json
from mqttpush.operations.context import Reference
from mqttpush.operations.groups import CreatedGroup, GroupDraft, Groups
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    credentials_of,
    gives,
    kii_type,
    no_content,
    takes,
    user_reference,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Route

_GROUP_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class GroupCreation(BaseModel):
    """Body of a new group; `owner` may be left out by the owner himself."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=200)
    owner: str | None = Field(None, max_length=200)
    members: list[str] = Field(default_factory=list, max_length=1000)


class GroupChange(BaseModel):
    """Body of a change of name or owner."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = Field(None, min_length=1, max_length=200)
    owner: str | None = Field(None, max_length=200)


class GroupRoutes:
    """…/groups."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def table(self) -> Iterator[Route]:
        base = f"{APP}/groups"
        one = f"{base}/{{groupID}}"
        members = f"{one}/members"
        member = f"{members}/{{userID}}"
        made = gives(answers.GroupCreated, "GroupCreationResponse")
        shown = gives(answers.Group, "GroupRetrievalResponse")
        many = gives(answers.Groups, "GroupsRetrievalResponse")
        people = gives(answers.Members, "MembersRetrievalResponse")
        wanted, changes = takes(GroupCreation, "GroupCreationRequest"), takes(GroupChange)
        name = takes(GroupChange, others=("text/plain",))
        new, whose = (201, 409, 429), ("memberIs", "ownerIs")
        put = "Make a group with this ID"
        yield Route("POST", base, self.create, "Make a group", new, wanted, made)
        yield Route("GET", base, self.list_of, "Groups of a user", answer=many, parameters=whose)
        yield Route("PUT", one, self.create_with_id, put, new, wanted, made)
        yield Route("GET", one, self.get, "Get a group", answer=shown)
        yield Route(
            "PATCH", one, self.change, "Rename a group or hand it over", (204, 429), changes
        )
        yield Route("DELETE", one, self.delete, "Delete a group", (204,))
        yield Route("PUT", f"{one}/name", self.rename, "Rename a group", (204, 429), name)
        yield Route("PUT", f"{one}/owner", self.hand_over, "Hand a group over", (204, 429), changes)
        yield Route("GET", members, self.members, "Members of a group", answer=people)
        yield Route("GET", member, self.check_member, "Is this user a member?", (204,))
        yield Route("PUT", member, self.add_member, "Add a member", (204, 429))
        yield Route("DELETE", member, self.remove_member, "Remove a member", (204,))

    async def create(self, request: ApiRequest) -> ApiResponse:
        return await self._create(request, None)

    async def create_with_id(self, request: ApiRequest) -> ApiResponse:
        return await self._create(request, request.parameters["groupID"])

    async def _create(self, request: ApiRequest, group_id: str | None) -> ApiResponse:
        body = request.parse(GroupCreation)
        if group_id is not None:
            _require_group_id(group_id)
        owner = user_reference(body.owner) if body.owner is not None else None
        draft = GroupDraft(body.name, owner, body.members, group_id)
        created = await self._groups.create(credentials_of(request), draft)
        return _created(request, created)

    async def list_of(self, request: ApiRequest) -> ApiResponse:
        """`?is_member={userID}` or `?owner={userID}`; neither: one's own."""
        owner = request.query.get("owner")
        user = owner or request.query.get("is_member") or "me"
        found = await self._groups.list_of(
            credentials_of(request), user_reference(user), only_owned=owner is not None
        )
        fields = {"groups": [_rendered(group) for group in found]}
        return ApiResponse(200, fields, kii_type("GroupsRetrievalResponse"))

    async def get(self, request: ApiRequest) -> ApiResponse:
        group = await self._groups.get(credentials_of(request), request.parameters["groupID"])
        return ApiResponse(200, _rendered(group), kii_type("GroupRetrievalResponse"))

    async def change(self, request: ApiRequest) -> ApiResponse:
        return await self._change(request, request.parse(GroupChange))

    async def rename(self, request: ApiRequest) -> ApiResponse:
        """The service took the bare name as text; JSON is taken too."""
        if request.content_type.startswith("text/"):
            return await self._change(request, GroupChange(name=_text(request)))
        return await self._change(request, request.parse(GroupChange))

    async def hand_over(self, request: ApiRequest) -> ApiResponse:
        return await self._change(request, request.parse(GroupChange))

    async def _change(self, request: ApiRequest, body: GroupChange) -> ApiResponse:
        owner = user_reference(body.owner) if body.owner is not None else None
        await self._groups.change(
            credentials_of(request), request.parameters["groupID"], name=body.name, owner=owner
        )
        return no_content()

    async def delete(self, request: ApiRequest) -> ApiResponse:
        await self._groups.delete(credentials_of(request), request.parameters["groupID"])
        return no_content()

    async def members(self, request: ApiRequest) -> ApiResponse:
        found = await self._groups.members(credentials_of(request), request.parameters["groupID"])
        fields = {"members": [{"userID": user_id} for user_id in found]}
        return ApiResponse(200, fields, kii_type("MembersRetrievalResponse"))

    async def check_member(self, request: ApiRequest) -> ApiResponse:
        await self._groups.check_member(credentials_of(request), *_member(request))
        return no_content()

    async def add_member(self, request: ApiRequest) -> ApiResponse:
        await self._groups.add_member(credentials_of(request), *_member(request))
        return no_content()

    async def remove_member(self, request: ApiRequest) -> ApiResponse:
        await self._groups.remove_member(credentials_of(request), *_member(request))
        return no_content()


def _member(request: ApiRequest) -> tuple[str, Reference]:
    return request.parameters["groupID"], user_reference(request.parameters["userID"])


def _text(request: ApiRequest) -> str:
    try:
        text = request.body.decode().strip()
    except UnicodeDecodeError as exc:
        raise InvalidRequest("is not UTF-8", field="name") from exc
    if not 1 <= len(text) <= 200:
        raise InvalidRequest("must have 1 to 200 characters", field="name")
    return text


def _require_group_id(group_id: str) -> None:
    if not _GROUP_ID.fullmatch(group_id):
        raise InvalidRequest("must be 1 to 64 of A-Z a-z 0-9 _ . -", field="groupID")


def _created(request: ApiRequest, created: CreatedGroup) -> ApiResponse:
    group = created.group
    fields: Json = {
        "groupID": group.group_id,
        "notFoundUsers": created.not_found_user_ids,
    }
    location = f"{request.base_url}/api/apps/{group.app_id}/groups/{group.group_id}"
    return ApiResponse(201, fields, kii_type("GroupCreationResponse"), {"location": location})


def _rendered(group: Group) -> Json:
    return {
        "groupID": group.group_id,
        "name": group.name,
        "owner": group.owner_user_id,
        "createdAt": group.created_ms,
        "modifiedAt": group.modified_ms,
    }
