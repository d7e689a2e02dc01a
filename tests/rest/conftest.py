"""The cast of the REST tests: an administrator, users, a thing, and another app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rest import Account, Api, unique
from tests.support.server import Server


@pytest.fixture(scope="session")
def admin_token(server: Server, app: dict[str, str]) -> str:
    api = Api(server.url, app)
    try:
        return api.admin_token()
    finally:
        api.close()


@pytest.fixture(scope="session")
def other_app(server: Server) -> dict[str, str]:
    return server.create_app("other")


@pytest.fixture
def other_api(server: Server, other_app: dict[str, str]) -> Iterator[Api]:
    api = Api(server.url, other_app)
    yield api
    api.close()


@pytest.fixture
def user(api: Api) -> Account:
    return api.pseudo_user()


@pytest.fixture
def other_user(api: Api) -> Account:
    return api.pseudo_user()


@pytest.fixture
def thing(api: Api) -> Account:
    return api.thing()


@pytest.fixture
def topic(api: Api, user: Account) -> str:
    """A topic of the user's own."""
    path = f"/users/{user.id}/topics/{unique('topic')}"
    api.ok("PUT", path, token=user.token)
    return path
