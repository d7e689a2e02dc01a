"""Web Push: a push service (RFC 8030), the browser behind it (RFC 8291) and VAPID (RFC 8292).

Owns subscriptions with their private keys and the errors of a push service, worded as Mozilla's.
Knows no socket. A real service cannot read a push; this one is browser too, and refuses what the
browser could not decrypt, because a browser would drop it without a word.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import http_ece
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from mqttpush.provider_simulator.keys import (
    base64url,
    from_base64url,
    make_ec_key,
    private_pem,
    public_point,
)
from mqttpush.provider_simulator.provider import Provider, Refusal, Reply, Request, Verdict
from mqttpush.provider_simulator.tokens import decode_signed, is_number

BODY_LIMIT_BYTES = 4096
TTL_LIMIT_S = 2_592_000  # a service may shorten a longer one; this one, like Mozilla's, to 30 days
VAPID_LIFETIME_LIMIT_S = 86_400
SKEW_S = 60
# Salt, record size and the length of the sender's key; the key; delimiter and tag of a record.
HEADER_BYTES, POINT_BYTES, RECORD_OVERHEAD_BYTES = 21, 65, 17
URGENCIES = frozenset({"very-low", "low", "normal", "high"})
_PATH = "/wpush/"
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")
_DIGITS = re.compile(r"\d{1,12}")
# Name: status, Mozilla's number, message.
ERRORS = {
    "no_such_subscription": (404, 102, "Request did not validate: no such subscription"),
    "expired_subscription": (410, 106, "User has unsubscribed"),
    "gone": (410, 105, "The endpoint is no longer available"),
    "too_large": (413, 104, "This message is intended for a constrained device: it is too large"),
    "unauthorized": (401, 109, "Request did not validate missing authorization header"),
    "bad_vapid": (401, 109, "Request did not validate Invalid Authorization Header"),
    "vapid_mismatch": (
        403,
        109,
        "The VAPID credentials do not correspond to those used to create the subscription",
    ),
    "bad_encryption": (400, 110, "Request did not validate: the body cannot be decrypted"),
    "missing_ttl": (400, 111, "Missing TTL Header, see: https://webpush-wg.github.io/"),
    "bad_ttl": (400, 112, "Invalid TTL header value"),
    "bad_topic": (400, 113, "Topic must be no greater than 32 characters, base64url"),
    "bad_urgency": (400, 114, "Invalid Urgency header value"),
    "bad_request": (400, 108, "Request did not validate"),
    "method_not_allowed": (405, 108, "Only POST is allowed"),
    "too_many_requests": (429, 202, "Too many requests for this subscription"),
    "internal": (500, 999, "An unknown error occurred"),
    "bad_gateway": (502, 901, "The push could not be routed"),
    "unavailable": (503, 201, "Please use exponential back-off for retries"),
}


@dataclass(frozen=True)
class VapidKey:
    """A key pair of an application server. public_key: base64url, as pages pass it on."""

    pem: str
    public_key: str
    subject: str


class _Subscription:
    """One browser. application_server_key: the only VAPID key it takes; empty: any."""

    __slots__ = ("application_server_key", "auth", "private_key")

    def __init__(
        self, private_key: ec.EllipticCurvePrivateKey, auth: bytes, application_server_key: str
    ) -> None:
        self.private_key = private_key
        self.auth = auth
        self.application_server_key = application_server_key


class WebPushProvider(Provider):
    """A push service and its browsers. Devices are known by the last part of their endpoint."""

    network = "webpush"
    death_code = "expired_subscription"
    codes = ERRORS.keys()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._subscriptions: dict[str, _Subscription] = {}
        self._verified: dict[str, tuple[str, float]] = {}
        self._message_count = 0

    # --- what tests and teams ask for ---

    def make_vapid(self, subject: str = "mailto:push@example.com") -> VapidKey:
        """A key pair for an app; it need not be known here, no push service asks for that."""
        key = make_ec_key()
        return VapidKey(private_pem(key), base64url(public_point(key)), subject)

    def make_tokens(self, count: int = 1, *, vapid_public_key: str = "") -> list[str]:
        """Subscriptions as browsers give them to pages, as JSON; they share one private key.

        vapid_public_key: the applicationServerKey they were made with; empty: any key may push.
        """
        key = make_ec_key()
        point = base64url(public_point(key))
        tokens = []
        for _ in range(count):
            subscription_id, auth = secrets.token_urlsafe(24), secrets.token_bytes(16)
            self._subscriptions[subscription_id] = _Subscription(key, auth, vapid_public_key)
            document = {
                "endpoint": f"{self.url}{_PATH}{subscription_id}",
                "expirationTime": None,
                "keys": {"p256dh": point, "auth": base64url(auth)},
            }
            tokens.append(orjson.dumps(document).decode())
        return tokens

    def forget(self, tokens: list[str]) -> None:
        """These subscriptions never were: 404."""
        for token in tokens:
            self._subscriptions.pop(self.key_of(token), None)

    def key_of(self, token: str) -> str:
        """From a subscription, its endpoint or the key itself."""
        if token.startswith("{"):
            token = str(orjson.loads(token).get("endpoint", ""))
        return token.rpartition("/")[2]

    # --- the network ---

    def judge(self, request: Request) -> Verdict:
        path, headers = request.path, request.headers
        if request.method != "POST":
            raise Refusal("method_not_allowed")
        if not path.startswith(_PATH):
            raise Refusal("no_such_subscription")
        key = path[len(_PATH) :]
        ttl_s = _judge_headers(headers)
        vapid_key = self._judge_vapid(headers.get("authorization", ""))
        subscription = self._subscriptions.get(key)
        if subscription is None:
            raise Refusal("no_such_subscription")
        if subscription.application_server_key not in ("", vapid_key):
            raise Refusal("vapid_mismatch")
        if len(request.body) > BODY_LIMIT_BYTES:
            raise Refusal("too_large")
        self._require_alive(key)
        plaintext = b""
        if request.body:
            plaintext = decrypt(request.body, headers.get("content-encoding", ""), subscription)
        self._message_count += 1
        location = f"{self.url}/m/{self._message_count}"
        answer = (("location", location), ("ttl", str(min(ttl_s, TTL_LIMIT_S))))
        return Verdict(Reply(201, b"", answer), key, plaintext)

    def render(self, refusal: Refusal) -> Reply:
        if refusal.code not in ERRORS:
            return _render_foreign(refusal.code, refusal.facts["status"])
        status, number, message = ERRORS[refusal.code]
        document = {
            "code": status,
            "errno": number,
            "error": refusal.code,
            "message": refusal.message or message,
            "more_info": "https://mozilla-services.github.io/autopush-rs/errors.html",
        }
        return Reply(status, orjson.dumps(document), (("content-type", "application/json"),))

    def _judge_vapid(self, authorization: str) -> str:
        """The application server's public key, once its signature and claims are good."""
        if not authorization:
            raise Refusal("unauthorized")
        known = self._verified.get(authorization)
        if known is None:
            known = self._verified[authorization] = self._verify(authorization)
        public_key, expires_at = known
        if expires_at < self.clock() - SKEW_S:
            raise Refusal("bad_vapid", "The VAPID token has expired")
        return public_key

    def _verify(self, authorization: str) -> tuple[str, float]:
        scheme, _, rest = authorization.partition(" ")
        pairs = (part.strip().partition("=") for part in rest.split(","))
        parameters = {name: value for name, _, value in pairs}
        if scheme.lower() != "vapid" or not {"t", "k"} <= parameters.keys():
            raise Refusal("bad_vapid", "The Authorization header is not `vapid t=..., k=...`")
        token, public_key = parameters["t"], parameters["k"].rstrip("=")
        try:
            point = from_base64url(public_key)
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
            algorithm = jwt.get_unverified_header(token).get("alg")
        except (ValueError, jwt.PyJWTError):
            raise Refusal("bad_vapid") from None
        if algorithm != "ES256":
            raise Refusal("bad_vapid", "The VAPID token is not signed with ES256")
        claims = decode_signed(token, key, "ES256", "bad_vapid")
        return public_key, self._judge_claims(claims)

    def _judge_claims(self, claims: Mapping[str, Any]) -> float:
        expires_at, now = claims.get("exp"), self.clock()
        if not is_number(expires_at):
            raise Refusal("bad_vapid", "exp is missing")
        if expires_at > now + VAPID_LIFETIME_LIMIT_S + SKEW_S:
            raise Refusal("bad_vapid", "exp is more than 24 hours away")
        if claims.get("aud") != _origin(self.url):
            raise Refusal("bad_vapid", f"aud is not {_origin(self.url)}")
        if not str(claims.get("sub", "")).startswith(("mailto:", "https://")):
            raise Refusal("bad_vapid", "sub is neither mailto: nor https:")
        return float(expires_at)


