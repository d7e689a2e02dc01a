"""Ordinary topics on a running server: clients of one app talk, and nobody else hears them."""

from __future__ import annotations

import json
import queue
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.conftest import StartServer
from tests.support.rest import Api, unique
from tests.support.server import Server, environment, run_cli

TIMEOUT_S = 20.0
VERSIONS = list(MQTTProtocolVersion)
V3_1_1, V5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"MQTT__ENGINE": "amqtt", "MQTT__MAX_RETAINED_MESSAGES": "2"}
    with Server(tmp_path_factory.mktemp("amqtt"), settings) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    with closing(Api(server.url, server.create_app("one"))) as api:
        yield api


@pytest.fixture(scope="module")
def other_api(server: Server) -> Iterator[Api]:
    with closing(Api(server.url, server.create_app("other"))) as api:
        yield api


@pytest.fixture
def fresh_api(server: Server) -> Iterator[Api]:
    """An app of the test's own: retained messages stay."""
    with closing(Api(server.url, server.create_app(unique("app")))) as api:
        yield api


class Talker:
    """A connected client of an app; its events come through `next` as tuples, in order."""

    def __init__(
        self, api: Api, version: MQTTProtocolVersion = V3_1_1, will: tuple[Any, ...] | None = None
    ) -> None:
        self.account = api.pseudo_user()
        self.endpoint = api.mqtt_endpoint(self.account)
        self.private_topic = self.endpoint["mqttTopic"]
        self.root = f"apps/{api.app_id}/"
        self._events: queue.Queue[tuple[Any, ...]] = queue.Queue()
        put = self._events.put
        self.client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.private_topic,
            protocol=version,
            reconnect_on_failure=False,
        )
        client.username_pw_set(self.endpoint["username"], self.endpoint["password"])
        if will is not None:
            client.will_set(*will)
        client.on_connect = lambda _c, _u, _f, code, _p: put(("connect", str(code)))
        client.on_disconnect = lambda _c, _u, _f, code, _p: put(("disconnect", str(code)))
        client.on_subscribe = lambda _c, _u, _m, codes, _p: put(
            ("subscribe", *[code.value for code in codes])
        )
        client.on_unsubscribe = lambda *_: put(("unsubscribe",))
        client.on_publish = lambda *_: put(("published",))
        client.on_message = lambda _c, _u, message: put(
            ("message", message.topic, message.payload, message.retain)
        )

    def __enter__(self) -> Talker:
        self.client.connect(self.endpoint["host"], self.endpoint["portTCP"])
        self.client.loop_start()
        assert self.next() == ("connect", "Success")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def next(self) -> tuple[Any, ...]:
        return self._events.get(timeout=TIMEOUT_S)

    def subscribe(self, *topic_filters: str, qos: int = 0) -> tuple[int, ...]:
        self.client.subscribe([(topic_filter, qos) for topic_filter in topic_filters])
        kind, *codes = self.next()
        assert kind == "subscribe"
        return tuple(codes)

    def publish(
        self, mqtt_topic: str, payload: bytes, qos: int = 1, *, is_retained: bool = False
    ) -> None:
        """And wait until it is acknowledged (at QoS 0: sent)."""
        self.client.publish(mqtt_topic, payload, qos, retain=is_retained)
        assert self.next() == ("published",)

    def break_off(self) -> None:
        """Lose the connection without DISCONNECT."""
        sock = self.client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_clients_of_one_app_hear_each_other_and_their_pushes(
    api: Api, version: MQTTProtocolVersion, qos: int
) -> None:
    with Talker(api, version) as one, Talker(api, version) as two:
        assert one.subscribe(one.private_topic, f"{one.root}room/+", qos=qos) == (0, qos)
        two.publish(f"{two.root}room/a", b"hello", qos)
        assert one.next() == ("message", f"{one.root}room/a", b"hello", False)
        api.push_to_user(api.admin_token(), one.account.id, marker="push")
        _, mqtt_topic, payload, _ = one.next()
        assert mqtt_topic == one.private_topic
        assert json.loads(payload)["marker"] == "push"


def test_no_filter_hears_another_app_or_a_private_topic(api: Api, other_api: Api) -> None:
    with Talker(api, V5) as spy, Talker(api) as device, Talker(other_api) as stranger:
        foreign = ["#", "+", "apps/#", "apps/+/x", f"{stranger.root}#", device.private_topic]
        assert set(spy.subscribe(*foreign)) == {0x87}
        assert spy.subscribe(f"{spy.root}#") == (0,)
        assert stranger.subscribe(f"{stranger.root}#") == (0,)
        assert device.subscribe(device.private_topic) == (0,)
        stranger.publish(f"{stranger.root}x", b"theirs")
        assert stranger.next()[2] == b"theirs"
        api.push_to_user(api.admin_token(), device.account.id, marker="push")
        assert device.next()[1] == device.private_topic
        device.publish(f"{device.root}end", b"")
        assert spy.next()[1] == f"{spy.root}end"


