"""Certificates of APNs: reading a .p12 file.

Owns what Apple writes into its push certificates. Knows no request.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PKCS12KeyAndCertificates,
    load_pkcs12,
)
from cryptography.x509.oid import NameOID

from mqttpush.errors import InvalidRequest
from mqttpush.networks.encoding import from_base64url
from mqttpush.networks.http import ClientCertificate

# Extensions of Apple's: the environments a push certificate is for.
_ENVIRONMENTS: Final = {
    "1.2.840.113635.100.6.3.1": "development",
    "1.2.840.113635.100.6.3.2": "production",
}


class ApnsCertificate(NamedTuple):
    """client: to be shown in the handshake. topics: the bundle ID, if the certificate names one."""

    client: ClientCertificate
    topics: tuple[str, ...]
    environments: tuple[str, ...]
    not_after_s: float
    expires_on: str


def read_p12(text: str, password: str, *, where: str = "") -> ApnsCertificate:
    """The certificate and key of a .p12 file in base64. Raises InvalidRequest."""
    field = f"{where}certificate"
    octets = from_base64url("".join(text.split()))
    if octets is None or text.startswith("-----"):
        raise InvalidRequest("must be a .p12 file in base64", field=field)
    found = _load(octets, password, where)
    if found.key is None or found.cert is None:
        problem = "holds no certificate with its private key: export both from the key chain"
        raise InvalidRequest(problem, field=field)
    certificate = found.cert.certificate
    chain = [certificate, *(each.certificate for each in found.additional_certs)]
    key_pem = found.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain_pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    names = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
    oids = {extension.oid.dotted_string for extension in certificate.extensions}
    return ApnsCertificate(
        ClientCertificate(chain_pem, key_pem),
        tuple(str(name.value) for name in names),
        tuple(name for oid, name in _ENVIRONMENTS.items() if oid in oids),
        certificate.not_valid_after_utc.timestamp(),
        certificate.not_valid_after_utc.date().isoformat(),
    )


def _load(octets: bytes, password: str, where: str) -> PKCS12KeyAndCertificates:
    try:
        return load_pkcs12(octets, password.encode() or None)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as exc:
        if "password" in str(exc).lower():
            raise InvalidRequest("does not open the file", field=f"{where}password") from exc
        problem = "cannot be read as a .p12 file: is it whole?"
        raise InvalidRequest(problem, field=f"{where}certificate") from exc
