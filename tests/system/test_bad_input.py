"""What strangers send: refused as the specifications say, nothing changed, nothing leaked."""

from __future__ import annotations

import queue
import socket
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.device import Device
from tests.support.rest import Account, Api, unique
from tests.support.server import Server

OBJECT_CHARACTER_LIMIT = 65534


@pytest.fixture(scope="module")
def owner(api: Api) -> Account:
    return api.pseudo_user()


@pytest.fixture(scope="module")
def bucket(api: Api, owner: Account) -> str:
    """A bucket in the owner's scope, with one object."""
    path = f"/users/{owner.id}/buckets/private"
    api.ok("PUT", f"{path}/objects/there", token=owner.token, json={"a": 1})
    return path


def error_of(response: httpx.Response) -> tuple[int, str]:
    """Status and errorCode of an answer in the form of spec kii 0.5."""
    body = response.json()
    assert body["message"]
    assert "Traceback" not in response.text
    assert "Exception+json" in response.headers["content-type"]
    return response.status_code, body["errorCode"]


@pytest.mark.spec("kii 0.5")
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("who", ["nobody", "a wrong token", "another user"])
def test_an_object_of_another_user_is_out_of_reach(
    api: Api, bucket: str, owner: Account, method: str, who: str
) -> None:
    tokens = {"nobody": None, "a wrong token": "x" * 43, "another user": api.pseudo_user().token}
    body = {"a": 2} if method in ("PUT", "PATCH") else None
    answer = api.call(method, f"{bucket}/objects/there", token=tokens[who], json=body)
    assert error_of(answer) == (401, "UNAUTHORIZED")
    assert api.ok("GET", f"{bucket}/objects/there", token=owner.token)["a"] == 1


@pytest.mark.spec("kii 0.5")
def test_an_unknown_app_is_told(api: Api, server: Server, owner: Account) -> None:
    path = f"{server.url}/api/apps/nosuchapp/buckets/some/objects"
    headers = {"X-Kii-AppID": "nosuchapp"}
    for token in (None, owner.token):
        answer = api.call("POST", path, token=token, json={}, headers=headers)
        assert error_of(answer) in ((404, "APP_NOT_FOUND"), (401, "UNAUTHORIZED"))


def test_a_token_of_one_app_is_worth_nothing_in_another(
    server: Server, api: Api, owner: Account
) -> None:
    other = Api(server.url, server.create_app("other"))
    path = "/buckets/some/objects"
    assert error_of(other.call("POST", path, token=owner.token, json={}))[0] == 401
    assert error_of(other.call("POST", path, token=api.admin_token(), json={}))[0] == 401
    other.close()


