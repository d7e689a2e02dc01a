"""JPush REST API v3: `/v3/push` and its dry run `/v3/push/validate`.

Owns app keys and the table of error codes. Knows no socket. Names, sizes and codes are those of
JPush's "Push API v3".
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mqttpush.provider_simulator.provider import Provider, Refusal, Reply, Request, Verdict

PAYLOAD_LIMIT_BYTES = 4000
IOS_LIMIT_BYTES = 2000
AUDIENCE_LIMIT_IDS = 1000
TIME_TO_LIVE_LIMIT_S = 864_000  # ten days
COLLAPSE_ID_LIMIT_BYTES = 64
# What the answers' rate headers say; nothing is limited but by a fault.
RATE_QUOTA, RATE_RESET_S = 600, 60
PLATFORMS = frozenset({"android", "ios", "quickapp", "winphone", "hmos"})
CONTENTS = ("notification", "message", "inapp_message", "live_activity")
TOP_KEYS = frozenset(
    {
        *("cid", "platform", "audience", "notification", "message", "sms_message", "options"),
        *("inapp_message", "live_activity", "callback", "notification_3rd"),
    }
)
AUDIENCES = frozenset(
    {
        *("tag", "tag_and", "tag_not", "alias", "registration_id", "segment", "abtest"),
        *("live_activity_id", "file"),
    }
)
# Code: status and message.
ERRORS = {
    "1000": (500, "Server internal error"),
    "1001": (405, "Only support HTTP POST"),
    "1002": (400, "Missing parameter"),
    "1003": (400, "Invalid parameter value"),
    "1003.token": (400, "The registration_id is invalid"),
    "1004": (401, "Authen failed"),
    "1005": (400, "Message body is too large"),
    "1008": (400, "app_key is not a 24 size string or does not exist"),
    "1009": (400, "Unsupported key in the push object"),
    "1011": (
        400,
        "cannot find user by this audience or has been inactive for more than 255 days",
    ),
    "1012": (400, "The push is not supported by this app"),
    "1016": (400, "Only one kind of audience is allowed here"),
    "1020": (404, "Only support HTTPS"),
    "1030": (503, "Internal service timeout"),
    "2002": (429, "Rate limit exceeded"),
    "2003": (403, "This app key is not allowed to call the API"),
    "2004": (403, "No permission: the IP address is not in the white list"),
    "2005": (403, "The number of messages exceeds a reasonable range"),
    "2006": (403, "No permission: not a VIP app"),
    "2007": (403, "No permission to call this interface"),
    "2008": (429, "Broadcasts exceed the limit of the day"),
    "2009": (429, "The push is limited"),
    "404": (404, "Not found"),
}
_REGISTRATION_ID = re.compile(r"[0-9A-Za-z]{8,64}")


@dataclass(frozen=True)
class JpushPair:
    """An app's two secrets, as JPush's console shows them."""

    app_key: str
    master_secret: str


class JpushProvider(Provider):
    """JPush. Any well-formed registration ID is known to every app, unless bound to one."""

    network = "jpush"
    death_code = "1011"
    codes = ERRORS.keys()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._secrets: dict[str, str] = {}
        self._app_key_by_device: dict[str, str] = {}
        self._reply_by_cid: dict[str, Reply] = {}
        self._message_count = 0

    # --- what tests and teams ask for ---

    def make_pair(self) -> JpushPair:
        """A new app."""
        pair = JpushPair(secrets.token_hex(12), secrets.token_hex(12))
        self._secrets[pair.app_key] = pair.master_secret
        return pair

    def make_tokens(self, count: int = 1, *, app_key: str = "") -> list[str]:
        """Registration IDs; with `app_key`, known to that app alone."""
        tokens = [
            f"1{secrets.randbelow(10**3):03}{secrets.token_hex(8)}"[:19] for _ in range(count)
        ]
        if app_key:
            self.bind(tokens, app_key)
        return tokens

    def bind(self, tokens: list[str], app_key: str) -> None:
        """These devices belong to that app: others do not find them."""
        self._app_key_by_device.update((token, app_key) for token in tokens)

    # --- the network ---

    def judge(self, request: Request) -> Verdict:
        if request.path not in ("/v3/push", "/v3/push/validate"):
            raise Refusal("404")
        if request.method != "POST":
            raise Refusal("1001")
        app_key = self._require_app(request.headers.get("authorization", ""))
        try:
            document = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            raise Refusal("1003", "The body is not JSON") from None
        _check_shape(document)
        _check_sizes(document)
        token = self._judge_audience(document["audience"], app_key)
        if request.path.endswith("/validate"):
            return Verdict(self._accepted(document), token)
        cid = document.get("cid")
        if cid in self._reply_by_cid:
            return Verdict(self._reply_by_cid[cid], token)  # pushed before, not again
        reply = self._accepted(document)
        if cid:
            self._reply_by_cid[cid] = reply
        return Verdict(reply, token, request.body)

    def render(self, refusal: Refusal) -> Reply:
        unknown = (refusal.facts.get("status", 500), "Unknown error")
        status, message = ERRORS.get(refusal.code, unknown)
        code = refusal.code.partition(".")[0]
        error = {
            "code": int(code) if code.isdigit() else code,
            "message": refusal.message or message,
        }
        document: dict[str, Any] = {"error": error}
        if status != 401:
            document["msg_id"] = self._next_id()
        return Reply(status, orjson.dumps(document), _headers())

    def _require_app(self, authorization: str) -> str:
        scheme, _, encoded = authorization.partition(" ")
        try:
            pair = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Refusal("1004") from None
        app_key, _, master_secret = pair.partition(":")
        if scheme.lower() != "basic" or not app_key:
            raise Refusal("1004")
        if app_key not in self._secrets:
            raise Refusal("1008")
        if self._secrets[app_key] != master_secret:
            raise Refusal("1004")
        return app_key

    def _judge_audience(self, audience: Any, app_key: str) -> str:
        """The first registration ID that can be reached; empty for other kinds of audience."""
        if audience == "all":
            return ""
        registration_ids = audience.get("registration_id")
        if not registration_ids:
            return ""
        for registration_id in registration_ids:
            is_ours = self._app_key_by_device.get(registration_id, app_key) == app_key
            is_ours = is_ours and registration_id.strip("0") != ""  # nobody's
            if is_ours and registration_id not in self.death_by_token:
                return str(registration_id)
        # Some dead among living ones are passed over; all of them dead is an error.
        death = self.death_by_token.get(registration_ids[0])
        raise Refusal(death.code if death else "1011")

    def _accepted(self, document: Mapping[str, Any]) -> Reply:
        sendno = (document.get("options") or {}).get("sendno", 0)
        answer = {"sendno": str(sendno), "msg_id": str(self._next_id())}
        return Reply(200, orjson.dumps(answer), _headers())

    def _next_id(self) -> int:
        self._message_count += 1
        return 18_100_000_000_000_000 + self._message_count


def _headers() -> tuple[tuple[str, str], ...]:
    return (
        ("content-type", "application/json"),
        ("x-rate-limit-limit", str(RATE_QUOTA)),
        ("x-rate-limit-remaining", str(RATE_QUOTA - 1)),
        ("x-rate-limit-reset", str(RATE_RESET_S)),
    )


def _check_shape(document: Any) -> None:
    if not isinstance(document, dict):
        raise Refusal("1003", "The body is not an object")
    if unknown := document.keys() - TOP_KEYS:
        raise Refusal("1009", f"Unsupported key: {min(unknown)}")
    for name in ("platform", "audience"):
        if not document.get(name):
            raise Refusal("1002", f"Missing parameter: {name}")
    if not any(document.get(name) for name in CONTENTS):
        raise Refusal("1002", "Missing parameter: notification or message")
    platform = document["platform"]
    if platform != "all" and not (isinstance(platform, list) and PLATFORMS.issuperset(platform)):
        raise Refusal("1003", "Invalid value: platform")
    _check_audience(document["audience"])
    _check_message(document.get("message"))
    _check_notification(document.get("notification"))
    _check_options(document.get("options"))


def _check_audience(audience: Any) -> None:
    if audience == "all":
        return
    if not isinstance(audience, dict):
        raise Refusal("1003", "Invalid value: audience")
    for name, values in audience.items():
        if name not in AUDIENCES:
            raise Refusal("1009", f"Unsupported key: audience.{name}")
        if name == "file":
            continue
        if not isinstance(values, list) or len(values) > AUDIENCE_LIMIT_IDS:
            raise Refusal("1003", f"Invalid value: audience.{name}")
        for value in values:
            if type(value) is not str or not value:
                raise Refusal("1003", f"Invalid value: audience.{name}")
            if name == "registration_id" and not _REGISTRATION_ID.fullmatch(value):
                raise Refusal("1003.token")
    if not any(audience.values()):
        raise Refusal("1002", "Missing parameter: audience")


def _check_message(message: Any) -> None:
    if message is None:
        return
    if not isinstance(message, dict):
        raise Refusal("1003", "Invalid value: message")
    if "msg_content" not in message:
        raise Refusal("1002", "Missing parameter: message.msg_content")
    for name in ("msg_content", "title", "content_type"):
        if type(message.get(name, "")) is not str:
            raise Refusal("1003", f"Invalid value: message.{name}")
    if not isinstance(message.get("extras", {}), dict):
        raise Refusal("1003", "Invalid value: message.extras")


def _check_notification(notification: Any) -> None:
    if notification is None:
        return
    if not isinstance(notification, dict):
        raise Refusal("1003", "Invalid value: notification")
    for name, part in notification.items():
        if name == "alert":
            continue
        if name not in PLATFORMS and name != "voip":
            raise Refusal("1009", f"Unsupported key: notification.{name}")
        if not isinstance(part, dict):
            raise Refusal("1003", f"Invalid value: notification.{name}")
        if name in PLATFORMS and "alert" not in part and "alert" not in notification:
            raise Refusal("1002", f"Missing parameter: notification.{name}.alert")
        if not isinstance(part.get("extras", {}), dict):
            raise Refusal("1003", f"Invalid value: notification.{name}.extras")


def _check_options(options: Any) -> None:
    if options is None:
        return
    if not isinstance(options, dict):
        raise Refusal("1003", "Invalid value: options")
    time_to_live = options.get("time_to_live", 0)
    if type(time_to_live) is not int or not 0 <= time_to_live <= TIME_TO_LIVE_LIMIT_S:
        raise Refusal("1003", "Invalid value: options.time_to_live")
    if type(options.get("apns_production", True)) is not bool:
        raise Refusal("1003", "Invalid value: options.apns_production")
    if type(options.get("sendno", 1)) is not int:
        raise Refusal("1003", "Invalid value: options.sendno")
    collapse_id = options.get("apns_collapse_id", "")
    if type(collapse_id) is not str or len(collapse_id.encode()) > COLLAPSE_ID_LIMIT_BYTES:
        raise Refusal("1003", "Invalid value: options.apns_collapse_id")


def _check_sizes(document: Mapping[str, Any]) -> None:
    notification = document.get("notification") or {}
    others = {name: part for name, part in notification.items() if name != "ios"}
    size = sum(len(orjson.dumps(part)) for part in (others, document.get("message")) if part)
    if size > PAYLOAD_LIMIT_BYTES:
        raise Refusal("1005")
    if "ios" in notification and len(orjson.dumps({"ios": notification["ios"]})) > IOS_LIMIT_BYTES:
        raise Refusal("1005")
