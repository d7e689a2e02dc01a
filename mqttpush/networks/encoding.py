"""Encodings of keys and tokens. Knows nothing else."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_BASE64: Final = re.compile(r"[A-Za-z0-9_+/-]*={0,2}")
_TO_URL: Final = str.maketrans("+/", "-_")


def to_base64url(octets: bytes) -> str:
    """Base64url without padding, as JOSE and Web Push write it."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes | None:
    """The octets of base64url or base64, with padding or without; None if it is neither."""
    if not _BASE64.fullmatch(text):
        return None
    bare = text.translate(_TO_URL).rstrip("=")
    try:
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        return None
