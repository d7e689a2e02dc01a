"""Buckets and objects, in every scope (spec kii 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ConfigDict, Field

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json, Object, ObjectQuery
from mqttpush.operations.buckets import Buckets, Condition, Written
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    JSON_TYPE,
    AnyFields,
    bucket_id_of,
    credentials_of,
    gives,
    in_every_scope,
    kii_type,
    no_content,
    object_id_of,
    scope_of,
    takes,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

QUERY_LIMIT: Final = 200  # most results of one page
_PAGINATION_KEY: Final = re.compile(r"(after|offset):(\d{1,18})")
_OWN_TYPE: Final = re.compile(r"application/vnd\.[\w-]+\.[\w.-]+\+json", re.ASCII)
_VERSION: Final = re.compile(r'"?(\d{1,18})"?')


class Aggregation(BaseModel):
    """A count of what matches, instead of the objects (a library's `count()`)."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["COUNT"]
    putAggregationInto: str = Field(min_length=1, max_length=100)  # noqa: N815


class BucketQuery(BaseModel):
    """What to look for, and in which order."""

    model_config = ConfigDict(extra="ignore")

    clause: dict[str, Any] | None = None
    orderBy: str | None = None  # noqa: N815
    descending: bool | None = None
    aggregations: list[Aggregation] = Field(default_factory=list, max_length=1)


class QueryRequest(BaseModel):
    """Body of a query (spec kii 4.4); the clause itself is checked where it is used."""

    model_config = ConfigDict(extra="ignore")

    bucketQuery: BucketQuery | None = None  # noqa: N815
    bestEffortLimit: int | None = Field(None, ge=0, strict=True)  # noqa: N815
    paginationKey: str | None = None  # noqa: N815


class BucketRoutes:
    """…/buckets/{bucketID} and the objects in it."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def table(self) -> Iterator[Route]:
        yield from in_every_scope(self._table())

    def _table(self) -> Iterator[Route]:
        bucket = f"{APP}{{scope}}/buckets/{{bucketID}}"
        objects = f"{bucket}/objects"
        one = f"{objects}/{{objectID}}"
        query, wanted = takes(QueryRequest, "QueryRequest"), takes(AnyFields)
        found = gives(answers.QueryResult, "QueryResponse")
        made = gives(answers.ObjectCreated, "ObjectCreationResponse")
        put = gives(answers.ObjectWritten, "ObjectUpdateResponse")
        patched = gives(answers.StoredObject, "ObjectUpdateResponse")
        shown = Content(answers.StoredObject, (JSON_TYPE, "application/*"))
        written, conditions = (200, 201, 409), ("If-Match", "If-None-Match")
        change = "Change fields of an object"
        yield Route("PUT", bucket, self.create, "Create a bucket", (204, 409))
        bucket_shown = gives(answers.Bucket, "BucketRetrievalResponse")
        yield Route("GET", bucket, self.get, "Get a bucket", answer=bucket_shown)
        yield Route("DELETE", bucket, self.delete, "Drop a bucket", (204,))
        yield Route("POST", f"{bucket}/query", self.query, "Query objects", (200,), query, found)
        yield Route("POST", objects, self.create_object, "Create an object", (201,), wanted, made)
        yield Route("GET", one, self.get_object, "Get an object", answer=shown)
        yield Route(
            "PUT",
            one,
            self.put_object,
            "Create or replace an object",
            written,
            wanted,
            put,
            conditions,
        )
        yield Route("PATCH", one, self.patch_object, change, written, wanted, patched, conditions)
        yield Route(
            "DELETE",
            one,
            self.delete_object,
            "Delete an object",
            (204, 409),
            None,
            None,
            conditions,
        )

    async def create(self, request: ApiRequest) -> ApiResponse:
        await self._buckets.create(
            credentials_of(request), scope_of(request), bucket_id_of(request)
        )
        return no_content()

    async def get(self, request: ApiRequest) -> ApiResponse:
        size = await self._buckets.count(
            credentials_of(request), scope_of(request), bucket_id_of(request), {"type": "all"}
        )
        fields = {"bucketType": "rw", "size": size}
        return ApiResponse(200, fields, kii_type("BucketRetrievalResponse"))

    async def delete(self, request: ApiRequest) -> ApiResponse:
        await self._buckets.delete(
            credentials_of(request), scope_of(request), bucket_id_of(request)
        )
        return no_content()

    async def create_object(self, request: ApiRequest) -> ApiResponse:
        item = await self._buckets.create_object(
            credentials_of(request),
            scope_of(request),
            bucket_id_of(request),
            request.json(),
            _data_type(request),
        )
        fields = {
            "objectID": item.object_id,
            "createdAt": item.created_ms,
            "dataType": item.data_type,
        }
        headers = {"location": _location(request, item.object_id), "etag": '"1"'}
        return ApiResponse(201, fields, kii_type("ObjectCreationResponse"), headers)

    async def put_object(self, request: ApiRequest) -> ApiResponse:
        written = await self._buckets.put_object(
            credentials_of(request),
            scope_of(request),
            bucket_id_of(request),
            object_id_of(request),
            request.json(),
            _data_type(request),
            _condition(request),
        )
        item = written.item
        fields = {"createdAt": item.created_ms, "modifiedAt": item.modified_ms}
        return _written(request, written, fields, "ObjectUpdateResponse")

    async def patch_object(self, request: ApiRequest) -> ApiResponse:
        written = await self._buckets.patch_object(
            credentials_of(request),
            scope_of(request),
            bucket_id_of(request),
            object_id_of(request),
            request.json(),
            _condition(request),
        )
        return _written(request, written, rendered(written.item), "ObjectUpdateResponse")

    async def delete_object(self, request: ApiRequest) -> ApiResponse:
        await self._buckets.delete_object(
            credentials_of(request),
            scope_of(request),
            bucket_id_of(request),
            object_id_of(request),
            _condition(request),
        )
        return no_content()

    async def get_object(self, request: ApiRequest) -> ApiResponse:
        item = await self._buckets.get_object(
            credentials_of(request),
            scope_of(request),
            bucket_id_of(request),
            object_id_of(request),
        )
        return ApiResponse(200, rendered(item), item.data_type, {"etag": f'"{item.version}"'})

    async def query(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(QueryRequest)
        query = query_of(body)
        count_name = _count_name(body)
        if count_name is not None:
            count = await self._buckets.count(
                credentials_of(request), scope_of(request), bucket_id_of(request), query.clause
            )
            fields: Json = {"aggregations": {count_name: count}, "results": []}
            return ApiResponse(200, fields, kii_type("QueryResponse"))
        page = await self._buckets.query(
            credentials_of(request), scope_of(request), bucket_id_of(request), query
        )
        fields = {
            "queryDescription": f"WHERE {orjson.dumps(query.clause).decode()}",
            "results": [rendered(item) for item in page.items],
        }
        if page.last_key is not None:
            fields["nextPaginationKey"] = _pagination_key(query, page.last_key)
        return ApiResponse(200, fields, kii_type("QueryResponse"))


def _count_name(body: QueryRequest) -> str | None:
    query = body.bucketQuery
    return query.aggregations[0].putAggregationInto if query and query.aggregations else None


def rendered(item: Object) -> Json:
    """An object as read: the app's fields and the server's own."""
    fields = {
        **orjson.loads(item.document),
        "_id": item.object_id,
        "_owner": item.owner.partition(":")[2],
        "_created": item.created_ms,
        "_modified": item.modified_ms,
        "_version": str(item.version),
    }
    if item.data_type != JSON_TYPE:
        fields["_dataType"] = _short_type(item.data_type)
    return fields


def _short_type(data_type: str) -> str:
    """`score` of `application/vnd.{appID}.score+json`."""
    return data_type.removesuffix("+json").split(".", 2)[-1]


def _written(request: ApiRequest, written: Written, fields: Json, kind: str) -> ApiResponse:
    headers = {"etag": f'"{written.item.version}"'}
    if written.is_new:
        headers["location"] = _location(request, written.item.object_id)
    return ApiResponse(201 if written.is_new else 200, fields, kii_type(kind), headers)


def _location(request: ApiRequest, object_id: str) -> str:
    """Absolute, with the bucket's type prefix as the service wrote it (spec kii 4.1)."""
    parameters = request.parameters
    scope = ""
    for folder, name in (("users", "userID"), ("groups", "groupID"), ("things", "thingID")):
        if name in parameters:
            scope = f"/{folder}/{quote(parameters[name])}"
    bucket_id = bucket_id_of(request)
    return (
        f"{request.base_url}/api/apps/{quote(parameters['appID'])}{scope}"
        f"/buckets/rw:{bucket_id}/objects/{object_id}"
    )


def _data_type(request: ApiRequest) -> str:
    """`application/json`, or the app's own `application/vnd.{appID}.{type}+json`."""
    content_type = request.headers.get("content-type", JSON_TYPE)
    if content_type == JSON_TYPE or len(content_type) > 200:
        return JSON_TYPE
    own = _OWN_TYPE.match(content_type)
    return own[0] if own else JSON_TYPE


def _condition(request: ApiRequest) -> Condition:
    """If-Match and If-None-Match (spec kii 4.3)."""
    if_match = request.headers.get("if-match")
    if_none_match = request.headers.get("if-none-match")
    if if_match is not None and if_none_match is not None:
        raise InvalidRequest("not together with If-None-Match", field="If-Match")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise InvalidRequest("only * is possible", field="If-None-Match")
        return Condition(must_be_absent=True)
    if if_match is None or if_match.strip() == "*":
        return Condition()
    version = _VERSION.fullmatch(if_match.strip())
    if version is None:
        raise InvalidRequest("is not a version of an object", field="If-Match")
    return Condition(version=int(version[1]))


def query_of(body: QueryRequest) -> ObjectQuery:
    """The query of a request's body; raises InvalidRequest for a key that is not ours."""
    query = body.bucketQuery or BucketQuery()
    key = _PAGINATION_KEY.fullmatch(body.paginationKey or "after:0")
    if key is None:
        raise InvalidRequest("is not a key of an earlier answer", field="paginationKey")
    return ObjectQuery(
        clause=query.clause or {"type": "all"},
        limit=min(body.bestEffortLimit or QUERY_LIMIT, QUERY_LIMIT),
        order_by=query.orderBy or ("_created" if query.descending else None),
        is_descending=query.descending is True,
        after_key=int(key[2]) if key[1] == "after" else 0,
        offset=int(key[2]) if key[1] == "offset" else 0,
    )


def _pagination_key(query: ObjectQuery, last_key: int) -> str:
    if query.order_by is None:
        return f"after:{last_key}"
    return f"offset:{query.offset + query.limit}"
