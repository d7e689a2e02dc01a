"""Fields of credentials: reading what an administrator gave, with an error that says what to do.

Knows no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mqttpush.errors import InvalidRequest
from mqttpush.networks.apart import TooMuchWork, read_apart

_MAX_CHARACTERS: Final = 65_536
# An RSA key of 4,096 bits has 3,272. Numbers of other kinds would take the longer to read.
_MAX_KEY_CHARACTERS: Final = 5_000
_RSA_BITS: Final = range(2048, 4097)
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")


def text_field(fields: Mapping[str, Any], name: str, *, where: str = "") -> str:
    """A field that must be there and hold text."""
    value = fields.get(name)
    if value is None or value == "":
        raise InvalidRequest("is missing", field=where + name)
    if not isinstance(value, str):
        raise InvalidRequest("must be a string", field=where + name)
    if len(value) > _MAX_CHARACTERS:
        raise InvalidRequest("is too long", field=where + name)
    return value


def matching_field(
    fields: Mapping[str, Any], name: str, shape: str, problem: str, *, where: str = ""
) -> str:
    """A field whose text, without space around it, has a shape."""
    value = text_field(fields, name, where=where).strip()
    if not re.fullmatch(shape, value):
        raise InvalidRequest(problem, field=where + name)
    return value


def only_fields(fields: Mapping[str, Any], known: Iterable[str], *, where: str = "") -> None:
    """Refuse what is not understood: a misspelt field must not be lost silently."""
    for name in fields:
        if name not in known:
            raise InvalidRequest("is not known here", field=f"{where}{name}"[:100])


def p256_private_key(pem: str, field: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of a PEM text; an error says what it is instead."""
    key = private_key(pem, field)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise InvalidRequest(f"must be an EC key on P-256{_instead(key)}", field=field)
    return key


def rsa_private_key(pem: str, field: str) -> rsa.RSAPrivateKey:
    """The RSA key of a PEM text; an error says what it is instead."""
    key = private_key(pem, field)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InvalidRequest(f"must be an RSA key{_instead(key)}", field=field)
    if key.key_size not in _RSA_BITS:
        problem = f"must have {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits, this has {key.key_size}"
        raise InvalidRequest(problem, field=field)
    return key


def check_numbers(pem: str, field: str) -> None:
    """Raises InvalidRequest if the numbers of a private key are no key. Not for the event loop."""
    try:
        is_sound = not read_apart({"key": pem})
    except TooMuchWork:
        is_sound = False
    if not is_sound:
        raise InvalidRequest("cannot be read, is it whole?", field=field)


def _instead(key: object) -> str:
    return f", this is another kind ({type(key).__name__.lstrip('_')})"


def private_key(pem: str, field: str) -> PrivateKeyTypes:
    """The private key of a PEM text; an error says what it is instead.

    The primes of an RSA key are not tried, which takes 70 to 700 ms: `check_numbers` does that,
    once, before a key is kept.
    """
    kinds = _PEM.findall(pem)
    if not kinds:
        raise InvalidRequest("must be PEM text (-----BEGIN PRIVATE KEY-----)", field=field)
    if not any("PRIVATE" in kind for kind in kinds):  # others may stand before it
        problem = f"must be the private key, this is a {kinds[0].lower()}"
        raise InvalidRequest(problem, field=field)
    if len(pem) > _MAX_KEY_CHARACTERS:
        raise InvalidRequest("is too long", field=field)
    try:
        return load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise InvalidRequest("must not be protected by a passphrase", field=field) from None
    except (ValueError, UnsupportedAlgorithm, InternalError) as exc:
        raise InvalidRequest("cannot be read, is it whole?", field=field) from exc
