"""A message of Kinvey's push module, as each platform and framework reads it (spec kinvey 5.3)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.errors import InvalidRequest
from mqttpush.kinvey import KinveyMessage
from mqttpush.kinvey_payloads import OUT_OF_RANGE, TTL_S, RenderedMessage, render

LIMIT = 4096
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def rendered(**parts: Any) -> RenderedMessage:
    return render(KinveyMessage(**parts), LIMIT)


def data_of(message: RenderedMessage, variant: str) -> Any:
    return orjson.loads(message.phone_payloads[variant].body)["data"]


@pytest.mark.spec("kinvey 5.3")
def test_a_text_is_an_alert_on_ios_and_one_key_on_android() -> None:
    message = rendered(text="hello")
    apns = message.phone_payloads["apns"]
    assert orjson.loads(apns.body) == {"aps": {"alert": "hello"}}
    assert (apns.push_type, apns.is_urgent, apns.ttl_s) == ("alert", True, TTL_S)
    assert data_of(message, "fcm") == {"msg": "hello"}
    assert data_of(message, "fcm:phonegap") == {"message": "hello", "msg": "hello"}
    assert data_of(message, "fcm:titanium") == {"payload": '{"msg":"hello"}'}
    assert orjson.loads(message.payloads["mqtt"]) == {"msg": "hello"}
    ios = orjson.loads(message.phone_payloads["fcm:ios"].body)
    assert ios["apns"]["payload"] == {"aps": {"alert": "hello"}}
    assert "data" not in ios
    assert "notification" not in orjson.loads(message.phone_payloads["fcm"].body)


@pytest.mark.spec("kinvey 13.8")
def test_a_payload_for_ios_alone_says_nothing_to_android() -> None:
    aps = {"alert": "a", "badge": 1, "sound": "s"}
    message = rendered(aps=aps, extras={"id": 7, "aps": "dropped"})
    assert set(message.phone_payloads) == {"apns", "fcm:ios"}
    assert orjson.loads(message.phone_payloads["apns"].body) == {"aps": aps, "id": 7}
    assert message.payloads == {}


def test_a_payload_for_android_alone_says_nothing_to_ios() -> None:
    message = rendered(android={"a": 1})
    assert "apns" not in message.phone_payloads
    assert message.phone_payloads["fcm:ios"].body == b""


def test_extras_alone_come_with_an_empty_aps() -> None:
    message = rendered(extras={"id": 7})
    assert orjson.loads(message.phone_payloads["apns"].body) == {"aps": {}, "id": 7}


def test_nothing_at_all_is_sent_nowhere() -> None:
    assert rendered() == RenderedMessage({}, {}, has_reserved_names=False)


@pytest.mark.spec("kinvey 5.3")
def test_a_silent_wake_up_has_the_lower_priority() -> None:
    message = rendered(aps={"content-available": 1})
    apns = message.phone_payloads["apns"]
    assert (apns.push_type, apns.is_urgent) == ("background", False)
    headers = orjson.loads(message.phone_payloads["fcm:ios"].body)["apns"]["headers"]
    assert headers == {"apns-push-type": "background", "apns-priority": "5"}
    shown = rendered(aps={"content-available": 1, "badge": 2}).phone_payloads["apns"]
    assert (shown.push_type, shown.is_urgent) == ("alert", True)


@pytest.mark.spec("kinvey 5.3")
def test_values_that_are_no_texts_go_as_json() -> None:
    pairs = {
        "text": "t",
        "number": 5,
        "flag": True,
        "list": [1, "a"],
        "none": None,
        "map": {"a": 1},
    }
    assert data_of(rendered(android=pairs), "fcm") == {
        "text": "t",
        "number": "5",
        "flag": "true",
        "list": '[1,"a"]',
        "none": "null",
        "map": '{"a":1}',
    }


@pytest.mark.spec("kinvey 13.8")
@pytest.mark.parametrize("name", ["from", "message_type", "google.sent", "gcm.n.e", "From"])
def test_a_reserved_name_does_not_fail_the_send(name: str) -> None:
    pairs = {name: "joe", "message": "hi"}
    message = rendered(android=pairs)
    assert message.has_reserved_names
    data = data_of(message, "fcm")
    assert data.pop("payload") == orjson.dumps(pairs).decode()
    assert data == {"message": "hi"}
    assert orjson.loads(data_of(message, "fcm:titanium")["payload"]) == pairs
    assert orjson.loads(message.payloads["mqtt"]) == pairs


def test_a_name_that_is_not_reserved_leaves_the_pairs_flat() -> None:
    message = rendered(android={"fromage": "brie", "payload": "own"})
    assert not message.has_reserved_names
    assert data_of(message, "fcm") == {"fromage": "brie", "payload": "own"}


@pytest.mark.spec("kinvey 5.3")
@pytest.mark.parametrize(
    "parts",
    [
        {"text": "x" * 4100},
        {"aps": {"alert": "x" * 4100}},
        {"extras": {"a": "x" * 4100}},
        {"android": {"a": "x" * 4100}},
        {"android": {"from": "x" * 2100, "a": "x" * 2100}},
    ],
)
def test_what_is_too_large_is_refused_and_not_cut(parts: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rendered(**parts)
    assert refused.value.code == OUT_OF_RANGE


def test_an_app_with_small_payloads_keeps_the_old_limit() -> None:
    message = KinveyMessage(aps={"alert": "x" * 2100})
    with pytest.raises(InvalidRequest):
        render(message, 2048)
    assert render(message, LIMIT).phone_payloads["apns"].body


@given(st.dictionaries(st.text(max_size=12), JSON_VALUES, max_size=6))
def test_every_pair_arrives_and_every_value_is_a_text(pairs: dict[str, Any]) -> None:
    message = rendered(android=pairs)
    data = data_of(message, "fcm") if pairs else {}
    assert all(isinstance(value, str) for value in data.values())
    if message.has_reserved_names:
        assert orjson.loads(data["payload"]) == pairs
    else:
        assert data.keys() == pairs.keys()
    for variant in ("fcm", "fcm:titanium"):
        assert len(message.phone_payloads[variant].body) < 2 * LIMIT
