"""PROXY protocol headers, versions 1 and 2."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.errors import ProtocolError
from mqttpush.mqtt.proxy import V2_SIGNATURE, parse_proxy_header


def version_2(command: int, family: int, body: bytes) -> bytes:
    return V2_SIGNATURE + bytes((0x20 | command, family)) + len(body).to_bytes(2, "big") + body


V4_BODY = ip_address("203.0.113.7").packed + ip_address("192.0.2.1").packed + b"\x12\x34\x07\x5b"
V6_BODY = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + b"\x12\x34\x07\x5b"
GOOD = [
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 4660 1883\r\n", "203.0.113.7"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 1883\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    (version_2(1, 0x11, V4_BODY), "203.0.113.7"),
    (version_2(1, 0x21, V6_BODY), "2001:db8::7"),
    (version_2(1, 0x11, V4_BODY + b"\x03\x00\x04abcd"), "203.0.113.7"),
    (version_2(0, 0x00, b""), None),
    (version_2(1, 0x31, b"x" * 216), None),
]


@pytest.mark.parametrize(("header", "address"), GOOD, ids=lambda value: repr(value)[:40])
def test_a_header_names_the_client_and_ends_where_it_says(
    header: bytes, address: str | None
) -> None:
    assert parse_proxy_header(header + b"\x10\x0c") == (address, len(header))
    for size in range(len(header)):
        assert parse_proxy_header(header[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x0c\0\4MQTT",
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 203.0.113.7\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP4 nowhere 192.0.2.1 1 2\r\n",
        b"PROXY SCTP 203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        V2_SIGNATURE + b"\x11\x11\x00\x0c" + V4_BODY,
        V2_SIGNATURE + b"\x22\x11\x00\x0c" + V4_BODY,
        V2_SIGNATURE + b"\x21\x11\xff\xff",
        version_2(1, 0x11, V4_BODY[:-1]),
    ],
    ids=lambda data: repr(data)[:40],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_proxy_header(data)


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2_SIGNATURE]), st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_a_protocol_error(start: bytes, rest: bytes) -> None:
    try:
        parse_proxy_header(start + rest)
    except ProtocolError:
        return
