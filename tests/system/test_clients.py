"""Clients of other hands hear what is written over REST, on every listener they can speak to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from mqttpush.mqtt.tls import CERTIFICATE_NAME
from tests.support.device import PORT_NAMES, Device
from tests.support.foreign import Browser, BrowserClient, MosquittoSub, NodeClient, Receiver
from tests.support.rest import Account, Api, unique
from tests.support.server import Server

KINDS = tuple(PORT_NAMES)
VERSIONS = pytest.mark.parametrize("version", MQTTProtocolVersion, ids=lambda v: v.name)


@pytest.fixture(scope="module")
def server(open_server: Server) -> Server:
    return open_server


@pytest.fixture(scope="module")
def certificate(server: Server) -> Path:
    """The self-signed one of a first start."""
    return server.folder / "data" / CERTIFICATE_NAME


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    with closing(Api(server.url, server.create_app("tests"))) as api:
        yield api


@pytest.fixture(scope="module")
def admin_token(api: Api) -> str:
    return api.admin_token()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), certificate) as browser:
        yield browser


@pytest.fixture
def user(api: Api) -> Account:
    return api.pseudo_user()


def check_hears(receiver: Receiver, api: Api, user: Account, admin_token: str) -> None:
    """A bucket's event, then a direct push with every kind of letter."""
    bucket, text = unique("bucket"), 'Grüße, 世界 🛰 "quoted" \\ </script>'
    api.subscribe(user, f"/buckets/{bucket}")
    with receiver:
        path = f"/buckets/{bucket}/objects"
        written = api.ok("POST", path, token=user.token, json={"a": 1})
        api.push_to_user(admin_token, user.id, text=text)
        event, message = receiver.next_push(), receiver.next_push()
    assert (event["type"], event["bucketID"]) == ("DATA_OBJECT_CREATED", bucket)
    assert event["objectID"] == written["objectID"]
    assert message["text"] == text


@VERSIONS
@pytest.mark.parametrize("kind", KINDS)
def test_paho_hears(
    api: Api,
    admin_token: str,
    user: Account,
    certificate: Path,
    kind: str,
    version: MQTTProtocolVersion,
) -> None:
    device = Device(api.mqtt_endpoint(user), kind, version, certificate)
    check_hears(device, api, user, admin_token)


@pytest.mark.parametrize("version", MosquittoSub.VERSIONS)
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_mosquitto_sub_hears(
    api: Api, admin_token: str, user: Account, certificate: Path, kind: str, version: str
) -> None:
    device = MosquittoSub(api.mqtt_endpoint(user), kind, version, certificate)
    check_hears(device, api, user, admin_token)


@VERSIONS
@pytest.mark.parametrize("kind", KINDS)
def test_mqtt_js_in_node_js_hears(
    api: Api,
    admin_token: str,
    user: Account,
    certificate: Path,
    kind: str,
    version: MQTTProtocolVersion,
) -> None:
    device = NodeClient(api.mqtt_endpoint(user), kind, version, certificate)
    check_hears(device, api, user, admin_token)


@VERSIONS
@pytest.mark.parametrize("kind", ["ws", "wss"])
def test_mqtt_js_in_chromium_hears(
    api: Api,
    admin_token: str,
    user: Account,
    browser: Browser,
    kind: str,
    version: MQTTProtocolVersion,
) -> None:
    device = BrowserClient(api.mqtt_endpoint(user), kind, version, browser)
    check_hears(device, api, user, admin_token)
