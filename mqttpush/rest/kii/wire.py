"""What all resources of this dialect share: who calls, what a path means, how a body is typed.

Owns the spellings of spec kii 0 and 1: headers, `me`, `EMAIL:…`, `VENDOR_THING_ID:…`, `rw:…`, the
four scopes. Knows no verb.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import phonenumbers
from pydantic import BaseModel, ConfigDict

from mqttpush.errors import InvalidRequest, NotAuthenticated
from mqttpush.models import Credentials, PrincipalKind, ScopeType
from mqttpush.operations.context import ID, ME, Reference, ScopeReference
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

APP: Final = "/api/apps/{appID}"
THING_IF_APP: Final = "/thing-if/apps/{appID}"
JSON_TYPE: Final = "application/json"
_BUCKET_ID: Final = re.compile(r"[a-zA-Z0-9_-]{2,64}")
_OBJECT_ID: Final = re.compile(r"[a-zA-Z0-9_.-]{2,100}")
_TOPIC_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BUCKET_TYPE: Final = re.compile(r"^(?:rw|default):")  # two names of the one type there is
_ALIAS_FIELDS: Final = {
    "EMAIL": "email_address",
    "PHONE": "phone_number",
    "LOGIN_NAME": "login_name",
}
_VENDOR_PREFIX: Final = "VENDOR_THING_ID:"
_SCOPES: Final = (
    ("", ScopeType.APP),
    ("/users/{userID}", ScopeType.USER),
    ("/groups/{groupID}", ScopeType.GROUP),
    ("/things/{thingID}", ScopeType.THING),
)


class AnyFields(BaseModel):
    """A body of the app's own fields."""

    model_config = ConfigDict(extra="allow")


def in_every_scope(routes: Iterator[Route]) -> Iterator[Route]:
    """Each route whose path has `{scope}`, once per kind of scope."""
    for route in routes:
        for folder, _ in _SCOPES:
            yield replace(route, path=route.path.replace("{scope}", folder))


def scope_of(request: ApiRequest) -> ScopeReference:
    """The scope part of the path."""
    parameters = request.parameters
    if "userID" in parameters:
        return ScopeReference(ScopeType.USER, user_reference(parameters["userID"]))
    if "thingID" in parameters:
        return ScopeReference(ScopeType.THING, thing_reference(parameters["thingID"]))
    if "groupID" in parameters:
        return ScopeReference(ScopeType.GROUP, Reference(ID, parameters["groupID"]))
    return ScopeReference()


def credentials_of(request: ApiRequest) -> Credentials:
    """Who says he calls (spec kii 0.3); raises NotAuthenticated for a header that says nothing.

    The app is the path's. App headers count only without a token, and must not name another app;
    nor may the path name another one than the MQTT connection that carried the request.
    """
    if request.acting is not None:
        return request.acting
    app_id = request.parameters.get("appID", "")
    known_app_id = request.connection_app_id
    if known_app_id and app_id != known_app_id:
        raise NotAuthenticated("the connection is of another app")
    authorization = request.headers.get("authorization", "").strip()
    if not authorization:
        named_app_id = request.headers.get("x-kii-appid", app_id)
        return _anonymous(request, app_id, named_app_id, request.headers.get("x-kii-appkey"))
    scheme, _, value = authorization.partition(" ")
    scheme, value = scheme.lower(), value.strip()
    if scheme == "bearer" and value:
        return Credentials(app_id, token=value, address=request.address)
    if scheme == "basic":
        named_app_id, _, app_key = _basic(value).partition(":")
        return _anonymous(request, app_id, named_app_id, app_key)
    raise NotAuthenticated("the Authorization header is neither Bearer nor Basic")


def _anonymous(
    request: ApiRequest, app_id: str, named_app_id: str, app_key: str | None
) -> Credentials:
    if app_id and named_app_id != app_id:
        raise NotAuthenticated("the credentials are of another app")
    return Credentials(
        named_app_id,
        app_key=app_key,
        is_app_known=bool(request.connection_app_id),
        address=request.address,
    )


