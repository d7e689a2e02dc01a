"""TLS: certificates, and a layer of TLS between a socket's bytes and MQTT's.

Owns the server's TLS context and the self-signed certificate of a first start. Knows no MQTT. The
one idea: TLS runs in memory on top of a plain connection, so a handshake in progress is counted and
timed like any other connection, and a PROXY header may stand before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mqttpush.config import MqttSettings
from mqttpush.errors import ConfigError

logger = logging.getLogger(__name__)

CERTIFICATE_NAME = "mqtt-certificate.pem"
PRIVATE_KEY_NAME = "mqtt-private-key.pem"
SELF_SIGNED_LIFETIME = timedelta(days=825)  # the longest that Apple's clients take
RENEW_BEFORE = timedelta(days=30)
_READ_BYTES = 65_536
_MINIMUM_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def build_context(settings: MqttSettings, data_folder: Path | None) -> ssl.SSLContext:
    """The context of both TLS listeners. Raises `ConfigError` that names the setting.

    data_folder: where a self-signed certificate is kept; None: it ends with the process.
    """
    if data_folder is None:
        with TemporaryDirectory(prefix="mqttpush-") as folder:
            return build_context(settings, Path(folder))
    certificate, key = settings.tls_certificate_file, settings.tls_private_key_file
    if bool(certificate) != bool(key):
        missing = "tls_private_key_file" if certificate else "tls_certificate_file"
        raise ConfigError(
            f"mqtt.{missing}", "settings", "certificate and key belong together", f'"{missing}.pem"'
        )
    if not certificate:
        certificate, key = map(str, ensure_self_signed(settings, data_folder))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM_VERSIONS[settings.tls_minimum_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["mqtt", "http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as exc:  # SSLError is an OSError
        problem = f"{certificate} and {key} cannot be used: {exc}"
        example = '"/etc/mqttpush/fullchain.pem"'
        raise ConfigError("mqtt.tls_certificate_file", "settings", problem, example) from exc
    return context


def ensure_self_signed(settings: MqttSettings, data_folder: Path) -> tuple[Path, Path]:
    """Certificate and key in `data_folder`; made there if they are missing or nearly expired."""
    certificate_path = data_folder / CERTIFICATE_NAME
    key_path = data_folder / PRIVATE_KEY_NAME
    if not _is_good(certificate_path, key_path):
        try:
            data_folder.mkdir(parents=True, exist_ok=True)
            _write_self_signed(settings, certificate_path, key_path)
        except OSError as exc:
            problem = f"no certificate is set, and none can be made: {exc}"
            example = '"/etc/mqttpush/fullchain.pem"'
            raise ConfigError("mqtt.tls_certificate_file", "default", problem, example) from exc
    logger.warning(
        "TLS uses the self-signed certificate %s, which clients do not trust; to replace it set"
        " mqtt.tls_certificate_file and mqtt.tls_private_key_file",
        certificate_path,
    )
    return certificate_path, key_path


class TlsLayer:
    """TLS of one connection: takes ciphertext from below, hands plaintext up, and back."""

    __slots__ = ("_incoming", "_is_ready", "_lower", "_object", "_on_data", "_on_end", "_outgoing")

    def __init__(
        self,
        context: ssl.SSLContext,
        lower: asyncio.Transport,
        *,
        on_data: Callable[[bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        """on_data: plaintext; once empty, when the handshake is done. on_end: the reason."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lower = lower
        self._on_data = on_data
        self._on_end = on_end
        self._is_ready = False

    def receive(self, data: bytes) -> None:
        """Bytes from the socket."""
        self._incoming.write(data)
        parts: list[bytes] = []  # joined: a record may hold a single byte
        reason = ""
        try:
            if not self._is_ready:
                self._object.do_handshake()
                self._is_ready = True
                self._flush()
                self._on_data(b"")
            while plain := self._object.read(_READ_BYTES):
                parts.append(plain)
            reason = "connection_lost"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            reason = "tls_error" if self._is_ready else "tls_handshake"
        if parts:
            self._on_data(b"".join(parts))
        self._flush()  # if it is over, the alert that says why
        if reason:
            self._on_end(reason)

    def write(self, data: bytes) -> None:
        try:
            self._object.write(data)
        except ssl.SSLError:
            self._on_end("tls_error")
            return
        self._flush()

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        """Say goodbye (close_notify) without waiting for an answer, then close the socket."""
        if self._is_ready:
            with contextlib.suppress(ssl.SSLError):  # it always wants the answer
                self._object.unwrap()
            self._flush()
        self._lower.close()

    def abort(self) -> None:
        self._lower.abort()

    def get_write_buffer_size(self) -> int:
        return self._lower.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._object
        return self._lower.get_extra_info(name, default)

    def _flush(self) -> None:
        if self._outgoing.pending and not self._lower.is_closing():
            self._lower.write(self._outgoing.read())


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")


def _is_good(certificate_path: Path, key_path: Path) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        return key_path.exists() and (
            certificate.not_valid_after_utc - RENEW_BEFORE > datetime.now(UTC)
        )
    except (OSError, ValueError):
        return False


def _write_self_signed(settings: MqttSettings, certificate_path: Path, key_path: Path) -> None:
    names = dict.fromkeys(("localhost", settings.public_host or "localhost", settings.host))
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
    ]
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mqttpush self-signed")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + SELF_SIGNED_LIFETIME)
        .add_extension(x509.SubjectAlternativeName(dict.fromkeys(alternatives)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key_bytes)
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
