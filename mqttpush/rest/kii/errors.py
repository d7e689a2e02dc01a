"""How this dialect spells an error: status, errorCode, exception name and fields (Appendix A).

One table says it for every class of the domain; a route never makes an error body itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mqttpush.errors import (
    AlreadyExists,
    CodeFailed,
    InvalidGrant,
    InvalidRequest,
    LimitReached,
    MqttPushError,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    PrincipalDisabled,
    StoreUnavailable,
    VersionConflict,
)
from mqttpush.models import Json, Scope, ScopeType
from mqttpush.rest.messages import ApiResponse

_UNAVAILABLE: Final = "RESOURCE_TEMPORARILY_UNAVAILABLE"
_OWNER_FIELD: Final = {
    ScopeType.USER: "userID",
    ScopeType.GROUP: "groupID",
    ScopeType.THING: "thingID",
}
# Noun of the domain -> (errorCode's stem, exception's stem).
_NOUNS: Final = {
    "app": ("APP", "App"),
    "user": ("USER", "User"),
    "thing": ("THING", "Thing"),
    "group": ("GROUP", "Group"),
    "installation": ("INSTALLATION", "Installation"),
    "network": ("PUSH_NETWORK", "PushNetwork"),
    "mqtt_endpoint": ("MQTT_ENDPOINT", "MQTTEndpoint"),
    "bucket": ("BUCKET", "Bucket"),
    "object": ("OBJECT", "Object"),
    "topic": ("TOPIC", "Topic"),
    "filter": ("FILTER", "Filter"),
    "acl": ("ACL", "ACL"),
    "ownership": ("THING_OWNERSHIP", "ThingOwnership"),
    "member": ("GROUP_MEMBER", "GroupMember"),
    "upload": ("OBJECT_BODY_UPLOAD", "ObjectBodyUpload"),
    "body": ("OBJECT_BODY", "ObjectBody"),
    "publication": ("PUBLICATION", "Publication"),
    "command": ("COMMAND", "Command"),
    "message": ("PUSH_MESSAGE", "PushMessage"),
    "subscription": ("PUSH_SUBSCRIPTION", "PushSubscription"),
    "server_code_version": ("SERVER_CODE_VERSION", "ServerCodeVersion"),
    "server_code_endpoint": ("SERVER_CODE_ENDPOINT", "ServerCodeEndpoint"),
    "server_code_hook_version": ("SERVER_CODE_HOOK_VERSION", "ServerCodeHookVersion"),
}
# Nouns of which there may be one already.
_UNIQUE_NOUNS: Final = (
    "user",
    "thing",
    "group",
    "bucket",
    "object",
    "topic",
    "acl",
    "ownership",
    "subscription",
    "body",
)
# Codes of InvalidRequest that have a status and an exception of their own.
_OWN_CODES: Final = {
    "NOT_FOUND": (404, "NotFound"),
    "METHOD_NOT_ALLOWED": (405, "MethodNotAllowed"),
    "THING_WITHOUT_THING_TYPE": (404, "ThingWithoutThingType"),
    "THING_WITHOUT_FIRMWARE_VERSION": (404, "ThingWithoutFirmwareVersion"),
    "OPERATION_NOT_ALLOWED": (409, "OperationNotAllowed"),
    "OPERATION_NOT_IMPLEMENTED": (501, "OperationNotImplemented"),
    "PUBLICATION_EXPIRED": (410, "PublicationExpired"),
    "RANGE_NOT_SATISFIABLE": (416, "RangeNotSatisfiable"),
}
# Limits whose answer is not 429: (status, errorCode, exception).
_OWN_LIMITS: Final = {
    "limits.max_body_bytes": (413, "OBJECT_BODY_TOO_LARGE", "ObjectBodyTooLarge"),
    "http.body_timeout_s": (408, "REQUEST_TIMEOUT", "RequestTimeout"),
    "security.max_queued_hashes_per_address": (503, _UNAVAILABLE, "TemporaryUnavailable"),
    "security.max_queued_hashes": (503, _UNAVAILABLE, "TemporaryUnavailable"),
}
# The other codes of InvalidRequest; the first where it names none.
INVALID_CODES: Final = (
    "INVALID_INPUT_DATA",
    "INVALID_JSON",
    "INVALID_BUCKET",
    "INVALID_OBJECT_ID",
    "EMPTY_BODY",
)
_FIELD_NAMES: Final = {
    "id": "userID",
    "user_id": "userID",
    "login_name": "loginName",
    "email_address": "emailAddress",
    "phone_number": "phoneNumber",
    "vendor_thing_id": "vendorThingID",
}


def object_scope(scope: Scope) -> Json:
    """The `objectScope` object of errors (spec kii 1.7)."""
    fields: Json = {"appID": scope.app_id, "type": scope.type.value}
    owner_field = _OWNER_FIELD.get(scope.type)
    if owner_field:
        fields[owner_field] = scope.owner_id
    return fields


def known_errors() -> dict[int, list[tuple[str, str]]]:
    """All this dialect answers, by status, as (errorCode, exception): for documents."""
    invalid = [(code, "InvalidInputData") for code in INVALID_CODES]
    missing = [_NOUNS[noun] for noun in _NOUNS]
    taken = [_NOUNS[noun] for noun in _UNIQUE_NOUNS]
    return {
        400: [
            *invalid,
            ("invalid_grant", "OauthTokenInvalidGrant"),
            ("SERVER_CODE_FAILED", "ServerCodeFailed"),
        ],
        401: [
            ("UNAUTHORIZED", "UnauthorizedAccess"),
            ("USER_DISABLED", "PrincipalDisabled"),
            ("THING_DISABLED", "PrincipalDisabled"),
        ],
        403: [("APP_DISABLED", "PrincipalDisabled")],
        404: [
            *((f"{code}_NOT_FOUND", f"{exception}NotFound") for code, exception in missing),
            ("THING_WITHOUT_THING_TYPE", "ThingWithoutThingType"),
            ("THING_WITHOUT_FIRMWARE_VERSION", "ThingWithoutFirmwareVersion"),
        ],
        409: [
            *((f"{code}_ALREADY_EXISTS", f"{exception}AlreadyExists") for code, exception in taken),
            ("OBJECT_VERSION_IS_STALE", "ObjectVersionIsStale"),
            ("OPERATION_NOT_ALLOWED", "OperationNotAllowed"),
        ],
        408: [("REQUEST_TIMEOUT", "RequestTimeout")],
        410: [("PUBLICATION_EXPIRED", "PublicationExpired")],
        413: [invalid[0], ("OBJECT_BODY_TOO_LARGE", "ObjectBodyTooLarge")],
        416: [("RANGE_NOT_SATISFIABLE", "RangeNotSatisfiable")],
        429: [("TOO_MANY_REQUESTS", "TooManyRequests")],
        501: [("OPERATION_NOT_IMPLEMENTED", "OperationNotImplemented")],
        503: [(_UNAVAILABLE, "TemporaryUnavailable")],
    }


def render_error(error: MqttPushError) -> ApiResponse:
    """The response for any error; what is not ours to explain becomes 500 without details."""
    for class_, render in _RENDERERS:
        if isinstance(error, class_):
            response = render(error)
            if isinstance(error, LimitReached) and error.retry_after_s is not None:
                response.headers["retry-after"] = str(max(1, round(error.retry_after_s)))
            return response
    return _response(500, "UNDEFINED_ERROR", "UndefinedError", "internal error")


def _response(
    status: int, code: str, exception: str, message: str, **fields: object
) -> ApiResponse:
    known = {name: value for name, value in fields.items() if value is not None}
    return ApiResponse(
        status,
        {"errorCode": code, "message": message, **known},
        f"application/vnd.kii.{exception}Exception+json",
    )


def _not_found(error: NotFound) -> ApiResponse:
    code, exception = _NOUNS[error.noun]
    return _response(
        404, f"{code}_NOT_FOUND", f"{exception}NotFound", f"The {error.noun.replace('_', ' ')}"
        " was not found", **_facts(error.noun, error.identifier, error.facts)
    )  # fmt: skip


def _already_exists(error: AlreadyExists) -> ApiResponse:
    code, exception = _NOUNS[error.noun]
    return _response(
        409, f"{code}_ALREADY_EXISTS", f"{exception}AlreadyExists", f"The {error.noun} already"
        " exists", **_facts(error.noun, error.identifier, error.facts)
    )  # fmt: skip


def _facts(noun: str, identifier: str, facts: dict[str, Any]) -> Json:
    """The resource's fields of Appendix A."""
    scope = facts.get("scope")
    fields: Json = {"appID": facts.get("app_id")}
    if scope is not None:
        fields = {"objectScope": object_scope(scope)}
    if noun in ("user", "thing"):
        default = f"{noun}ID"
        name = facts.get("field", "id")
        fields["field"] = default if name == "id" else _FIELD_NAMES.get(name, name)
        fields["value"] = identifier
    elif noun == "installation":
        device_type = facts.get("device_type")
        fields["installationID"] = identifier or None
        fields["installationRegistrationID"] = facts.get("registration_id") or None
        fields["deviceType"] = device_type.value if device_type else None
    elif noun == "mqtt_endpoint":
        fields["installationID"] = identifier
    elif noun == "network":
        fields["network"] = identifier
    elif noun == "upload":
        fields["uploadID"] = identifier
    elif noun in ("object", "body"):
        fields["bucketID"] = facts.get("bucket_id")
        fields["objectID"] = identifier
    elif noun == "subscription":
        fields["topicID"] = identifier
        fields["subject"] = facts.get("subject")
    elif noun in ("topic", "bucket", "group", "app"):
        fields[f"{noun}ID"] = identifier
    return fields


