"""How this dialect spells an error: status, `error`, `description`, `debug` (spec kinvey 1.4).

One table says it for every class of the domain; a route never makes an error body itself. Clients
branch on status and `error`; what the request got wrong stands in `debug`.
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
from mqttpush.rest.messages import ApiResponse

# error -> (status, description).
ERRORS: Final = {
    "ParameterValueOutOfRange": (400, "A parameter has a value that is not acceptable"),
    "InvalidQuerySyntax": (400, "The query is not usable"),
    "MissingQuery": (400, "This request needs a query"),
    "JSONParseError": (400, "The body is not JSON"),
    "MissingRequestHeader": (400, "The request lacks a header"),
    "IncompleteRequestBody": (400, "The body is missing, or a part of it"),
    "MissingRequestParameter": (400, "A required field is missing"),
    "InvalidIdentifier": (400, "A name is not acceptable"),
    "FeatureUnavailable": (400, "The server does not do this, or it is not switched on"),
    "CORSDisabled": (400, "The app does not answer pages of other origins"),
    "APIVersionNotAvailable": (400, "There is no such version of the API"),
    "BadRequest": (400, "The request is not acceptable"),
    "BLRuntimeError": (400, "Server code failed"),
    "ResultSetSizeExceeded": (400, "The answer would be too large"),
    "InvalidCredentials": (401, "The credentials are missing, wrong or no longer valid"),
    "InsufficientCredentials": (401, "The credentials do not allow this"),
    "WritesToCollectionDisallowed": (403, "The collection is read-only"),
    "IndirectCollectionAccessDisallowed": (403, "Users are written below /user"),
    "AppProblem": (403, "The app is disabled"),
    "MissingConfiguration": (403, "The app has not configured this"),
    "NotFound": (404, "There is no such path"),
    "EntityNotFound": (404, "There is no such entity"),
    "CollectionNotFound": (404, "There is no such collection"),
    "UserNotFound": (404, "There is no such user"),
    "MethodNotAllowed": (405, "This path has no such method"),
    "UserAlreadyExists": (409, "The user name is taken"),
    "RequestTimeout": (408, "The body did not come in time"),
    "TooManyRequests": (429, "A limit is reached; try again later"),
    "KinveyInternalErrorRetry": (500, "The server is busy; try again"),
    "KinveyInternalErrorStop": (500, "The server failed"),
    "BLSyntaxError": (550, "Server code does not parse"),
    "BLTimeoutError": (550, "Server code did not finish in time"),
    "BLViolationError": (550, "Server code broke a limit"),
    "BLInternalError": (550, "The runner of server code failed"),
    "FlexRuntimeError": (550, "A remote handler failed"),
}
# Codes of InvalidRequest that other rooms say in their own way.
_SYNONYMS: Final = {
    "": "BadRequest",
    "INVALID_JSON": "JSONParseError",
    "INVALID_QUERY": "InvalidQuerySyntax",
    "INVALID_BUCKET": "InvalidIdentifier",
    "INVALID_OBJECT_ID": "InvalidIdentifier",
    "NOT_FOUND": "NotFound",
    "METHOD_NOT_ALLOWED": "MethodNotAllowed",
}
_MISSING_NOUNS: Final = {
    # An unknown app is told like wrong credentials, so that keys cannot be probed (1.4).
    "app": "InvalidCredentials",
    "user": "UserNotFound",
    "bucket": "CollectionNotFound",
}


def render_error(error: MqttPushError) -> ApiResponse:
    """The response for any error; what is not ours to explain becomes 500 without details."""
    for class_, render in _RENDERERS:
        if isinstance(error, class_):
            response = render(error)
            if isinstance(error, LimitReached) and error.retry_after_s is not None:
                response.headers["retry-after"] = str(max(1, round(error.retry_after_s)))
            return response
    return error_response("KinveyInternalErrorStop")


def error_response(name: str, debug: object = "", *, description: str = "") -> ApiResponse:
    """The response of this name, exactly three keys."""
    status, usual = ERRORS[name]
    body = {"error": name, "description": description or usual, "debug": debug}
    return ApiResponse(status, body)


def _invalid_request(error: InvalidRequest) -> ApiResponse:
    code = _SYNONYMS.get(error.code, error.code)
    return error_response(code if code in ERRORS else "BadRequest", str(error))


def _limit_reached(error: LimitReached) -> ApiResponse:
    if error.limit.startswith("store.") or error.limit.startswith("security.max_queued_"):
        return error_response("KinveyInternalErrorRetry", str(error))
    if error.limit == "http.body_timeout_s":
        return error_response("RequestTimeout", str(error))
    return error_response("TooManyRequests", str(error))


def _already_exists(error: AlreadyExists) -> ApiResponse:
    if error.noun == "user":
        return error_response("UserAlreadyExists")
    response = error_response("BadRequest", str(error), description="It is there already")
    response.status = 409
    return response


def _code_failed(error: CodeFailed) -> ApiResponse:
    response = error_response(error.name, error.debug)
    response.status = error.status or response.status
    return response


def _stale(error: VersionConflict) -> ApiResponse:
    response = error_response("BadRequest", str(error))
    response.status = 409
    return response


_RENDERERS: Final[list[tuple[type[MqttPushError], Callable[[Any], ApiResponse]]]] = [
    (NotFound, lambda error: error_response(_MISSING_NOUNS.get(error.noun, "EntityNotFound"))),
    (AlreadyExists, _already_exists),
    (NotAuthenticated, lambda error: error_response("InvalidCredentials", str(error))),
    (InvalidGrant, lambda _: error_response("InvalidCredentials")),
    (NotAuthorized, lambda _: error_response("InsufficientCredentials")),
    (
        PrincipalDisabled,
        lambda error: error_response(
            "AppProblem" if error.noun == "app" else "InvalidCredentials", str(error)
        ),
    ),
    (VersionConflict, _stale),
    (InvalidRequest, _invalid_request),
    (LimitReached, _limit_reached),
    (CodeFailed, _code_failed),
    (StoreUnavailable, lambda _: error_response("KinveyInternalErrorRetry")),
]
