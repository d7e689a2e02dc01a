"""Key program: reads one key file of a stranger and ends.

Owns the two readings that take as long as the file says. It imports nothing of the package, so that
it starts fast. A question comes in on standard input as JSON, its answer goes out the same way:
`{"p12": base64, "password"}` -> `{"certificate", "key"}` (PEM), `{"key": PEM}` -> `{}`; or
`{"problem": "file" | "password" | "empty"}`.
"""

from __future__ import annotations

import base64
import json
import resource
import sys
import warnings

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

# Twice what the asker waits: it ends the process, unless it is gone itself.
CPU_LIMIT_S = 20
UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, InternalError, x509.InvalidVersion)


def read_p12(octets: bytes, password: str) -> dict[str, str]:
    """The certificates and the key of a .p12 file."""
    try:
        found = load_pkcs12(octets, password.encode() or None)
    except UNREADABLE as exc:
        return {"problem": "password" if "password" in str(exc).lower() else "file"}
    if found.key is None or found.cert is None:
        return {"problem": "empty"}
    chain = [found.cert.certificate, *(each.certificate for each in found.additional_certs)]
    key_pem = found.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain_pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    return {"certificate": chain_pem.decode(), "key": key_pem.decode()}


def check_key(pem: str) -> dict[str, str]:
    """Are the numbers of a private key a key?"""
    try:
        load_pem_private_key(pem.encode(), None)
    except UNREADABLE:
        return {"problem": "file"}
    return {}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    warnings.simplefilter("ignore")
    asked = json.load(sys.stdin)
    if "p12" in asked:
        answer = read_p12(base64.b64decode(asked["p12"]), asked["password"])
    else:
        answer = check_key(asked["key"])
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
