"""Fixtures that start the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.rest import Api
from tests.support.server import Server

StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, listening on TCP, TLS, WebSocket and WebSocket with TLS."""
    settings = {f"MQTT__{kind}_PORT": "0" for kind in ("TLS", "WS", "WSS")}
    with Server(tmp_path_factory.mktemp("open"), settings) as server:
        yield server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers of one's own; give `folder` to start again where one ended."""
    servers: list[Server] = []

    def start(folder: Path | None = None, **settings: str) -> Server:
        server = Server(folder or tmp_path, settings)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def app(server: Server) -> dict[str, str]:
    """An app of the shared server, made by the command line while it runs."""
    return server.create_app("tests")


@pytest.fixture(scope="session")
def api(server: Server, app: dict[str, str]) -> Iterator[Api]:
    """That app over REST; every test makes users of its own in it."""
    api = Api(server.url, app)
    yield api
    api.close()


@pytest.fixture(scope="session")
def admin_token(api: Api) -> str:
    """A token of that app's administrator."""
    return api.admin_token()
