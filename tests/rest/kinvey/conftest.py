"""The cast of the second dialect's tests: an app as its clients know it, and two users."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.collections import Environment, Member
from tests.support.rest import unique
from tests.support.server import Server


@pytest.fixture(scope="session")
def kinvey(server: Server, app: dict[str, str]) -> Iterator[Environment]:
    environment = Environment(server.url, app)
    yield environment
    environment.close()


@pytest.fixture
def joe(kinvey: Environment) -> Member:
    return kinvey.member()


@pytest.fixture
def sue(kinvey: Environment) -> Member:
    return kinvey.member()


@pytest.fixture(scope="module")
def env(kinvey: Environment) -> Environment:
    """The app of a module; those that change what holds for the whole app have one of their own."""
    return kinvey


@pytest.fixture
def ann(env: Environment) -> Member:
    return env.member()


@pytest.fixture
def bob(env: Environment) -> Member:
    return env.member()


@pytest.fixture
def books() -> str:
    """A collection no other test uses."""
    return unique("books")
