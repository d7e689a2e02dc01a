"""Things of the tests: onboarding and calls over MQTT, framed by hand as their makers' samples do.

Written from the specification (kii 10), not from our code.
"""

from __future__ import annotations

import itertools
import json
import queue
from dataclasses import dataclass
from typing import Any

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.support.rest import Account, Api

TIMEOUT_S = 20.0
PASSWORD = "123456"
VENDOR_THING_ID = "application/vnd.kii.OnboardingWithVendorThingIDByThing+json"
THING_ID = "application/vnd.kii.OnboardingWithThingIDByThing+json"
VENDOR_THING_ID_BY_OWNER = "application/vnd.kii.OnboardingWithVendorThingIDByOwner+json"
THING_ID_BY_OWNER = "application/vnd.kii.OnboardingWithThingIDByOwner+json"
COMMAND_RESULTS = "application/vnd.kii.CommandResultsUpdateRequest+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer on a request topic. Header names are lower case."""

    mqtt_topic: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        return self.headers.get("x-kii-requestid", "")

    @property
    def error_code(self) -> str:
        return str(self.json().get("errorCode", ""))

    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(mqtt_topic: str, payload: bytes) -> Answer:
    """An answer, whose frame must be exactly that of kii 10.4."""
    head, mark, body = payload.partition(b"\r\n\r\n")
    assert mark, payload
    status, *lines = head.decode().split("\r\n")
    assert "\n" not in head.decode().replace("\r\n", "")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon, line
        headers[name.lower()] = value.strip()
        if name == "X-Kii-RequestID":
            assert not value.startswith(" ")
    assert len(status) == 3
    return Answer(mqtt_topic, int(status), headers, body)


