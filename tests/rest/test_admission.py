"""Connections and requests by address, and whose a request is behind a proxy."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from mqttpush.config import HttpSettings
from mqttpush.errors import LimitReached
from mqttpush.metrics import Metrics
from mqttpush.rest.admission import REFUSED_POLITELY, HttpAdmission
from tests.conftest import StartServer
from tests.rest.support import TIMEOUT_S, assert_refused
from tests.support.collections import Environment, assert_error
from tests.support.rest import Api
from tests.support.server import Server

PEER = "192.0.2.1"


def make(**settings: object) -> HttpAdmission:
    return HttpAdmission(HttpSettings.model_validate(settings), Metrics(), clock=lambda: 5.0)


def test_connections_are_bounded_by_address_and_in_all() -> None:
    admission = make(max_connections_per_address=2, max_connections=1)
    assert [admission.open(PEER) for _ in range(3)] == [True, True, False]
    admission.closed(PEER)
    assert admission.open(PEER)
    assert not all(admission.open(f"10.0.{n >> 8}.{n & 255}") for n in range(REFUSED_POLITELY))
    assert admission.connection_count == REFUSED_POLITELY + 1


def test_an_ipv6_subscriber_has_one_address_to_connect_from() -> None:
    admission = make(max_connections_per_address=1)
    assert admission.open("2001:db8:1:2::1")
    assert not admission.open("2001:db8:1:2:ffff::9")
    assert admission.open("2001:db8:1:3::1")


def test_proxies_and_unlimited_addresses_may_connect_as_often_as_they_like() -> None:
    admission = make(max_connections_per_address=1, forwarded_from=["192.0.2.0/24"])
    for peer in (PEER, "127.0.0.1"):
        assert all(admission.open(peer) for _ in range(10))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        (PEER, None, PEER),
        (PEER, "", PEER),
        (PEER, "203.0.113.9", "203.0.113.9"),
        (PEER, "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (PEER, "1.1.1.1,203.0.113.9 , 192.0.2.77", "203.0.113.9"),
        (PEER, "192.0.2.88, 192.0.2.77", "192.0.2.88"),
        (PEER, "203.0.113.9:4711", "203.0.113.9"),
        (PEER, "[2001:db8::1]:4711", "2001:db8::1"),
        (PEER, "2001:DB8::1", "2001:db8::1"),
        (PEER, "unknown", PEER),
        (PEER, "203.0.113.9, <script>", PEER),
        (PEER, "203.0.113.9, ", PEER),
    ],
)
def test_a_request_is_of_the_last_whom_a_listed_proxy_has_heard_from(
    peer: str, forwarded_for: str | None, client: str
) -> None:
    assert make(forwarded_from=["192.0.2.0/24"]).client_of(peer, forwarded_for) == client


def test_nobody_is_believed_unless_listed() -> None:
    assert make().client_of(PEER, "203.0.113.9") == PEER


def test_a_client_has_five_seconds_worth_of_requests_at_once() -> None:
    admission = make(max_requests_per_s_per_address=2)
    for _ in range(10):
        admission.check(PEER)
    with pytest.raises(LimitReached) as refused:
        admission.check(PEER)
    assert refused.value.retry_after_s == pytest.approx(0.5, abs=0.01)
    admission.check("198.51.100.7")
    for _ in range(100):
        admission.check("127.0.0.1")


def connect(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)


def is_open(link: socket.socket) -> bool:
    """Is it answered?"""
    try:
        link.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        return link.recv(65536).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


def test_connections_over_the_bound_of_an_address_are_closed(start_server: StartServer) -> None:
    server = start_server(HTTP__UNLIMITED_ADDRESSES="[]", HTTP__MAX_CONNECTIONS_PER_ADDRESS="3")
    links = [connect(server) for _ in range(4)]
    assert [is_open(link) for link in links] == [True, True, True, False]
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=transport, trust_env=False) as elsewhere:
        metrics = elsewhere.get(f"{server.url}/metrics").text
    assert "mqttpush_http_connections 4.0" in metrics
    limit = 'mqttpush_limits_reached_total{limit="http.max_connections_per_address"} 1.0'
    assert limit in metrics
    for link in links:
        link.close()
    server.stop()


def test_requests_over_the_rate_are_told_in_the_words_of_the_dialect(
    start_server: StartServer,
) -> None:
    server = start_server(
        HTTP__UNLIMITED_ADDRESSES="[]",
        HTTP__FORWARDED_FROM='["127.0.0.1"]',
        HTTP__MAX_REQUESTS_PER_S_PER_ADDRESS="0.2",
    )
    app = server.create_app("rate")
    api, env = Api(server.url, app), Environment(server.url, app)
    for number in range(5):
        headers = {"X-Forwarded-For": f"1.1.1.1, 203.0.113.{number}"}
        assert api.call("GET", "/users/me", headers=headers).status_code == 401
    refused = api.call("POST", "/users", content=b"x" * 3_000_000, headers=headers)
    assert_refused(refused, 429, "TOO_MANY_REQUESTS")
    assert int(refused.headers["retry-after"]) <= 5
    lines = [("X-Forwarded-For", "203.0.113.2"), ("X-Forwarded-For", "127.0.0.1")]
    again = httpx.get(f"{server.url}/health/live", headers=lines, trust_env=False)
    assert again.status_code == 429
    kinvey = env.call("GET", "user/_me", env.app, X_Forwarded_For="203.0.113.1")
    assert_error(kinvey, 429, "TooManyRequests")
    assert int(kinvey.headers["retry-after"]) <= 5
    api.close()
    env.close()
    server.stop()
