"""The route table: declared once, matched in a few dictionary look-ups, read by documents.

Knows no transport and no verb. A path is split at `/`, empty segments are dropped (a real client
doubles slashes, spec kii 0.2.5), then walked through a tree of dictionaries, so the cost is the
path's length and not the number of routes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from mqttpush.errors import InvalidRequest, MqttPushError
from mqttpush.rest.messages import ApiRequest, ApiResponse

Handler = Callable[[ApiRequest], Awaitable[ApiResponse]]

_PARAMETER: Final = "{}"  # key of the child that takes any segment; no literal contains braces
_LEAF: Final = ""  # key of the routes that end here; no segment is empty


@dataclass(frozen=True, slots=True)
class Content:
    """A body as documents show it.

    shape: a pydantic model or TypedDict; None for bytes of any kind. types: its media types.
    """

    shape: Any
    types: tuple[str, ...] = ("application/json",)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What all routes of one dialect share, for documents; the values are OpenAPI's own objects.

    statuses: errors that any of them may answer. errors: the response by status. parameters: by the
    name that stands in a path, or in `Route.parameters`.
    """

    name: str
    statuses: tuple[int, ...] = ()
    errors: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    security_schemes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    security: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """How one dialect behaves where no route of it does: errors, headers of every answer, CORS.

    folders: the first segments of its paths; empty for all that no other dialect has. begin: sees
    a request before its route is looked for. missing: what to answer where no route fits, None for
    the usual. preflight: answers OPTIONS, None for the usual. finish: the last look at an answer.
    """

    render_error: Callable[[MqttPushError], ApiResponse]
    folders: frozenset[str] = frozenset()
    begin: Callable[[ApiRequest], None] = lambda _: None
    missing: Callable[[str, str], MqttPushError | None] = lambda method, path: None
    preflight: Callable[[ApiRequest, str], Awaitable[ApiResponse]] | None = None
    finish: Callable[[ApiRequest, ApiResponse], ApiResponse] = lambda _, response: response


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. path: `/api/apps/{appID}/…`; what follows `summary` is for documents.

    statuses: what it may answer beside its dialect's errors. parameters: those of the query and the
    headers. body, answer: of the request and of a success. is_streamed: its handler reads the body
    itself, as it comes.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    statuses: tuple[int, ...] = (200,)
    body: Content | None = None
    answer: Content | None = None
    parameters: tuple[str, ...] = ()
    tag: str = ""
    dialect: Dialect | None = None
    is_streamed: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """What a path leads to: its routes by method, and the values of its parameters."""

    routes: Mapping[str, tuple[Route, tuple[str, ...]]]
    values: list[str]

    def parameters(self, names: tuple[str, ...]) -> dict[str, str]:
        """The percent-decoded parameters; raises InvalidRequest for bad UTF-8."""
        try:
            return {
                name: unquote(value, errors="strict") if "%" in value else value
                for name, value in zip(names, self.values, strict=True)
            }
        except UnicodeDecodeError as exc:
            raise InvalidRequest("the path is not UTF-8") from exc


class RouteTable:
    """Routes by path, then method. Two routes with the same method and path are a mistake."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root: dict[str, Any] = {}
        for route in self.routes:
            self._add(route)

    def find(self, path: str) -> Match | None:
        """`path` still percent-encoded; None if no route of any method has it."""
        node = self._root
        values: list[str] = []
        for segment in path.split("/"):
            if not segment:
                continue
            child = node.get(segment)
            if child is None:
                child = node.get(_PARAMETER)
                if child is None:
                    return None
                values.append(segment)
            node = child
        routes = node.get(_LEAF)
        return Match(routes, values) if routes else None

    def _add(self, route: Route) -> None:
        node = self._root
        names = []
        for segment in filter(None, route.path.split("/")):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                segment = _PARAMETER
            node = node.setdefault(segment, {})
        methods = node.setdefault(_LEAF, {})
        assert route.method not in methods, f"{route.method} {route.path} declared twice"
        methods[route.method] = (route, tuple(names))
