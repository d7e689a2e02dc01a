"""Documents for people and programs: /openapi.json, and /docs, a page that reads it.

Owns the files in `docs/`, which are all the page needs: the browser is told to load nothing from
elsewhere. Knows no dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Final

import orjson

from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.openapi import build_document
from mqttpush.rest.routing import Content, Dialect, Handler, Route

_FOLDER: Final = Path(__file__).parent / "docs"
_HTML: Final = "text/html; charset=utf-8"
_TYPE_BY_SUFFIX: Final = {
    ".html": _HTML,
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_PAGE_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

# What routes outside of any dialect share.
SERVER: Final = Dialect(
    name="server",
    statuses=(413,),
    errors={
        413: {"description": "The body is larger than `http.max_body_bytes`"},
        503: {"description": "A part of the server does not answer"},
    },
)


class DocumentRoutes:
    """routes: all that are documented, asked for once, when somebody first reads the document."""

    def __init__(self, routes: Callable[[], Iterable[Route]]) -> None:
        self._routes = routes

    def table(self) -> Iterator[Route]:
        yield Route(
            "GET",
            "/openapi.json",
            self._openapi,
            "This document",
            answer=Content(dict[str, object]),
        )
        for path, name in (
            ("/docs", "page.html"),
            ("/docs/page.css", "page.css"),
            ("/docs/page.js", "page.js"),
        ):
            content_type = _TYPE_BY_SUFFIX[Path(name).suffix]
            handler = _handler((_FOLDER / name).read_bytes(), content_type)
            shown = Content(None, (content_type.partition(";")[0],))
            yield Route("GET", path, handler, f"A page for people: {name}", answer=shown)

    async def _openapi(self, _: ApiRequest) -> ApiResponse:
        return ApiResponse(200, self._document)

    @cached_property
    def _document(self) -> bytes:
        return orjson.dumps(build_document(self._routes(), version("mqttpush")))


def _handler(data: bytes, content_type: str) -> Handler:
    async def handle(_: ApiRequest) -> ApiResponse:
        return ApiResponse(200, data, content_type, dict(_PAGE_HEADERS))

    return handle
