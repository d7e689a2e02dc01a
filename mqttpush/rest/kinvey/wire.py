"""What all resources of this dialect share: credentials, versions, bodies (spec kinvey 1, 2).

Knows no resource. The one idea: a request becomes a `Visit` before anything else of it is looked
at, so every route refuses in the same order: version, credentials, their kind, body.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from mqttpush.access import refusal
from mqttpush.errors import InvalidRequest, NotAuthenticated
from mqttpush.kinvey import KinveySettings
from mqttpush.models import Credentials, Json, Principal, PrincipalKind
from mqttpush.operations.environments import Environments
from mqttpush.rest.messages import ApiRequest, depth_of

JSON_TYPE: Final = "application/json"
NEWEST_VERSION: Final = 6
_PROPERTIES_LIMIT_BYTES: Final = 8192


class Kind(StrEnum):
    """Kinds of credentials; the values are those of hooks' `getSecurityContext`."""

    APP = "app"
    MASTER = "master"
    USER = "user"


ANY_KIND: Final = frozenset(Kind)
APP_OR_MASTER: Final = frozenset({Kind.APP, Kind.MASTER})
USER_OR_MASTER: Final = frozenset({Kind.USER, Kind.MASTER})
MASTER_ONLY: Final = frozenset({Kind.MASTER})
USER_ONLY: Final = frozenset({Kind.USER})


@dataclass(frozen=True, slots=True)
class Visit:
    """One request whose credentials are good. principal: as of entering; a verb asks again.

    version: of the API, the client's or the app's default. hooks_stamp: of its server code, 0 if
    the app never had any. username: of a user of an app that has.
    """

    request: ApiRequest
    app_id: str
    credentials: Credentials
    principal: Principal
    settings: KinveySettings
    version: int
    hooks_stamp: int = 0
    username: str = ""

    @property
    def kind(self) -> Kind:
        if self.principal.is_admin:
            return Kind.MASTER
        return Kind.APP if self.principal.is_anonymous else Kind.USER

    @property
    def parameters(self) -> Mapping[str, str]:
        return self.request.parameters

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query

    @property
    def custom_properties(self) -> Json:
        """X-Kinvey-Custom-Request-Properties; what is no JSON object counts as `{}` (1.1).

        So does one nested deeper than a body may be: code would get what it cannot pass on.
        """
        text = self.request.headers.get("x-kinvey-custom-request-properties", "")
        try:
            value = orjson.loads(text) if len(text) <= _PROPERTIES_LIMIT_BYTES else {}
        except orjson.JSONDecodeError:
            return {}
        is_fit = isinstance(value, dict) and depth_of(value) <= self.request.max_json_depth
        return value if is_fit else {}

    def body(self) -> Any:
        """The body as JSON of any kind; raises InvalidRequest when there is none or it is bad."""
        request = self.request
        if not request.body:
            raise InvalidRequest("there is no body", code="IncompleteRequestBody")
        if not request.content_type:
            raise InvalidRequest("a body needs Content-Type", code="MissingRequestHeader")
        return request.json_value()

    def object(self) -> Json:
        """The body as a JSON object."""
        return as_object(self.body())


class Gate:
    """Makes visits of requests."""

    def __init__(self, environments: Environments) -> None:
        self._environments = environments

    async def enter(self, request: ApiRequest, kinds: frozenset[Kind] = ANY_KIND) -> Visit:
        """Raises InvalidRequest for a bad version or origin, NotAuthenticated, NotAuthorized."""
        version = version_of(request)
        credentials = await self._credentials(request, version)
        entry = await self._environments.enter(credentials)
        if entry.principal.kind is PrincipalKind.THING:
            raise NotAuthenticated("the token is no user's")
        settings = entry.settings
        request.version = settings.api_version if version is None else version
        refuse_other_origins(request, settings)
        app_id = entry.principal.app_id
        own = (entry.hooks_stamp, entry.username)
        visit = Visit(
            request, app_id, credentials, entry.principal, settings, request.version, *own
        )
        if visit.kind not in kinds:
            raise refusal(visit.principal, f"do this with {visit.kind.value} credentials")
        return visit

    async def _credentials(self, request: ApiRequest, version: int | None) -> Credentials:
        """Whom the Authorization header names; raises NotAuthenticated (spec kinvey 2)."""
        app_id = request.parameters["appKey"]
        scheme, _, value = request.headers.get("authorization", "").strip().partition(" ")
        scheme, value = scheme.lower(), value.strip()
        if scheme == "kinvey" and value:
            return Credentials(app_id, token=value, address=request.address)
        if scheme != "basic":
            raise NotAuthenticated("the Authorization header is neither Basic nor Kinvey")
        username, password = _basic(value)
        if username == app_id:
            return Credentials(app_id, app_secret=password, address=request.address)
        return await self._environments.prove_user(
            app_id, username, password, request.address, version
        )


def names_session(request: ApiRequest) -> bool:
    """Is a session's token what the Authorization header has?"""
    return request.headers.get("authorization", "").strip()[:7].lower() == "kinvey "


def as_object(body: Any) -> Json:
    """A body, the client's or what code made of it, as an object; raises InvalidRequest."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be an object", code="IncompleteRequestBody")
    return body


def version_of(request: ApiRequest) -> int | None:
    """X-Kinvey-API-Version; None if it is not there. Raises InvalidRequest."""
    text = request.headers.get("x-kinvey-api-version")
    if text is None:
        return None
    text = text.strip()
    if not (len(text) == 1 and text in "0123456789" and int(text) <= NEWEST_VERSION):
        problem = f"must be an integer from 0 to {NEWEST_VERSION}"
        raise InvalidRequest(problem, field="X-Kinvey-API-Version", code="APIVersionNotAvailable")
    return int(text)


def refuse_other_origins(request: ApiRequest, settings: KinveySettings) -> None:
    """Raises InvalidRequest for a page of another origin where the app forbids those (1.3)."""
    origin = request.headers.get("origin")
    if origin is not None and not settings.is_cors_allowed and origin != request.base_url:
        raise InvalidRequest("the app is for pages of its own origin", code="CORSDisabled")


def out_of_range(problem: str, field: str = "") -> InvalidRequest:
    """A value that is not acceptable."""
    return InvalidRequest(problem, field=field, code="ParameterValueOutOfRange")


def text_of(
    body: Mapping[str, Any],
    name: str,
    limit: int,
    *,
    is_required: bool = False,
    may_be_empty: bool = False,
) -> str | None:
    """A text of the body; None for null and what is not there. Raises InvalidRequest."""
    value = body.get(name)
    if is_required and value in (None, ""):
        raise InvalidRequest("is required", field=name, code="MissingRequestParameter")
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > limit or (not value and not may_be_empty):
        raise out_of_range(f"must be a text of 1 to {limit} characters", name)
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise out_of_range("must have no control characters", name)
    return value


def _basic(value: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise NotAuthenticated("the Basic credentials are not base64 of NAME:SECRET")
    return username, password
