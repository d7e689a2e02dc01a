"""Custom endpoints: code of the app's own behind a path (spec kinvey 8.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json
from mqttpush.operations.business_logic import BusinessLogic, Exchange
from mqttpush.rest.kinvey.pipeline import asker_of
from mqttpush.rest.kinvey.wire import JSON_TYPE, USER_OR_MASTER, Gate
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class EndpointRoutes:
    """POST /rpc/:appKey/custom/:endpoint."""

    def __init__(self, gate: Gate, business_logic: BusinessLogic) -> None:
        self._gate = gate
        self._business_logic = business_logic

    def table(self) -> Iterator[Route]:
        path = "/rpc/{appKey}/custom/{endpoint}"
        any_json = Content(Json, (JSON_TYPE,))
        # Its code may answer with any status; these are the usual ones.
        statuses = (200, 550)
        yield Route("POST", path, self.run, "Run a custom endpoint", statuses, any_json, any_json)

    async def run(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, USER_OR_MASTER)
        name = request.parameters["endpoint"]
        if not NAME.fullmatch(name):
            raise InvalidRequest("is no name of an endpoint", code="InvalidIdentifier")
        exchange = Exchange(
            "POST",
            name,
            visit.body() if request.body else {},
            dict(request.query),
            properties=visit.custom_properties,
            client_app_version=request.headers.get("x-kinvey-client-app-version"),
        )
        answer = await self._business_logic.endpoint(asker_of(visit), exchange)
        return ApiResponse(answer.status, answer.body)
