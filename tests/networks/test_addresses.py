"""Where a stranger's endpoint may lead: one test a trick."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttpush.config import NetworkSettings
from mqttpush.errors import InvalidRequest
from mqttpush.networks.addresses import (
    Addresses,
    AddressRefused,
    AddressUnknown,
    EndpointRules,
    connect_to,
    is_public,
)
from tests.networks.support import Clock, no_address
from tests.support.loop import in_loop

ANY_HOST = EndpointRules(NetworkSettings(webpush_hosts=["*"]))
KNOWN_HOSTS = EndpointRules(NetworkSettings())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.1.1",  # link-local
        "169.254.169.254",  # a cloud's metadata
        "100.64.0.1",  # carrier-grade NAT
        "100.100.100.200",  # another cloud's metadata
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",  # IPv4-compatible
        "::ffff:127.0.0.1",  # IPv4-mapped
        "::ffff:8.8.8.8",  # mapped, though public
        "::ffff:a9fe:a9fe",
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "64:ff9b::a9fe:a9fe",  # NAT64 of 169.254.169.254
        "64:ff9b::a00:1",
        "64:ff9b:1::1",  # NAT64 of a network's own
        "2001::1",  # Teredo
        "2001:db8::1",
        "2002:7f00:1::1",  # 6to4 of 127.0.0.1
        "2002:808:808::1",
        "fc00::1",
        "fd00:ec2::254",  # a cloud's metadata
        "fe80::1",
        "fe80::1%eth0",
        "2a00:1450:4001::1%eth0",
        "fec0::1",
        "ff02::1",
        "",
        "localhost",
        "0x7f000001",
        "2130706433",
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "142.250.74.42", "2a00:1450:4001::1", "64:ff9b::808:808"]
)
def test_a_public_address_is_let_through(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://push.example.com/x",  # not https
        "HTTP://push.example.com/x",
        "ftp://push.example.com/x",
        "file:///etc/passwd",
        "gopher://push.example.com/",
        "//push.example.com/x",
        "push.example.com",
        "https://push.example.com:8443/x",
        "https://push.example.com:0443/x",
        "https://push.example.com:/x",
        "https://user@push.example.com/x",
        "https://user:secret@push.example.com/x",
        "https://push.example.com:443@evil.example/x",
        "https://push.example.com\\@evil.example/x",
        "https://push.example.com#@evil.example/x",
        "https://push.example.com/x#fragment",
        "https://push.example.com?x",
        "https://localhost/x",
        "https://localhost./x",
        "https://push.example.com./x",
        "https://.example.com/x",
        "https://push..example.com/x",
        "https://-push.example.com/x",
        "https://intranet/x",
        "https://127.0.0.1/x",
        "https://127.1/x",
        "https://2130706433/x",  # decimal
        "https://0x7f.0.0.1/x",  # hexadecimal
        "https://0x7f000001/x",
        "https://example.0x7f/x",
        "https://0177.0.0.1/x",  # octal
        "https://1.1.1.1/x",  # public, but no push service has it
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[2a00:1450:4001::1]/x",
        "https://push.example.com%2eevil.example/x",
        "https://push。example。com/x",
        "https://ⓔxample.com/x",
        "https://push.example.com/a b",
        "https://push.example.com/a\r\nX-Evil: 1",
        "https://push.example.com/a\nb",
        "https://push.example.com/\x00",
        "https://push.example.com/ü",
        " https://push.example.com/x",
        "https://push.example.com/x ",
        "https://push.example.com/x\n",
        "https:///x",
        "https://" + "a" * 254 + ".com/x",
        "https://push.example.com/" + "x" * 2048,
        "",
    ],
)
def test_a_url_that_is_no_plain_https_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as failure:
        ANY_HOST.parse(url)
    assert failure.value.field == "endpoint"


@pytest.mark.parametrize(
    "url",
    [
        "https://fcm.googleapis.com/fcm/send/abc:APA91b-_",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAAA%3D",
        "https://web.push.apple.com/QGuQyavXutnMH",
        "https://wns2-par02p.notify.windows.com/w/?token=BQYAAAB%2f",
        "https://FCM.googleapis.com:443/fcm/send/abc",
    ],
)
def test_the_known_push_services_are_let_through(url: str) -> None:
    endpoint = KNOWN_HOSTS.parse(url)
    assert endpoint.origin == f"https://{endpoint.host}"
    assert endpoint.host == endpoint.host.lower()
    assert not endpoint.is_simulator


@pytest.mark.parametrize(
    "host",
    [
        "push.example.com",
        "evil-fcm.googleapis.com",
        "fcm.googleapis.com.evil.example",
        "push.apple.com",
        "evilpush.apple.com.example",
        "xnotify.windows.com",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(InvalidRequest, match="webpush_hosts"):
        KNOWN_HOSTS.parse(f"https://{host}/x")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:97040/x",
        "http://127.0.0.1:9704@evil.example/x",
        "http://127.0.0.1:9704.evil.example/x",
        "http://127.0.0.1:9704\\x",
        "http://127.0.0.1:9704/x\r\nX: y",
        "http://127.0.0.1:9705/x",
    ],
)
def test_only_the_simulator_s_own_origin_is_excepted(url: str) -> None:
    rules = EndpointRules(NetworkSettings(webpush_test_origins=["http://127.0.0.1:9704"]))
    assert rules.parse("http://127.0.0.1:9704/wpush/x").is_simulator
    with pytest.raises(InvalidRequest):
        rules.parse(url)


class Resolver:
    """A name server whose owner answers differently each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked_count = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked_count += 1
        await asyncio.sleep(0)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def addresses(resolver: Resolver, clock: Clock) -> Addresses:
    return Addresses(resolve=resolver, timeout_s=5.0, clock=clock)


