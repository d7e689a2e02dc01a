"""Entities of collections (spec kinvey 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from mqttpush.errors import DomainError, InvalidRequest
from mqttpush.models import Json
from mqttpush.operations.entities import Entities, Stored, check_name
from mqttpush.rest.kinvey import answers
from mqttpush.rest.kinvey.errors import render_error
from mqttpush.rest.kinvey.pipeline import USER_COLLECTION, Hooked, Operation, Pipeline
from mqttpush.rest.kinvey.queries import PARAMETERS, fields_of, query_of
from mqttpush.rest.kinvey.users import UserRoutes
from mqttpush.rest.kinvey.wire import MASTER_ONLY, USER_OR_MASTER, Gate, Visit, out_of_range
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Handler, Route

MANY_LIMIT: Final = 100  # entities of one POST (spec kinvey 11)
# The first version of the API in which one POST may make several.
_MANY_VERSION: Final = 5
# Up to this version a POST with the `_id` of an entity replaces it.
_REPLACING_VERSION: Final = 2
_DELTA: Final = "_deltaset"


class AppdataRoutes:
    """/appdata/:appKey/:collection. users: answers reads of the collection `user`."""

    def __init__(
        self, gate: Gate, pipeline: Pipeline, entities: Entities, users: UserRoutes
    ) -> None:
        self._gate = gate
        self._pipeline = pipeline
        self._entities = entities
        self._users = users

    def table(self) -> Iterator[Route]:
        several = "/appdata/{appKey}/{collection}"
        one, hooked = f"{several}/{{entityID}}", 550
        taken, count = Content(dict[str, Any]), Content(answers.KinveyCount)
        shown, found = Content(answers.KinveyEntity), Content(list[answers.KinveyEntity])
        query = ("query",)

        def route(
            method: str, path: str, handler: Handler, summary: str, *statuses: int, **more: Any
        ) -> Route:
            return Route(method, path, handler, summary, (*statuses, hooked), **more)

        yield route(
            "POST",
            several,
            self.create,
            "Create an entity, or several",
            201,
            207,
            409,
            body=Content(dict[str, Any] | list[dict[str, Any]]),
            answer=Content(answers.KinveyEntity | answers.KinveyEntities),
        )
        find, put = "Find entities", "Replace or create an entity"
        yield route("GET", several, self.find, find, 200, answer=found, parameters=PARAMETERS)
        counted = f"{several}/_count"
        tally = "Count entities"
        yield route("GET", counted, self.count, tally, 200, answer=count, parameters=query)
        yield route("GET", one, self.get, "Get an entity", 200, answer=shown)
        yield route("PUT", one, self.put, put, 200, 201, body=taken, answer=shown)
        yield route("DELETE", one, self.delete, "Delete an entity", 200, answer=count)
        matching, many = self.delete_matching, "Delete entities"
        yield route("DELETE", several, matching, many, 200, answer=count, parameters=query)
        drop, path = "Drop a collection with everything in it", "/rpc/{appKey}/remove-collection"
        yield Route("POST", path, self.remove, drop, (200,), taken, count)

    async def create(self, request: ApiRequest) -> ApiResponse:
        visit, collection = await self._enter_to_write(request)
        body = visit.body()
        is_one = isinstance(body, dict)
        if not is_one:
            _check_many(visit, body)

        async def verb(hooked: Hooked) -> ApiResponse:
            if isinstance(hooked.body, list):
                return await self._create_many(visit, collection, hooked.body)
            if not isinstance(hooked.body, dict):
                raise InvalidRequest("an entity is an object", code="IncompleteRequestBody")
            may_replace = visit.version <= _REPLACING_VERSION
            stored = await self._entities.create(
                visit.credentials, collection, hooked.body, may_replace=may_replace
            )
            return _made(request, collection, stored)

        hooked = Hooked(visit, body, request.query)
        return await self._pipeline.run_hooked(hooked, collection, Operation.INSERT, verb)

    async def _create_many(self, visit: Visit, collection: str, body: list[Any]) -> ApiResponse:
        results = await self._entities.create_many(visit.credentials, collection, body)
        entities = [each.entity if isinstance(each, Stored) else None for each in results]
        errors = [
            {"index": index, **_told(each)}
            for index, each in enumerate(results)
            if not isinstance(each, Stored)
        ]
        return ApiResponse(207 if errors else 201, {"entities": entities, "errors": errors})

    async def find(self, request: ApiRequest) -> ApiResponse:
        visit, collection = await self._enter(request)
        if collection == USER_COLLECTION:
            return await self._users.find(request)

        async def verb(hooked: Hooked) -> ApiResponse:
            found = await self._entities.find(
                visit.credentials, collection, query_of(hooked.query), fields_of(hooked.query)
            )
            return ApiResponse(200, found)

        hooked = Hooked(visit, None, request.query)
        return await self._pipeline.run_hooked(hooked, collection, Operation.FETCH, verb)

    async def count(self, request: ApiRequest) -> ApiResponse:
        visit, collection = await self._enter(request)
        if collection == USER_COLLECTION:
            return await self._users.count(request)

        async def verb(hooked: Hooked) -> ApiResponse:
            query = query_of(hooked.query)
            return _counted(await self._entities.count(visit.credentials, collection, query))

        hooked = Hooked(visit, None, request.query)
        return await self._pipeline.run_hooked(hooked, collection, Operation.FETCH, verb)

    async def get(self, request: ApiRequest) -> ApiResponse:
        visit, collection = await self._enter(request)
        entity_id = request.parameters["entityID"]
        if entity_id == _DELTA:
            # As of a collection without delta sets: shipped libraries then read it whole.
            raise InvalidRequest("there are no delta sets", code="MissingConfiguration")
        if collection == USER_COLLECTION:
            request.parameters = {**request.parameters, "id": entity_id}
            return await self._users.get(request)

        async def verb(hooked: Hooked) -> ApiResponse:
            entity = await self._entities.get(visit.credentials, collection, entity_id)
            return ApiResponse(200, entity)

        hooked = Hooked(visit, None, request.query, entity_id)
        return await self._pipeline.run_hooked(hooked, collection, Operation.FETCH, verb)

    async def put(self, request: ApiRequest) -> ApiResponse:
        visit, collection = await self._enter_to_write(request)
        entity_id = request.parameters["entityID"]

        async def verb(hooked: Hooked) -> ApiResponse:
            if not isinstance(hooked.body, dict):
                raise InvalidRequest("an entity is an object", code="IncompleteRequestBody")
            stored = await self._entities.put(visit.credentials, collection, entity_id, hooked.body)
            if stored.is_new:
                return _made(request, collection, stored)
            return ApiResponse(200, stored.entity)

        hooked = Hooked(visit, visit.object(), request.query, entity_id)
        return await self._pipeline.run_hooked(hooked, collection, Operation.UPDATE, verb)

    async def delete(self, request: ApiRequest) -> ApiResponse:
        visit, collection = await self._enter_to_write(request)
        entity_id = request.parameters["entityID"]

        async def verb(hooked: Hooked) -> ApiResponse:
            await self._entities.delete(visit.credentials, collection, entity_id)
            return _counted(1)

        hooked = Hooked(visit, None, request.query, entity_id)
        return await self._pipeline.run_hooked(hooked, collection, Operation.DELETE, verb)

    async def delete_matching(self, request: ApiRequest) -> ApiResponse:
        visit, collection = await self._enter_to_write(request)

        async def verb(hooked: Hooked) -> ApiResponse:
            _require_query(hooked.query)
            query = query_of(hooked.query)
            count = await self._entities.delete_matching(visit.credentials, collection, query)
            return _counted(count)

        hooked = Hooked(visit, None, request.query)
        return await self._pipeline.run_hooked(hooked, collection, Operation.DELETE, verb)

    async def remove(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, MASTER_ONLY)
        if request.headers.get("x-kinvey-delete-entire-collection", "").lower() != "true":
            problem = "X-Kinvey-Delete-Entire-Collection: true"
            raise InvalidRequest(problem, code="MissingRequestHeader")
        name = visit.object().get("collectionName")
        if not isinstance(name, str):
            raise InvalidRequest("a text", field="collectionName", code="MissingRequestParameter")
        _refuse_users(name)
        return _counted(await self._entities.remove_collection(visit.credentials, name))

    async def _enter(self, request: ApiRequest) -> tuple[Visit, str]:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        collection = request.parameters["collection"]
        check_name(collection)
        return visit, collection

    async def _enter_to_write(self, request: ApiRequest) -> tuple[Visit, str]:
        visit, collection = await self._enter(request)
        _refuse_users(collection)
        return visit, collection


def _refuse_users(collection: str) -> None:
    if collection == USER_COLLECTION:
        raise InvalidRequest("write to /user", code="IndirectCollectionAccessDisallowed")


def _check_many(visit: Visit, body: object) -> None:
    if not isinstance(body, list):
        raise InvalidRequest("an entity is an object", code="IncompleteRequestBody")
    if visit.version < _MANY_VERSION:
        problem = f"several entities at once need API version {_MANY_VERSION}"
        raise InvalidRequest(problem, code="FeatureUnavailable")
    if not 1 <= len(body) <= MANY_LIMIT:
        raise out_of_range(f"1 to {MANY_LIMIT} entities at once", "body")


def _require_query(query: Mapping[str, str]) -> None:
    if query.get("query", "").strip() in ("", "null"):
        raise InvalidRequest("to delete all, say query={}", code="MissingQuery")


def _made(request: ApiRequest, collection: str, stored: Stored) -> ApiResponse:
    app_id, entity_id = request.parameters["appKey"], quote(stored.entity["_id"], safe="")
    location = f"{request.base_url}/appdata/{app_id}/{collection}/{entity_id}"
    return ApiResponse(201, stored.entity, headers={"location": location})


def _counted(count: int) -> ApiResponse:
    return ApiResponse(200, {"count": count})


def _told(error: DomainError) -> Json:
    body = render_error(error).body
    assert isinstance(body, dict)
    return body
