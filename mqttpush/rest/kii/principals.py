"""Users and things: sign up, register, look at, delete (spec kii 1.3, 1.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from mqttpush.errors import InvalidRequest
from mqttpush.models import Json, Thing, User
from mqttpush.operations.context import Reference
from mqttpush.operations.principals import Principals, ThingDraft, UserDraft
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    AnyFields,
    credentials_of,
    gives,
    is_kii_type,
    kii_type,
    no_content,
    takes,
    thing_reference,
    unique_number,
    user_reference,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

CUSTOM_FIELDS_LIMIT_BYTES: Final = 63 * 1024  # spec kii 12
_PUBLIC_USER_FIELDS: Final = ("userID", "loginName", "displayName", "_disabled")
# What a change leaves alone if it does not name it; an app's own field that it omits is gone.
_PREDEFINED_USER_FIELDS: Final = frozenset({"displayName", "country", "locale"})
# What a client sends back as it was told; only the server says these.
_FIXED_USER_FIELDS: Final = frozenset(
    {"userID", "internalUserID", "emailAddressVerified", "phoneNumberVerified"}
)
_FIXED_THING_FIELDS: Final = frozenset(
    {"_thingID", "_vendorThingID", "_password", "_created", "_disabled", "_accessToken"}
)


class UserRegistration(BaseModel):
    """Body of a sign-up; other fields are the app's own."""

    model_config = ConfigDict(extra="allow")

    loginName: str | None = Field(None, pattern=r"^[a-zA-Z0-9_.-]{3,64}$")  # noqa: N815
    emailAddress: str | None = Field(None, pattern=r"^[^@\s:]+@[^@\s]+$", max_length=200)  # noqa: N815
    phoneNumber: str | None = Field(None, pattern=r"^[+0-9A-Z-]{3,40}$")  # noqa: N815
    country: str | None = Field(None, pattern=r"^[A-Z]{2}$")
    password: str | None = Field(None, min_length=4, max_length=50)


