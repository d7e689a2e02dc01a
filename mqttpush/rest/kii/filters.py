"""Named filters of buckets (an extension: the service knew only `all`, spec kii 5 and 13)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from mqttpush.errors import InvalidRequest, NotFound
from mqttpush.models import Filter, Json, ObjectEventType
from mqttpush.operations.filters import FilterReference, Filters
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    bucket_id_of,
    credentials_of,
    gives,
    in_every_scope,
    kii_type,
    no_content,
    scope_of,
    takes,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Route

ALL: Final = "all"
_FILTER_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class FilterBody(BaseModel):
    """What the filter lets through: no event types means all, no clause any object."""

    model_config = ConfigDict(extra="forbid")

    eventTypes: frozenset[ObjectEventType] = frozenset()  # noqa: N815
    clause: dict[str, Any] = Field(default_factory=lambda: {"type": "all"})


class FilterRoutes:
    """…/buckets/{bucketID}/filters."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters

    def table(self) -> Iterator[Route]:
        yield from in_every_scope(self._table())

    def _table(self) -> Iterator[Route]:
        base = f"{APP}{{scope}}/buckets/{{bucketID}}/filters"
        one = f"{base}/{{filterID}}"
        wanted, many = takes(FilterBody), gives(answers.NamedFilters, "FiltersRetrievalResponse")
        shown = gives(answers.NamedFilter, "FilterRetrievalResponse")
        written = gives(answers.FilterWritten, "FilterUpdateResponse")
        make = "Make or replace a named filter"
        yield Route("GET", base, self.list, "Named filters of a bucket", answer=many)
        yield Route("GET", one, self.get, "Get a named filter", answer=shown)
        yield Route("PUT", one, self.put, make, (200, 201, 429), wanted, written)
        yield Route("DELETE", one, self.delete, "Delete a named filter", (204,))

    async def list(self, request: ApiRequest) -> ApiResponse:
        found = await self._filters.list(
            credentials_of(request), scope_of(request), bucket_id_of(request)
        )
        fields = {"filters": [_rendered(item) for item in found]}
        return ApiResponse(200, fields, kii_type("FiltersRetrievalResponse"))

    async def get(self, request: ApiRequest) -> ApiResponse:
        found = await self._filters.get(credentials_of(request), _reference(request))
        return ApiResponse(200, _rendered(found), kii_type("FilterRetrievalResponse"))

    async def put(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(FilterBody)
        event_types = frozenset(event_type.value for event_type in body.eventTypes)
        is_new = await self._filters.put(
            credentials_of(request), _reference(request), event_types, body.clause
        )
        fields = {"filterID": request.parameters["filterID"]}
        return ApiResponse(201 if is_new else 200, fields, kii_type("FilterUpdateResponse"))

    async def delete(self, request: ApiRequest) -> ApiResponse:
        await self._filters.delete(credentials_of(request), _reference(request))
        return no_content()


def filter_id_of(request: ApiRequest) -> str:
    """The filter of the path; raises NotFound for a name no filter can have."""
    filter_id = request.parameters["filterID"]
    if not _FILTER_ID.fullmatch(filter_id):
        raise NotFound("filter", filter_id)
    return filter_id


def _reference(request: ApiRequest) -> FilterReference:
    filter_id = filter_id_of(request)
    if filter_id == ALL:
        raise InvalidRequest("`all` is every bucket's own filter", field="filterID")
    return FilterReference(scope_of(request), bucket_id_of(request), filter_id)


def _rendered(item: Filter) -> Json:
    return {
        "filterID": item.id,
        "eventTypes": sorted(item.event_types),
        "clause": item.clause,
    }
