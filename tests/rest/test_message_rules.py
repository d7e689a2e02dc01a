"""What a message must be: each rule of spec kii 8.5, on every way to send."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rest.support import MQTT, assert_refused, send
from tests.support.rest import Account, Api

GCM_RESERVED = [
    "google.x", "from", "registration_ids", "collapse_key", "data", "delay_while_idle",
    "time_to_live", "restricted_package_name", "dry_run",
]  # fmt: skip
FCM_RESERVED = [
    "google.x", "gcm.x", "from", "message_type", "collapse_key", "priority", "ttl",
    "restricted_package_name", "notification", "fcm_options", "direct_boot_ok",
]  # fmt: skip

RULES: dict[str, list[dict[str, Any]]] = {
    "8.5.1 no network": [{}, {"data": {"a": 1}}, {"data": {"a": 1}, "sendWhen": True}],
    "8.5.2 enabled missing": [
        {"data": {"a": "b"}, "gcm": {}},
        {"data": {"a": "b"}, "fcm": {"data": {"c": "d"}}},
        {"data": {"a": "b"}, "apns": {"badge": 1}, "mqtt": MQTT},
        {"data": {"a": "b"}, "gcm": {"enabled": "yes"}},
        {"data": {"a": "b"}, "mqtt": {"enabled": 1}},
        {"data": {"a": "b"}, "mqtt": []},
    ],
    "8.5.3 gcm.dryRun with apns": [
        {
            "data": {"a": "b"},
            "gcm": {"enabled": True, "dryRun": True},
            "apns": {"enabled": True},
        }
    ],
    "8.5.4 data is not flat": [
        {"data": {"a": {}}, "mqtt": MQTT},
        {"data": {"a": []}, "mqtt": MQTT},
        {"data": {"a": "b", "c": {"d": 1}}, "gcm": {"enabled": False}},
        {"data": ["a"], "mqtt": MQTT},
        {"data": "text", "mqtt": MQTT},
    ],
    "8.5.5 gcm or fcm data holds non-strings": [
        {"gcm": {"enabled": True, "data": {"a": 1}}},
        {"fcm": {"enabled": True, "data": {"a": True}}},
        {"gcm": {"enabled": True, "data": {"a": None}}},
        {"fcm": {"enabled": True, "data": {"a": {"b": "c"}}}},
    ],
    "8.5.6 apns data is not flat": [
        {"apns": {"enabled": True, "data": {"a": {"b": 1}}}},
        {"apns": {"enabled": True, "data": {"a": [1]}}},
    ],
    "8.5.7 a key gcm reserves": [
        body
        for key in GCM_RESERVED
        for body in (
            {"data": {key: "x"}, "gcm": {"enabled": True}},
            {"gcm": {"enabled": True, "data": {key: "x"}}},
        )
    ],
    "8.5.8 a key fcm reserves": [
        body
        for key in FCM_RESERVED
        for body in (
            {"data": {key: "x"}, "fcm": {"enabled": True}},
            {"fcm": {"enabled": True, "data": {key: "x"}}},
        )
    ],
    "8.5.9 a payload that is too big": [
        {"data": {"a": "x" * 4096}, "mqtt": MQTT},
        {"data": {"a": "x" * 4096}, "gcm": {"enabled": True}},
        {"data": {"a": "x" * 4096}, "fcm": {"enabled": True}},
        {"data": {"a": "x" * 4096}, "apns": {"enabled": True}},
        {"data": {"a": "x" * 4090}, "mqtt": {"enabled": False}, "apns": {"enabled": True}},
        {"data": {"a": "x" * 4000}, "jpush": {"enabled": True}},
        {"data": {"a": "x" * 3993}, "webpush": {"enabled": True}},
        {"mqtt": {"enabled": True, "data": {"a": "ü" * 2048}}},
    ],
    "8.5.8 a key that fcm refuses, though gcm took it": [
        {"data": {key: "x"}, "gcm": {"enabled": True}} for key in ("gcm.x", "message_type")
    ],
    "8.2 a value no network takes": [
        {"data": {"a": "b"}, "fcm": {"enabled": True, "timeToLive": -1}},
        {"data": {"a": "b"}, "apns": {"enabled": True, "collapseKey": "x" * 65}},
        {"data": {"a": "b"}, "webpush": {"enabled": True, "urgency": "very-high"}},
    ],
    "8.5 no data": [
        {"mqtt": MQTT},
        {"data": {}, "mqtt": MQTT},
        {"gcm": {"enabled": True}, "mqtt": {"enabled": True, "data": {"a": 1}}},
    ],
    "8.2 timeToLive without collapseKey": [
        {"data": {"a": "b"}, "gcm": {"enabled": True, "timeToLive": 60}}
    ],
    "8.1 a switch that is none": [
        {"data": {"a": 1}, "mqtt": MQTT, "sendWhen": "perhaps"},
        {"data": {"a": 1}, "mqtt": MQTT, "pushMessageType": 7},
    ],
}


@pytest.mark.spec("kii 8.5")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(body, id=f"{rule} ({number})")
        for rule, bodies in RULES.items()
        for number, body in enumerate(bodies, 1)
    ],
)
def test_a_message_against_a_rule_is_400_on_every_way_to_send(
    api: Api, user: Account, topic: str, body: dict[str, Any]
) -> None:
    for path in (topic, "/users/me"):
        assert_refused(send(api, path, user.token, body), 400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 8.5")
@pytest.mark.parametrize("key", ["google", "collapseKey", "myfrom"])
def test_a_key_nobody_reserves_is_accepted(api: Api, user: Account, topic: str, key: str) -> None:
    body = {"data": {key: "x"}, "gcm": {"enabled": True}}
    assert send(api, topic, user.token, body).status_code == 201


@pytest.mark.spec("kii 8.5")
def test_a_network_s_reserved_key_is_free_while_the_network_is_off(
    api: Api, user: Account, topic: str
) -> None:
    body = {"data": {"from": "x"}, "gcm": {"enabled": False}, "mqtt": MQTT}
    assert send(api, topic, user.token, body).status_code == 201
