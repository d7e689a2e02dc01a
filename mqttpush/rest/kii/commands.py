"""Commands to things and their states (spec kii 10.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from mqttpush.commands import Command
from mqttpush.errors import InvalidRequest
from mqttpush.models import NEVER_MS, Json
from mqttpush.operations.commands import CommandDraft, Commands
from mqttpush.operations.context import Reference
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    THING_IF_APP,
    AnyFields,
    credentials_of,
    no_content,
    takes,
    thing_reference,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

PAGE_SIZE: Final = 50
_PAGINATION_KEY: Final = re.compile(r"([0-9]{1,19})(?:_([0-9a-f-]{36}))?", re.ASCII)
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_TTL_LIMIT_S: Final = 7 * 24 * 3600


class CommandCreation(BaseModel):
    """Body of a command: with schema and version, or with the actions grouped by trait alias."""

    model_config = ConfigDict(extra="ignore")

    actions: list[dict[str, Any]] = Field(min_length=1, max_length=100)
    issuer: str | None = None  # the caller is; what he writes is not believed
    # `schema` is a name of pydantic's own.
    schema_name: str | None = Field(None, alias="schema", max_length=200)
    schemaVersion: int | None = None  # noqa: N815
    title: str | None = Field(None, max_length=50)
    description: str | None = Field(None, max_length=200)
    metadata: dict[str, Any] | None = None
    ttl: int = Field(0, ge=0, le=_TTL_LIMIT_S)


class CommandResults(BaseModel):
    """Body of the thing's answer."""

    model_config = ConfigDict(extra="ignore")

    actionResults: list[dict[str, Any]] = Field(min_length=1, max_length=100)  # noqa: N815


class PastState(BaseModel):
    """A state by trait alias. generatedAt: milliseconds since 1970."""

    model_config = ConfigDict(extra="ignore")

    generatedAt: int = 0  # noqa: N815
    payload: dict[str, Any]


class StateBulk(BaseModel):
    """Body of several states at once."""

    model_config = ConfigDict(extra="ignore")

    states: list[PastState] = Field(min_length=1, max_length=1000)


