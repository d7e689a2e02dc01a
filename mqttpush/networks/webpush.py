"""Web Push: RFC 8030 to a browser's endpoint, encrypted (RFC 8291), signed with VAPID (RFC 8292).

Owns the app's VAPID key, the encryption and what push services answer. Knows no retry. The one
idea: an endpoint comes from a stranger, so a request goes only where `addresses` says, to the very
address it checked, follows no redirect, and shows nobody what was answered.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import http_ece
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mqttpush.config import NetworkSettings
from mqttpush.errors import InvalidRequest
from mqttpush.networks import Ending, Keys, Network, Push, Sent, answers
from mqttpush.networks.addresses import (
    Addresses,
    AddressRefused,
    AddressUnknown,
    EndpointRefused,
    EndpointRules,
    Resolve,
    connect_to,
)
from mqttpush.networks.encoding import from_base64url, to_base64url
from mqttpush.networks.fields import matching_field, only_fields, p256_private_key, text_field
from mqttpush.networks.http import Answer, HttpClient, WayFailed
from mqttpush.networks.kept import PerApp
from mqttpush.networks.tokens import Subscription

# RFC 8292: at most 24 hours; services refuse what is too far off, so half of that.
_VALID_S: Final = 43_200.0
_SIGN_AGAIN_S: Final = 21_600.0
_RENEWAL_PAUSE_S: Final = 60.0
_MAX_ORIGINS: Final = 256
_MAX_TTL_S: Final = 2_419_200  # four weeks, the least of the services' limits
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
URGENCIES: Final = ("very-low", "low", "normal", "high")
# 4,096 bytes a record, less header (86), padding delimiter and tag (17): RFC 8291 4.
MAX_PLAINTEXT_BYTES: Final = 3993


class WebPushNetwork:
    """Web Push for all apps. clock: wall-clock seconds; resolve: names to addresses."""

    def __init__(
        self,
        *,
        settings: NetworkSettings,
        clock: Callable[[], float],
        resolve: Resolve,
        http: HttpClient | None = None,
    ) -> None:
        self._clock = clock
        self._http = http or HttpClient(settings)
        self._rules = EndpointRules(settings)
        self._addresses = Addresses(
            resolve=resolve, timeout_s=settings.connect_timeout_s, clock=clock
        )
        self._vouchers = PerApp(_Voucher)

    def check(self, app_id: str, fields: Mapping[str, Any]) -> Keys:
        """fields: `privateKey` (VAPID: PEM, or 32 bytes in base64url) and `subject`."""
        only_fields(fields, ("privateKey", "subject"))
        text = text_field(fields, "privateKey").strip()
        key = vapid_key(text)
        shape = r"(?:mailto:[^\s@<>,]+@[^\s@<>,]+|https://[^\s<>,]+)"
        problem = "must be mailto:you@example.com or https://example.com/contact"
        subject = matching_field(fields, "subject", shape, problem)
        if len(subject) > 256:
            raise InvalidRequest("is too long", field="subject")
        kept = {"privateKey": text, "subject": subject}
        summary = {"publicKey": public_text(key), "subject": subject}
        return Keys(app_id, Network.WEBPUSH, kept, summary)

    async def send(self, keys: Keys, push: Push) -> Sent:
        """One attempt, and a second with a new VAPID token if the service refuses the old one.

        Web Push has no dry run: of one, only what can be checked here is.
        """
        try:
            subscription, address = await self._find_way(push.token)
            body = b"" if push.is_dry_run else encrypt(push.payload.body, subscription)
        except (InvalidRequest, AddressRefused, AddressUnknown) as exc:
            return _no_way(exc)
        if push.is_dry_run:
            return answers.ours(answers.DRY_RUN)
        endpoint = subscription.endpoint
        way = connect_to(endpoint.host, address) if address else ""
        headers = delivery_headers(push, self._clock())
        voucher = self._vouchers.of(keys)
        refused = ""
        while True:
            line = voucher.authorization(endpoint.origin, self._clock())
            try:
                answer = await self._http.post(endpoint.url, (*headers, line), body, connect_to=way)
            except WayFailed as exc:
                if address and not exc.was_sent:
                    self._addresses.set_aside(endpoint.host, address)
                return answers.way_failed(exc.was_sent, str(exc))
            if 200 <= answer.status < 300:
                return answers.sent(Network.WEBPUSH, answer.status, "")
            code = read_error(answer.body)
            renews = answers.meaning(Network.WEBPUSH, answer.status, code).renews
            if refused or not renews or not voucher.renew(endpoint.origin, line, self._clock()):
                return self._sent(answer, code)
            refused = line

    async def test(self, keys: Keys, token: str | None) -> Sent:
        """Is the key fit to sign, and the subscription one this server would send to?"""
        self._vouchers.of(keys).authorization("https://example.com", self._clock())
        if token is None:
            detail = "the key is good; whether browsers know it only a push tells"
            return Sent(Ending.DELIVERED, answers.DRY_RUN, detail=detail)
        try:
            await self._find_way(token)
        except (InvalidRequest, AddressRefused, AddressUnknown) as exc:
            return _no_way(exc)
        return answers.ours(answers.DRY_RUN)

    async def close(self) -> None:
        """End the connections."""
        await self._http.close()

    async def _find_way(self, token: str) -> tuple[Subscription, str]:
        """The subscription and the address of its service; none of a simulator's."""
        subscription = Subscription(token, self._rules)
        assert subscription.public_key is not None  # on the curve
        if subscription.endpoint.is_simulator:
            return subscription, ""
        return subscription, await self._addresses.find(subscription.endpoint.host)

    def _sent(self, answer: Answer, code: str) -> Sent:
        now_s = self._clock()
        pause = answer.header("Retry-After")
        is_refusal = answer.status in (401, 403)
        return answers.sent(
            Network.WEBPUSH,
            answer.status,
            code if (answer.status, code) in answers.TABLE[Network.WEBPUSH] else "",
            # Not the service's words: whoever registered the endpoint could write them.
            detail=answers.clock_hint(answer.header("Date"), now_s) if is_refusal else "",
            retry_after_s=answers.retry_after_s(pause, now_s=now_s),
        )