class ThingRegistration(BaseModel):
    """Body of a thing's registration; other fields are kept as given."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    vendor_thing_id: str = Field(alias="_vendorThingID", pattern=r"^[a-zA-Z0-9_.-]{1,200}$")
    password: str = Field(alias="_password", min_length=1, max_length=200)


class PasswordChange(BaseModel):
    """Body of PUT …/password; the admin needs no old one."""

    oldPassword: str | None = Field(None, max_length=50)  # noqa: N815
    newPassword: str = Field(min_length=4, max_length=50)  # noqa: N815


class Status(BaseModel):
    """Body of PUT …/status."""

    disabled: bool


class PrincipalRoutes:
    """…/users and …/things."""

    def __init__(self, principals: Principals) -> None:
        self._principals = principals

    def table(self) -> Iterator[Route]:
        yield from self._user_table()
        yield from self._thing_table()

    def _user_table(self) -> Iterator[Route]:
        users = f"{APP}/users"
        one = f"{users}/{{userID}}"
        status, disabled = f"{one}/status", Content(answers.Disabled)
        named = ("RegistrationRequest", "RegistrationAndAuthorizationRequest")
        wanted, changes = takes(UserRegistration, *named), takes(UserRegistration)
        made = gives(answers.User, "RegistrationResponse", "RegistrationAndAuthorizationResponse")
        shown = gives(answers.User, "UserDataRetrievalResponse")
        changed = gives(answers.User, "UserUpdateResponse")
        yield Route(
            "POST", users, self.create_user, "Sign up a user", (201, 409, 429), wanted, made
        )
        yield Route("GET", one, self.get_user, "Get a user", answer=shown)
        yield Route(
            "PATCH", one, self.change_user, "Change a user", (200, 409, 429), changes, changed
        )
        # The service's libraries change a user by POST, and an address by a path of its own.
        yield Route(
            "POST",
            one,
            self.replace_user,
            "Change a user and replace the app's own fields",
            (200, 409, 429),
            changes,
            changed,
        )
        for address, name in (("email-address", "e-mail address"), ("phone-number", "number")):
            path = f"{one}/{address}"
            yield Route("PUT", path, self.change_address, f"Set the {name}", (204, 409), changes)
        yield Route("DELETE", one, self.delete_user, "Delete a user", (204,))
        new_password, new_status = takes(PasswordChange), takes(Status)
        put = f"{one}/password"
        yield Route("PUT", put, self.change_password, "Set a password", (204, 429), new_password)
        yield Route("GET", status, self.user_status, "Is the user disabled?", answer=disabled)
        yield Route("PUT", status, self.set_user_status, "Disable a user", (204,), new_status)

    def _thing_table(self) -> Iterator[Route]:
        things = f"{APP}/things"
        one = f"{things}/{{thingID}}"
        status, disabled = f"{one}/status", Content(answers.Disabled)
        named = ("ThingRegistrationRequest", "ThingRegistrationAndAuthorizationRequest")
        wanted = takes(ThingRegistration, *named)
        made = gives(
            answers.Thing, "ThingRegistrationResponse", "ThingRegistrationAndAuthorizationResponse"
        )
        shown = gives(answers.Thing, "ThingRetrievalResponse")
        changed = gives(answers.Thing, "ThingUpdateResponse")
        yield Route(
            "POST", things, self.create_thing, "Register a thing", (201, 409, 429), wanted, made
        )
        yield Route("GET", one, self.get_thing, "Get a thing", answer=shown)
        yield Route(
            "PATCH", one, self.change_thing, "Change a thing", (200,), takes(AnyFields), changed
        )
        yield Route("DELETE", one, self.delete_thing, "Delete a thing", (204,))
        new_status = takes(Status, "ThingStatusUpdateRequest")
        yield Route("GET", status, self.thing_status, "Is the thing disabled?", answer=disabled)
        yield Route("PUT", status, self.set_thing_status, "Disable a thing", (204,), new_status)

    async def create_user(self, request: ApiRequest) -> ApiResponse:
        """The content type says whether a token comes back; a body without a name does too."""
        body = request.parse(UserRegistration)
        has_name = any((body.loginName, body.emailAddress, body.phoneNumber))
        if has_name and body.password is None:
            raise InvalidRequest("is required with a name", field="password")
        if body.password is not None and not has_name:
            raise InvalidRequest("is required with a password", field="loginName")
        wants_token = not has_name or is_kii_type(request, "RegistrationAndAuthorizationRequest")
        user, token = await self._principals.create_user(
            credentials_of(request), _draft(body), with_token=wants_token
        )
        fields = _user_fields(user)
        if token is not None:
            fields["_accessToken"] = token
        kind = "RegistrationAndAuthorizationResponse" if token else "RegistrationResponse"
        location = f"{request.base_url}/api/apps/{user.app_id}/users/{user.user_id}"
        return ApiResponse(201, fields, kii_type(kind), {"location": location})

    async def get_user(self, request: ApiRequest) -> ApiResponse:
        """Others see who a user is, not what he keeps."""
        user, is_whole = await self._principals.see_user(credentials_of(request), _user(request))
        fields = _user_fields(user)
        if not is_whole:
            fields = {name: fields[name] for name in _PUBLIC_USER_FIELDS if name in fields}
        return ApiResponse(200, fields, kii_type("UserDataRetrievalResponse"))

    async def delete_user(self, request: ApiRequest) -> ApiResponse:
        await self._principals.delete_user(credentials_of(request), _user(request))
        return no_content()

    async def create_thing(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(ThingRegistration)
        wants_token = is_kii_type(request, "ThingRegistrationAndAuthorizationRequest")
        draft = ThingDraft(body.vendor_thing_id, body.password, _custom_fields(body))
        thing, token = await self._principals.create_thing(
            credentials_of(request), draft, with_token=wants_token
        )
        fields = _thing_fields(thing)
        if token is not None:
            fields["_accessToken"] = token
        kind = "ThingRegistrationAndAuthorizationResponse" if token else "ThingRegistrationResponse"
        location = f"{request.base_url}/api/apps/{thing.app_id}/things/{thing.thing_id}"
        return ApiResponse(201, fields, kii_type(kind), {"location": location})

    async def get_thing(self, request: ApiRequest) -> ApiResponse:
        thing = await self._principals.get_thing(credentials_of(request), _thing(request))
        return ApiResponse(200, _thing_fields(thing), kii_type("ThingRetrievalResponse"))

    async def delete_thing(self, request: ApiRequest) -> ApiResponse:
        await self._principals.delete_thing(credentials_of(request), _thing(request))
        return no_content()

    async def change_user(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(UserRegistration)
        user = await self._principals.change_user(
            credentials_of(request), _user(request), _draft(body)
        )
        return _changed(user)

    async def replace_user(self, request: ApiRequest) -> ApiResponse:
        """An own field that the body omits is gone; what is predefined stays."""
        body = request.parse(UserRegistration)
        user = await self._principals.change_user(
            credentials_of(request), _user(request), _draft(body), is_kept=_is_kept
        )
        return _changed(user)

    async def change_address(self, request: ApiRequest) -> ApiResponse:
        await self.change_user(request)
        return no_content()

    async def change_password(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(PasswordChange)
        await self._principals.change_password(
            credentials_of(request), _user(request), body.oldPassword, body.newPassword
        )
        return no_content()

    async def user_status(self, request: ApiRequest) -> ApiResponse:
        user = await self._principals.get_user(credentials_of(request), _user(request))
        return ApiResponse(200, {"disabled": user.is_disabled})

    async def set_user_status(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(Status)
        await self._principals.set_user_disabled(
            credentials_of(request), _user(request), body.disabled
        )
        return no_content()

    async def change_thing(self, request: ApiRequest) -> ApiResponse:
        """The identity of a thing stays; its other fields are set."""
        body = request.parse(AnyFields)
        fields = {k: v for k, v in _custom_fields(body).items() if k not in _FIXED_THING_FIELDS}
        thing = await self._principals.change_thing(
            credentials_of(request), _thing(request), fields
        )
        return ApiResponse(200, _thing_fields(thing), kii_type("ThingUpdateResponse"))

    async def thing_status(self, request: ApiRequest) -> ApiResponse:
        thing = await self._principals.get_thing(credentials_of(request), _thing(request))
        return ApiResponse(200, {"disabled": thing.is_disabled})

    async def set_thing_status(self, request: ApiRequest) -> ApiResponse:
        body = request.parse(Status)
        await self._principals.set_thing_disabled(
            credentials_of(request), _thing(request), body.disabled
        )
        return no_content()


def _user(request: ApiRequest) -> Reference:
    return user_reference(request.parameters["userID"])


def _thing(request: ApiRequest) -> Reference:
    return thing_reference(request.parameters["thingID"])


def _draft(body: UserRegistration) -> UserDraft:
    fields = {
        name: value
        for name, value in _custom_fields(body).items()
        if not name.startswith("_") and name not in _FIXED_USER_FIELDS
    }
    if body.country is not None:
        fields["country"] = body.country
    return UserDraft(
        login_name=body.loginName,
        email_address=body.emailAddress,
        phone_number=_unique_number(body),
        password=body.password,
        fields=fields,
    )


def _is_kept(field: str) -> bool:
    return field in _PREDEFINED_USER_FIELDS or field.startswith("_")


def _changed(user: User) -> ApiResponse:
    fields = {**_user_fields(user), "modifiedAt": user.modified_ms}
    return ApiResponse(200, fields, kii_type("UserUpdateResponse"))


def _unique_number(body: UserRegistration) -> str | None:
    number = body.phoneNumber
    if number is None or number.startswith("+") or body.country is None:
        return number
    return unique_number(f"{body.country}-{number}")


def _custom_fields(body: BaseModel) -> Mapping[str, Any]:
    fields = body.model_extra or {}
    if fields and len(orjson.dumps(fields)) > CUSTOM_FIELDS_LIMIT_BYTES:
        raise InvalidRequest(f"all fields together may have {CUSTOM_FIELDS_LIMIT_BYTES} bytes")
    return fields


def _user_fields(user: User) -> Json:
    """The server's own fields stand first and win over the app's of the same name.

    Addresses and numbers count as verified where nobody is asked to verify them.
    """
    named: Json = {
        "userID": user.user_id,
        "internalUserID": _number_of(user.user_id),
        "loginName": user.login_name,
        "emailAddress": user.email_address,
        "emailAddressVerified": True if user.email_address else None,
        "phoneNumber": user.phone_number,
        "phoneNumberVerified": True if user.phone_number else None,
        "_hasPassword": user.password_hash is not None,
        "_disabled": user.is_disabled,
    }
    own = {name: value for name, value in named.items() if value is not None}
    shown = {**own, **user.fields, **own}
    shown.pop("_kmd", None)  # what the other dialect keeps there
    return shown


def _number_of(user_id: str) -> int:
    """A number that stands for a user in clients that want one; 52 bits are exact in all."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 12


def _thing_fields(thing: Thing) -> Json:
    return {
        **thing.fields,
        "_thingID": thing.thing_id,
        "_vendorThingID": thing.vendor_thing_id,
        "_created": thing.created_ms,
        "_disabled": thing.is_disabled,
        "_online": thing.is_online,
        "_onlineStatusModifiedAt": thing.online_ms or thing.created_ms,
    }
