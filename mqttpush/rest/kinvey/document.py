"""What documents say about this dialect as a whole: parameters, credentials, error answers.

Knows no route.
"""

from __future__ import annotations

from typing import Final

from mqttpush.models import Json
from mqttpush.rest.kinvey.errors import ERRORS
from mqttpush.rest.openapi import make_parameter
from mqttpush.rest.routing import Dialect

# Any route may find a bad header, body or path, bad credentials, a disabled app, a name that is
# not there, too large a body, a limit, or a store that is busy.
COMMON_STATUSES: Final = (400, 401, 403, 404, 408, 413, 429, 500)
_MEANING: Final = {
    400: "The path, a header, the query or the body is not acceptable",
    401: "The credentials are wrong, or of a kind that may not do this",
    403: "The app is disabled, or does not allow this",
    404: "Something the path or body names does not exist",
    405: "The path has no such method",
    408: "The body came too slowly (`http.body_timeout_s`)",
    409: "It is there already",
    413: "The body is larger than `http.max_body_bytes`",
    429: "A limit is reached; `Retry-After` may say when to try again",
    500: "The server is busy, or failed",
    550: "Server code failed",
}


_PARAMETERS: Final = {
    "appKey": make_parameter("path", "appKey", "ID of the app", pattern="^[A-Za-z0-9_-]{1,64}$"),
    "id": make_parameter("path", "id", "`_id` of a user"),
    "collection": make_parameter("path", "collection", "Name of a collection"),
    "entityID": make_parameter("path", "entityID", "`_id` of an entity"),
    "endpoint": make_parameter("path", "endpoint", "Name of a custom endpoint"),
    "usernameOrEmail": make_parameter("path", "usernameOrEmail", "A user, as he knows himself"),
    "token": make_parameter("query", "token", "From a link in a mail"),
    "query": make_parameter("query", "query", "Which ones: a query in JSON, such as `{}`"),
    "sort": make_parameter("query", "sort", 'A field, or JSON such as `{"name": -1}`'),
    "limit": make_parameter("query", "limit", "At most so many", pattern="^[0-9]{1,9}$"),
    "skip": make_parameter("query", "skip", "Leave out so many first", pattern="^[0-9]{1,9}$"),
    "fields": make_parameter("query", "fields", "Only these fields, with commas between them"),
    "deviceId": make_parameter("query", "deviceId", "The client, as it registered"),
    "authtoken": make_parameter("query", "authtoken", "Token of the session, instead of a header"),
    "auth": make_parameter("query", "auth", "Token of the session"),
    "uuid": make_parameter("query", "uuid", "The client, as it registered (`deviceId`)"),
    "tt": make_parameter("query", "tt", "Timetoken of the last answer, 0 at first"),
    "channel-group": make_parameter("query", "channel-group", "Has no meaning here"),
    "channels": make_parameter("path", "channels", "Has no meaning here"),
    "hard": make_parameter("query", "hard", "Delete for good", enum=["true", "false"]),
    "soft": make_parameter(
        "query", "soft", "Suspend (API versions 0 and 1)", enum=["true", "false"]
    ),
}

_SECURITY_SCHEMES: Final = {
    "kinveyBasic": {
        "type": "http",
        "scheme": "basic",
        "description": "`appKey` and the app's key or its client secret; or, up to API version 5,"
        " a user's name and password.",
    },
    "kinveySession": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Kinvey` and the `authtoken` of a user's session.",
    },
}


def _error(status: int) -> Json:
    names = [name for name, (told, _) in ERRORS.items() if told == status]
    schema = {
        "type": "object",
        "properties": {
            "error": {"enum": names} if status in (400, 401, 403) else {"type": "string"},
            "description": {"type": "string"},
            "debug": {"type": ["string", "object"]},
        },
        "required": ["error", "description", "debug"],
        "additionalProperties": False,
    }
    return {
        "description": _MEANING[status],
        "content": {"application/json": {"schema": schema}},
    }


DIALECT: Final = Dialect(
    name="kinvey",
    statuses=COMMON_STATUSES,
    errors={status: _error(status) for status in _MEANING},
    parameters=_PARAMETERS,
    security_schemes=_SECURITY_SCHEMES,
    security=({"kinveyBasic": []}, {"kinveySession": []}),
)

# Pages for people, behind links in mails: whoever has the link may see them.
PAGES: Final = Dialect(
    name="kinveyPages",
    statuses=COMMON_STATUSES,
    errors={
        **DIALECT.errors,
        400: {
            "description": "The link or what was typed is not good (any more)",
            "content": {
                "text/html": {"schema": {"type": "string"}},
                **_error(400)["content"],
            },
        },
    },
)
