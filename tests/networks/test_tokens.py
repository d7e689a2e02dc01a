"""Which strings may be a device token."""

from __future__ import annotations

import json

import pytest

from mqttpush.config import NetworkSettings
from mqttpush.errors import InvalidRequest
from mqttpush.networks import Network
from mqttpush.networks.addresses import EndpointRules
from mqttpush.networks.encoding import from_base64url
from mqttpush.networks.tokens import check_token, is_token

RULES = EndpointRules(NetworkSettings())
P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/abc"
GOOD = {
    Network.FCM: "cXyZ-_1:APA91bH" + "x" * 130,
    Network.APNS: "0aF9" * 16,
    Network.JPUSH: "1507bfd3b7c8283abc1",
}


def subscription(**changes: object) -> str:
    keys = {"p256dh": P256DH, "auth": AUTH}
    parsed = {"endpoint": ENDPOINT, "expirationTime": None, "keys": keys, **changes}
    return json.dumps({name: value for name, value in parsed.items() if value != "absent"})


@pytest.mark.parametrize(("network", "token"), GOOD.items())
def test_a_token_of_the_network_s_shape_is_taken(network: Network, token: str) -> None:
    assert check_token(network, token, RULES) == token


@pytest.mark.parametrize("network", list(GOOD))
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda token: f"{token}\n", id="line feed at the end"),
        pytest.param(lambda token: f"{token[:9]}\r\n{token[9:]}", id="line break inside"),
        pytest.param(lambda token: f" {token}", id="space"),
        pytest.param(lambda token: f"{token}\x00", id="NUL"),
        pytest.param(lambda token: f'{token}"', id="quote"),
        pytest.param(lambda token: f"{token}\\", id="backslash"),
        pytest.param(lambda token: f"{token}é", id="not ASCII"),
        pytest.param(lambda token: f"{token}?", id="query"),
        pytest.param(lambda token: (token * 200)[:10_240], id="10 KB"),
        pytest.param(lambda token: "", id="empty"),
    ],
)
def test_what_cannot_be_a_token_is_refused(network: Network, change: object) -> None:
    assert callable(change)
    token = change(GOOD[network])
    assert not is_token(network, token)
    with pytest.raises(InvalidRequest) as failure:
        check_token(network, token, RULES, field="installationRegistrationID")
    assert failure.value.field == "installationRegistrationID"


@pytest.mark.parametrize("token", ["0a" * 31, "0a" * 101, "0a" * 32 + "0", "zz" * 32])
def test_an_apns_token_is_whole_bytes_in_hexadecimal(token: str) -> None:
    assert not is_token(Network.APNS, token)


def test_a_subscription_is_kept_in_one_spelling() -> None:
    padded = {"auth": AUTH + "==", "p256dh": P256DH.replace("-", "+").replace("_", "/")}
    first = check_token(Network.WEBPUSH, subscription(), RULES)
    assert first == check_token(Network.WEBPUSH, subscription(keys=padded), RULES)
    assert json.loads(first) == {"endpoint": ENDPOINT, "keys": {"p256dh": P256DH, "auth": AUTH}}
    assert check_token(Network.WEBPUSH, first, RULES) == first


@pytest.mark.parametrize(
    ("token", "field"),
    [
        ("", "token"),
        ("[]", "token"),
        ("not JSON", "token"),
        ("x" * 5000, "token"),
        (subscription(endpoint="absent"), "token.endpoint"),
        (subscription(endpoint=7), "token.endpoint"),
        (subscription(endpoint="http://127.0.0.1/x"), "token.endpoint"),
        (subscription(endpoint="https://evil.example/x"), "token.endpoint"),
        (subscription(keys="absent"), "token.keys"),
        (subscription(keys=[]), "token.keys"),
        (subscription(keys={"auth": AUTH}), "token.keys.p256dh"),
        (subscription(keys={"auth": AUTH, "p256dh": AUTH}), "token.keys.p256dh"),
        (subscription(keys={"auth": AUTH, "p256dh": "B" + "A" * 86}), "token.keys.p256dh"),
        (subscription(keys={"auth": "AAAA", "p256dh": P256DH}), "token.keys.auth"),
        (subscription(keys={"auth": "!!!", "p256dh": P256DH}), "token.keys.auth"),
        (subscription(keys={"auth": None, "p256dh": P256DH}), "token.keys.auth"),
    ],
)
def test_what_is_no_subscription_is_refused_with_its_field(token: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as failure:
        check_token(Network.WEBPUSH, token, RULES)
    assert failure.value.field == field


@pytest.mark.parametrize("text", ["A", "A===", "a b", "ä", "AA\n"])
def test_what_is_no_base64_has_no_octets(text: str) -> None:
    assert from_base64url(text) is None
