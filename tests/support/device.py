"""A device of the tests: paho-mqtt with its own thread, and a queue of what arrived."""

from __future__ import annotations

import json
import queue
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

TIMEOUT_S = 20.0
# In an endpoint, by the kind of listener.
PORT_NAMES = {"tcp": "portTCP", "tls": "portSSL", "ws": "portWS", "wss": "portWSS"}


class Device:
    """Connects and subscribes to its own topic on entry; `pushes` holds what came, in order."""

    def __init__(
        self,
        mqtt_endpoint: dict[str, Any],
        kind: str = "tcp",
        version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311,
        certificate: Path | None = None,
    ) -> None:
        """kind: of listener; certificate: the server's, for `tls` and `wss`."""
        self.pushes: queue.Queue[dict[str, Any]] = queue.Queue()
        self._endpoint = mqtt_endpoint
        self._granted: queue.Queue[bool] = queue.Queue()
        self._lost: queue.Queue[bool] = queue.Queue()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=mqtt_endpoint["mqttTopic"],
            protocol=version,
            transport="websockets" if kind in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
        )
        if kind in ("tls", "wss"):
            self._client.tls_set(str(certificate))
        self._port = mqtt_endpoint[PORT_NAMES[kind]]
        self._client.username_pw_set(mqtt_endpoint["username"], mqtt_endpoint["password"])
        self._client.on_connect = lambda client, *_: client.subscribe(mqtt_endpoint["mqttTopic"])
        self._client.on_subscribe = lambda _client, _data, _mid, codes, _properties: (
            self._granted.put(not codes[0].is_failure)
        )
        self._client.on_connect_fail = lambda *_: self._granted.put(False)
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received

    def __enter__(self) -> Device:
        self._client.connect(self._endpoint["host"], self._port)
        self._client.loop_start()
        if not self._granted.get(timeout=TIMEOUT_S):
            self._client.loop_stop()
            raise ConnectionRefusedError("the server refused the device")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def next_push(self) -> dict[str, Any]:
        """The next push; fails when none comes in time."""
        return self.pushes.get(timeout=TIMEOUT_S)

    def wait_until_lost(self) -> None:
        """Until the server ended the link; fails if it does not in time."""
        self._lost.get(timeout=TIMEOUT_S)

    def pushes_before(self, marker: str) -> list[dict[str, Any]]:
        """All pushes up to the one whose `marker` is this; pushes keep their order on one link."""
        before = []
        while (push := self.next_push()).get("marker") != marker:
            before.append(push)
        return before

    def _disconnected(self, *_: object) -> None:
        self._granted.put(False)
        self._lost.put(True)

    def _received(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        assert message.topic == self._endpoint["mqttTopic"]
        assert message.qos == 0
        self.pushes.put(json.loads(message.payload))
