"""Services: which of a network's servers a push goes to. Loads nothing of the networks."""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson

from mqttpush.networks import Network


def service_of(network: str, token: str) -> str:
    """The host a push to this token goes to; empty where all of a network's are one service."""
    if network != Network.WEBPUSH:
        return ""
    try:
        return urlsplit(orjson.loads(token)["endpoint"]).hostname or "unknown"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "unknown"  # no request is made for such a token
