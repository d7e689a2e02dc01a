"""Thing-IF onboarding, over HTTP and over MQTT alike (spec kii 10.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json
from mqttpush.operations.context import ID, Reference
from mqttpush.operations.onboarding import Onboarded, Onboarding, OnboardingDraft
from mqttpush.operations.principals import Principals
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.installations import MqttAddress, render_endpoint, ttl_of
from mqttpush.rest.kii.ownership import owner_of
from mqttpush.rest.kii.wire import (
    APP,
    THING_IF_APP,
    credentials_of,
    gives,
    kii_type,
    no_content,
    takes,
    thing_reference,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Handler, Route

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


class NewVendorThingId(BaseModel):
    """Body of a new name and its password."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    vendor_thing_id: str = Field(alias="_vendorThingID", pattern=r"^[a-zA-Z0-9_.-]{1,200}$")
    password: str = Field(alias="_password", min_length=1, max_length=200)


class ThingPassword(BaseModel):
    """Body of a new password."""

    newPassword: str = Field(min_length=1, max_length=200)  # noqa: N815


class ThingType(BaseModel):
    """Body of PUT …/thing-type."""

    thingType: str = Field(min_length=1, max_length=200)  # noqa: N815


class FirmwareVersion(BaseModel):
    """Body of PUT …/firmware-version."""

    firmwareVersion: str = Field(min_length=1, max_length=200)  # noqa: N815


class OnboardingRoutes:
    """…/onboardings, and what a thing is known by later.

    mqtt_address: where the MQTT server can be reached, known once it runs.
    """

    def __init__(
        self,
        onboarding: Onboarding,
        principals: Principals,
        mqtt_address: Callable[[], MqttAddress],
    ) -> None:
        self._onboarding = onboarding
        self._principals = principals
        self._mqtt_address = mqtt_address

    def table(self) -> Iterator[Route]:
        named = (BY_VENDOR_ID, BY_ID, BY_OWNER_WITH_VENDOR_ID, BY_OWNER_WITH_ID)
        wanted = takes(OnboardingRequest, *named)
        path, answer = f"{THING_IF_APP}/onboardings", Content(answers.Onboarded)
        yield Route("POST", path, self.onboard, "Onboard a thing", (200, 429, 501), wanted, answer)
        yield from self._identity_table()

    def _identity_table(self) -> Iterator[Route]:
        thing = f"{APP}/things/{{thingID}}"
        name, password = f"{thing}/vendor-thing-id", f"{thing}/password"
        new_name = takes(NewVendorThingId, "VendorThingIDUpdateRequest")
        new_password = takes(ThingPassword, "ChangeThingPasswordRequest")
        shown = gives(answers.VendorThingId, "VendorThingIDRetrievalResponse")
        replace = "Give a thing another vendor's ID"
        yield Route("GET", name, self.vendor_thing_id, "Get a thing's vendor ID", answer=shown)
        yield Route("PUT", name, self.rename, replace, (204, 409, 429), new_name)
        yield Route(
            "PUT", password, self.set_password, "Set a thing's password", (204, 429), new_password
        )
        details = f"{THING_IF_APP}/things/{{thingID}}"
        for path, field, shape, code in (
            ("thing-type", "thingType", ThingType, "THING_TYPE"),
            ("firmware-version", "firmwareVersion", FirmwareVersion, "FIRMWARE_VERSION"),
        ):
            what, answer = path.replace("-", " "), Content(shape)
            get, put = self._detail_handlers(field, shape, f"THING_WITHOUT_{code}")
            yield Route("GET", f"{details}/{path}", get, f"Get a thing's {what}", answer=answer)
            yield Route("PUT", f"{details}/{path}", put, f"Set its {what}", (204,), takes(shape))

    def _detail_handlers(
        self, field: str, shape: type[BaseModel], missing_code: str
    ) -> tuple[Handler, Handler]:
        async def get(request: ApiRequest) -> ApiResponse:
            thing = await self._principals.get_thing(credentials_of(request), _named_thing(request))
            value = thing.fields.get(f"_{field}")
            if value is None:
                raise InvalidRequest(f"the thing has no {field}", code=missing_code)
            return ApiResponse(200, {field: value})

        async def put(request: ApiRequest) -> ApiResponse:
            value = getattr(request.parse(shape), field)
            await self._principals.change_thing(
                credentials_of(request), _named_thing(request), {f"_{field}": value}
            )
            return no_content()

        return get, put

    async def vendor_thing_id(self, request: ApiRequest) -> ApiResponse:
        thing = await self._principals.get_thing(credentials_of(request), _named_thing(request))
        fields = {"_vendorThingID": thing.vendor_thing_id}
        return ApiResponse(200, fields, kii_type("VendorThingIDRetrievalResponse"))

    async def rename(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(NewVendorThingId)
        await self._onboarding.rename(
            credentials_of(request), _named_thing(request), body.vendor_thing_id, body.password
        )
        return no_content()

    async def set_password(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(ThingPassword)
        await self._onboarding.set_password(
            credentials_of(request), _named_thing(request), body.newPassword
        )
        return no_content()

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


def _named_thing(request: ApiRequest) -> Reference:
    return thing_reference(request.parameters["thingID"])


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
