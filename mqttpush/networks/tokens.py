"""Device tokens: which strings may be one, network by network.

Owns their shapes, checked when a device registers and again before a request is made of them.
Knows no request. The one idea: a token that passed stands in a URL or a JSON string as it is.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from mqttpush.errors import InvalidRequest
from mqttpush.networks import Network
from mqttpush.networks.addresses import Endpoint, EndpointRules
from mqttpush.networks.encoding import from_base64url, to_base64url

_SHAPES: Final[dict[Network, tuple[re.Pattern[str], str]]] = {
    # Tokens of today have 140 to 180 characters; the old ones were longer.
    Network.FCM: (
        re.compile(r"[A-Za-z0-9_:./=+-]{1,1024}"),
        "must be a registration token of FCM: letters, digits and -_:. only, at most 1024",
    ),
    # Apple: do not assume a length; 32 bytes today, up to 100 announced.
    Network.APNS: (
        re.compile(r"(?:[0-9a-fA-F]{2}){32,100}"),
        "must be an APNs device token: 64 to 200 hexadecimal digits",
    ),
    Network.JPUSH: (
        re.compile(r"[A-Za-z0-9_-]{1,64}"),
        "must be a JPush registration ID: letters and digits, at most 64",
    ),
}
_MAX_SUBSCRIPTION_CHARACTERS: Final = 4096


def is_token(network: Network, token: str) -> bool:
    """Has the token the network's shape? Not for Web Push, whose tokens are read anyway."""
    return _SHAPES[network][0].fullmatch(token) is not None


def check_token(network: Network, token: str, rules: EndpointRules, *, field: str = "token") -> str:
    """The token as it is to be kept. Raises InvalidRequest that names `field`.

    Web Push: the browser's subscription as JSON comes back in one spelling, without what is not
    needed, so that equal subscriptions are equal strings.
    """
    if network is Network.WEBPUSH:
        try:
            return Subscription(token, rules).normalised()
        except InvalidRequest as exc:
            place = f"{field}.{exc.field}" if exc.field else field
            raise InvalidRequest(exc.problem, field=place, code=exc.code) from exc
    shape, problem = _SHAPES[network]
    if not shape.fullmatch(token):
        raise InvalidRequest(problem, field=field)
    return token


class Subscription:
    """A browser's subscription (PushSubscription.toJSON()). Raises InvalidRequest if it is none."""

    endpoint: Endpoint
    p256dh: bytes
    auth: bytes

    def __init__(self, token: str, rules: EndpointRules) -> None:
        if len(token) > _MAX_SUBSCRIPTION_CHARACTERS:
            limit = _MAX_SUBSCRIPTION_CHARACTERS
            raise InvalidRequest(f"is longer than {limit} characters")
        try:
            parsed = orjson.loads(token)
        except orjson.JSONDecodeError:
            raise InvalidRequest("must be the browser's subscription as JSON") from None
        if not isinstance(parsed, dict):
            raise InvalidRequest("must be the browser's subscription, a JSON object")
        endpoint = parsed.get("endpoint")
        if not isinstance(endpoint, str):
            raise InvalidRequest("is missing", field="endpoint")
        self.endpoint = rules.parse(endpoint)
        keys = parsed.get("keys")
        if not isinstance(keys, dict):
            raise InvalidRequest("is missing", field="keys")
        self.p256dh = _octets(keys, "p256dh", 65)
        self.auth = _octets(keys, "auth", 16)

    @cached_property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The browser's key; raises InvalidRequest if it is no point of the curve. Cost: 15 us."""
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.p256dh)
        except ValueError:
            raise InvalidRequest("is no point of the curve P-256", field="keys.p256dh") from None

    def normalised(self) -> str:
        """The same subscription, spelled in one way."""
        assert self.public_key is not None  # on the curve
        keys = {"auth": to_base64url(self.auth), "p256dh": to_base64url(self.p256dh)}
        return orjson.dumps({"endpoint": self.endpoint.url, "keys": keys}).decode()


def _octets(keys: dict[str, Any], name: str, length: int) -> bytes:
    value = keys.get(name)
    octets = from_base64url(value) if isinstance(value, str) else None
    if octets is None or len(octets) != length:
        raise InvalidRequest(f"must be {length} bytes in base64url", field=f"keys.{name}")
    return octets
