"""The route table: declared once, matched in a few dictionary look-ups, read by documents.

Knows no transport and no verb. A path is split at `/`, empty segments are dropped (a real client
doubles slashes, spec kii 0.2.5), then walked through a tree of dictionaries, so the cost is the
path's length and not the number of routes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from mqttpush.errors import InvalidRequest
from mqttpush.rest.messages import ApiRequest, ApiResponse

Handler = Callable[[ApiRequest], Awaitable[ApiResponse]]

_PARAMETER: Final = "{}"  # key of the child that takes any segment; no literal contains braces
_LEAF: Final = ""  # key of the routes that end here; no segment is empty


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. path: `/api/apps/{appID}/…`; statuses: what it may answer, for documents."""

    method: str
    path: str
    handler: Handler
    summary: str
    statuses: tuple[int, ...] = (200, 400, 401, 404)


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
