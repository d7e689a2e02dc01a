"""An embedded C client's flow, byte for byte over raw sockets (kii 0.2, 3.2, 10.5; appendix C 1).

Requests in absolute form with HTTP/1.0, the made-up app key, MQTT 3.1, and payloads read from
where that client looks for them.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.rest.support import RawResponse, exchange
from tests.support.rest import Api, unique
from tests.support.server import Server
from tests.support.things import TIMEOUT_S, VENDOR_THING_ID

SDK = "sn=te;sv=1.2.4"
# The client ID of MQTT 3.1 has 23 characters at most; the others are the client's own buffers.
BUFFER_SIZES = {"username": 63, "password": 127, "mqttTopic": 23, "host": 63}


class Firmware:
    """What the SDK's request builder writes: one header a line, no blank saved, no Host."""

    def __init__(self, server: Server, app_id: str) -> None:
        self.url = server.url
        self.app_id = app_id
        # The host is the one it was built for: behind a proxy it may be any name.
        self.base = "https://api.example.com:443"

    def send(
        self,
        method: str,
        path: str,
        body: str | None = None,
        *,
        content_type: str = "application/json",
        token: str = "",
    ) -> RawResponse:
        lines = [
            f"{method} {self.base}{path} HTTP/1.0",
            f"X-Kii-Appid: {self.app_id}",
            "X-Kii-Appkey: k",
            f"X-Kii-Sdk: {SDK}",
        ]
        if token:
            lines.append(f"authorization:bearer {token}")
        if body is not None:
            lines += [f"content-type:{content_type}", f"content-length:{len(body)}"]
        request = "\r\n".join([*lines, "", body or ""])
        answer = exchange(self.url, request.encode())
        assert answer.is_closed
        return answer


def remaining_length(size: int) -> bytes:
    assert size < 128 * 128
    return bytes([size]) if size < 128 else bytes([size % 128 | 0x80, size // 128])


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def connect_packet(endpoint: dict[str, Any], keep_alive_s: int = 60) -> bytes:
    """CONNECT of MQTT 3.1: protocol `MQIsdp`, level 3, clean session, user name and password."""
    body = b"\x00\x06MQIsdp\x03\xc2" + keep_alive_s.to_bytes(2, "big")
    for key in ("mqttTopic", "username", "password"):
        body += text(endpoint[key])
    return b"\x10" + remaining_length(len(body)) + body


def subscribe_packet(mqtt_topic: str) -> bytes:
    body = b"\x00\x01" + text(mqtt_topic) + b"\x00"
    return b"\x82" + remaining_length(len(body)) + body


def read_exactly(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = link.recv(size - len(data))
        assert chunk, data
        data += chunk
    return data


def read_push(link: socket.socket, mqtt_topic: str) -> Any:
    """As the client does: header byte, length, topic name, and the payload right after it."""
    assert read_exactly(link, 1) == b"\x30"  # PUBLISH, QoS 0, not retained, so no packet ID
    length, shift = 0, 0
    while True:
        digit = read_exactly(link, 1)[0]
        length |= (digit & 127) << shift
        shift += 7
        if digit < 128:
            break
    body = read_exactly(link, length)
    name = text(mqtt_topic)
    assert body.startswith(name)
    return json.loads(body[len(name) :])


@pytest.mark.spec("kii 10.5")
def test_the_flow_of_an_embedded_c_client(server: Server, api: Api) -> None:
    app_id = api.app_id
    firmware = Firmware(server, app_id)

    body = f'{{"client_id":"{app_id}","client_secret":"dummy","grant_type":"client_credentials"}}'
    answer = firmware.send("POST", f"/api/apps/{app_id}/oauth2/token", body)
    assert answer.status == 200, answer.body
    anonymous_token = answer.json()["access_token"]

    body = f'{{"vendorThingID":"{unique("c")}","thingPassword":"1234","thingType":"lamp"}}'
    answer = firmware.send(
        "POST",
        f"/thing-if/apps/{app_id}/onboardings",
        body,
        content_type=VENDOR_THING_ID.replace("Onboarding", "onboarding"),
        token=anonymous_token,
    )
    assert answer.status == 200, answer.body
    thing_id, token = answer.json()["thingID"], answer.json()["accessToken"]
    assert len(token) <= 127

    answer = firmware.send(
        "POST",
        f"/api/apps/{app_id}/installations",
        '{"deviceType":"MQTT","development":"false"}',
        content_type="application/vnd.kii.InstallationCreationRequest+json",
        token=token,
    )
    assert answer.status == 201
    installation_id = answer.json()["installationID"]
    assert len(installation_id) <= 63

    path = f"/api/apps/{app_id}/installations/{installation_id}/mqtt-endpoint"
    answer = firmware.send("GET", path, token=token)
    assert answer.status == 200
    assert int(answer.headers["x-mqtt-ttl"]) > 0
    endpoint = answer.json()
    assert all(len(endpoint[key]) <= size for key, size in BUFFER_SIZES.items())

    with socket.create_connection((endpoint["host"], endpoint["portTCP"]), TIMEOUT_S) as link:
        link.sendall(connect_packet(endpoint))
        assert read_exactly(link, 4) == b"\x20\x02\x00\x00"
        link.sendall(subscribe_packet(endpoint["mqttTopic"]))
        assert read_exactly(link, 5) == b"\x90\x03\x00\x01\x00"
        _obey_commands(api, firmware, link, endpoint["mqttTopic"], thing_id, token)
        link.sendall(b"\xc0\x00")
        assert read_exactly(link, 2) == b"\xd0\x00"
        link.sendall(b"\xe0\x00")
        assert link.recv(1) == b""


def _obey_commands(
    api: Api, firmware: Firmware, link: socket.socket, mqtt_topic: str, thing_id: str, token: str
) -> None:
    """Two commands one after the other; results go over HTTP."""
    user = api.pseudo_user()
    api.ok("PUT", f"/things/{thing_id}/ownership/user:{user.id}", token=token)
    commands = f"/thing-if/apps/{api.app_id}/targets/thing:{thing_id}/commands"
    for power in (True, False):
        actions = [{"lamp": [{"turnPower": power}]}]
        body = {"actions": actions, "issuer": f"user:{user.id}"}
        made = api.ok("POST", f"{api.url}{commands}", token=user.token, json=body)
        push = read_push(link, mqtt_topic)
        assert push == {"commandID": made["commandID"], **body}
        assert len(push["commandID"]) <= 63
        answer = firmware.send(
            "PUT",
            f"{commands}/{push['commandID']}/action-results",
            '{"actionResults":[{"lamp":[{"turnPower":{"succeeded":true}}]}]}',
            content_type="application/vnd.kii.CommandResultsUpdateRequest+json",
            token=token,
        )
        assert answer.status == 204
        assert answer.body == b""
        path = f"{api.url}{commands}/{made['commandID']}"
        assert api.ok("GET", path, token=user.token)["commandState"] == "DONE"
    answer = firmware.send(
        "PUT",
        commands.replace("/commands", "/states"),
        '{"lamp":{"power":false}}',
        content_type="application/vnd.kii.MultipleTraitState+json",
        token=token,
    )
    assert answer.status == 204
