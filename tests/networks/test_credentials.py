"""Credentials as administrators give them: good ones, and each mistake with the field it names."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from mqttpush.errors import InvalidRequest
from mqttpush.networks import Network, PushNetwork
from mqttpush.networks.apart import TooMuchWork, read_apart
from mqttpush.networks.encoding import to_base64url
from mqttpush.networks.opening import open_networks
from mqttpush.networks.webpush import generate_key, public_text, vapid_key
from mqttpush.provider_simulator import Providers
from tests.networks.support import TOPIC, Clock, certificate_fields, settings_for

Fields = dict[str, Any]
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, passphrase: str = "") -> str:
    protection = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection).decode()


PUBLIC_PEM = (
    EC_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)
RSA_NUMBERS = RSA_KEY.private_numbers()
# Its parts are those of a key, and do not belong together.
UNSOUND_PEM = pem_of(
    rsa.RSAPrivateNumbers(
        RSA_NUMBERS.p,
        RSA_NUMBERS.q,
        RSA_NUMBERS.d + 2,
        RSA_NUMBERS.dmp1,
        RSA_NUMBERS.dmq1,
        RSA_NUMBERS.iqmp,
        RSA_NUMBERS.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
)
SHORT_PEM = pem_of(rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505
P384_PEM = pem_of(ec.generate_private_key(ec.SECP384R1()))


@pytest.fixture(scope="module")
def networks(running: Providers) -> Mapping[Network, PushNetwork]:
    return open_networks(settings_for(running), clock=Clock())


def refused(network: PushNetwork, fields: Mapping[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as failure:
        network.check("app", fields)
    for secret in (fields.get("key"), fields.get("private_key"), fields.get("masterSecret")):
        assert not secret or str(secret) not in str(failure.value)
    return failure.value


@pytest.mark.parametrize("network", list(Network))
def test_good_credentials_may_be_checked_again_and_show_no_secret(
    network: Network,
    networks: Mapping[Network, PushNetwork],
    fields: dict[Network, Fields],
) -> None:
    keys = networks[network].check("app", fields[network])
    again = networks[network].check("app", keys.fields)
    assert again == keys
    secret_names = ("private_key", "key", "masterSecret", "privateKey", "password", "certificate")
    shown = f"{keys!r} {keys}"
    assert keys.summary
    for name in secret_names:
        assert str(keys.fields.get(name, "no such field")) not in shown


@pytest.mark.parametrize("network", list(Network))
def test_nothing_at_all_is_refused(
    network: Network, networks: Mapping[Network, PushNetwork]
) -> None:
    assert refused(networks[network], {}).field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "authorized_user"}, "type"),
        ({"type": 7}, "type"),
        ({"project_id": ""}, "project_id"),
        ({"project_id": "a/../b"}, "project_id"),
        ({"project_id": "demo\r\nX: y"}, "project_id"),
        ({"client_email": "nobody"}, "client_email"),
        ({"private_key": None}, "private_key"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nMIIE"}, "private_key"),
        ({"private_key": PUBLIC_PEM}, "private_key"),
        ({"private_key": pem_of(EC_KEY)}, "private_key"),
        ({"private_key": "x" * 70_000}, "private_key"),
        ({"private_key": pem_of(RSA_KEY) + "\n" * 5000}, "private_key"),
        ({"private_key": UNSOUND_PEM}, "private_key"),
        ({"private_key": SHORT_PEM}, "private_key"),
        ({"token_uri": "https://evil.example/token"}, "token_uri"),
        ({"token_uri": None}, "token_uri"),
        ({"universe_domain": "evil.example"}, "universe_domain"),
    ],
)
def test_a_wrong_service_account_is_refused(
    change: Fields,
    field: str,
    networks: Mapping[Network, PushNetwork],
    fields: dict[Network, Fields],
) -> None:
    assert refused(networks[Network.FCM], {**fields[Network.FCM], **change}).field == field


def test_the_app_s_own_file_is_recognised(networks: Mapping[Network, PushNetwork]) -> None:
    app_file: Fields = {"project_info": {"project_id": "demo"}, "client": []}
    assert "google-services.json" in refused(networks[Network.FCM], app_file).problem


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"key": "AuthKey_ABC.p8"}, "key"),
        ({"key": PUBLIC_PEM}, "key"),
        ({"key": pem_of(RSA_KEY)}, "key"),
        ({"key": P384_PEM}, "key"),
        ({"key": pem_of(EC_KEY, "secret")}, "key"),
        ({"key": pem_of(EC_KEY)[:100]}, "key"),
        ({"key": b"bytes"}, "key"),
        ({"keyId": "short"}, "keyId"),
        ({"keyId": None}, "keyId"),
        ({"teamId": "lower12345"}, "teamId"),
        ({"topic": "com example"}, "topic"),
        ({"topic": "com.example\r\nx: y"}, "topic"),
        ({"keyID": "ABCDEFGHIJ"}, "keyID"),
        ({"password": "x"}, "password"),
        ({"development": "yes"}, "development"),
        ({"development": {}}, "development.key"),
        ({"development": {"key": PUBLIC_PEM}}, "development.key"),
    ],
)
def test_a_wrong_provider_key_is_refused(
    change: Fields,
    field: str,
    networks: Mapping[Network, PushNetwork],
    fields: dict[Network, Fields],
) -> None:
    assert refused(networks[Network.APNS], {**fields[Network.APNS], **change}).field == field


def test_a_certificate_brings_its_topic_and_its_end(
    networks: Mapping[Network, PushNetwork], running: Providers
) -> None:
    keys = networks[Network.APNS].check("app", certificate_fields(running))
    assert keys.summary["topic"] == TOPIC
    assert keys.summary["environments"] == ["development", "production"]
    assert networks[Network.APNS].check("app", keys.fields) == keys
    assert "password" not in keys.fields


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"key": pem_of(EC_KEY)}, "key"),
        ({"key": PUBLIC_PEM}, "key"),
        ({"key": None}, "key"),
        ({"certificate": "-----BEGIN CERTIFICATE-----\nMIIB"}, "certificate"),
        ({"certificate": PUBLIC_PEM}, "certificate"),
        ({"password": "x"}, "password"),
    ],
)
def test_a_wrong_certificate_in_pem_is_refused(
    change: Fields, field: str, networks: Mapping[Network, PushNetwork], running: Providers
) -> None:
    good = networks[Network.APNS].check("app", certificate_fields(running)).fields
    assert refused(networks[Network.APNS], {**good, **change}).field == field


Break = Callable[[Fields], Fields]


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (lambda good: {**good, "password": "wrong"}, "password"),
        (lambda good: {**good, "password": ""}, "password"),
        (lambda good: {**good, "password": 7}, "password"),
        (lambda good: {**good, "certificate": good["certificate"][:200]}, "certificate"),
        (lambda good: {**good, "certificate": "!"}, "certificate"),
        (lambda good: {**good, "certificate": base64.b64encode(b"x" * 99).decode()}, "certificate"),
        (lambda good: {**good, "topic": "com.example.other"}, "topic"),
        (lambda good: {**good, "teamId": "ABCDEFGHIJ"}, "teamId"),
    ],
)
def test_a_wrong_certificate_is_refused(
    broken: Break, field: str, networks: Mapping[Network, PushNetwork], running: Providers
) -> None:
    good: Fields = dict(certificate_fields(running))
    assert refused(networks[Network.APNS], broken(good)).field == field


def test_an_expired_certificate_is_refused_with_its_date(
    networks: Mapping[Network, PushNetwork], running: Providers
) -> None:
    expired = certificate_fields(running, lifetime=timedelta(days=-1))
    error = refused(networks[Network.APNS], expired)
    assert error.field == "certificate"
    assert "expired on 20" in error.problem


def test_a_certificate_that_takes_for_ever_to_open_is_given_up() -> None:
    protection = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2_000_000).build(b"password")
    octets = serialize_key_and_certificates(None, RSA_KEY, None, None, protection)
    question = {"p12": base64.b64encode(octets).decode(), "password": "password"}
    with pytest.raises(TooMuchWork):
        read_apart(question, limit_s=0.2)
    assert read_apart(question)["problem"] == "empty"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"appKey": "short"}, "appKey"),
        ({"appKey": "a:b" * 8}, "appKey"),
        ({"masterSecret": None}, "masterSecret"),
        ({"masterSecret": "a" * 23 + "\n"}, ""),  # space around it is forgiven
        ({"masterSecret": "é" * 24}, "masterSecret"),
        ({"app_key": "a" * 24}, "app_key"),
    ],
)
def test_a_wrong_pair_is_refused(
    change: Fields,
    field: str,
    networks: Mapping[Network, PushNetwork],
    fields: dict[Network, Fields],
) -> None:
    given = {**fields[Network.JPUSH], **change}
    if not field:
        assert networks[Network.JPUSH].check("app", given).fields["masterSecret"] == "a" * 23
        return
    assert refused(networks[Network.JPUSH], given).field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"privateKey": PUBLIC_PEM}, "privateKey"),
        ({"privateKey": pem_of(RSA_KEY)}, "privateKey"),
        ({"privateKey": P384_PEM}, "privateKey"),
        ({"privateKey": public_text(EC_KEY)}, "privateKey"),
        ({"privateKey": to_base64url(b"\x00" * 32)}, "privateKey"),
        ({"privateKey": to_base64url(b"\xff" * 32)}, "privateKey"),
        ({"privateKey": "not base64!"}, "privateKey"),
        ({"subject": "you@example.com"}, "subject"),
        ({"subject": "mailto:"}, "subject"),
        ({"subject": "http://example.com"}, "subject"),
        ({"subject": "mailto:a@b.c\r\nX: y"}, "subject"),
        ({"subject": "https://" + "x" * 300}, "subject"),
        ({"publicKey": "x"}, "publicKey"),
    ],
)
def test_a_wrong_vapid_key_is_refused(
    change: Fields,
    field: str,
    networks: Mapping[Network, PushNetwork],
    fields: dict[Network, Fields],
) -> None:
    assert refused(networks[Network.WEBPUSH], {**fields[Network.WEBPUSH], **change}).field == field


def test_a_vapid_key_is_read_in_both_forms() -> None:
    key = vapid_key(generate_key())
    number = key.private_numbers().private_value
    again = vapid_key(to_base64url(number.to_bytes(32, "big")))
    assert public_text(again) == public_text(key)
    assert len(public_text(key)) == 87


def test_a_key_as_openssl_writes_it_is_taken() -> None:
    """`openssl ecparam -genkey -name prime256v1`: the curve stands before the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = PrivateFormat.TraditionalOpenSSL
    pem = key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()
    curve = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert public_text(vapid_key(curve + pem)) == public_text(key)
    with pytest.raises(InvalidRequest, match="this is a ec parameters"):
        vapid_key(curve)