def _not_authenticated(error: NotAuthenticated) -> ApiResponse:
    return _response(401, "UNAUTHORIZED", "UnauthorizedAccess", str(error))


def _not_authorized(error: NotAuthorized) -> ApiResponse:
    return _response(
        401,
        "UNAUTHORIZED",
        "UnauthorizedAccess",
        "The principal may not do this",  # naming the right would tell what exists
        authenticatedAppID=error.app_id or None,
        authenticatedPrincipalID=error.principal_id or None,
    )


def _disabled(error: PrincipalDisabled) -> ApiResponse:
    status = 403 if error.noun == "app" else 401
    return _response(status, f"{error.noun.upper()}_DISABLED", "PrincipalDisabled", str(error))


def _invalid_grant(error: InvalidGrant) -> ApiResponse:
    return _response(
        400,
        "invalid_grant",
        "OauthTokenInvalidGrant",
        str(error),
        error="invalid_grant",
        error_description=str(error),
    )


def _stale(error: VersionConflict) -> ApiResponse:
    return _response(
        409,
        "OBJECT_VERSION_IS_STALE",
        "ObjectVersionIsStale",
        f"The {error.noun} is at version {error.version}",
        **_facts(error.noun, error.identifier, error.facts),
    )


def _invalid_request(error: InvalidRequest) -> ApiResponse:
    if error.code in _OWN_CODES:
        status, exception = _OWN_CODES[error.code]
        return _response(status, error.code, exception, error.problem)
    return _response(
        400,
        error.code or INVALID_CODES[0],
        "InvalidInputData",
        str(error),
        invalidFields={error.field: error.problem} if error.field else None,
    )


