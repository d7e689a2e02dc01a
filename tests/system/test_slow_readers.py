"""A client that reads too slowly: what waits for it ends with its right to it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from mqttpush.mqtt.codec import encode
from mqttpush.mqtt.packets import Connect, Subscribe, SubscriptionRequest, Version
from tests.support.rest import Account, Api
from tests.support.server import Server

TIMEOUT_S = 20.0
VERSION = Version.V3_1_1
MESSAGE = {"data": {"text": "x" * 3000}, "mqtt": {"enabled": True}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"MQTT__WRITE_BUFFER_BYTES": "1024", "MQTT__STALL_TIMEOUT_S": "600"}
    with Server(tmp_path_factory.mktemp("slow"), settings) as server:
        yield server


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with closing(Api(server.url, server.create_app("slow"))) as api:
        yield api


def connect(mqtt_endpoint: dict[str, Any]) -> socket.socket:
    """A subscribed client with little room for what it does not read."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.settimeout(TIMEOUT_S)
    link.connect((mqtt_endpoint["host"], mqtt_endpoint["portTCP"]))
    name = mqtt_endpoint["mqttTopic"]
    password = mqtt_endpoint["password"].encode()
    connect = Connect(VERSION, name, True, 600, mqtt_endpoint["username"], password)
    subscribe = Subscribe(1, (SubscriptionRequest(name, 0),))
    link.sendall(encode(VERSION, connect) + encode(VERSION, subscribe))
    assert link.recv(9, socket.MSG_WAITALL)[-5:] == b"\x90\x03\x00\x01\x00"
    return link


def metric(server: Server, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics", trust_env=False, timeout=TIMEOUT_S).text
    values = [line.split()[-1] for line in text.splitlines() if line.startswith(name)]
    return float(values[0]) if values else 0.0


def unsubscribe(api: Api, user: Account, _: str) -> None:
    path = f"/topics/news/push/subscriptions/users/{user.id}"
    api.ok("DELETE", path, token=user.token)


def take_the_right(api: Api, _: Account, admin_token: str) -> None:
    path = "/topics/news/acl/SUBSCRIBE_TO_TOPIC/UserID:ANY_AUTHENTICATED_USER"
    api.ok("DELETE", path, token=admin_token)


def delete_the_topic(api: Api, _: Account, admin_token: str) -> None:
    api.ok("DELETE", "/topics/news", token=admin_token)


@pytest.mark.parametrize("end", [unsubscribe, take_the_right, delete_the_topic])
def test_what_waits_is_withdrawn_when_it_may_be_heard_no_more(
    server: Server, api: Api, end: Callable[[Api, Account, str], None]
) -> None:
    admin_token, user = api.admin_token(), api.pseudo_user()
    api.ok("PUT", "/topics/news", token=admin_token)
    api.subscribe(user, "/topics/news")
    withdrawn = f'mqttpush_pushes_dropped_total{{app="{api.app_id}",reason="withdrawn"}}'
    with connect(api.mqtt_endpoint(user)):
        while not (waiting := metric(server, "mqttpush_outbox_packets ")):
            for _ in range(20):
                api.ok("POST", "/topics/news/push/messages", token=admin_token, json=MESSAGE)
        end(api, user, admin_token)
        assert metric(server, "mqttpush_outbox_packets ") == 0
        assert metric(server, withdrawn) == waiting
