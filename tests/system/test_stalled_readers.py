"""Clients that take nothing of an answer: they are cut off, with what waits for them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.collections import Environment
from tests.support.operating import choose
from tests.support.server import Server

TIMEOUT_S = 20.0
SMALL_BYTES = 4096


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, {"HTTP__WRITE_TIMEOUT_S": "0.5"})
    yield server
    server.stop()


def ask(server: Server, target: str, headers: str = "") -> socket.socket:
    """A link with little room for answers, on which something was asked for."""
    parts = urlsplit(server.url)
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
    link.settimeout(TIMEOUT_S)
    link.connect((parts.hostname, parts.port))
    link.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}\r\n".encode())
    return link


def wait_until_counted(server: Server, *lines: str) -> None:
    """Until the metrics hold these lines."""
    with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as http:
        for _ in range(2000):
            text = http.get(f"{server.url}/metrics").text
            if all(line in text for line in lines):
                return
    raise AssertionError(f"{lines} are not in\n{text}")


def wait_until_cut_off(server: Server) -> None:
    wait_until_counted(server, 'mqttpush_limits_reached_total{limit="http.write_timeout_s"} 1.0')


def test_a_live_client_that_reads_nothing_is_cut_off(server: Server) -> None:
    env = Environment(server.url, server.create_app("live"))
    choose(server, env.key, is_live_service_on=True)
    ann = env.member()
    device = {"deviceId": "d"}
    env.ok("POST", f"user/{ann.id}/register-realtime", ann.authorization, device)
    env.ok("POST", "appdata/books/_subscribe", ann.authorization, device)
    with ask(server, f"/realtime/{env.key}?deviceId=d&authtoken={ann.authtoken}") as link:
        assert link.recv(1000).startswith(b"HTTP/1.1 200")
        for _ in range(12):
            env.ok("POST", "appdata/books", ann.authorization, {"text": "x" * 900_000})
        wait_until_cut_off(server)
        wait_until_counted(server, "mqttpush_live_clients 0.0", "mqttpush_live_queued_bytes 0.0")
    env.close()


def test_who_asks_for_much_and_reads_nothing_is_cut_off(server: Server) -> None:
    env = Environment(server.url, server.create_app("much"))
    ann = env.member()
    for _ in range(12):
        env.ok("POST", "appdata/books", ann.authorization, {"text": "x" * 900_000})
    with ask(server, f"/appdata/{env.key}/books", f"Authorization: {ann.authorization}\r\n"):
        wait_until_cut_off(server)
    env.close()
