"""What documents say about this dialect as a whole: parameters, credentials, error answers.

Knows no route. The one idea: what every route shares is said once here, so that a table of routes
says only what is its own.
"""

from __future__ import annotations

from typing import Any, Final

from mqttpush.models import Json
from mqttpush.rest.kii.errors import known_errors
from mqttpush.rest.openapi import make_parameter
from mqttpush.rest.routing import Dialect

# Before its verb is asked any route may find a bad path or body, a bad token, a disabled app, an
# unknown app, too large or too slow a body, too many requests, or a store that is busy.
COMMON_STATUSES: Final = (400, 401, 403, 404, 408, 413, 429, 503)

_MEANING: Final = {
    400: "The path, a header or the body is not acceptable",
    401: "The token is missing, unknown or expired, its principal is disabled or may not do this",
    403: "The app is disabled",
    404: "Something the path or body names does not exist",
    408: "The body came too slowly (`http.body_timeout_s`)",
    409: "It is there already, or another version is there",
    410: "Its time is over",
    413: "The body is larger than `http.max_body_bytes`, or that of an object than"
    " `limits.max_body_bytes`",
    416: "The body has no such range",
    429: "A limit is reached; `Retry-After` may say when to try again",
    501: "The server does not do this",
    503: "The server is busy; try again",
}


def _path(name: str, description: str, **schema: Any) -> Json:
    return make_parameter("path", name, description, **schema)


_PARAMETERS: Final = {
    "appID": _path("appID", "ID of the app", pattern="^[A-Za-z0-9_-]{1,64}$"),
    "userID": _path(
        "userID",
        "ID of a user, or `me`, `LOGIN_NAME:{name}`, `EMAIL:{address}`, `PHONE:{number}`",
    ),
    "thingID": _path("thingID", "ID of a thing, or `VENDOR_THING_ID:{vendorThingID}`"),
    "groupID": _path("groupID", "ID of a group", pattern="^[A-Za-z0-9_.-]{1,64}$"),
    "installationID": _path(
        "installationID",
        "ID of an installation, or `{deviceType}:{installationRegistrationID}`",
    ),
    "network": _path("network", "A push network", enum=["fcm", "apns", "jpush", "webpush"]),
    "bucketID": _path(
        "bucketID",
        "ID of a bucket; the type `rw:` may stand before it",
        pattern="^(rw:)?[A-Za-z0-9_-]{2,64}$",
    ),
    "objectID": _path("objectID", "ID of an object", pattern="^[A-Za-z0-9_.-]{2,100}$"),
    "publicationID": _path("publicationID", "ID of a published body"),
    "uploadID": _path("uploadID", "ID of an upload of an object's body"),
    "topicID": _path("topicID", "ID of a topic", pattern="^[A-Za-z0-9_-]{1,64}$"),
    "filterID": _path(
        "filterID", "`all`, or the ID of a named filter", pattern="^[A-Za-z0-9_-]{1,64}$"
    ),
    "subscriberID": _path(
        "subscriberID", "ID of a user or thing, in any form such an ID has in a path"
    ),
    "messageID": _path("messageID", "The `pushMessageID` of the answer to sending"),
    "target": _path("target", "`thing:{thingID}`", pattern="^([Tt]hing|THING):.+$"),
    "commandID": _path("commandID", "ID of a command"),
    "versionID": _path("versionID", "ID of a version of server code, or `current`"),
    "endpoint": _path("endpoint", "Name of a function, or `package.module:function`"),
    "alias": _path("alias", "Name of a trait of the thing"),
    "owner": _path(
        "owner",
        "`user:{userID}` or `group:{groupID}`",
        pattern="^([Uu]ser|USER|[Gg]roup|GROUP):.+$",
    ),
    "verb": _path("verb", "What is allowed, such as `SUBSCRIBE_TO_TOPIC`", pattern="^[A-Z_]+$"),
    "subject": _path(
        "subject",
        "Whom: `UserID:{userID}`, `ThingID:{thingID}`, `GroupID:{groupID}`,"
        " `UserID:ANY_AUTHENTICATED_USER` or `UserID:ANONYMOUS_USER`",
        pattern="^(UserID|ThingID|GroupID):.+$",
    ),
    "paginationKey": make_parameter(
        "query", "paginationKey", "From an earlier answer: what follows it"
    ),
    "ofUser": make_parameter("query", "userID", "Those of this user"),
    "ofThing": make_parameter("query", "thingID", "Those of this thing"),
    "memberIs": make_parameter("query", "is_member", "Groups this user is in"),
    "ownerIs": make_parameter("query", "owner", "Groups this user owns"),
    "If-Match": make_parameter(
        "header",
        "If-Match",
        "Only if this is the version of the object",
        pattern='^"?[0-9]{1,18}"?$',
    ),
    "If-None-Match": make_parameter(
        "header", "If-None-Match", "Only if there is no such object", const="*"
    ),
    "bodyIfMatch": make_parameter(
        "header",
        "If-Match",
        "Only if this is the ETag of the body",
        pattern='^"?[0-9A-Za-z]+"?$',
    ),
    "bodyIfNoneMatch": make_parameter(
        "header", "If-None-Match", "Only if the object has no body", const="*"
    ),
    "knownBody": make_parameter(
        "header", "If-None-Match", "ETags of bodies the client has; 304 if it is one of them"
    ),
    "Range": make_parameter(
        "header",
        "Range",
        "Which bytes",
        pattern="^bytes=([0-9]+-[0-9]*|-[0-9]+)(, ?([0-9]+-[0-9]*|-[0-9]+))*$",
    ),
    "Content-Range": {
        **make_parameter(
            "header",
            "Content-Range",
            "Which bytes of the body, and how many it has",
            pattern="^bytes[= ][0-9]+-[0-9]+/[0-9]+$",
        ),
        "required": True,
    },
}

_SECURITY_SCHEMES: Final = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of a user, a thing or the app's administrator.",
    },
    "app": {
        "type": "http",
        "scheme": "basic",
        "description": "`appID` and `appKey`: the app's anonymous client.",
    },
    "appID": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Kii-AppID",
        "description": "Together with X-Kii-AppKey the app's anonymous client.",
    },
    "appKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Kii-AppKey",
        "description": "Checked only if the app is strict.",
    },
}


def _error(status: int, codes: list[tuple[str, str]]) -> Json:
    types = dict.fromkeys(
        f"application/vnd.kii.{exception}Exception+json" for _, exception in codes
    )
    schema = {
        "type": "object",
        "properties": {
            "errorCode": {"enum": [code for code, _ in codes]},
            "message": {"type": "string"},
        },
        "required": ["errorCode", "message"],
    }
    return {
        "description": _MEANING[status],
        "content": {name: {"schema": schema} for name in types},
    }


DIALECT: Final = Dialect(
    name="kii",
    statuses=COMMON_STATUSES,
    errors={status: _error(status, codes) for status, codes in known_errors().items()},
    parameters=_PARAMETERS,
    security_schemes=_SECURITY_SCHEMES,
    security=({"token": []}, {"app": []}, {"appID": [], "appKey": []}),
)
