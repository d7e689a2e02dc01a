"""Answers: what each answer of each push network means, as one table.

Owns the rows: network, status and code -> how the push ends or that it may be tried again, what the
device token deserves and whether new credentials may help. Knows no HTTP. The one idea: a code with
a row does what the row says; one without falls into the rule of its status, which never touches a
token - so a network that invents a code tomorrow costs no installation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import orjson

from mqttpush.networks import Ending, Network, Sent, TokenFate


class Meaning(NamedTuple):
    """ending: None if the push may be tried again. renews: new credentials first, once, at once."""

    ending: Ending | None
    token: TokenFate = TokenFate.KEEP
    renews: bool = False


_TAKEN: Final = Meaning(Ending.DELIVERED)
_LATER: Final = Meaning(None)
_MESSAGE: Final = Meaning(Ending.PAYLOAD_REFUSED)
_KEY: Final = Meaning(Ending.CREDENTIALS_REFUSED)
_STALE_KEY: Final = _KEY._replace(renews=True)
_DEAD: Final = Meaning(Ending.TOKEN_REMOVED, TokenFate.REMOVE)
_FOREIGN: Final = Meaning(Ending.TOKEN_MISMATCH, TokenFate.MARK)
_ADDRESS: Final = Meaning(Ending.ADDRESS_REFUSED, TokenFate.MARK)

# Codes of ours, for what no network said.
UNREACHABLE: Final = "unreachable"  # the request surely did not go out
NO_ANSWER: Final = "no_answer"  # it may have arrived
TOKEN_INVALID: Final = "token_invalid"  # noqa: S105 - no request was made for such a token
CERTIFICATE_EXPIRED: Final = "certificate_expired"
ADDRESS_REFUSED: Final = "address_refused"
DRY_RUN: Final = "dry_run"
# Whatever was sent stays a number; what is heeded of it, `delivery.max_retry_after_s` says.
_LONGEST_PAUSE_S: Final = 86_400.0
# Suffix of a code whose answer names the device token as what is wrong.
ABOUT_TOKEN: Final = ".token"  # noqa: S105

# firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode; the canonical codes of Google's APIs.
_FCM: Final[dict[tuple[int, str], Meaning]] = {
    (200, ""): _TAKEN,
    (400, "INVALID_ARGUMENT"): _MESSAGE,
    (400, "INVALID_ARGUMENT.token"): _DEAD,
    (400, "FAILED_PRECONDITION"): _MESSAGE,
    (400, "OUT_OF_RANGE"): _MESSAGE,
    (401, "UNAUTHENTICATED"): _STALE_KEY,
    (401, "THIRD_PARTY_AUTH_ERROR"): _KEY,  # the key for APNs or Web Push in the Firebase project
    (403, "SENDER_ID_MISMATCH"): _FOREIGN,
    (403, "PERMISSION_DENIED"): _KEY,
    (404, "UNREGISTERED"): _DEAD,
    (404, "NOT_FOUND"): _KEY,  # without FCM's own code: the project
    (409, "ABORTED"): _LATER,
    (429, "QUOTA_EXCEEDED"): _LATER,
    (429, "RESOURCE_EXHAUSTED"): _LATER,
    (499, "CANCELLED"): _LATER,
    (500, "INTERNAL"): _LATER,
    (500, "UNSPECIFIED_ERROR"): _LATER,
    (500, "UNKNOWN"): _LATER,
    (501, "UNIMPLEMENTED"): _MESSAGE,
    (503, "UNAVAILABLE"): _LATER,
    (504, "DEADLINE_EXCEEDED"): _LATER,
    # Of the token endpoint (RFC 6749 5.2 and Google's own), where no push was sent.
    (400, "oauth:invalid_grant"): _KEY,
    (400, "oauth:invalid_request"): _KEY,
    (400, "oauth:invalid_scope"): _KEY,
    (400, "oauth:unsupported_grant_type"): _KEY,
    (400, "oauth:unauthorized_client"): _KEY,
    (401, "oauth:unauthorized_client"): _KEY,
    (401, "oauth:invalid_client"): _KEY,
    (401, "oauth:deleted_client"): _KEY,
    (401, "oauth:disabled_client"): _KEY,
    (403, "oauth:access_denied"): _KEY,
}

# "Handling notification responses from APNs", table of response error strings. Apple: do not retry
# BadDeviceToken, DeviceTokenNotForTopic, Forbidden, ExpiredToken, Unregistered, PayloadTooLarge.
_APNS: Final[dict[tuple[int, str], Meaning]] = {
    (200, ""): _TAKEN,
    (400, "BadCollapseId"): _MESSAGE,
    (400, "BadDeviceToken"): _FOREIGN,  # often the other environment's
    (400, "BadExpirationDate"): _MESSAGE,
    (400, "BadMessageId"): _MESSAGE,
    (400, "BadPriority"): _MESSAGE,
    (400, "BadTopic"): _KEY,  # the topic is part of the credentials
    (400, "DeviceTokenNotForTopic"): _FOREIGN,
    (400, "DuplicateHeaders"): _MESSAGE,
    (400, "IdleTimeout"): _LATER,
    (400, "InvalidPushType"): _MESSAGE,
    (400, "MissingDeviceToken"): _FOREIGN,
    (400, "MissingTopic"): _KEY,
    (400, "PayloadEmpty"): _MESSAGE,
    (400, "TopicDisallowed"): _KEY,
    (403, "BadCertificate"): _KEY,
    (403, "BadCertificateEnvironment"): _KEY,
    (403, "BadEnvironmentKeyIdInToken"): _KEY,
    (403, "ExpiredProviderToken"): _STALE_KEY,
    (403, "Forbidden"): _KEY,
    (403, "InvalidProviderToken"): _KEY,
    (403, "MissingProviderToken"): _KEY,
    (403, "UnrelatedKeyIdInToken"): _KEY,
    (404, "BadPath"): _FOREIGN,  # the token is all of the path that varies
    (405, "MethodNotAllowed"): _MESSAGE,
    (410, "ExpiredToken"): _DEAD,
    (410, "Unregistered"): _DEAD,
    (413, "PayloadTooLarge"): _MESSAGE,
    (429, "TooManyProviderTokenUpdates"): _LATER,  # a new token would make it worse
    (429, "TooManyRequests"): _LATER,
    (500, "InternalServerError"): _LATER,
    (503, "ServiceUnavailable"): _LATER,
    (503, "Shutdown"): _LATER,
}

# docs.jiguang.cn, Push API v3, table of return codes.
_JPUSH: Final[dict[tuple[int, str], Meaning]] = {
    (200, ""): _TAKEN,
    (500, "1000"): _LATER,
    (405, "1001"): _MESSAGE,
    (400, "1002"): _MESSAGE,
    (400, "1003"): _MESSAGE,
    (400, "1003.token"): _FOREIGN,  # the registration ID is malformed or empty
    (401, "1004"): _KEY,
    (400, "1005"): _MESSAGE,
    (400, "1008"): _KEY,
    (400, "1009"): _MESSAGE,
    (400, "1011"): _DEAD,  # nobody there, or not for 255 days; we name one device a call
    (400, "1012"): _LATER,  # too many at the speed asked for
    (400, "1016"): _MESSAGE,
    (404, "1020"): _KEY,  # plain HTTP: the URL in the settings
    (503, "1030"): _LATER,
    (429, "2002"): _LATER,
    (403, "2003"): _KEY,  # the app is blocked
    (403, "2004"): _KEY,  # this server's address is not in the app's list
    (403, "2005"): _KEY,  # the account sent unreasonably much
    (403, "2006"): _KEY,  # for paying accounts
    (403, "2007"): _KEY,
    (429, "2008"): _LATER,
    (429, "2009"): _LATER,
}

# RFC 8030 and 8292; codes are those of Mozilla's autopush (errno) and of Apple's service (reason).
_WEBPUSH: Final[dict[tuple[int, str], Meaning]] = {
    (200, ""): _TAKEN,
    (201, ""): _TAKEN,
    (202, ""): _TAKEN,
    (204, ""): _TAKEN,
    (301, ""): _ADDRESS,  # not followed: the new place was not registered by the browser
    (302, ""): _ADDRESS,
    (307, ""): _ADDRESS,
    (308, ""): _ADDRESS,
    (400, ""): _MESSAGE,
    (400, "101"): _MESSAGE,  # missing crypto keys
    (400, "108"): _MESSAGE,  # router type
    (400, "110"): _MESSAGE,  # invalid crypto keys
    (400, "111"): _MESSAGE,  # missing header
    (400, "112"): _MESSAGE,  # bad TTL
    (400, "113"): _MESSAGE,  # bad Topic
    (400, "114"): _MESSAGE,  # bad Urgency
    (400, "VapidPkHashMismatch"): _FOREIGN,
    (401, ""): _STALE_KEY,
    (401, "109"): _STALE_KEY,
    (403, ""): _FOREIGN,  # RFC 8292 4.2: a subscription of another VAPID key
    (403, "109"): _FOREIGN,
    (403, "BadJwtToken"): _STALE_KEY,
    (403, "ExpiredJwtToken"): _STALE_KEY,
    (403, "VapidPkHashMismatch"): _FOREIGN,
    (404, ""): _DEAD,
    (404, "102"): _DEAD,
    (406, ""): _LATER,  # WNS: throttled
    (410, ""): _DEAD,
    (410, "103"): _DEAD,
    (410, "105"): _DEAD,
    (410, "106"): _DEAD,
    (410, "Unregistered"): _DEAD,
    (413, ""): _MESSAGE,
    (413, "104"): _MESSAGE,
    (429, ""): _LATER,
    (429, "201"): _LATER,
    (429, "202"): _LATER,
    (500, ""): _LATER,
    (500, "999"): _LATER,
    (502, ""): _LATER,
    (502, "900"): _LATER,
    (502, "901"): _LATER,
    (502, "902"): _LATER,
    (502, "903"): _LATER,
    (503, ""): _LATER,
    (503, "201"): _LATER,
    (503, "202"): _LATER,
}

TABLE: Final[dict[Network, dict[tuple[int, str], Meaning]]] = {
    Network.FCM: _FCM,
    Network.APNS: _APNS,
    Network.JPUSH: _JPUSH,
    Network.WEBPUSH: _WEBPUSH,
}
# What no network said; without a status.
OURS: Final[dict[str, Meaning]] = {
    UNREACHABLE: _LATER,
    NO_ANSWER: _LATER,
    TOKEN_INVALID: _FOREIGN,
    CERTIFICATE_EXPIRED: _KEY,
    ADDRESS_REFUSED: _ADDRESS,
    DRY_RUN: _TAKEN,
}
# Statuses that mean "later" wherever they come from (RFC 9110 15.5, RFC 8470, RFC 6585).
_PASSING: Final = frozenset({408, 421, 423, 425, 429})
# Codes end up in the store and in metrics' neighbourhood: short, and of harmless characters.
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DETAIL_LIMIT: Final = 300
_CLOCK_TOLERANCE_S: Final = 60.0


def meaning(network: Network, status: int, code: str) -> Meaning:
    """What an answer means: its row, the row of its bare status, or the rule of its status."""
    rows = TABLE[network]
    found = rows.get((status, code))
    if found is None and network is Network.WEBPUSH:
        found = rows.get((status, ""))
    return found or _by_status(status)


def _by_status(status: int) -> Meaning:
    if 200 <= status < 300:
        return _TAKEN
    if status in (401, 403, 407):
        return _KEY
    if 300 <= status < 500 and status not in _PASSING:
        return _MESSAGE
    return _LATER


def sent(
    network: Network,
    status: int,
    code: str,
    *,
    detail: str = "",
    retry_after_s: float = 0.0,
    dead_since_ms: int | None = None,
) -> Sent:
    """The result of a push that was answered with `status` and the network's `code`."""
    found = meaning(network, status, code)
    shown = code if _CODE.fullmatch(code) else ""
    return Sent(
        found.ending,
        shown or (str(status) if status >= 300 else ""),
        found.token,
        retry_after_s if found.ending is None else 0.0,
        dead_since_ms,
        one_line(detail),
    )


