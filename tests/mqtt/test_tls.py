"""TLS: the certificate of a first start, what is refused, and a new certificate at run time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509

from mqttpush.errors import ConfigError
from mqttpush.mqtt.tls import (
    CERTIFICATE_NAME,
    PRIVATE_KEY_NAME,
    TlsLayer,
    build_context,
    ensure_self_signed,
)
from tests.mqtt.net import in_uvloop, is_closed_by_peer, serving
from tests.mqtt.support import settings


class Wire:
    """The socket under a TLS layer."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


def certificate_in(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / CERTIFICATE_NAME).read_bytes())


def test_a_first_start_makes_a_certificate_and_says_how_to_replace_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    with caplog.at_level(logging.WARNING):
        build_context(settings(public_host="push.example.com"), folder)
    assert "mqtt.tls_certificate_file" in caplog.text
    assert stat.S_IMODE((folder / PRIVATE_KEY_NAME).stat().st_mode) == 0o600
    names = certificate_in(folder).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert set(names.value.get_values_for_type(x509.DNSName)) == {"localhost", "push.example.com"}
    assert certificate_in(folder).not_valid_after_utc > datetime.now(UTC)


def test_a_second_start_keeps_the_certificate(tmp_path: Path) -> None:
    ensure_self_signed(settings(), tmp_path)
    first = certificate_in(tmp_path)
    ensure_self_signed(settings(), tmp_path)
    assert certificate_in(tmp_path) == first


def test_a_damaged_certificate_is_made_anew(tmp_path: Path) -> None:
    ensure_self_signed(settings(), tmp_path)
    (tmp_path / CERTIFICATE_NAME).write_text("nothing")
    build_context(settings(), tmp_path)
    assert certificate_in(tmp_path).not_valid_after_utc > datetime.now(UTC)


def test_without_a_data_folder_the_certificate_ends_with_the_process() -> None:
    assert build_context(settings(), None).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"tls_certificate_file": "a.pem"}, "mqtt.tls_private_key_file"),
        ({"tls_private_key_file": "a.pem"}, "mqtt.tls_certificate_file"),
        (
            {"tls_certificate_file": "/none/a.pem", "tls_private_key_file": "/none/b.pem"},
            "mqtt.tls_certificate_file",
        ),
    ],
)
def test_a_certificate_that_cannot_be_used_names_the_setting(
    tmp_path: Path, changes: dict[str, object], setting: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_context(settings(**changes), tmp_path)
    assert caught.value.setting == setting


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        build_context(settings(), tmp_path / "file" / "data")


@in_uvloop
async def test_a_bad_certificate_leaves_no_listener_open(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        async with serving(
            tmp_path, "tcp", "tls", tls_certificate_file="/none", tls_private_key_file="/none"
        ):
            pass
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize(
    ("least", "version"),
    [
        ("1.2", ssl.TLSVersion.TLSv1_1),
        ("1.3", ssl.TLSVersion.TLSv1_2),
    ],
)
@in_uvloop
async def test_an_older_tls_is_refused(tmp_path: Path, least: str, version: ssl.TLSVersion) -> None:
    async with serving(tmp_path, "tls", tls_minimum_version=least) as net:
        context = net.client_tls()
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        host, port = net.listeners.addresses["tls"]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost")


@pytest.mark.parametrize(
    "data", [b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100_000]
)
@in_uvloop
async def test_what_is_no_tls_is_closed(tmp_path: Path, data: bytes) -> None:
    async with (
        serving(tmp_path, "tls") as net,
        net.dial("tls", tls=False) as (reader, writer),
    ):
        writer.write(data)
        assert await is_closed_by_peer(reader)
        assert net.broker.socket_count == 0


@in_uvloop
async def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    other = tmp_path / "other"
    certificate, key = ensure_self_signed(settings(), other)
    async with serving(tmp_path, "tls") as net, net.dial("tls"):
        changed = net.settings.model_copy(
            update={"tls_certificate_file": str(certificate), "tls_private_key_file": str(key)}
        )
        net.listeners.reload(changed)
        context = ssl.create_default_context(cafile=str(certificate))
        host, port = net.listeners.addresses["tls"]
        _, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname="localhost"
        )
        writer.transport.abort()


@in_uvloop
async def test_a_bad_new_certificate_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, "tls") as net:
        bad = net.settings.model_copy(
            update={
                "tls_certificate_file": "/none",
                "tls_private_key_file": "/none",
                "max_packet_bytes": 1024,
            }
        )
        with pytest.raises(ConfigError):
            net.listeners.reload(bad)
        assert net.listeners.settings is net.settings
        async with net.dial("tls"):
            pass


@in_uvloop
async def test_a_client_that_speaks_alpn_gets_mqtt(tmp_path: Path) -> None:
    async with serving(tmp_path, "tls") as net:
        context = net.client_tls()
        context.set_alpn_protocols(["x", "mqtt"])
        host, port = net.listeners.addresses["tls"]
        _, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname="localhost"
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "mqtt"
        writer.transport.abort()


def test_records_of_one_byte_are_handed_up_together(tmp_path: Path) -> None:
    wire, taken = Wire(), list[bytes]()
    layer = TlsLayer(
        build_context(settings(), tmp_path),
        cast("asyncio.Transport", wire),
        on_data=taken.append,
        on_end=lambda _: taken.clear(),
    )
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cafile=str(tmp_path / CERTIFICATE_NAME))
    client = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while not taken:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        layer.receive(outgoing.read())
        incoming.write(wire.written)
        wire.written = b""
    for byte in b"one by one":
        client.write(bytes((byte,)))
    layer.receive(outgoing.read())
    assert taken == [b"", b"one by one"]