def _limit_reached(error: LimitReached) -> ApiResponse:
    if error.limit.startswith("store."):
        return _response(503, _UNAVAILABLE, "TemporaryUnavailable", str(error))
    if error.limit in _OWN_LIMITS:
        return _response(*_OWN_LIMITS[error.limit], str(error))
    return _response(429, "TOO_MANY_REQUESTS", "TooManyRequests", str(error))


def _code_failed(error: CodeFailed) -> ApiResponse:
    return _response(
        400, "SERVER_CODE_FAILED", "ServerCodeFailed", str(error), debug=error.debug or None
    )


def _store_unavailable(_: StoreUnavailable) -> ApiResponse:
    message = "The store does not answer; try again"
    return _response(503, _UNAVAILABLE, "TemporaryUnavailable", message)


_RENDERERS: Final[list[tuple[type[MqttPushError], Callable[[Any], ApiResponse]]]] = [
    (NotFound, _not_found),
    (AlreadyExists, _already_exists),
    (NotAuthenticated, _not_authenticated),
    (NotAuthorized, _not_authorized),
    (PrincipalDisabled, _disabled),
    (InvalidGrant, _invalid_grant),
    (VersionConflict, _stale),
    (InvalidRequest, _invalid_request),
    (LimitReached, _limit_reached),
    (CodeFailed, _code_failed),
    (StoreUnavailable, _store_unavailable),
]
