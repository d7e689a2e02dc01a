"""APNs: what Apple's servers check, and their errors.

Owns provider keys, push certificates and the table of reasons. Knows no socket. Two environments
share keys and devices: each is a face of its own (`ApnsEnvironment`) with its own port, so that a
device of one is BadDeviceToken at the other.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from mqttpush.provider_simulator.keys import LIFETIME, Authority, make_ec_key, private_pem
from mqttpush.provider_simulator.provider import (
    Outcome,
    Provider,
    Refusal,
    Reply,
    Request,
    Verdict,
)
from mqttpush.provider_simulator.tokens import decode_signed, is_number

PAYLOAD_LIMIT_BYTES = 4096
VOIP_PAYLOAD_LIMIT_BYTES = 5120
COLLAPSE_ID_LIMIT_BYTES = 64
PROVIDER_TOKEN_LIFETIME_S = 3600
SKEW_S = 60
# Apple asks for one in 20 to 60 minutes; several processes may share a key, signing per push not.
PROVIDER_TOKENS_LIMIT = 50
PROVIDER_TOKENS_WINDOW_S = 1200
PUSH_TYPES = frozenset(
    {
        *("alert", "background", "controls", "location", "voip", "complication", "fileprovider"),
        *("mdm", "liveactivity", "pushtotalk", "widgets"),
    }
)
PRIORITIES = frozenset({"10", "5", "1"})
# Every reason with its status, as Apple's "Handling notification responses from APNs" lists them.
REASONS = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "IdleTimeout": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "BadEnvironmentKeyIdInToken": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "UnrelatedKeyIdInToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "ExpiredToken": 410,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}
_DEVICE_PATH = "/3/device/"
_DEVICE_TOKEN = re.compile(r"(?:[0-9a-fA-F]{2}){32,100}")
_MESSAGE_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EXPIRATION = re.compile(r"\d{1,12}")


@dataclass(frozen=True)
class ApnsKey:
    """A provider key as Apple gives it out: the .p8 file and its two names."""

    pem: str
    key_id: str
    team_id: str


@dataclass(frozen=True)
class ApnsCertificate:
    """A push certificate with its key: the .p12 file."""

    p12: bytes
    password: str
    topic: str


@dataclass(frozen=True)
class _KnownKey:
    team_id: str
    public_key: EllipticCurvePublicKey
    topics: frozenset[str]
    environments: frozenset[str]


@dataclass(frozen=True)
class _KnownCertificate:
    topic: str
    environments: frozenset[str]


@dataclass(frozen=True)
class _Device:
    environment: str
    topic: str


class ApnsProvider(Provider):
    """APNs, both environments. Any well-formed device token is known, to both, unless bound."""

    network = "apns"
    death_code = "Unregistered"
    codes = REASONS.keys()

    def __init__(self, *, authority: Authority, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sandbox_url = ""
        self.production = ApnsEnvironment(self, "production")
        self.sandbox = ApnsEnvironment(self, "sandbox")
        self._authority = authority
        self._keys: dict[str, _KnownKey] = {}
        self._certificates: dict[str, _KnownCertificate] = {}
        self._devices: dict[str, _Device] = {}
        self._verified: dict[str, tuple[_KnownKey, float]] = {}
        self._updates: dict[str, list[float]] = {}
        self._revoked_before = 0.0

    # --- what tests and teams ask for ---

    def make_key(
        self, *, topics: tuple[str, ...] = (), environment: str = "", team_id: str = ""
    ) -> ApnsKey:
        """A provider key; topics, environment: all it may be used for, empty: anything."""
        key = make_ec_key()
        key_id, team_id = _apple_id(), team_id or _apple_id()
        environments = frozenset({environment} if environment else {"production", "sandbox"})
        known = _KnownKey(team_id, key.public_key(), frozenset(topics), environments)
        self._keys[key_id] = known
        return ApnsKey(private_pem(key), key_id, team_id)

    def make_certificate(
        self,
        topic: str,
        *,
        password: str = "",
        environment: str = "",
        lifetime: timedelta = LIFETIME,
    ) -> ApnsCertificate:
        """A push certificate; one for both environments unless one is named."""
        environments = frozenset({environment} if environment else {"production", "sandbox"})
        p12, serial = self._authority.make_client_file(
            topic,
            password,
            is_development="sandbox" in environments,
            is_production="production" in environments,
            lifetime=lifetime,
        )
        self._certificates[serial] = _KnownCertificate(topic, environments)
        return ApnsCertificate(p12, password, topic)

    def make_tokens(self, count: int = 1, *, environment: str = "", topic: str = "") -> list[str]:
        """Device tokens; with `environment` or `topic`, good for that one alone."""
        tokens = [secrets.token_hex(32) for _ in range(count)]
        if environment or topic:
            self.bind(tokens, environment=environment, topic=topic)
        return tokens

    def bind(self, tokens: list[str], *, environment: str = "", topic: str = "") -> None:
        """These devices are of that environment and that app; empty: of any."""
        device = _Device(environment, topic)
        self._devices.update((token.lower(), device) for token in tokens)

    def expire_provider_tokens(self) -> None:
        """Every provider token signed so far is ExpiredProviderToken; younger ones are taken."""
        self._revoked_before = self.clock()
        self._updates.clear()

    def key_of(self, token: str) -> str:
        return token.lower()

    # --- the network ---

    def judge(self, request: Request) -> Verdict:
        raise NotImplementedError("requests come in by an environment")

    def judge_in(self, environment: str, request: Request) -> Verdict:
        """Check a request in the order of Apple's servers: path, credentials, headers, device."""
        headers = request.headers
        if request.method != "POST":
            raise Refusal("MethodNotAllowed")
        if not request.path.startswith(_DEVICE_PATH):
            raise Refusal("BadPath")
        if any(name.startswith("apns-") or name == "authorization" for name in request.repeated):
            raise Refusal("DuplicateHeaders")
        topic = self._judge_credentials(environment, request)
        self._judge_headers(headers)
        token = request.path[len(_DEVICE_PATH) :].lower()
        if not token:
            raise Refusal("MissingDeviceToken")
        if not _DEVICE_TOKEN.fullmatch(token):
            raise Refusal("BadDeviceToken")
        _judge_payload(request.body, headers.get("apns-push-type", ""))
        self._judge_device(token, environment, topic)
        reply = Reply(200, b"", (("apns-id", headers.get("apns-id") or _message_id()),))
        if environment == "sandbox":
            unique_id = ("apns-unique-id", str(uuid.uuid4()))
            reply = reply._replace(headers=(*reply.headers, unique_id))
        return Verdict(reply, token, request.body)

    def render(self, refusal: Refusal) -> Reply:
        document: dict[str, Any] = {"reason": refusal.code}
        status = REASONS.get(refusal.code) or refusal.facts["status"]
        if status == 410:
            document["timestamp"] = refusal.facts.get("since_ms", int(self.clock() * 1000))
        headers = (("apns-id", _message_id()), ("content-type", "application/json"))
        return Reply(status, orjson.dumps(document), headers)

    def _judge_credentials(self, environment: str, request: Request) -> str:
        """The topic, once the key or certificate is found good for it."""
        authorization = request.headers.get("authorization", "")
        topic = request.headers.get("apns-topic", "")
        if authorization:
            scheme, _, provider_token = authorization.partition(" ")
            if scheme.lower() != "bearer" or not provider_token:
                raise Refusal("InvalidProviderToken")
            known = self._judge_provider_token(provider_token)
            if environment not in known.environments:
                raise Refusal("BadEnvironmentKeyIdInToken")
            if not topic:
                raise Refusal("MissingTopic")
            if known.topics and topic not in known.topics:
                raise Refusal("TopicDisallowed")
            return topic
        if not request.peer:
            raise Refusal("MissingProviderToken")
        certificate = self._certificates.get(request.peer)
        if certificate is None:
            raise Refusal("BadCertificate")
        if environment not in certificate.environments:
            raise Refusal("BadCertificateEnvironment")
        if topic and topic != certificate.topic:
            raise Refusal("TopicDisallowed")
        return certificate.topic

    def _judge_provider_token(self, provider_token: str) -> _KnownKey:
        known = self._verified.get(provider_token)
        if known is None:
            known = self._verified[provider_token] = self._verify(provider_token)
        issued_at, now = known[1], self.clock()
        if issued_at < now - PROVIDER_TOKEN_LIFETIME_S or issued_at < self._revoked_before - 1:
            raise Refusal("ExpiredProviderToken")
        return known[0]

    def _verify(self, provider_token: str) -> tuple[_KnownKey, float]:
        try:
            header = jwt.get_unverified_header(provider_token)
        except jwt.PyJWTError:
            raise Refusal("InvalidProviderToken") from None
        key_id = str(header.get("kid"))
        known = self._keys.get(key_id)
        if known is None or header.get("alg") != "ES256":
            raise Refusal("InvalidProviderToken")
        claims = decode_signed(provider_token, known.public_key, "ES256", "InvalidProviderToken")
        issued_at, now = claims.get("iat"), self.clock()
        if claims.get("iss") != known.team_id or not is_number(issued_at):
            raise Refusal("InvalidProviderToken")
        if issued_at > now + SKEW_S:
            raise Refusal("InvalidProviderToken")
        updates = [
            at for at in self._updates.get(key_id, ()) if at > now - PROVIDER_TOKENS_WINDOW_S
        ]
        self._updates[key_id] = updates
        if len(updates) >= PROVIDER_TOKENS_LIMIT:
            raise Refusal("TooManyProviderTokenUpdates")
        updates.append(now)
        return known, float(issued_at)

    def _judge_headers(self, headers: Mapping[str, str]) -> None:
        push_type = headers.get("apns-push-type", "")
        priority = headers.get("apns-priority", "10" if push_type != "background" else "5")
        if push_type and push_type not in PUSH_TYPES:
            raise Refusal("InvalidPushType")
        if priority not in PRIORITIES or (push_type == "background" and priority == "10"):
            raise Refusal("BadPriority")
        if not _EXPIRATION.fullmatch(headers.get("apns-expiration", "0")):
            raise Refusal("BadExpirationDate")
        if len(headers.get("apns-collapse-id", "").encode()) > COLLAPSE_ID_LIMIT_BYTES:
            raise Refusal("BadCollapseId")
        message_id = headers.get("apns-id")
        if message_id is not None and not _MESSAGE_ID.fullmatch(message_id):
            raise Refusal("BadMessageId")

    def _judge_device(self, token: str, environment: str, topic: str) -> None:
        if not token.strip("0"):  # nobody's, whatever its length
            raise Refusal("BadDeviceToken")
        device = self._devices.get(token)
        if device is not None:
            if device.environment not in ("", environment):
                raise Refusal("BadDeviceToken")
            if device.topic not in ("", topic):
                raise Refusal("DeviceTokenNotForTopic")
        self._require_alive(token)


class ApnsEnvironment:
    """One of APNs' two environments, as a link's receiver."""

    def __init__(self, apns: ApnsProvider, name: str) -> None:
        self._apns = apns
        self.name = name

    def receive(self, request: Request) -> Outcome:
        return self._apns.receive_as(request, lambda: self._apns.judge_in(self.name, request))


def _judge_payload(body: bytes, push_type: str) -> None:
    limit = VOIP_PAYLOAD_LIMIT_BYTES if push_type == "voip" else PAYLOAD_LIMIT_BYTES
    if len(body) > limit:
        raise Refusal("PayloadTooLarge")
    if not body:
        raise Refusal("PayloadEmpty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal("PayloadEmpty") from None  # Apple has no word for what is no JSON
    if not isinstance(document, dict) or not document:
        raise Refusal("PayloadEmpty")


def _apple_id() -> str:
    """Ten capitals and digits, as Apple's key and team IDs."""
    return "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(10))


def _message_id() -> str:
    return str(uuid.uuid4()).upper()