def ours(code: str, detail: str = "") -> Sent:
    """The result of a push that no network answered."""
    found = OURS[code]
    return Sent(found.ending, code, found.token, detail=one_line(detail))


def read_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object of an answer's body; an empty one if it is anything else."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def object_in(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object of that name; an empty one if there is none."""
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def text_in(parent: Mapping[str, Any], name: str) -> str:
    """The text or whole number of that name; empty if it is anything else, which may be deep."""
    value = parent.get(name)
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else ""


def one_line(text: str) -> str:
    """A network's words, fit for a log line and a table: printable, short."""
    text = text[: 4 * _DETAIL_LIMIT]
    return "".join(c if c.isprintable() else " " for c in text)[:_DETAIL_LIMIT].strip()


def retry_after_s(value: str, *, now_s: float) -> float:
    """A Retry-After header (seconds or a date) as seconds from now, at most a day; else 0."""
    value = value.strip()
    if not value or len(value) > 64:
        return 0.0
    try:
        wanted_s = float(value) if value[0].isdigit() else _seconds_until(value, now_s)
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, wanted_s), _LONGEST_PAUSE_S)


def _seconds_until(date: str, now_s: float) -> float:
    moment = parsedate_to_datetime(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s


def clock_hint(date: str, now_s: float) -> str:
    """What to do if a network's Date header says that our clock is wrong, else nothing."""
    try:
        ahead_s = -_seconds_until(date, now_s)
    except (ValueError, OverflowError):
        return ""
    if abs(ahead_s) < _CLOCK_TOLERANCE_S:
        return ""
    side = "ahead" if ahead_s > 0 else "behind"
    return f"this server's clock is {abs(ahead_s):.0f} s {side} of the network's: set it right"


def way_failed(was_sent: bool, problem: str) -> Sent:
    """The result of a push whose answer never came whole; it may be tried again."""
    return ours(NO_ANSWER if was_sent else UNREACHABLE, problem)
