"""Credentials of push networks, for the app's administrator and pages (an extension).

Owns the paths and how a network's verdict is told. Secrets come in and never go out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from mqttpush.models import Json
from mqttpush.operations.networks import Networks, NetworkView
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import APP, AnyFields, credentials_of, gives, no_content, takes
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Route


class NetworkTest(BaseModel):
    """Body of POST …/networks/{network}/test."""

    model_config = ConfigDict(extra="ignore")

    token: str | None = Field(
        None, max_length=4096, description="of a device, to have it checked as well"
    )


@dataclass(frozen=True, slots=True)
class NetworkRoutes:
    """…/networks."""

    networks: Networks

    def table(self) -> Iterator[Route]:
        base = f"{APP}/networks"
        one = f"{base}/{{network}}"
        fields = takes(AnyFields)
        shown = gives(answers.NetworkCredentials)
        listed = gives(answers.NetworksOfApp)
        verdict = gives(answers.NetworkVerdict)
        tried = takes(NetworkTest)
        yield Route("GET", base, self.list, "List push networks", answer=listed)
        yield Route("GET", one, self.get, "Get a push network", answer=shown)
        yield Route("PUT", one, self.set, "Set its credentials", (200,), fields, shown)
        yield Route("DELETE", one, self.delete, "Delete its credentials", (204,))
        key = gives(answers.PublicKey)
        yield Route("GET", f"{one}/public-key", self.public_key, "Get its public key", answer=key)
        yield Route("POST", f"{one}/test", self.test, "Ask it about them", (200,), tried, verdict)

    async def list(self, request: ApiRequest) -> ApiResponse:
        found = await self.networks.list(credentials_of(request))
        return ApiResponse(200, {"networks": [_rendered(view) for view in found]})

    async def get(self, request: ApiRequest) -> ApiResponse:
        view = await self.networks.get(credentials_of(request), request.parameters["network"])
        return ApiResponse(200, _rendered(view))

    async def public_key(self, request: ApiRequest) -> ApiResponse:
        network = request.parameters["network"]
        key = await self.networks.public_key(credentials_of(request), network)
        return ApiResponse(200, {"publicKey": key})

    async def set(self, request: ApiRequest) -> ApiResponse:
        fields = request.parse(AnyFields).model_extra or {}
        network = request.parameters["network"]
        view = await self.networks.set(credentials_of(request), network, fields)
        return ApiResponse(200, _rendered(view))

    async def delete(self, request: ApiRequest) -> ApiResponse:
        await self.networks.delete(credentials_of(request), request.parameters["network"])
        return no_content()

    async def test(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(NetworkTest)
        network = request.parameters["network"]
        sent = await self.networks.test(credentials_of(request), network, body.token)
        fields: Json = {"accepted": sent.ending == "delivered", "code": sent.code}
        if sent.ending is not None:
            fields["ending"] = sent.ending.value
        if sent.detail:
            fields["detail"] = sent.detail
        return ApiResponse(200, fields)


def _rendered(view: NetworkView) -> Json:
    fields: Json = {
        "network": view.network,
        "summary": dict(view.summary),
        "changedAt": view.changed_ms,
    }
    if view.problem:
        fields["problem"] = view.problem
    return fields
