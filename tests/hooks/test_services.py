"""What HTTP services are told: an address and a secret of their app, nothing a stranger chose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.conftest import Environment, basic
from tests.hooks.support import in_thread
from tests.hooks.test_flex import Service

SECRET = "shared-by-the-service-and-its-operator"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with in_thread(Service()) as server:
        yield server
        server.released.set()


@pytest.fixture(scope="module", autouse=True)
def hooks(
    environment: Environment, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    app_id = environment.app["appID"]
    environment_file = {
        "customEndpoints": {
            name: {"type": "external", "service": "told", "handlerName": name}
            for name in ("change", "done")
        }
    }
    file = tmp_path_factory.mktemp("file") / "environment.json"
    file.write_text(json.dumps(environment_file))
    place = ("service", "set", app_id, "told", service.url, "--secret", SECRET)
    run(environment, "hooks", *place)
    environment.apply(file)


def run(environment: Environment, *arguments: str) -> str:
    from tests.support.server import call_cli

    server = environment.server
    result = call_cli(*arguments, environ=server.environ, cwd=server.folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def user(environment: Environment) -> str:
    return environment.user()


def metadata_of(environment: Environment, service: Service, user: str, **headers: str) -> Any:
    """What the service is told with one call of its endpoint."""
    service.received.clear()
    answer = environment.call("POST", "/rpc/:app/custom/change", user, {"a": 1}, **headers)
    assert answer.status_code == 200, answer.text
    return json.loads(service.received[0][1]["x-kinvey-app-metadata"])


def test_a_client_cannot_say_where_services_call_back(
    environment: Environment, service: Service, user: str
) -> None:
    """They send a master secret there."""
    told = metadata_of(environment, service, user, Host="elsewhere.example")
    assert told["baasUrl"] == environment.server.url


def test_the_secret_a_service_gets_is_master_of_its_own_app(
    environment: Environment, service: Service, user: str
) -> None:
    secret = metadata_of(environment, service, user)["mastersecret"]
    own = basic(environment.app["appID"], secret)
    assert environment.call("GET", "/appdata/:app/any", own).status_code == 200
    other = environment.server.create_app("other")["appID"]
    answer = environment.call("GET", f"/appdata/{other}/any", basic(other, secret))
    assert answer.status_code == 401


def test_a_service_cannot_say_that_fewer_runs_led_to_it(
    environment: Environment, service: Service, user: str
) -> None:
    secret = metadata_of(environment, service, user)["mastersecret"]
    app_id = environment.app["appID"]
    for forged in (secret[:-1], f"{secret[:-1]}2", f"{secret[:-1]}0", f"{secret}1"):
        answer = environment.call("GET", "/appdata/:app/any", basic(app_id, forged))
        assert answer.status_code == 401, forged


def test_secrets_of_services_are_sealed_in_the_store(
    environment: Environment, service: Service, user: str
) -> None:
    metadata_of(environment, service, user)
    assert service.received[0][1]["x-auth-key"] == SECRET
    files = [path for path in Path(environment.server.folder).rglob("*") if path.is_file()]
    assert any(path.name == "mqttpush.db" for path in files)
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in run(environment, "hooks", "service", "list", app_id_of(environment))


def app_id_of(environment: Environment) -> str:
    return environment.app["appID"]
