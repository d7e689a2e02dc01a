"""Certificates of APNs: reading a .p12 file, or PEM.

Owns what Apple writes into its push certificates. Knows no request.
"""

from __future__ import annotations

import base64
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.x509 import load_pem_x509_certificates
from cryptography.x509.oid import NameOID

from mqttpush.errors import InvalidRequest
from mqttpush.networks.apart import TooMuchWork, read_apart
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


_P12_PROBLEMS: Final = {
    "file": ("certificate", "cannot be read as a .p12 file: is it whole?"),
    "password": ("password", "does not open the file"),
    "empty": (
        "certificate",
        "holds no certificate with its private key: export both from the key chain",
    ),
}
_UNREADABLE: Final = (
    ValueError,
    UnsupportedAlgorithm,
    InternalError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def read_p12(text: str, password: str, *, where: str = "") -> ApnsCertificate:
    """The certificate and key of a .p12 file in base64. Raises InvalidRequest.

    Not for the event loop.
    """
    octets = from_base64url("".join(text.split()))
    if octets is None:
        problem = "must be a .p12 file in base64, or PEM"
        raise InvalidRequest(problem, field=f"{where}certificate")
    try:
        found = read_apart({"p12": base64.b64encode(octets).decode(), "password": password})
    except TooMuchWork as exc:
        problem = "takes too long to open: export it again"
        raise InvalidRequest(problem, field=f"{where}certificate") from exc
    if "problem" in found:
        field, problem = _P12_PROBLEMS[found["problem"]]
        raise InvalidRequest(problem, field=where + field)
    return read_pem(found["certificate"], found["key"], where=where)


def read_pem(text: str, key_text: str, *, where: str = "") -> ApnsCertificate:
    """The same of PEM texts, whose key is not looked at closely. Raises InvalidRequest."""
    key = private_key(key_text, f"{where}key")
    try:
        certificate = load_pem_x509_certificates(text.encode())[0]
        public_key = certificate.public_key()
        described = _described(certificate, ClientCertificate(text.encode(), key_text.encode()))
    except _UNREADABLE as exc:
        problem = "cannot be read as PEM: is it whole?"
        raise InvalidRequest(problem, field=f"{where}certificate") from exc
    if key.public_key() != public_key:
        raise InvalidRequest("is not the key of the certificate", field=f"{where}key")
    return described


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
