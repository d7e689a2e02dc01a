"""Thing-IF onboarding, over HTTP and over MQTT alike (spec kii 10.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json
from mqttpush.operations.context import ID, Reference
from mqttpush.operations.onboarding import Onboarded, Onboarding, OnboardingDraft
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.installations import MqttAddress, render_endpoint, ttl_of
from mqttpush.rest.kii.ownership import owner_of
from mqttpush.rest.kii.wire import THING_IF_APP, credentials_of, takes
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

BY_VENDOR_ID: Final = "OnboardingWithVendorThingIDByThing"
BY_ID: Final = "OnboardingWithThingIDByThing"
BY_OWNER_WITH_VENDOR_ID: Final = "OnboardingWithVendorThingIDByOwner"
BY_OWNER_WITH_ID: Final = "OnboardingWithThingIDByOwner"
_END_NODE: Final = "onboardingendnode"


class OnboardingRequest(BaseModel):
    """Body of an onboarding. Which fields must be there follows from the content type, and where
    that is plain JSON, from the fields themselves."""

    model_config = ConfigDict(extra="ignore")

    vendorThingID: str | None = Field(None, pattern=r"^[a-zA-Z0-9_.-]{1,200}$")  # noqa: N815
    thingID: str | None = Field(None, max_length=200)  # noqa: N815
    thingPassword: str = Field(min_length=1, max_length=200)  # noqa: N815
    owner: str | None = Field(None, max_length=200)
    thingType: str | None = Field(None, max_length=200)  # noqa: N815
    firmwareVersion: str | None = Field(None, max_length=200)  # noqa: N815
    layoutPosition: str | None = Field(None, pattern="^(STANDALONE|GATEWAY|ENDNODE)$")  # noqa: N815
    thingProperties: dict[str, Any] = Field(default_factory=dict)  # noqa: N815


class OnboardingRoutes:
    """…/onboardings. mqtt_address: where the MQTT server can be reached, known once it runs."""

    def __init__(self, onboarding: Onboarding, mqtt_address: Callable[[], MqttAddress]) -> None:
        self._onboarding = onboarding
        self._mqtt_address = mqtt_address

    def table(self) -> Iterator[Route]:
        named = (BY_VENDOR_ID, BY_ID, BY_OWNER_WITH_VENDOR_ID, BY_OWNER_WITH_ID)
        wanted = takes(OnboardingRequest, *named)
        path, answer = f"{THING_IF_APP}/onboardings", Content(answers.Onboarded)
        yield Route("POST", path, self.onboard, "Onboard a thing", (200, 429, 501), wanted, answer)

    async def onboard(self, request: ApiRequest) -> ApiResponse:
        """By the thing itself, or by the user who will own it."""
        if _END_NODE in request.content_type:
            raise InvalidRequest("end nodes are not supported", code="OPERATION_NOT_IMPLEMENTED")
        body = request.parse(OnboardingRequest)
        draft = OnboardingDraft(
            thing=_thing(request, body),
            password=body.thingPassword,
            owner=_owner(request, body),
            fields=_fields(body),
        )
        onboarded = await self._onboarding.onboard(credentials_of(request), draft)
        return ApiResponse(200, self._rendered(request, onboarded))

    def _rendered(self, request: ApiRequest, onboarded: Onboarded) -> Json:
        view = onboarded.view
        endpoint = render_endpoint(view, self._mqtt_address(), request.base_url)
        return {
            "accessToken": onboarded.token,
            "thingID": onboarded.thing_id,
            "mqttEndpoint": {**endpoint, "ttl": ttl_of(view)},
        }


def _is_named(request: ApiRequest, *names: str) -> bool:
    return any(name.lower() in request.content_type for name in names)


def _thing(request: ApiRequest, body: OnboardingRequest) -> Reference:
    if _is_named(request, BY_ID, BY_OWNER_WITH_ID) or (
        body.vendorThingID is None and not _is_named(request, "VendorThingID")
    ):
        if body.thingID is None:
            raise InvalidRequest("is required", field="thingID")
        return Reference(ID, body.thingID)
    if body.vendorThingID is None:
        raise InvalidRequest("is required", field="vendorThingID")
    return Reference("vendor_thing_id", body.vendorThingID)


def _owner(request: ApiRequest, body: OnboardingRequest) -> Any:
    if _is_named(request, BY_VENDOR_ID, BY_ID):
        return None
    if body.owner is not None:
        return owner_of(body.owner)
    if _is_named(request, BY_OWNER_WITH_VENDOR_ID, BY_OWNER_WITH_ID):
        raise InvalidRequest("is required", field="owner")
    return None


def _fields(body: OnboardingRequest) -> Json:
    given = {
        "_thingType": body.thingType,
        "_firmwareVersion": body.firmwareVersion,
        "_layoutPosition": body.layoutPosition,
    }
    fixed = {key for key in body.thingProperties if key in ("_thingID", "_vendorThingID")}
    properties = {k: v for k, v in body.thingProperties.items() if k not in fixed}
    return {**properties, **{key: value for key, value in given.items() if value is not None}}