def test_nobody_publishes_on_a_private_topic_or_in_another_app(api: Api, other_api: Api) -> None:
    with ExitStack() as stack:
        device = stack.enter_context(Talker(api))
        stranger = stack.enter_context(Talker(other_api))
        device.subscribe(device.private_topic, f"{device.root}#")
        for mqtt_topic in (device.private_topic, f"{device.root}x"):
            stranger.client.publish(mqtt_topic, b"forged", 0)
            assert stranger.next() == ("published",)
            assert stranger.next() == ("disconnect", "Unspecified error")
            stranger = stack.enter_context(Talker(other_api))
        api.push_to_user(api.admin_token(), device.account.id, marker="push")
        assert json.loads(device.next()[2])["marker"] == "push"


def test_a_retained_message_waits_for_subscribers_of_its_app_alone(
    fresh_api: Api, other_api: Api
) -> None:
    with Talker(fresh_api) as one, Talker(fresh_api) as two:
        one.subscribe(f"{one.root}state")
        one.publish(f"{one.root}state", b"on", is_retained=True)
        assert one.next() == ("message", f"{one.root}state", b"on", False)
        assert two.subscribe(f"{two.root}#") == (0,)
        assert two.next() == ("message", f"{two.root}state", b"on", True)
        with Talker(other_api) as stranger:  # a new session, while others hold the filter
            assert stranger.subscribe(f"{stranger.root}#") == (0,)
            stranger.publish(f"{stranger.root}end", b"")
            assert stranger.next()[1] == f"{stranger.root}end"
        two.publish(f"{two.root}state", b"", is_retained=True)
        with Talker(fresh_api) as three:
            assert three.subscribe(f"{three.root}#") == (0,)
            three.publish(f"{three.root}end", b"")
            assert three.next()[1] == f"{three.root}end"


def test_retained_messages_of_an_app_are_bounded(server: Server, fresh_api: Api) -> None:
    with Talker(fresh_api, V5) as talker:
        talker.publish(f"{talker.root}1", b"x", is_retained=True)
        talker.publish(f"{talker.root}2", b"x", is_retained=True)
        talker.publish(f"{talker.root}1", b"y", is_retained=True)
        talker.client.publish(f"{talker.root}3", b"x", 0, retain=True)
        assert talker.next() == ("published",)
        assert talker.next() == ("disconnect", "Quota exceeded")
    metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert 'mqttpush_limits_reached_total{limit="mqtt.max_retained_messages"} 1.0' in metrics


@pytest.mark.parametrize("is_told", [True, False])
def test_a_will_is_published_when_a_client_is_lost(api: Api, is_told: bool) -> None:
    with Talker(api) as watcher:
        watcher.subscribe(f"{watcher.root}#")
        with Talker(api, will=(f"{watcher.root}gone", b"will", 1)) as lost:
            if is_told:
                lost.client.disconnect()
            else:
                lost.break_off()
            assert lost.next()[0] == "disconnect"
        if not is_told:
            assert watcher.next() == ("message", f"{watcher.root}gone", b"will", False)
        watcher.publish(f"{watcher.root}end", b"")
        assert watcher.next()[1] == f"{watcher.root}end"


def test_what_is_published_right_before_leaving_arrives(api: Api) -> None:
    with Talker(api) as watcher:
        watcher.subscribe(f"{watcher.root}#")
        with Talker(api) as hasty:
            for number in range(20):
                hasty.client.publish(f"{hasty.root}n", str(number), 0)
        assert [int(watcher.next()[2]) for _ in range(20)] == list(range(20))


def test_a_takeover_leaves_the_new_connection_its_ordinary_topics(api: Api) -> None:
    with Talker(api) as first, Talker(api) as other:
        first.subscribe(f"{first.root}a")
        second = Talker(api)
        second.endpoint, second.client._client_id = first.endpoint, first.private_topic.encode()
        second.client.username_pw_set(first.endpoint["username"], first.endpoint["password"])
        with second:
            assert first.next()[0] == "disconnect"
            assert second.subscribe(f"{first.root}a") == (0,)
            other.publish(f"{first.root}a", b"x")
            assert second.next() == ("message", f"{first.root}a", b"x", False)


def test_after_unsubscribing_nothing_arrives(api: Api) -> None:
    with Talker(api) as talker:
        talker.subscribe(f"{talker.root}a", f"{talker.root}end")
        talker.client.unsubscribe(f"{talker.root}a")
        assert talker.next() == ("unsubscribe",)
        talker.publish(f"{talker.root}a", b"")
        talker.publish(f"{talker.root}end", b"")
        assert talker.next()[1] == f"{talker.root}end"


def test_a_start_without_the_library_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "amqtt.py").write_text("raise ModuleNotFoundError('no', name='amqtt')\n")
    environ = {
        **environment(tmp_path, {"MQTT__ENGINE": "amqtt"}),
        "PYTHONPATH": str(tmp_path),
    }
    result = run_cli("serve", environ=environ, cwd=tmp_path)
    assert result.returncode == 2
    assert "pip install 'mqttpush[amqtt]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_stop_with_clients_and_wills_ends_well(start_server: StartServer) -> None:
    server = start_server(MQTT__ENGINE="amqtt")
    with closing(Api(server.url, server.demo)) as api, ExitStack() as stack:
        root = f"apps/{api.app_id}/"
        talkers = [Talker(api, V5, will=(f"{root}gone", b"", 1)) for _ in range(10)]
        for talker in talkers:
            stack.enter_context(talker).subscribe(f"{root}#", qos=1)
        server.stop()
        for talker in talkers:
            while (event := talker.next())[0] == "message":
                pass
            assert event == ("disconnect", "Server shutting down")
