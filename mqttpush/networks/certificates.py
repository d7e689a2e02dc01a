"""Certificates of APNs: reading a .p12 file, or PEM.

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
from cryptography.x509 import load_pem_x509_certificates
from cryptography.x509.oid import NameOID

from mqttpush.errors import InvalidRequest
from mqttpush.networks.encoding import from_base64url
from mqttpush.networks.fields import private_key
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
    """The certificate and key of a .p12 file in base64. Raises InvalidRequest.

    Cost: the file says how long its password takes to try; not for the event loop.
    """
    field = f"{where}certificate"
    octets = from_base64url("".join(text.split()))
    if octets is None:
        raise InvalidRequest("must be a .p12 file in base64, or PEM", field=field)
    found = _load(octets, password, where)
    if found.key is None or found.cert is None:
        problem = "holds no certificate with its private key: export both from the key chain"
        raise InvalidRequest(problem, field=field)
    certificate = found.cert.certificate
    chain = [certificate, *(each.certificate for each in found.additional_certs)]
    key_pem = found.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain_pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    return _described(certificate, ClientCertificate(chain_pem, key_pem))


def read_pem(text: str, key_text: str, *, where: str = "") -> ApnsCertificate:
    """The same of PEM texts. Raises InvalidRequest."""
    try:
        certificate = load_pem_x509_certificates(text.encode())[0]
    except ValueError as exc:
        problem = "cannot be read as PEM: is it whole?"
        raise InvalidRequest(problem, field=f"{where}certificate") from exc
    key = private_key(key_text, f"{where}key")
    if key.public_key() != certificate.public_key():
        raise InvalidRequest("is not the key of the certificate", field=f"{where}key")
    return _described(certificate, ClientCertificate(text.encode(), key_text.encode()))


def _described(certificate: x509.Certificate, client: ClientCertificate) -> ApnsCertificate:
    names = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
    oids = {extension.oid.dotted_string for extension in certificate.extensions}
    return ApnsCertificate(
        client,
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