class _Signed(NamedTuple):
    line: str
    signed_at_s: float
    next_renewal_at_s: float


class _Voucher:
    """An app's VAPID key at work: one signed token per push service, used again for hours."""

    def __init__(self, keys: Keys) -> None:
        self._key = vapid_key(keys.fields["privateKey"])
        self._subject = keys.fields["subject"]
        self._public = public_text(self._key)
        self._by_origin: OrderedDict[str, _Signed] = OrderedDict()

    def authorization(self, origin: str, now_s: float) -> str:
        """The Authorization line for a push service."""
        found = self._by_origin.get(origin)
        if found is None or not 0 <= now_s - found.signed_at_s < _SIGN_AGAIN_S:
            found = self._sign(origin, now_s, 0.0)
        return found.line

    def renew(self, origin: str, refused: str, now_s: float) -> bool:
        """Sign anew, unless that was done a moment ago."""
        found = self._by_origin.get(origin)
        if found is None or found.line != refused:
            return True
        if now_s < found.next_renewal_at_s:
            return False
        self._sign(origin, now_s, now_s + _RENEWAL_PAUSE_S)
        return True

    def _sign(self, origin: str, now_s: float, next_renewal_at_s: float) -> _Signed:
        claims = {"aud": origin, "exp": int(now_s + _VALID_S), "sub": self._subject}
        token = jwt.encode(claims, self._key, algorithm="ES256")
        line = f"Authorization: vapid t={token}, k={self._public}"
        signed = self._by_origin[origin] = _Signed(line, now_s, next_renewal_at_s)
        self._by_origin.move_to_end(origin)
        if len(self._by_origin) > _MAX_ORIGINS:
            self._by_origin.popitem(last=False)
        return signed


def encrypt(plaintext: bytes, subscription: Subscription) -> bytes:
    """One aes128gcm record for the browser alone. Raises InvalidRequest for a key off the curve.

    A key pair and a salt for each message (RFC 8291 3.1 and 3.4). Cost: most of a push.
    """
    content: bytes = http_ece.encrypt(
        plaintext,
        salt=os.urandom(16),
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=subscription.public_key,
        auth_secret=subscription.auth,
        version="aes128gcm",
    )
    return content


def delivery_headers(push: Push, now_s: float) -> tuple[str, ...]:
    """The header lines that say how the push may be held back."""
    payload = push.payload
    remaining_s = min(push.left_s(now_s), _MAX_TTL_S)
    ttl_s = remaining_s if payload.ttl_s is None else min(remaining_s, payload.ttl_s)
    urgency = "high" if payload.is_urgent else "normal"
    if payload.push_type in URGENCIES:
        urgency = payload.push_type
    lines = [
        f"TTL: {ttl_s}",
        f"Urgency: {urgency}",
        "Content-Encoding: aes128gcm",
        "Content-Type: application/octet-stream",
    ]
    if payload.collapse_key:
        lines.append(f"Topic: {topic(payload.collapse_key)}")
    return tuple(lines)


def topic(collapse_key: str) -> str:
    """At most 32 base64url characters: the key's hash, so equal keys stay equal."""
    if _TOPIC.fullmatch(collapse_key):
        return collapse_key
    digest = hashlib.sha256(collapse_key.encode("utf-8", "surrogatepass")).digest()
    return to_base64url(digest)[:32]


def vapid_key(text: str) -> ec.EllipticCurvePrivateKey:
    """The private key of PEM text or of 32 bytes in base64url. Raises InvalidRequest."""
    if "-----" in text:
        return p256_private_key(text, "privateKey")
    octets = from_base64url(text)
    if octets is None or len(octets) != 32:
        hint = ", this is a public key" if octets is not None and len(octets) == 65 else ""
        problem = f"must be PEM text or 32 bytes in base64url{hint}"
        raise InvalidRequest(problem, field="privateKey")
    try:
        return ec.derive_private_key(int.from_bytes(octets, "big"), ec.SECP256R1())
    except ValueError:
        raise InvalidRequest("is no key on P-256", field="privateKey") from None


def public_text(key: ec.EllipticCurvePrivateKey) -> str:
    """The public key as a page passes it to `subscribe` (applicationServerKey)."""
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return to_base64url(point)


def generate_key() -> str:
    """A new VAPID private key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def read_error(body: bytes) -> str:
    """The code of autopush (errno) or of Apple's service (reason), if the body has one."""
    parsed = answers.read_object(body)
    return answers.text_in(parsed, "errno") or answers.text_in(parsed, "reason")


def _no_way(error: InvalidRequest | AddressRefused | AddressUnknown) -> Sent:
    if isinstance(error, AddressUnknown):
        return answers.ours(answers.UNREACHABLE, str(error))
    is_address = isinstance(error, EndpointRefused | AddressRefused)
    return answers.ours(
        answers.ADDRESS_REFUSED if is_address else answers.TOKEN_INVALID, str(error)
    )