def frame(method: str, headers: dict[str, str], body: Any = None, end: str = "\r\n") -> bytes:
    """A request as kii 10.3 has it."""
    lines = [method, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return end.join(lines).encode() + data


def body_below_its_first_line(payload: bytes) -> Any:
    """As the web sample finds it: from the line that is `{`."""
    lines = payload.decode().split("\n")
    lines = [line.rstrip("\r") for line in lines]
    return json.loads("\n".join(lines[lines.index("{") :]))


class MqttClient:
    """A paho-mqtt client; `received` holds (MQTT topic, payload) in order, whatever came.

    It subscribes to nothing unless asked to.
    """

    def __init__(
        self,
        address: tuple[str, int],
        client_id: str,
        username: str,
        password: str,
        *,
        transport: str = "tcp",
    ) -> None:
        self.client_id = client_id
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.published: queue.Queue[int] = queue.Queue()
        self._serials = itertools.count(1)
        self._connected: queue.Queue[str] = queue.Queue()
        self._granted: queue.Queue[bool] = queue.Queue()
        self._lost: queue.Queue[bool] = queue.Queue()
        self._address = address
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv311,
            transport="websockets" if transport == "ws" else "tcp",
            reconnect_on_failure=False,
        )
        self.paho.max_inflight_messages_set(0)
        self.paho.username_pw_set(username, password)
        self.paho.on_connect = lambda _c, _d, _f, code, _p: self._connected.put(str(code))
        self.paho.on_connect_fail = lambda *_: self._connected.put("failed")
        self.paho.on_subscribe = lambda _c, _d, _m, codes, _p: self._granted.put(
            not codes[0].is_failure
        )
        self.paho.on_publish = lambda _c, _d, mid, _r, _p: self.published.put(mid)
        self.paho.on_message = lambda _c, _d, message: self.received.put(
            (message.topic, bytes(message.payload))
        )
        self.paho.on_disconnect = self._disconnected

    @classmethod
    def anonymous(
        cls, address: tuple[str, int], app: dict[str, str], transport: str = "tcp"
    ) -> MqttClient:
        """The connection of kii 10.1."""
        username = f"type=oauth2&client_id={app['appID']}"
        password = f"client_secret={app['appKey']}"
        return cls(address, "anonymous", username, password, transport=transport)

    @classmethod
    def of(cls, endpoint: dict[str, Any], transport: str = "tcp") -> MqttClient:
        """A connection with an endpoint's credentials."""
        port = endpoint["portWS"] if transport == "ws" else endpoint["portTCP"]
        return cls(
            (endpoint["host"], port),
            endpoint["mqttTopic"],
            endpoint["username"],
            endpoint["password"],
            transport=transport,
        )

    def connect(self) -> str:
        """What CONNACK says, `Success` if all is well."""
        self.paho.connect(*self._address)
        self.paho.loop_start()
        return self._connected.get(timeout=TIMEOUT_S)

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def __enter__(self) -> MqttClient:
        answer = self.connect()
        if answer != "Success":
            self.paho.loop_stop()
            raise ConnectionRefusedError(answer)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def subscribe(self) -> None:
        self.paho.subscribe(self.client_id)
        assert self._granted.get(timeout=TIMEOUT_S)

    def publish(self, path: str, payload: bytes, qos: int = 0) -> None:
        """path: what follows `p/{clientID}`."""
        self.paho.publish(f"p/{self.client_id}{path}", payload, qos)

    def next(self) -> tuple[str, bytes]:
        return self.received.get(timeout=TIMEOUT_S)

    def next_answer(self) -> Answer:
        """The next message, which must be an answer."""
        return read_answer(*self.next())

    def next_push(self) -> dict[str, Any]:
        """The next message, which must be a push."""
        mqtt_topic, payload = self.next()
        assert mqtt_topic == self.client_id, payload
        push: dict[str, Any] = json.loads(payload)
        return push

    def ask(
        self, method: str, path: str, body: Any = None, *, qos: int = 0, **headers: str
    ) -> Answer:
        """One request and its answer; `content_type`, `token` and other headers by keyword."""
        request_id = f"request-{next(self._serials)}"
        sent = {"X-Kii-RequestID": request_id}
        if body is not None:
            sent["Content-Type"] = headers.pop("content_type", "application/json")
        if token := headers.pop("token", ""):
            sent["Authorization"] = f"Bearer {token}"
        self.publish(path, frame(method, sent | headers, body), qos)
        answer = self.next_answer()
        assert answer.mqtt_topic == f"p/{self.client_id}{path}"
        assert answer.request_id == request_id
        return answer

    def wait_until_lost(self) -> None:
        """Until the server ended the link; fails if it does not in time."""
        self._lost.get(timeout=TIMEOUT_S)

    def _disconnected(self, *_: object) -> None:
        self._connected.put("closed")
        self._granted.put(False)
        self._lost.put(True)


class Thing:
    """A thing that has onboarded over HTTP, whose MQTT connection is yet to be opened."""

    def __init__(self, api: Api, vendor_thing_id: str) -> None:
        self.api = api
        self.folder = f"/thing-if/apps/{api.app_id}"
        answer = api.ok(
            "POST",
            f"{api.url}{self.folder}/onboardings",
            json={"vendorThingID": vendor_thing_id, "thingPassword": PASSWORD},
            headers={"Content-Type": VENDOR_THING_ID},
        )
        self.vendor_thing_id = vendor_thing_id
        self.id: str = answer["thingID"]
        self.token: str = answer["accessToken"]
        self.endpoint: dict[str, Any] = answer["mqttEndpoint"]
        self.target = f"{self.folder}/targets/thing:{self.id}"

    @property
    def account(self) -> Account:
        return Account(self.id, self.token)

    def own(self, user: Account) -> None:
        """Make the user an owner of the thing."""
        self.api.ok("PUT", f"/things/{self.id}/ownership/user:{user.id}", token=self.token)

    def connect(self) -> MqttClient:
        return MqttClient.of(self.endpoint)


def onboard(
    api: Api, content_type: str, body: dict[str, Any], token: str | None = None
) -> httpx.Response:
    url = f"{api.url}/thing-if/apps/{api.app_id}/onboardings"
    headers = {"Content-Type": content_type}
    return api.call("POST", url, json=body, headers=headers, token=token)
