"""Keys and certificates that the simulator hands out.

Owns how they are made. Knows no network's rules. The one idea: everything is made afresh at each
start by an authority of the simulator's own, so that nothing here is worth stealing.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=30)
# Apple's marks of what a push certificate is for.
APPLE_DEVELOPMENT = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
APPLE_PRODUCTION = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")
ASN1_NULL = b"\x05\x00"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: PrivateKey) -> str:
    """PKCS #8, as Google's and Apple's key files are."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The 65 bytes of an uncompressed point."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Padding may be there or not; raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class Authority:
    """A certificate authority of the simulator's own."""

    def __init__(self) -> None:
        self._key = make_ec_key()
        self._name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, "mqttpush provider simulator")]
        )
        builder = self._builder(self._name, self._key.public_key())
        usage = x509.KeyUsage(
            *(True, False, False, False, False, True, True, False, False)
        )  # digital signature, certificate and CRL signing
        self.certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def make_server_files(self, hosts: Sequence[str]) -> tuple[bytes, bytes]:
        """Certificate and key, as PEM, of a server with these names and addresses."""
        key = make_ec_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        certificate = self._issue(
            self._builder(name, key.public_key()).add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            ),
            ExtendedKeyUsageOID.SERVER_AUTH,
        )
        return certificate.public_bytes(Encoding.PEM), private_pem(key).encode()

    def make_client_file(
        self,
        topic: str,
        password: str,
        *,
        is_development: bool,
        is_production: bool,
        lifetime: timedelta = LIFETIME,
    ) -> tuple[bytes, str]:
        """A .p12 as Apple's (the topic is the subject's user ID), and its serial number."""
        key = make_ec_key()
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, topic),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Apple Push Services: {topic}"),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "SIMULATION"),
            ]
        )
        builder = self._builder(name, key.public_key(), lifetime)
        marks = ((is_development, APPLE_DEVELOPMENT), (is_production, APPLE_PRODUCTION))
        for is_marked, mark in marks:
            if is_marked:
                extension = x509.UnrecognizedExtension(mark, ASN1_NULL)
                builder = builder.add_extension(extension, critical=False)
        certificate = self._issue(builder, ExtendedKeyUsageOID.CLIENT_AUTH)
        encryption: KeySerializationEncryption = NoEncryption()
        if password:
            encryption = BestAvailableEncryption(password.encode())
        file = pkcs12.serialize_key_and_certificates(
            topic.encode(), key, certificate, None, encryption
        )
        return file, f"{certificate.serial_number:x}"

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta = LIFETIME
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        ends_at = now + lifetime
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now - timedelta(days=1), ends_at - timedelta(days=1)))
            .not_valid_after(ends_at)
        )

    def _issue(
        self, builder: x509.CertificateBuilder, usage: x509.ObjectIdentifier
    ) -> x509.Certificate:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