class CommandRoutes:
    """…/targets/{thing}/commands and …/states."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def table(self) -> Iterator[Route]:
        target = f"{THING_IF_APP}/targets/{{target}}"
        base = f"{target}/commands"
        one = f"{base}/{{commandID}}"
        wanted = takes(CommandCreation, "CommandCreationRequest")
        results = takes(CommandResults, "CommandResultsUpdateRequest")
        made, shown = Content(answers.CommandCreated), Content(answers.Command)
        states = f"{target}/states"
        yield Route("POST", base, self.create, "Command a thing", (201,), wanted, made)
        yield Route(
            "GET", base, self.list_of, "Commands of a thing", answer=Content(answers.Commands)
        )
        yield Route("GET", one, self.get, "Get a command", answer=shown)
        yield Route(
            "PUT", f"{one}/action-results", self.report, "Answer a command", (204,), results
        )
        yield Route("PUT", states, self.put_states, "Set a state", (204,), takes(AnyFields))
        yield Route("GET", states, self.states, "Get a state", answer=Content(answers.AnyObject))
        change = takes(AnyFields, "MultipleTraitStatePatch")
        yield Route("PATCH", states, self.patch_states, "Change a state", (204,), change)
        bulk = takes(StateBulk, "StateBulkUploadRequest", "StatePatchBulkUploadRequest")
        yield Route(
            "POST", f"{target}/states-bulk", self.put_bulk, "Set what the state was", (204,), bulk
        )
        trait = f"{states}/aliases/{{alias}}"
        yield Route("PUT", trait, self.put_state, "Set a trait's state", (204,), takes(AnyFields))
        yield Route(
            "GET", trait, self.state, "Get a trait's state", answer=Content(answers.AnyObject)
        )

    async def create(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(CommandCreation)
        sent = {
            "actions": body.actions,
            "schema": body.schema_name,
            "schemaVersion": body.schemaVersion,
            "title": body.title,
            "description": body.description,
            "metadata": body.metadata,
        }
        draft = CommandDraft({k: v for k, v in sent.items() if v is not None}, body.ttl)
        command_id = await self._commands.create(credentials_of(request), _target(request), draft)
        location = f"{request.base_url}{_path(request)}/{command_id}"
        return ApiResponse(201, {"commandID": command_id}, headers={"location": location})

    async def get(self, request: ApiRequest) -> ApiResponse:
        command = await self._commands.get(
            credentials_of(request), _target(request), request.parameters["commandID"]
        )
        return ApiResponse(200, _rendered(command))

    async def list_of(self, request: ApiRequest) -> ApiResponse:
        key = _PAGINATION_KEY.fullmatch(request.query.get("paginationKey", str(NEVER_MS)))
        if key is None:
            raise InvalidRequest("is not a key of an earlier answer", field="paginationKey")
        wanted = request.query.get("bestEffortLimit", "")
        limit = min(int(wanted), PAGE_SIZE) if _LIMIT.fullmatch(wanted) else PAGE_SIZE
        found = await self._commands.list_of(
            credentials_of(request),
            _target(request),
            before=(min(int(key[1]), NEVER_MS), key[2] or ""),
            limit=limit,
        )
        fields: Json = {"commands": [_rendered(command) for command in found]}
        if len(found) == limit:
            fields["nextPaginationKey"] = f"{found[-1].created_ms}_{found[-1].command_id}"
        return ApiResponse(200, fields)

    async def report(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(CommandResults)
        await self._commands.report(
            credentials_of(request),
            _target(request),
            request.parameters["commandID"],
            body.actionResults,
            is_done=all(_succeeded(result) for result in body.actionResults),
        )
        return no_content()

    async def put_states(self, request: ApiRequest) -> ApiResponse:
        """With the content type of traits, the top level names aliases."""
        _require_body(request)
        state = request.json()
        states: Mapping[str, Json] = {"": state}
        if "multipletraitstate" in request.content_type:
            states = _by_alias(state)
        await self._commands.put_state(credentials_of(request), _target(request), states)
        return no_content()

    async def patch_states(self, request: ApiRequest) -> ApiResponse:
        """The given fields of the given traits."""
        _require_body(request)
        await self._commands.patch_states(
            credentials_of(request), _target(request), [_by_alias(request.json())]
        )
        return no_content()

    async def put_bulk(self, request: ApiRequest) -> ApiResponse:
        """What a thing kept while it was offline; no history is kept here, each trait's newest
        state counts."""
        _require_body(request)
        states = request.parse(StateBulk).states
        states.sort(key=lambda state: state.generatedAt)
        payloads = [_by_alias(state.payload) for state in states]
        credentials, target = credentials_of(request), _target(request)
        if "patch" in request.content_type:
            await self._commands.patch_states(credentials, target, payloads)
        else:
            newest = {alias: state for payload in payloads for alias, state in payload.items()}
            await self._commands.put_state(credentials, target, newest)
        return no_content()

    async def put_state(self, request: ApiRequest) -> ApiResponse:
        states = {request.parameters["alias"]: request.json()}
        await self._commands.put_state(credentials_of(request), _target(request), states)
        return no_content()

    async def states(self, request: ApiRequest) -> ApiResponse:
        found = await self._commands.states(credentials_of(request), _target(request))
        return ApiResponse(200, {**found.pop("", {}), **found})

    async def state(self, request: ApiRequest) -> ApiResponse:
        found = await self._commands.states(credentials_of(request), _target(request))
        return ApiResponse(200, found.get(request.parameters["alias"], {}))


def _target(request: ApiRequest) -> Reference:
    """`thing:{thingID}`, the prefix in any case."""
    kind, _, identifier = request.parameters["target"].partition(":")
    if kind.lower() != "thing" or not identifier:
        raise InvalidRequest("must be thing:{thingID}", field="target")
    return thing_reference(identifier)


def _path(request: ApiRequest) -> str:
    parameters = request.parameters
    return f"/thing-if/apps/{parameters['appID']}/targets/{parameters['target']}/commands"


def _require_body(request: ApiRequest) -> None:
    if not request.body:
        raise InvalidRequest("the body is empty", code="EMPTY_BODY")


def _by_alias(state: Json) -> Mapping[str, Json]:
    return {alias: _object(value, alias) for alias, value in state.items()}


def _object(value: object, field: str) -> Json:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object", field=field)
    return value


def _succeeded(result: object) -> bool:
    """`{action: {succeeded}}`, or by alias `{alias: [{action: {succeeded}}]}`."""
    if isinstance(result, list):
        return all(_succeeded(each) for each in result)
    if not isinstance(result, dict):
        return False
    if "succeeded" in result:
        return result["succeeded"] is True
    return bool(result) and all(_succeeded(each) for each in result.values())


def _rendered(command: Command) -> Json:
    fields: Json = {
        **command.body,
        "commandState": command.state.value,
        "target": f"thing:{command.thing.id}",
        "createdAt": command.created_ms,
        "modifiedAt": command.modified_ms,
    }
    if command.results:
        fields["actionResults"] = list(command.results)
    return fields
