"""Requests over bad ways: redirects, endless and slow answers, resets, proxies."""

from __future__ import annotations

import asyncio
import tracemalloc
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from mqttpush.config import NetworkSettings
from mqttpush.networks import Ending, Network, TokenFate
from mqttpush.networks.http import HttpClient, WayFailed
from mqttpush.provider_simulator import Cut, Fault, open_providers
from tests.networks.support import open_world
from tests.support.loop import in_loop

Talk = Callable[[Reader, Writer], Awaitable[None]]
LIMIT_BYTES = 2048


class Host:
    """A server that says what a test wants. requests: the heads that came."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.requests: list[bytes] = []
        self.connection_count = 0
        self.url = ""
        self.port = 0
        self._writers: set[Writer] = set()

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.connection_count += 1
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                await reader.readexactly(len(b"body"))
                await self._talk(reader, writer)
                await writer.drain()

    def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def open_host(talk: Talk) -> AsyncIterator[Host]:
    host = Host(talk)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    host.url = f"http://127.0.0.1:{host.port}"
    try:
        yield host
    finally:
        server.close()
        host.end()
        await server.wait_closed()


@asynccontextmanager
async def open_client(**settings: Any) -> AsyncIterator[HttpClient]:
    values: dict[str, Any] = {"timeout_s": 5.0, "max_answer_bytes": LIMIT_BYTES, **settings}
    client = HttpClient(NetworkSettings(**values))
    try:
        yield client
    finally:
        await client.close()


def answering(raw: bytes) -> Talk:
    async def talk(reader: Reader, writer: Writer) -> None:
        writer.write(raw)

    return talk


OK = b"HTTP/1.1 200 OK\r\nX-Thing: one\r\nx-thing:  two \r\nContent-Length: 5\r\n\r\nhello"


@in_loop
async def test_an_answer_comes_back_with_its_status_headers_and_body() -> None:
    async with open_host(answering(OK)) as host, open_client() as client:
        answer = await client.post(f"{host.url}/x", ["A: b"], b"body")
        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.header("X-THING") == "two"
        assert not answer.header("Retry-After")
        assert host.requests[0].startswith(b"POST /x HTTP/1.1\r\n")
        assert b"\r\nA: b\r\n" in host.requests[0]


@in_loop
async def test_a_request_has_nothing_of_the_one_before_it() -> None:
    async with open_host(answering(OK)) as host, open_client() as client:
        await client.post(host.url, ["Authorization: Bearer secret", "X-First: 1"], b"body")
        await client.post(host.url, [], b"body")
        assert b"secret" in host.requests[0]
        assert b"Authorization" not in host.requests[1]
        assert b"X-First" not in host.requests[1]


@in_loop
async def test_requests_share_a_few_connections() -> None:
    async with open_host(answering(OK)) as host, open_client(max_connections=3) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(client.post(host.url, [], b"body"))
        assert len(host.requests) == 100
        assert host.connection_count <= 3


@in_loop
async def test_a_redirect_is_not_followed() -> None:
    async with open_host(answering(OK)) as target:
        location = f"HTTP/1.1 307 X\r\nLocation: {target.url}/\r\nContent-Length: 0\r\n\r\n"
        async with open_host(answering(location.encode())) as host, open_client() as client:
            answer = await client.post(host.url, [], b"body")
        assert answer.status == 307
        assert not target.requests


async def endless(reader: Reader, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"400\r\n" + b"x" * 0x400 + b"\r\n")
        await writer.drain()


@in_loop
async def test_an_endless_body_is_cut_off() -> None:
    async with open_host(endless) as host, open_client() as client:
        answer = await client.post(host.url, [], b"body")
    assert (answer.status, len(answer.body)) == (400, LIMIT_BYTES)


@in_loop
async def test_a_body_that_announces_too_much_is_cut_off() -> None:
    raw = b"HTTP/1.1 200 X\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 100_000
    async with open_host(answering(raw)) as host, open_client() as client:
        answer = await client.post(host.url, [], b"body")
    assert (answer.status, len(answer.body)) == (200, LIMIT_BYTES)


async def endless_headers(reader: Reader, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 400 X\r\n")
    while True:
        writer.write(b"X-A: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


@in_loop
async def test_endless_headers_are_a_failure() -> None:
    async with open_host(endless_headers) as host, open_client() as client:
        with pytest.raises(WayFailed) as failure:
            await client.post(host.url, [], b"body")
    assert failure.value.was_sent


async def endless_hints(reader: Reader, writer: Writer) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n" + b"a:\r\n" * 1000 + b"\r\n")
        await writer.drain()


@in_loop
async def test_endless_early_hints_are_a_failure_and_are_not_kept() -> None:
    tracemalloc.start()
    try:
        async with open_host(endless_hints) as host, open_client() as client:
            with pytest.raises(WayFailed):
                await client.post(host.url, [], b"body")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 199 X\r\nContent-Length: 0\r\n\r\n",
    ],
)
@in_loop
async def test_a_status_that_is_not_the_last_is_no_answer(raw: bytes) -> None:
    async with open_host(answering(raw)) as host, open_client(timeout_s=0.3) as client:
        with pytest.raises(WayFailed) as failure:
            await client.post(host.url, [], b"body")
    assert failure.value.was_sent


@in_loop
async def test_what_comes_before_the_answer_is_not_taken_for_it() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 999\r\n\r\n"
    last = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
    async with open_host(answering(hints + last)) as host, open_client() as client:
        answer = await client.post(host.url, [], b"body")
    assert (answer.status, answer.header("Retry-After")) == (503, "")


@pytest.mark.parametrize(
    ("status", "is_answer"), [(200, True), (201, True), (404, False), (503, False)]
)
@in_loop
async def test_a_body_that_never_ends_is_an_answer_only_if_the_push_was_taken(
    status: int, is_answer: bool
) -> None:
    raw = f"HTTP/1.1 {status} X\r\nContent-Length: 10\r\n\r\nhal".encode()
    async with open_host(answering(raw)) as host, open_client(timeout_s=0.3) as client:
        if is_answer:
            assert (await client.post(host.url, [], b"body")).status == status
            return
        with pytest.raises(WayFailed) as failure:
            await client.post(host.url, [], b"body")
    assert failure.value.is_timeout
    assert failure.value.was_sent


@in_loop
async def test_a_silent_network_is_waited_for_only_so_long() -> None:
    async with open_host(answering(b"")) as host, open_client(timeout_s=0.3) as client:
        with pytest.raises(WayFailed) as failure:
            await client.post(host.url, [], b"body")
    assert failure.value.is_timeout
    assert failure.value.was_sent


@in_loop
async def test_a_closed_port_is_known_not_to_have_got_the_request() -> None:
    async with open_host(answering(OK)) as host:
        url = host.url
    async with open_client() as client:
        with pytest.raises(WayFailed) as failure:
            await client.post(url, [], b"body")
    assert not failure.value.was_sent
    assert failure.value.retryable


@pytest.mark.parametrize("raw", [b"\x00\x01\x02\x03garbage\r\n\r\n", b"HTTP/9.9 abc\r\n\r\n"])
@in_loop
async def test_what_is_no_http_is_a_failure(raw: bytes) -> None:
    async with open_host(answering(raw)) as host, open_client() as client:
        with pytest.raises(WayFailed):
            await client.post(host.url, [], b"body")


@in_loop
async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_host(answering(OK)) as proxy, open_host(answering(OK)) as host:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with open_client() as client:
            await client.post(host.url, [], b"body")
        assert len(host.requests) == 1
        assert not proxy.requests


@in_loop
async def test_a_host_is_reached_at_the_address_given() -> None:
    async with open_host(answering(OK)) as host, open_client() as client:
        way = f"push.example.com:443:127.0.0.1:{host.port}"
        answer = await client.post("http://push.example.com:443/x", [], b"body", connect_to=way)
        assert answer.status == 200
        assert b"\r\nHost: push.example.com:443\r\n" in host.requests[0]
        # The handle is used again, its way is not.
        assert (await client.post(f"{host.url}/y", [], b"body")).status == 200


@in_loop
async def test_a_certificate_of_another_host_is_refused_before_anything_is_sent() -> None:
    async with open_providers() as providers:
        port = int(providers.urls()["webpush"].rpartition(":")[2])
        way = f"push.example.com:443:127.0.0.1:{port}"
        async with open_client(ca_file=str(providers.ca_file)) as client:
            with pytest.raises(WayFailed, match="certificate") as failure:
                await client.post("https://push.example.com/x", [], b"body", connect_to=way)
        async with open_client() as client:  # without the simulator's authority
            with pytest.raises(WayFailed, match="certificate"):
                await client.post(f"{providers.urls()['webpush']}/x", [], b"body")
    assert not failure.value.was_sent


@in_loop
async def test_the_environment_s_authorities_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_providers() as providers:
        monkeypatch.setenv("SSL_CERT_FILE", str(providers.ca_file))
        async with open_client() as client:
            answer = await client.post(f"{providers.urls()['apns']}/x", [], b"body")
    assert answer.status == 404


@in_loop
async def test_a_cancelled_request_leaves_the_others_alone() -> None:
    is_asked = asyncio.Event()

    async def talk(reader: Reader, writer: Writer) -> None:
        is_asked.set()
        if len(host.requests) > 1:
            writer.write(OK)

    async with open_host(talk) as host, open_client() as client:
        silent = asyncio.create_task(client.post(host.url, [], b"body"))
        await is_asked.wait()
        silent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await silent
        assert client.is_idle
        assert (await client.post(host.url, [], b"body")).status == 200


@in_loop
async def test_closing_fails_what_is_under_way_without_cancelling_who_waits() -> None:
    is_asked = asyncio.Event()

    async def talk(reader: Reader, writer: Writer) -> None:
        is_asked.set()

    async with open_host(talk) as host, open_client() as client:
        silent = asyncio.create_task(client.post(host.url, [], b"body"))
        await is_asked.wait()
        await client.close()
        with pytest.raises(WayFailed):
            await silent
        with pytest.raises(WayFailed):
            await client.post(host.url, [], b"body")


@pytest.mark.parametrize("network", list(Network))
@pytest.mark.parametrize("cut", list(Cut))
@in_loop
async def test_a_burst_survives_a_connection_lost_in_its_middle(network: Network, cut: Cut) -> None:
    async with open_providers() as providers:
        provider = providers.provider(network)
        async with open_world(providers) as world:
            tokens = provider.make_tokens(60)
            providers.add_faults(Fault(network=network, skip=20, cut=cut, times=2))
            first = await world.send(network, tokens[0])
            assert first.ending is Ending.DELIVERED
            sent = await asyncio.gather(*(world.send(network, token) for token in tokens))
            failed = [
                token for token, result in zip(tokens, sent, strict=True) if not result.ending
            ]
            assert {result.ending for result in sent} <= {None, Ending.DELIVERED}
            assert not failed or all(r.code in ("no_answer", "unreachable") for r in sent if r.code)
            again = await asyncio.gather(*(world.send(network, token) for token in failed))
            assert all(result.ending is Ending.DELIVERED for result in again)
        assert all(provider.count(token) for token in tokens)


@pytest.mark.parametrize("cut", [Cut.GOAWAY, Cut.REFUSED_STREAM])
@in_loop
async def test_what_http_2_says_was_not_taken_is_sent_again_at_once(cut: Cut) -> None:
    async with open_providers() as providers:
        async with open_world(providers) as world:
            tokens = providers.apns.make_tokens(60)
            providers.add_faults(Fault(network=Network.APNS, skip=20, cut=cut))
            sent = await asyncio.gather(*(world.send(Network.APNS, token) for token in tokens))
        assert {result.ending for result in sent} == {Ending.DELIVERED}
        assert {providers.apns.count(token) for token in tokens} == {1}


@pytest.mark.parametrize("network", list(Network))
@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"body": "{", "status": 400}, id="broken JSON"),
        pytest.param({"body": "[1]", "status": 400}, id="JSON of another shape"),
        pytest.param({"body": '{"error":[],"reason":{}}', "status": 400}, id="strange fields"),
        pytest.param({"status": 400, "huge_body_bytes": 1_000_000}, id="a huge error"),
        pytest.param({"body": "", "status": 403}, id="an empty error"),
        pytest.param({"huge_body_bytes": 1_000_000}, id="a huge success"),
    ],
)
@in_loop
async def test_a_strange_answer_costs_no_token_and_ends(
    network: Network, trouble: dict[str, Any]
) -> None:
    async with open_providers() as providers, open_world(providers) as world:
        providers.add_faults(Fault(network=network, **trouble))
        sent = await world.send(network)
        is_mismatch = network is Network.WEBPUSH and trouble.get("status") == 403
        assert sent.token is (TokenFate.MARK if is_mismatch else TokenFate.KEEP)
