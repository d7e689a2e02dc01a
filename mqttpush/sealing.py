"""Sealing: secrets that must be told again, kept in the store so that a copy of it tells nothing.

Owns the cipher (AES-256-GCM), the key's derivation and the form of what is sealed. Knows nobody who
seals. The one idea: a sealed secret carries the number of its key and is bound to its place, so a
wrong key, a damaged row and a row copied to another app are told apart and each is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mqttpush.errors import SealBroken

_FORM: Final = b"\x01"
_KEY_NUMBER_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(_FORM) + _KEY_NUMBER_BYTES + _NONCE_BYTES


class Sealer:
    """Seals and opens under one key.

    master_key: 32 random bytes or more. random_bytes: a cryptographic generator (`os.urandom`).
    """

    def __init__(self, *, master_key: bytes, random_bytes: Callable[[int], bytes]) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"mqttpush sealing").derive(master_key)
        self._cipher = AESGCM(derived)
        self._key_number = hashlib.sha256(derived).digest()[:_KEY_NUMBER_BYTES]
        self._random_bytes = random_bytes

    def seal(self, place: str, secret: bytes) -> bytes:
        """place: what it belongs to; needed again to open it."""
        nonce = self._random_bytes(_NONCE_BYTES)
        text = self._cipher.encrypt(nonce, secret, place.encode())
        return _FORM + self._key_number + nonce + text

    def open(self, place: str, sealed: bytes) -> bytes:
        """Raises SealBroken."""
        if len(sealed) < _HEAD_BYTES or not sealed.startswith(_FORM):
            raise SealBroken(place, "is damaged")
        if sealed[len(_FORM) :][:_KEY_NUMBER_BYTES] != self._key_number:
            raise SealBroken(place, "was sealed with another key than this server's")
        nonce = sealed[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES]
        try:
            return self._cipher.decrypt(nonce, sealed[_HEAD_BYTES:], place.encode())
        except InvalidTag:
            raise SealBroken(place, "is damaged") from None