@in_loop
async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    found = addresses(Resolver(["8.8.8.8", "10.0.0.1"]), Clock())
    with pytest.raises(AddressRefused):
        await found.find("push.example.com")


@in_loop
async def test_a_name_is_not_asked_again_between_the_check_and_the_connection() -> None:
    resolver = Resolver(["8.8.8.8"], ["127.0.0.1"])
    found = addresses(resolver, Clock())
    assert await found.find("push.example.com") == "8.8.8.8"
    assert resolver.asked_count == 1
    assert connect_to("push.example.com", "8.8.8.8") == "push.example.com:443:8.8.8.8:443"


@in_loop
async def test_a_name_that_was_rebound_is_refused_when_it_is_asked_again() -> None:
    clock = Clock()
    found = addresses(Resolver(["8.8.8.8"], ["127.0.0.1"]), clock)
    await found.find("push.example.com")
    clock.now_s += 61
    with pytest.raises(AddressRefused):
        await found.find("push.example.com")


@in_loop
async def test_a_clock_that_is_set_back_does_not_keep_old_addresses() -> None:
    clock = Clock()
    found = addresses(Resolver(["8.8.8.8"], ["127.0.0.1"]), clock)
    await found.find("push.example.com")
    clock.now_s -= 86_400
    with pytest.raises(AddressRefused):
        await found.find("push.example.com")


@in_loop
async def test_an_address_that_does_not_answer_is_tried_last() -> None:
    found = addresses(Resolver(["8.8.8.8", "2a00:1450:4001::1"]), Clock())
    assert await found.find("push.example.com") == "8.8.8.8"
    found.set_aside("push.example.com", "8.8.8.8")
    assert await found.find("push.example.com") == "2a00:1450:4001::1"
    assert connect_to("h.example", "2a00::1") == "h.example:443:[2a00::1]:443"


@in_loop
async def test_a_name_many_want_at_once_is_asked_once() -> None:
    resolver = Resolver(["8.8.8.8"])
    found = addresses(resolver, Clock())
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(found.find("push.example.com"))
    assert resolver.asked_count == 1


@given(
    st.text(max_size=60) | st.from_regex(r"https://[a-z0-9.:@/\\?#\[\]%-]{1,40}", fullmatch=True)
)
def test_what_is_let_through_is_read_alike_by_everybody(url: str) -> None:
    try:
        endpoint = ANY_HOST.parse(url)
    except InvalidRequest:
        return
    parts = urlsplit(url)
    assert (parts.scheme, parts.hostname) == ("https", endpoint.host)
    assert parts.port in (None, 443)
    assert parts.username is parts.password is None
    assert url.isascii()
    assert url.isprintable()


@in_loop
async def test_an_unknown_name_is_tried_again_later() -> None:
    found = Addresses(resolve=no_address, timeout_s=5.0, clock=Clock())
    with pytest.raises(AddressUnknown) as failure:
        await found.find("push.example.com")
    assert failure.value.retryable