def decrypt(body: bytes, encoding: str, subscription: _Subscription) -> bytes:
    """What the browser would show its page; raises Refusal."""
    if encoding != "aes128gcm":
        raise Refusal("bad_encryption", "Content-Encoding is not aes128gcm")
    smallest = HEADER_BYTES + POINT_BYTES + RECORD_OVERHEAD_BYTES
    if len(body) < smallest or body[HEADER_BYTES - 1] != POINT_BYTES:
        raise Refusal("bad_encryption", "The body has no header of RFC 8188 with the sender's key")
    record_size_bytes = int.from_bytes(body[16:20])
    if len(body) - HEADER_BYTES - POINT_BYTES > record_size_bytes:
        raise Refusal("bad_encryption", "The body is more than one record, see RFC 8291 section 4")
    try:
        plaintext: bytes = http_ece.decrypt(
            body, private_key=subscription.private_key, auth_secret=subscription.auth
        )
    except (http_ece.ECEException, ValueError) as exc:
        raise Refusal("bad_encryption", f"The browser cannot decrypt the body: {exc}") from None
    return plaintext


def _judge_headers(headers: Mapping[str, str]) -> int:
    ttl = headers.get("ttl")
    if ttl is None:
        raise Refusal("missing_ttl")
    if not _DIGITS.fullmatch(ttl):
        raise Refusal("bad_ttl")
    if headers.get("urgency", "normal") not in URGENCIES:
        raise Refusal("bad_urgency")
    topic = headers.get("topic")
    if topic is not None and not _TOPIC.fullmatch(topic):
        raise Refusal("bad_topic")
    return int(ttl)


def _render_foreign(code: str, status: int) -> Reply:
    """A code of a fault's own: a number of Mozilla's, or a reason as Apple's push service's."""
    document: dict[str, Any] = {"reason": code}
    if code.isdigit():
        document = {"code": status, "errno": int(code), "error": "", "message": ""}
    return Reply(status, orjson.dumps(document), (("content-type", "application/json"),))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
