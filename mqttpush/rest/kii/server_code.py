"""Server code: versions, running an endpoint, hook documents (spec kii 11)."""

from __future__ import annotations

from collections.abc import Iterator
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Final

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json
from mqttpush.operations.code_runs import CodeRuns
from mqttpush.operations.server_code import CURRENT, SOURCE_LIMIT_CHARACTERS, ServerCode
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    AnyFields,
    credentials_of,
    gives,
    no_content,
    takes,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route
from mqttpush.server_code import CodeVersion

_SCRIPT_TYPES: Final = ("application/javascript", "text/javascript", "multipart/form-data")
# The service counted steps of its interpreter; clients only show the header.
_STEPS: Final = {"x-step-count": "0"}


class ServerCodeRoutes:
    """…/server-code and …/hooks."""

    def __init__(self, server_code: ServerCode, runs: CodeRuns) -> None:
        self._server_code = server_code
        self._runs = runs

    def table(self) -> Iterator[Route]:
        base, hooks = f"{APP}/server-code", f"{APP}/hooks/versions/{{versionID}}"
        versions = f"{base}/versions"
        one = f"{versions}/{{versionID}}"
        script, shown = Content(None, _SCRIPT_TYPES), Content(answers.AnyObject)
        deployed, listed = gives(answers.CodeDeployed), gives(answers.CodeVersions)
        current = Content(None, ("text/plain",))
        returned = gives(answers.CodeReturned)
        document = takes(AnyFields, "HooksDeploymentRequest")
        yield Route("PUT", hooks, self.put_hooks, "Set the hooks", (204,), document)
        yield Route("GET", hooks, self.get_hooks, "Get the hooks", answer=shown)
        yield Route("DELETE", hooks, self.delete_hooks, "Delete the hooks", (204,))
        yield Route("POST", base, self.deploy, "Deploy server code", (201,), script, deployed)
        yield Route("GET", versions, self.versions, "List versions", answer=listed)
        yield Route(
            "PUT",
            f"{versions}/current",
            self.make_current,
            "Make a version current",
            (204,),
            current,
        )
        yield Route("GET", f"{versions}/current", self.current, "Which is current?", answer=current)
        put_back = "Let no version be current"
        yield Route("DELETE", f"{versions}/current", self.release_current, put_back, (204,))
        yield Route(
            "GET",
            one,
            self.source,
            "Get the code of a version",
            answer=Content(None, _SCRIPT_TYPES),
        )
        yield Route("DELETE", one, self.delete, "Delete a version", (204,))
        for place in (one, f"{versions}/current"):
            path = f"{place}/{{endpoint}}"
            yield Route(
                "POST", path, self.run, "Run an endpoint", (200,), takes(AnyFields), returned
            )

    async def deploy(self, request: ApiRequest) -> ApiResponse:
        credentials = credentials_of(request)
        await self._server_code.require_admin(credentials)  # before a runner reads a stranger's
        source = _source(request)
        await self._runs.check(source)
        version = await self._server_code.deploy(credentials, source)
        return ApiResponse(201, {"versionID": version.version_id})

    async def versions(self, request: ApiRequest) -> ApiResponse:
        found = await self._server_code.versions(credentials_of(request))
        return ApiResponse(200, {"versions": [_rendered(version) for version in found]})

    async def current(self, request: ApiRequest) -> ApiResponse:
        version = await self._server_code.version(credentials_of(request), CURRENT)
        return ApiResponse(200, version.version_id.encode(), "text/plain")

    async def make_current(self, request: ApiRequest) -> ApiResponse:
        try:
            version_id = request.body.decode().strip()
        except UnicodeDecodeError as exc:
            raise InvalidRequest("the body must be a version's ID") from exc
        await self._server_code.make_current(credentials_of(request), version_id)
        return no_content()

    async def release_current(self, request: ApiRequest) -> ApiResponse:
        await self._server_code.release_current(credentials_of(request))
        return no_content()

    async def source(self, request: ApiRequest) -> ApiResponse:
        version = await self._server_code.version(credentials_of(request), _version_id(request))
        return ApiResponse(200, version.source.encode(), "application/javascript")

    async def delete(self, request: ApiRequest) -> ApiResponse:
        await self._server_code.delete_version(credentials_of(request), _version_id(request))
        return no_content()

    async def run(self, request: ApiRequest) -> ApiResponse:
        parameters = request.json() if request.body else {}
        value = await self._runs.run_now(
            credentials_of(request),
            _version_id(request),
            request.parameters["endpoint"],
            parameters,
        )
        told = {"returnedValue": value, "returnValue": value}
        return ApiResponse(200, told, headers=dict(_STEPS))

    async def put_hooks(self, request: ApiRequest) -> ApiResponse:
        await self._server_code.put_hooks(
            credentials_of(request), _version_id(request), request.json()
        )
        return no_content()

    async def get_hooks(self, request: ApiRequest) -> ApiResponse:
        found = await self._server_code.get_hooks(credentials_of(request), _version_id(request))
        return ApiResponse(200, found)

    async def delete_hooks(self, request: ApiRequest) -> ApiResponse:
        await self._server_code.delete_hooks(credentials_of(request), _version_id(request))
        return no_content()


def _version_id(request: ApiRequest) -> str:
    return request.parameters.get("versionID", CURRENT)


def _rendered(version: CodeVersion) -> Json:
    return {
        "versionID": version.version_id,
        "createdAt": version.created_ms,
        "modifiedAt": version.created_ms,
        "current": version.is_current,
    }


def _source(request: ApiRequest) -> str:
    """The script: the whole body, or the part of a form that is no JSON."""
    data = request.body
    if request.content_type.startswith("multipart/"):
        data = _script_part(request)
    try:
        source = data.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequest("the script is not UTF-8") from exc
    if len(source) > SOURCE_LIMIT_CHARACTERS:
        raise InvalidRequest(
            f"the script has {len(source)} characters, {SOURCE_LIMIT_CHARACTERS} are allowed"
        )
    return source


def _script_part(request: ApiRequest) -> bytes:
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode("latin-1")
    form = BytesParser(policy=HTTP).parsebytes(head + request.body)
    for part in form.iter_parts() if form.is_multipart() else ():
        if not part.get_content_type().endswith("json"):
            content: Any = part.get_payload(decode=True)
            if isinstance(content, bytes):
                return content
    raise InvalidRequest("the form has no script")
