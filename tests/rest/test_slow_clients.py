"""Clients that begin a request and do not go on: others are not kept out by them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import StartServer
from tests.rest.support import TIMEOUT_S, RawResponse, read_response
from tests.support.collections import Environment
from tests.support.operating import choose
from tests.support.rest import Account, Api
from tests.support.server import Server

# Long enough for a slow machine to connect and send in, five times over.
TIMEOUTS = {"HTTP__HEAD_TIMEOUT_S": "0.6", "HTTP__BODY_TIMEOUT_S": "0.6"}
# A piece so small, so often, that it never counts as progress.
TRICKLE_S = 0.02


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for nobody."""
    server = Server(tmp_path_factory.mktemp("strict"), TIMEOUTS)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def env(strict: Server) -> Iterator[Environment]:
    env = Environment(strict.url, strict.create_app("strict"))
    yield env
    env.close()


def connect(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)


def met(server: Server, limit: str) -> float:
    """How often a bound has been met."""
    name = f'mqttpush_limits_reached_total{{limit="{limit}"}} '
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    return next((float(line.split()[-1]) for line in text.splitlines() if name in line), 0.0)


def rest_of(link: socket.socket) -> bytes:
    """All that comes until the server closes."""
    data = b""
    while chunk := link.recv(65536):
        data += chunk
    return data


def trickle(link: socket.socket, piece: bytes) -> RawResponse:
    """Send it again and again until there is an answer."""
    link.settimeout(TRICKLE_S)
    for _ in range(round(TIMEOUT_S / TRICKLE_S)):
        link.sendall(piece)
        try:
            link.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        break
    link.settimeout(TIMEOUT_S)
    return read_response(link)


def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(strict: Server) -> None:
    before = met(strict, "http.head_timeout_s")
    with connect(strict) as link:
        assert rest_of(link) == b""
    assert met(strict, "http.head_timeout_s") == before + 1


def test_a_head_that_does_not_end_in_time_is_refused(strict: Server) -> None:
    with connect(strict) as link:
        link.sendall(b"GET /health/live HTTP/1.1\r\nHost:")
        assert rest_of(link).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize(
    ("begin", "piece"),
    [(b"GET / HTTP/1.1\r\n", b"X: y\r\n"), (b"", b"\r\n"), (b"GET /", b"x")],
    ids=["headers", "blank lines", "path"],
)
def test_a_head_that_trickles_in_is_refused(strict: Server, begin: bytes, piece: bytes) -> None:
    with connect(strict) as link:
        link.sendall(begin)
        assert trickle(link, piece).status == 408


def test_blank_lines_after_an_answer_do_not_keep_a_connection(strict: Server) -> None:
    with connect(strict) as link:
        link.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        assert read_response(link).status == 200
        assert trickle(link, b"\r\n").status == 408


def test_a_connection_may_rest_between_requests(strict: Server) -> None:
    with connect(strict) as resting, connect(strict) as late:
        for _ in range(2):
            resting.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
            assert read_response(resting).status == 200
            assert rest_of(late) == b""  # that it is closed says that time has passed


def post(path: str, authorization: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: here\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("way", ["silence", "trickle"])
@pytest.mark.parametrize("dialect", ["kii", "kinvey"])
def test_a_body_that_does_not_come_is_told_in_the_words_of_the_dialect(
    strict: Server, env: Environment, dialect: str, way: str
) -> None:
    kii, kinvey = f"/api/apps/{env.key}/users", f"/appdata/{env.key}/books"
    before = met(strict, "http.body_timeout_s")
    with connect(strict) as link:
        link.sendall(post(kii if dialect == "kii" else kinvey, env.master, 100_000) + b'{"a": "')
        answer = trickle(link, b"x") if way == "trickle" else read_response(link)
        assert answer.status == 408
        assert answer.is_closed
    if dialect == "kii":
        assert answer.json()["errorCode"] == "REQUEST_TIMEOUT"
    else:
        assert answer.json()["error"] == "RequestTimeout"
    assert met(strict, "http.body_timeout_s") == before + 1


def test_a_body_nobody_waits_for_any_more_does_not_keep_a_connection(
    strict: Server, env: Environment
) -> None:
    before = met(strict, "http.body_timeout_s")
    with connect(strict) as link:
        link.sendall(post(f"/api/apps/{env.key}/users", env.master, 9_000_000) + b"x" * 2_000_000)
        assert read_response(link).status == 413
        assert rest_of(link) == b""
    assert met(strict, "http.body_timeout_s") == before + 1


def test_answers_that_take_long_are_not_disturbed(strict: Server, env: Environment) -> None:
    choose(strict, env.key, is_live_service_on=True)
    ann = env.member()
    device = {"deviceId": "d"}
    env.ok("POST", f"user/{ann.id}/register-realtime", ann.authorization, device)
    env.ok("POST", "appdata/books/_subscribe", ann.authorization, device)
    with connect(strict) as stream, connect(strict) as late:
        target = f"/realtime/{env.key}?deviceId=d&authtoken={ann.authtoken}"
        stream.sendall(f"GET {target} HTTP/1.1\r\nHost: here\r\n\r\n\r\nGET / HT".encode())
        assert stream.recv(65536).startswith(b"HTTP/1.1 200")
        assert rest_of(late) == b""
        with connect(strict) as later:
            assert rest_of(later) == b""
        env.ok("POST", "appdata/books", ann.authorization, {"title": "still there"})
        data = b""
        while b"still there" not in data:
            data += (chunk := stream.recv(65536))
            assert chunk


def test_half_open_requests_let_others_in_again(start_server: StartServer) -> None:
    server = start_server(HTTP__MAX_CONNECTIONS="5", **TIMEOUTS)
    links = [connect(server) for _ in range(5)]
    with connect(server) as link:
        link.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        assert read_response(link).status == 503
    for link in links:
        with link:
            assert rest_of(link) == b""
    assert httpx.get(f"{server.url}/health/live", trust_env=False).status_code == 200
    assert met(server, "http.max_connections") == 1
    server.stop()


def test_as_many_connections_are_answered_as_the_bound_says(start_server: StartServer) -> None:
    server = start_server(HTTP__MAX_CONNECTIONS="1")
    with connect(server) as link:
        for _ in range(2):
            link.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
            assert read_response(link).status == 200
    server.stop()


def test_a_head_and_a_large_body_may_come_in_any_pieces(strict: Server) -> None:
    api = Api(strict.url, strict.create_app("pieces"))
    user: Account = api.pseudo_user()
    body = b'{"text": "%b"}' % (b"x" * 60_000)
    path = f"/api/apps/{api.app_id}/users/me/buckets/bb/objects"
    request = post(path, f"Bearer {user.token}", len(body)) + body
    with connect(strict) as link:
        for _ in range(3):
            for start in (0, 20, 500, 40_000):
                end = {0: 20, 20: 500, 500: 40_000}.get(start, len(request))
                link.sendall(request[start:end])
            assert read_response(link).status == 201
    api.close()
