"""Device tokens in the shape each network gives them."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_serials = itertools.count(1)


def device_token(device_type: str) -> str:
    """One no other test uses."""
    digest = hashlib.sha256(f"{device_type} {next(_serials)}".encode()).hexdigest()
    if device_type == "ANDROID":
        return f"{digest[:22]}:APA91b_-{digest}"
    if device_type == "JPUSH":
        return digest[:19]
    if device_type == "WEBPUSH":
        return json.dumps(subscription(digest))
    return digest


def subscription(name: str, host: str = "updates.push.services.mozilla.com") -> dict[str, Any]:
    """What a browser gives a page, PushSubscription.toJSON(), with keys of its own."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {
        "endpoint": f"https://{host}/wpush/v2/{name}",
        "expirationTime": None,
        "keys": {
            "p256dh": _base64url(point),
            "auth": _base64url(hashlib.sha256(point).digest()[:16]),
        },
    }


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
