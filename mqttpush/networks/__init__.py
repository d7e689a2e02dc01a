"""Push networks: one small interface, one module a network.

Owns what every network shares: a push to one device token, its result, and the closed list of ends
a push can meet. Knows nobody who sends, no store and no retry: a network is asked once per attempt
and says what the answer means. The one idea: what an answer means is a row of a table (`answers`),
never a branch, so that no answer of a network is without a meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from mqttpush.models import PhonePayload


class Network(StrEnum):
    """The networks; the values are those of message bodies, metrics and the command line."""

    FCM = "fcm"
    APNS = "apns"
    JPUSH = "jpush"
    WEBPUSH = "webpush"


class Ending(StrEnum):
    """Every end a push to one device can meet; the values are what REST, CLI and metrics show."""

    DELIVERED = "delivered"  # the network took it; what the device does nobody tells
    TOKEN_REMOVED = "token_removed"  # noqa: S105 - the device is gone: its installation was removed
    TOKEN_MISMATCH = "token_mismatch"  # noqa: S105 - of another app or environment: marked
    PAYLOAD_REFUSED = "payload_refused"  # the message is at fault, no token
    CREDENTIALS_REFUSED = "credentials_refused"  # the network refuses the app's key
    NOT_CONFIGURED = "not_configured"  # the app has no key for the network
    ADDRESS_REFUSED = "address_refused"  # a Web Push endpoint we do not connect to
    EXPIRED = "expired"  # not taken before its time was over
    SENT_OVER_MQTT = "sent_over_mqtt"  # `delivery: "once"`: its owner got it on a live connection
    WITHDRAWN = "withdrawn"  # its owner lost the right, was disabled or deleted before


class TokenFate(StrEnum):
    """What an answer says about the device token."""

    KEEP = "keep"
    REMOVE = "remove"
    MARK = "mark"


class Push(NamedTuple):
    """One attempt to reach one device.

    token: as the device registered it; for Web Push the browser's subscription as JSON.
    expires_ms: the network may hold it back until then (wall clock, milliseconds). push_id: for
    tracing. is_dry_run: the network checks it and delivers nothing, where it can.
    """

    token: str
    payload: PhonePayload
    is_development: bool
    expires_ms: int
    push_id: str = ""
    is_dry_run: bool = False

    def left_s(self, now_s: float) -> int:
        """Whole seconds until it expires, rounded up: one must not become none on the way."""
        return max(0, -((round(now_s * 1000) - self.expires_ms) // 1000))


class Sent(NamedTuple):
    """What a network's answer means.

    ending: None if the same push may succeed later. code: the network's own, for people and the
    table. retry_after_s: asked for by the network, 0 if it asked for nothing. dead_since_ms: when
    the token died, if the network says so: a token registered again after that stays.
    """

    ending: Ending | None
    code: str
    token: TokenFate = TokenFate.KEEP
    retry_after_s: float = 0.0
    dead_since_ms: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """The credentials of one app for one network, already checked. fields: secret; never logged.

    fields are JSON and may be given to `check` again. FCM: the service account's file. APNs:
    `key`, `keyId`, `teamId`, `topic`, or `certificate`, `key` (both PEM), `topic`; in
    `development` others for there. JPush: `appKey`, `masterSecret`. Web Push: `privateKey`,
    `subject`. summary: what may be shown (project, key ID, team, expiry).
    """

    app_id: str
    network: Network
    fields: Mapping[str, Any] = field(repr=False)
    summary: Mapping[str, Any]


class PushNetwork(Protocol):
    """One network, for all apps. Implementations keep a few long-lived connections."""

    def check(self, app_id: str, fields: Mapping[str, Any]) -> Keys:
        """The credentials as given, checked without a request; raises InvalidRequest with a field.

        A key of another kind, an expired certificate, a wrong file: said here, not at the send.
        """

    async def send(self, keys: Keys, push: Push) -> Sent:
        """One attempt. Never raises for what the network or the way to it does; bounded in time."""

    async def test(self, keys: Keys, token: str | None) -> Sent:
        """Is the network content with these credentials? A dry run where the network has one."""

    async def close(self) -> None: ...