def _basic(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError as exc:
        raise NotAuthenticated("the Basic credentials are not base64 of ID:KEY") from exc


def unique_number(text: str) -> str:
    """A number in its global form: `JP-09012345678` is `+819012345678`.

    As it is if it is global already, or none that could be of that country.
    """
    country, dash, number = text.partition("-")
    if not dash or len(country) != 2:
        return text
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        return text
    if not phonenumbers.is_possible_number(parsed):
        return text
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def user_reference(text: str) -> Reference:
    """`me`, `EMAIL:a@b`, `PHONE:CC-n`, `LOGIN_NAME:n` or a userID."""
    if text == "me":
        return Reference(ME)
    kind, colon, value = text.partition(":")
    field = _ALIAS_FIELDS.get(kind.upper()) if colon else None
    if field == "phone_number":
        value = unique_number(value)
    return Reference(field, value) if field else Reference(ID, text)


def thing_reference(text: str) -> Reference:
    """`VENDOR_THING_ID:v` or a thingID."""
    if text[: len(_VENDOR_PREFIX)].upper() == _VENDOR_PREFIX:
        return Reference("vendor_thing_id", text[len(_VENDOR_PREFIX) :])
    return Reference(ID, text)


def owner_reference(kind: PrincipalKind, text: str) -> Reference:
    """The reference of a user or of a thing, by `kind`."""
    return user_reference(text) if kind is PrincipalKind.USER else thing_reference(text)


def bucket_id_of(request: ApiRequest) -> str:
    """The bucket of the path; raises InvalidRequest INVALID_BUCKET."""
    return bucket_id_from(request.parameters["bucketID"])


def bucket_id_from(text: str) -> str:
    """A bucket's ID without its type prefix; raises InvalidRequest INVALID_BUCKET."""
    bucket_id = _BUCKET_TYPE.sub("", text)
    if not _BUCKET_ID.fullmatch(bucket_id):
        raise InvalidRequest(
            "must be 2 to 64 of A-Z a-z 0-9 _ -", field="bucketID", code="INVALID_BUCKET"
        )
    return bucket_id


def object_id_of(request: ApiRequest) -> str:
    """Raises InvalidRequest INVALID_OBJECT_ID."""
    return object_id_from(request.parameters["objectID"])


def object_id_from(object_id: str) -> str:
    """Raises InvalidRequest INVALID_OBJECT_ID."""
    if not _OBJECT_ID.fullmatch(object_id):
        raise InvalidRequest(
            "must be 2 to 100 of A-Z a-z 0-9 _ . -", field="objectID", code="INVALID_OBJECT_ID"
        )
    return object_id


def topic_id_of(request: ApiRequest) -> str:
    """Raises InvalidRequest."""
    topic_id = request.parameters["topicID"]
    if not _TOPIC_ID.fullmatch(topic_id):
        raise InvalidRequest("must be 1 to 64 of A-Z a-z 0-9 _ -", field="topicID")
    return topic_id


def kii_type(name: str) -> str:
    """`application/vnd.kii.{name}+json`."""
    return f"application/vnd.kii.{name}+json"


def takes(shape: Any, *names: str, others: tuple[str, ...] = ()) -> Content:
    """A request body for documents: JSON, also under these names of ours, or of other types."""
    return Content(shape, (JSON_TYPE, *map(kii_type, names), *others))


def gives(shape: Any, *names: str) -> Content:
    """An answer for documents, of one of these types, or plain JSON."""
    return Content(shape, tuple(map(kii_type, names)) or (JSON_TYPE,))


def is_kii_type(request: ApiRequest, *names: str) -> bool:
    """Is the request's content type one of these, in any case (spec kii 0.2.6)?"""
    return request.content_type in {kii_type(name).lower() for name in names}


def no_content() -> ApiResponse:
    """204."""
    return ApiResponse(204)
