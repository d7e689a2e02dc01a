"""Custom endpoints: code of the app's own behind a path (spec kinvey 8.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json
from mqttpush.operations.business_logic import Exchange
from mqttpush.operations.running import Running
from mqttpush.rest.kinvey.pipeline import asker_of, response_of
from mqttpush.rest.kinvey.wire import JSON_TYPE, MASTER_ONLY, USER_OR_MASTER, Gate
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


_MAIL_FIELDS: Final = ("from", "to", "subject", "body", "replyTo", "html", "cc", "bcc")


class EndpointRoutes:
    """POST /rpc/:appKey/custom/:endpoint, and send-email for services."""

    def __init__(self, gate: Gate, running: Running) -> None:
        self._gate = gate
        self._business_logic = running.business_logic
        self._host = running.host

    def table(self) -> Iterator[Route]:
        path = "/rpc/{appKey}/custom/{endpoint}"
        any_json = Content(Json, (JSON_TYPE,))
        # Its code may answer with any status; these are the usual ones.
        statuses = (200, 550)
        yield Route("POST", path, self.run, "Run a custom endpoint", statuses, any_json, any_json)
        mail = "/rpc/{appKey}/send-email"
        yield Route("POST", mail, self.send_email, "Send a mail", (200,), any_json, any_json)

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
        return response_of(answer)

    async def send_email(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request, MASTER_ONLY)
        fields = visit.object()
        await self._host.send_email(visit.credentials, [fields.get(name) for name in _MAIL_FIELDS])
        return ApiResponse(200, {})
