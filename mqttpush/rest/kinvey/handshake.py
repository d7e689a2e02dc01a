"""The handshake: does the server answer, and are the credentials good (spec kinvey 1)?"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from mqttpush.operations.environments import Environments
from mqttpush.rest.kinvey import answers
from mqttpush.rest.kinvey.wire import Gate
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route


class HandshakeRoutes:
    """GET /appdata/:appKey."""

    def __init__(self, gate: Gate, environments: Environments) -> None:
        self._gate = gate
        self._environments = environments

    def table(self) -> Iterator[Route]:
        path, shown = "/appdata/{appKey}", Content(answers.KinveyHandshake)
        yield Route("GET", path, self.greet, "Are the credentials good?", answer=shown)

    async def greet(self, request: ApiRequest) -> ApiResponse:
        visit = await self._gate.enter(request)
        app = await self._environments.app(visit.credentials)
        answer = answers.KinveyHandshake(
            version=version("mqttpush"),
            kinvey=f"hello {app.name}",
            appName=app.name,
            environmentName=app.app_id,
        )
        return ApiResponse(200, answer)
