"""Tokens: both token paths, both encodings (spec kii 1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field

from mqttpush.errors import InvalidGrant, InvalidRequest
from mqttpush.models import NEVER_MS, Json, PrincipalKind
from mqttpush.operations.context import Reference
from mqttpush.operations.principals import Grant, Principals
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import APP, credentials_of, takes, unique_number
from mqttpush.rest.messages import ApiRequest, ApiResponse, parse
from mqttpush.rest.routing import Content, Route

# What the service answered for "no expiry" (spec kii 1.2): clients keep it in 32 bits.
ENDLESS_S: Final = 2_147_483_639
PASSWORD_LIMIT: Final = 200


class TokenRequest(BaseModel):
    """Which grant is meant follows from the fields present; `grant_type` may be left out."""

    grant_type: str | None = None
    username: str | None = Field(None, max_length=500)
    password: str | None = Field(None, max_length=PASSWORD_LIMIT)
    client_id: str | None = Field(None, max_length=200)
    client_secret: str | None = Field(None, max_length=PASSWORD_LIMIT)
    expires_at: int | None = Field(None, alias="expiresAt", ge=0, lt=NEVER_MS)


class OauthRoutes:
    """POST …/oauth2/token."""

    def __init__(self, principals: Principals) -> None:
        self._principals = principals

    def table(self) -> Iterator[Route]:
        form = "application/x-www-form-urlencoded"
        taken = takes(TokenRequest, "OauthTokenRequest", others=(form,))
        for path in ("/api/oauth2/token", f"{APP}/oauth2/token"):
            given = Content(answers.Token)
            yield Route("POST", path, self.token, "Get a token", (200, 429), taken, given)

    async def token(self, request: ApiRequest) -> ApiResponse:
        """A grant for a user, thing, administrator or anonymous client."""
        wanted = parse(TokenRequest, _fields(request))
        credentials = credentials_of(request)
        expires_ms = wanted.expires_at if wanted.expires_at is not None else NEVER_MS
        if wanted.grant_type == "refresh_token":
            raise InvalidGrant("the app gives no refresh tokens; its access tokens do not expire")
        if wanted.username is not None and wanted.password is not None:
            grant = await self._principals.log_in(
                credentials,
                **_who(wanted.username),
                password=wanted.password,
                expires_ms=expires_ms,
            )
        elif wanted.client_id is not None and wanted.client_secret is not None:
            grant = await self._principals.log_in_client(
                credentials.app_id,
                wanted.client_id,
                wanted.client_secret,
                address=credentials.address,
                expires_ms=expires_ms,
            )
        else:
            raise InvalidRequest("needs username and password, or client_id and client_secret")
        return ApiResponse(200, _rendered(grant))


def _fields(request: ApiRequest) -> Json:
    if request.content_type == "application/x-www-form-urlencoded":
        try:
            return dict(parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=20))
        except ValueError as exc:
            raise InvalidRequest("the body is not form-encoded") from exc
    return request.json()


def _who(username: str) -> Json:
    """The forms of a name (spec kii 1.2): prefixed, e-mail address, global number, login name."""
    kind, colon, value = username.partition(":")
    if colon and kind == "VENDOR_THING_ID":
        return _named(PrincipalKind.THING, "vendor_thing_id", value)
    if colon and kind == "EMAIL":
        return _named(PrincipalKind.USER, "email_address", value)
    if colon and kind == "PHONE":
        return _named(PrincipalKind.USER, "phone_number", unique_number(value))
    if colon:
        raise InvalidGrant
    if "@" in username:
        return _named(PrincipalKind.USER, "email_address", username)
    if username.startswith("+"):
        return _named(PrincipalKind.USER, "phone_number", username)
    return _named(PrincipalKind.USER, "login_name", username)


def _named(kind: PrincipalKind, field: str, value: str) -> Json:
    return {"kind": kind, "reference": Reference(field, value)}


def _rendered(grant: Grant) -> Json:
    expires_in_s = ENDLESS_S
    if grant.expires_ms != NEVER_MS:
        expires_in_s = min(ENDLESS_S, max(0, (grant.expires_ms - grant.granted_ms) // 1000))
    fields: Json = {
        "access_token": grant.token,
        "expires_in": expires_in_s,
        "token_type": "Bearer",
    }
    if grant.principal.id:
        fields["id"] = grant.principal.id
    return fields
