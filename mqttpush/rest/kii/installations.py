"""Installations and their MQTT endpoints (spec kii 2 and 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from mqttpush.errors import InvalidRequest
from mqttpush.models import NEVER_MS, DeviceType, Installation, Json, PrincipalKind
from mqttpush.operations.context import Reference
from mqttpush.operations.installations import (
    EndpointView,
    InstallationDraft,
    InstallationReference,
    Installations,
)
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    credentials_of,
    gives,
    kii_type,
    no_content,
    takes,
    thing_reference,
    user_reference,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Route

NEVER_TTL_S: Final = 2_147_483_647  # the value the service sent for "never" (spec kii 3.1)


@dataclass(frozen=True, slots=True)
class MqttAddress:
    """What clients are told. host: empty for "the host you asked"; port 0: listener is off."""

    host: str
    tcp_port: int
    tls_port: int
    ws_port: int
    wss_port: int


_Token = Annotated[str, Field(max_length=4096)]


class InstallationCreation(BaseModel):
    """Body of POST …/installations."""

    model_config = ConfigDict(extra="ignore")

    # The service took the other name too, and a client library of it uses that.
    deviceType: DeviceType = Field(  # noqa: N815
        validation_alias=AliasChoices("deviceType", "installationType")
    )
    installationRegistrationID: _Token | dict[str, Any] | None = Field(  # noqa: N815
        None, description="the network's device token; for WEBPUSH the browser's subscription"
    )
    # A shipping client sends the words (spec kii 0.2.9); null means production.
    development: Annotated[bool, BeforeValidator(lambda value: value or False)] = False
    userID: str | None = Field(None, max_length=200)  # noqa: N815
    thingID: str | None = Field(None, max_length=300)  # noqa: N815


class InstallationRoutes:
    """…/installations. mqtt_address: where the MQTT server can be reached, known once it runs."""

    def __init__(
        self, installations: Installations, mqtt_address: Callable[[], MqttAddress]
    ) -> None:
        self._installations = installations
        self._mqtt_address = mqtt_address

    def table(self) -> Iterator[Route]:
        base = f"{APP}/installations"
        one = f"{base}/{{installationID}}"
        endpoint = f"{one}/mqtt-endpoint"
        wanted = takes(InstallationCreation, "InstallationCreationRequest")
        made = gives(answers.InstallationCreated, "InstallationCreationResponse")
        shown = gives(answers.Installation, "InstallationRetrievalResponse")
        listed = gives(answers.Installations, "InstallationsRetrievalResponse")
        told = gives(answers.MqttEndpoint, "MQTTEndpointResponse")
        whose = ("ofUser", "ofThing")
        yield Route("POST", base, self.create, "Install a device", (201, 429), wanted, made)
        yield Route(
            "GET", base, self.list_visible, "List installations", answer=listed, parameters=whose
        )
        yield Route("GET", one, self.get, "Get an installation", answer=shown)
        yield Route("DELETE", one, self.delete, "Uninstall", (204,))
        yield Route("GET", endpoint, self.mqtt_endpoint, "Get MQTT credentials", answer=told)

    async def create(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(InstallationCreation)
        draft = InstallationDraft(
            device_type=body.deviceType,
            registration_id=_token(body),
            is_development=body.development,
            owner=_named_owner(body.userID, body.thingID),
        )
        made = await self._installations.create(credentials_of(request), draft)
        location = (
            f"{request.base_url}/api/apps/{made.owner.app_id}/installations/{made.installation_id}"
        )
        fields = {
            "installationID": made.installation_id,
            "installationRegistrationID": made.registration_id,
        }
        kind = kii_type("InstallationCreationResponse")
        return ApiResponse(201, fields, kind, {"location": location})

    async def get(self, request: ApiRequest) -> ApiResponse:
        found = await self._installations.get(credentials_of(request), _reference(request))
        return ApiResponse(200, _rendered(found), kii_type("InstallationRetrievalResponse"))

    async def delete(self, request: ApiRequest) -> ApiResponse:
        await self._installations.delete(credentials_of(request), _reference(request))
        return no_content()

    async def list_visible(self, request: ApiRequest) -> ApiResponse:
        owner = _named_owner(request.query.get("userID"), request.query.get("thingID"))
        found = await self._installations.list_visible(credentials_of(request), owner)
        fields = {"installations": [_rendered(installation) for installation in found]}
        return ApiResponse(200, fields, kii_type("InstallationsRetrievalResponse"))

    async def mqtt_endpoint(self, request: ApiRequest) -> ApiResponse:
        installation_id = request.parameters["installationID"]
        view = await self._installations.mqtt_endpoint(credentials_of(request), installation_id)
        fields = render_endpoint(view, self._mqtt_address(), request.base_url)
        ttl_s = ttl_of(view)
        fields["X-MQTT-TTL"] = ttl_s
        headers = {"x-mqtt-ttl": str(ttl_s)}
        return ApiResponse(200, fields, kii_type("MQTTEndpointResponse"), headers)


def render_endpoint(view: EndpointView, address: MqttAddress, base_url: str) -> Json:
    """The endpoint's fields, without its time to live: REST and onboarding name that apart."""
    return {
        "installationID": view.endpoint.installation_id,
        "username": view.endpoint.username,
        "password": view.password,
        "mqttTopic": view.endpoint.mqtt_topic,
        "host": address.host or urlsplit(base_url).hostname or "localhost",
        "portTCP": address.tcp_port,
        "portSSL": address.tls_port,
        "portWS": address.ws_port,
        "portWSS": address.wss_port,
    }


def ttl_of(view: EndpointView) -> int:
    """Seconds until the topic stops being valid."""
    if view.endpoint.expires_ms == NEVER_MS:
        return NEVER_TTL_S
    return max(0, (view.endpoint.expires_ms - view.now_ms) // 1000)


def _token(body: InstallationCreation) -> str | None:
    """A browser's subscription may come as it is, or as a text of JSON."""
    token = body.installationRegistrationID
    if not isinstance(token, dict):
        return token
    if body.deviceType is not DeviceType.WEBPUSH:
        raise InvalidRequest("must be a text", field="installationRegistrationID")
    return orjson.dumps(token).decode()


def _named_owner(
    user_id: str | None, thing_id: str | None
) -> tuple[PrincipalKind, Reference] | None:
    if user_id is not None and thing_id is not None:
        raise InvalidRequest("name userID or thingID, not both", field="userID")
    if user_id is not None:
        return PrincipalKind.USER, user_reference(user_id)
    if thing_id is not None:
        return PrincipalKind.THING, thing_reference(thing_id)
    return None


def _reference(request: ApiRequest) -> InstallationReference:
    """`{installationID}` or `{deviceType}:{installationRegistrationID}`."""
    text = request.parameters["installationID"]
    kind, colon, registration_id = text.partition(":")
    if colon and kind.upper() in DeviceType.__members__:
        return InstallationReference("", DeviceType(kind.upper()), registration_id)
    return InstallationReference(text)


def _rendered(installation: Installation) -> Json:
    owner = installation.owner
    fields = {
        "installationID": installation.installation_id,
        "installationRegistrationID": installation.registration_id,
        "deviceType": installation.device_type.value,
        f"{owner.kind}ID": owner.id,
        "development": installation.is_development,
    }
    if installation.problem:
        fields["problem"] = installation.problem
    return fields