BODIES: dict[str, bytes] = {
    "no JSON": b"{'a': 1}",
    "half a document": b'{"a": ',
    "nothing": b"",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "no object": b"[1, 2]",
    "a bare word": b"null",
    "bad UTF-8": b'{"a": "\xff\xfe"}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "nested too deep": b'{"a":' * 200 + b"1" + b"}" * 200,
    "nested far too deep": b"[" * 100_000 + b"]" * 100_000,
    "too many characters": b'{"a":"' + b"x" * OBJECT_CHARACTER_LIMIT + b'"}',
}


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_body_that_is_no_object_is_refused_and_changes_nothing(
    api: Api, bucket: str, owner: Account, method: str, what: str
) -> None:
    path = f"{bucket}/objects" + ("" if method == "POST" else "/there")
    headers = {"Content-Type": "application/json"}
    answer = api.call(method, path, token=owner.token, content=BODIES[what], headers=headers)
    status, code = error_of(answer)
    assert status == 400
    assert code in ("INVALID_JSON", "INVALID_INPUT_DATA")
    query = {"bucketQuery": {"clause": {"type": "all"}}}
    results = api.ok("POST", f"{bucket}/query", token=owner.token, json=query)["results"]
    assert [(each["_id"], each["a"]) for each in results] == [("there", 1)]


@pytest.mark.spec("kii 12")
def test_an_object_of_the_greatest_size_is_taken(api: Api, owner: Account) -> None:
    frame = len('{"a":""}')
    body = b'{"a":"' + b"x" * (OBJECT_CHARACTER_LIMIT - frame) + b'"}'
    path = f"/users/{owner.id}/buckets/{unique('large')}/objects"
    headers = {"Content-Type": "application/json"}
    assert api.call("POST", path, token=owner.token, content=body, headers=headers).is_success


def test_a_body_over_the_servers_limit_is_413(api: Api, bucket: str, owner: Account) -> None:
    headers = {"Content-Type": "application/json"}
    path = f"{bucket}/objects"
    answer = api.call("POST", path, token=owner.token, content=b" " * 2_000_000, headers=headers)
    assert answer.status_code == 413


@pytest.mark.spec("kii 4.1")
@pytest.mark.parametrize("name", ["a", "x" * 65, "sp%20ace", "%C3%A9clair", "semi;colon", "a%2Fb"])
def test_a_bucket_id_outside_its_alphabet_is_refused(api: Api, owner: Account, name: str) -> None:
    answer = api.call("POST", f"/buckets/{name}/objects", token=owner.token, json={})
    assert answer.status_code in (400, 404)
    assert error_of(answer)[1] in ("INVALID_BUCKET", "INVALID_INPUT_DATA", "NOT_FOUND")


@pytest.mark.spec("kii 4.1")
@pytest.mark.parametrize("name", ["a", "x" * 101, "sp%20ace", "%C3%A9clair", "semi;colon"])
def test_an_object_id_outside_its_alphabet_is_refused(
    api: Api, bucket: str, owner: Account, name: str
) -> None:
    answer = api.call("PUT", f"{bucket}/objects/{name}", token=owner.token, json={})
    assert error_of(answer) == (400, "INVALID_OBJECT_ID")


@pytest.mark.spec("kii 6.1")
@pytest.mark.parametrize("name", ["x" * 65, "sp%20ace", "%C3%A9clair", "dot.ted"])
def test_a_topic_id_outside_its_alphabet_is_refused(api: Api, admin_token: str, name: str) -> None:
    answer = api.call("PUT", f"/topics/{name}", token=admin_token)
    assert error_of(answer) == (400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 1.2")
def test_a_wrong_password_is_invalid_grant(api: Api, server: Server) -> None:
    name = unique("user")
    api.ok("POST", "/users", json={"loginName": name, "password": "123456"})
    url = f"{server.url}/api/oauth2/token"
    for body in (
        {"username": name, "password": "654321"},
        {"username": unique("nobody"), "password": "123456"},
        {"client_id": api.app["clientID"], "client_secret": "x" * 64},
    ):
        answer = api.call("POST", url, json=body)
        assert answer.status_code == 400
        assert "invalid_grant" in answer.text


def test_a_user_may_not_push_to_another(api: Api, owner: Account) -> None:
    message = {"data": {"a": 1}, "mqtt": {"enabled": True}}
    path = f"/users/{owner.id}/push/messages"
    answer = api.call("POST", path, token=api.pseudo_user().token, json=message)
    assert error_of(answer) == (401, "UNAUTHORIZED")


# --- MQTT ---------------------------------------------------------------------------------------


@pytest.fixture
def endpoint(api: Api) -> dict[str, Any]:
    return api.mqtt_endpoint(api.pseudo_user())


class RawLink:
    """A TCP connection that says what it likes."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=20)

    def __enter__(self) -> RawLink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self._socket.recv(count - len(data))
            assert chunk, f"closed after {data!r}"
            data += chunk
        return data

    def is_closed_by_peer(self) -> bool:
        """True once the other side closed; fails if it does not in time."""
        try:
            while self._socket.recv(4096):
                pass
        except ConnectionResetError:
            pass
        return True


def text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def packet(first: int, body: bytes) -> bytes:
    assert len(body) < 16384
    length = (
        bytes([len(body)]) if len(body) < 128 else bytes([len(body) % 128 | 128, len(body) // 128])
    )
    return bytes([first]) + length + body


def connect_packet(endpoint: dict[str, Any], **changes: str) -> bytes:
    told = {**endpoint, **changes}
    head = text("MQTT") + bytes([4, 0xC2]) + (60).to_bytes(2, "big")
    return packet(
        0x10, head + text(told["mqttTopic"]) + text(told["username"]) + text(told["password"])
    )


def subscribe_packet(*topic_filters: str) -> bytes:
    body = b"\x00\x01" + b"".join(text(each) + b"\x00" for each in topic_filters)
    return packet(0x82, body)


GARBAGE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + b"\x00" * 64,
    "zeroes": b"\x00" * 64,
    "ones": b"\xff" * 64,
    "PINGREQ before CONNECT": b"\xc0\x00",
    "SUBSCRIBE before CONNECT": subscribe_packet("#"),
    "a server's packet": b"\x20\x02\x00\x00",
    "CONNECT of another protocol": packet(0x10, text("AMQP") + b"\x04\x02\x00\x3c" + text("x")),
    "CONNECT cut short": packet(0x10, text("MQTT") + b"\x04"),
    "an endless length": b"\x10\xff\xff\xff\xff\x7f",
    "a far too long packet": b"\x10\xff\xff\xff\x7f" + b"\x00" * 64,
}


@pytest.mark.clause("3.1.1", "MQTT-3.1.0-1")
@pytest.mark.parametrize("what", GARBAGE)
def test_a_garbage_first_packet_closes_the_link(server: Server, what: str) -> None:
    with RawLink(server.mqtt_address) as link:
        link.send(GARBAGE[what])
        assert link.is_closed_by_peer()


@pytest.mark.clause("3.1.1", "MQTT-3.2.2-5")
@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"password": "x" * 64}, (4, 5)),
        ({"username": "nosuchapp-nosuchuser"}, (4, 5)),
        ({"username": "", "password": ""}, (4, 5)),
        ({"mqttTopic": "someoneelsesclientid123"}, (2, 4, 5)),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_credentials_are_refused_and_the_link_closed(
    server: Server, endpoint: dict[str, Any], change: dict[str, str], codes: tuple[int, ...]
) -> None:
    with RawLink(server.mqtt_address) as link:
        link.send(connect_packet(endpoint, **change))
        answer = link.receive(4)
        assert answer[:3] == b"\x20\x02\x00"
        assert answer[3] in codes
        assert link.is_closed_by_peer()


def test_another_users_credentials_do_not_take_over_a_link(
    server: Server, api: Api, admin_token: str
) -> None:
    victim = api.pseudo_user()
    thief = api.mqtt_endpoint(api.pseudo_user())
    endpoint = api.mqtt_endpoint(victim)
    with Device(endpoint) as device:
        with RawLink(server.mqtt_address) as link:
            link.send(connect_packet(thief, mqttTopic=endpoint["mqttTopic"]))
            assert link.receive(4)[3] != 0
        api.push_to_user(admin_token, victim.id, text="still here")
        assert device.next_push()["text"] == "still here"


@pytest.mark.clause("3.1.1", "MQTT-3.9.3-2")
def test_only_the_own_topic_is_granted(server: Server, api: Api, endpoint: dict[str, Any]) -> None:
    other = api.mqtt_endpoint(api.pseudo_user())["mqttTopic"]
    own = endpoint["mqttTopic"]
    refused = ("#", "+", "$SYS/#", other, f"{own}/#", f"{own}/", own.swapcase(), own[:-1])
    with RawLink(server.mqtt_address) as link:
        link.send(connect_packet(endpoint))
        assert link.receive(4) == b"\x20\x02\x00\x00"
        link.send(subscribe_packet(own, *refused, "$share/g/" + other))
        head = link.receive(4)
        assert head[0] == 0x90
        assert link.receive(len(refused) + 2) == b"\x00" + b"\x80" * (len(refused) + 1)


def test_refused_links_leave_no_trace(server: Server, endpoint: dict[str, Any]) -> None:
    def link_count() -> float:
        scraped = httpx.get(f"{server.url}/metrics", trust_env=False).text
        [line] = [s for s in scraped.splitlines() if s.startswith("mqttpush_mqtt_connections ")]
        return float(line.split()[1])

    def resident_kib() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0])

    def storm(count: int) -> None:
        for number in range(count):
            with RawLink(server.mqtt_address) as link:
                garbage = list(GARBAGE.values())[number % len(GARBAGE)]
                link.send(
                    garbage if number % 2 else connect_packet(endpoint, username=f"u{number}")
                )
                assert link.is_closed_by_peer()

    storm(200)  # what is made once and kept
    links, kib = link_count(), resident_kib()
    storm(2000)
    assert link_count() == links
    assert resident_kib() - kib < 2048


def test_a_client_that_publishes_reaches_nobody(
    server: Server, api: Api, admin_token: str, endpoint: dict[str, Any]
) -> None:
    victim = api.pseudo_user()
    victims = api.mqtt_endpoint(victim)
    heard: queue.Queue[str] = queue.Queue()
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=endpoint["mqttTopic"], reconnect_on_failure=False
    )
    client.username_pw_set(endpoint["username"], endpoint["password"])
    client.on_connect = lambda client, *_: client.publish(
        victims["mqttTopic"], '{"forged": true}', qos=1, retain=True
    )
    # Acknowledged or thrown out: either way the server has dealt with it.
    client.on_publish = lambda *_: heard.put("acknowledged")
    client.on_disconnect = lambda *_: heard.put("closed")
    with Device(victims) as device:
        client.connect(*server.mqtt_address)
        client.loop_start()
        heard.get(timeout=20)
        client.disconnect()
        client.loop_stop()
        api.push_to_user(admin_token, victim.id, marker="end")
        assert device.pushes_before("end") == []
    with Device(victims) as device:  # nor is it kept for later
        api.push_to_user(admin_token, victim.id, marker="end")
        assert device.pushes_before("end") == []
