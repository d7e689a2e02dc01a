"""Signed tokens (JWT) as the networks check them: the signature here, the claims at each network.

Owns the call of the library. Knows no clock, because the networks differ in what they forgive.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import jwt

from mqttpush.provider_simulator.provider import Refusal


def decode_signed(token: str, key: Any, algorithm: str, code: str) -> dict[str, Any]:
    """The claims of a token whose signature is right, else Refusal(code); no claim is checked."""
    unchecked = ("exp", "iat", "nbf", "aud", "iss", "sub", "jti")
    options: Any = {f"verify_{claim}": False for claim in unchecked}
    try:
        return jwt.decode(token, key, algorithms=[algorithm], options=options)
    except jwt.PyJWTError:
        raise Refusal(code) from None


def is_number(value: Any) -> TypeGuard[float]:
    """A NumericDate claim; no boolean."""
    return type(value) in (int, float)
