"""Bad things: what strangers and broken devices send over MQTT is refused on the same channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.rest import Account, Api, unique
from tests.support.server import Server
from tests.support.things import (
    PASSWORD,
    THING_ID,
    VENDOR_THING_ID,
    Answer,
    MqttClient,
    Thing,
    frame,
)

ACTIONS = [{"turnPower": {"power": True}}]
RESULTS = {"actionResults": [{"turnPower": {"succeeded": True}}]}
REQUESTS_AT_ONCE = 90  # below the bound of PUBLISH packets, over that of waiting requests


@pytest.fixture
def thing(api: Api) -> Thing:
    return Thing(api, unique("thing"))


@pytest.fixture
def connected(thing: Thing) -> Iterator[MqttClient]:
    with thing.connect() as client:
        client.subscribe()
        yield client


@pytest.fixture
def anonymous(server: Server, app: dict[str, str]) -> Iterator[MqttClient]:
    with MqttClient.anonymous(server.mqtt_address, app) as client:
        yield client


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.error_code) == (status, code), answer
    assert answer.json()["message"]
    assert answer.headers["content-type"].startswith("application/vnd.kii.")
    assert b"Traceback" not in answer.body


def assert_still_served(client: MqttClient, thing: Thing) -> None:
    answer = client.ask("GET", f"{thing.target}/states", token=thing.token)
    assert (answer.status, answer.json()) == (200, {})


FRAMES: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(100),
    "not UTF-8": b"\xff\xfe\xfd",
    "HTTP's first line": b"PUT /states HTTP/1.1\r\n\r\n{}",
    "an unknown verb": b"STEAL\r\n\r\n{}",
    "a body alone": b'{"power":true}',
    "a header without colon": b"PUT\r\nAuthorization\r\n\r\n{}",
    "a header without name": b"PUT\r\n: x\r\n\r\n{}",
    "a header with a lone CR": b"PUT\r\nA: b\rX-Kii-AppID: c\r\n\r\n{}",
    "long headers": b"PUT\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}",
    "many headers": b"PUT\r\n" + b"X: y\r\n" * 20_000 + b"\r\n{}",
}


@pytest.mark.spec("kii 10.4")
@pytest.mark.parametrize("payload", FRAMES.values(), ids=FRAMES)
def test_a_broken_frame_is_answered_400(
    thing: Thing, connected: MqttClient, payload: bytes
) -> None:
    path = f"{thing.target}/states"
    connected.publish(path, payload)
    answer = connected.next_answer()
    assert_refused(answer, 400, "INVALID_INPUT_DATA")
    assert answer.mqtt_topic == f"p/{connected.client_id}{path}"
    assert_still_served(connected, thing)


def test_headers_and_bodies_over_the_limits_are_refused(start_server: StartServer) -> None:
    """With packets so large that the bounds of a request are what is met."""
    server = start_server(MQTT__MAX_PACKET_BYTES="4194304", HTTP__MAX_BODY_BYTES="1024")
    api = Api(server.url, server.create_app("large"))
    thing = Thing(api, "large")
    path = f"{thing.target}/states"
    with thing.connect() as client:
        client.publish(path, b"PUT\r\nX: " + b"x" * 1_048_576 + b"\r\n\r\n{}")
        assert_refused(client.next_answer(), 400, "INVALID_INPUT_DATA")
        body = b'{"a":"' + b"x" * 1024 + b'"}'
        assert_refused(client.ask("PUT", path, body, token=thing.token), 413, "INVALID_INPUT_DATA")
        over_http = api.call("PUT", f"{api.url}{path}", token=thing.token, content=body)
        assert over_http.status_code == 413
        assert_still_served(client, thing)
    api.close()


def test_a_packet_over_the_limit_closes_the_connection_and_changes_nothing(
    api: Api, thing: Thing
) -> None:
    with thing.connect() as client:
        client.publish(f"{thing.target}/states", b"PUT\r\nX: " + b"x" * 1_048_576 + b"\r\n\r\n{}")
        client.wait_until_lost()
    assert api.ok("GET", f"{api.url}{thing.target}/states", token=thing.token) == {}


def test_a_request_id_of_10_kb_is_refused_and_not_echoed(
    thing: Thing, connected: MqttClient
) -> None:
    headers = {"Authorization": f"Bearer {thing.token}", "X-Kii-RequestID": "x" * 10_240}
    connected.publish(f"{thing.target}/states", frame("GET", headers))
    answer = connected.next_answer()
    assert_refused(answer, 400, "INVALID_INPUT_DATA")
    assert answer.request_id == ""
    assert_still_served(connected, thing)


@pytest.mark.spec("kii 10.2")
def test_a_topic_may_have_a_query(api: Api, thing: Thing, connected: MqttClient) -> None:
    path = f"/thing-if/apps/{api.app_id}/targets/thing:{thing.id}/commands"
    refused = connected.ask("GET", f"{path}?paginationKey=x", token=thing.token)
    assert_refused(refused, 400, "INVALID_INPUT_DATA")
    for query in ("?", "?paginationKey=1&b=%ff&&=&c", "?paginationKey=1?x=/../"):
        answer = connected.ask("GET", f"{path}{query}", token=thing.token)
        assert answer.status in (200, 400)


@pytest.mark.spec("kii 10.2")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/metrics", 404),
        ("//metrics", 404),
        ("/health/ready", 404),
        ("/openapi.json", 404),
        ("/api/oauth2/token", 404),
        ("/thing-if/apps/{appID}/../../../metrics", 404),
        ("/api/apps/{appID}/../{otherID}/things/{thingID}", 404),
        ("/api/apps/{appID}/things/..", 404),
        ("/api/apps/{appID}/things/%2e%2e", 404),
        ("/api/apps/{appID}/things/%", 404),
        ("/api/apps/{appID}/things/%ff", 400),
        ("/api/apps/{appID}/things/%00", 404),
        ("/api/apps/{appID}/things/{thingID}%2fownership", 404),
        ("/thing-if/apps/{appID}/targets/{thingID}/states", 400),
        ("/thing-if/apps/{appID}/targets/thing:/states", 400),
        ("/thing-if/apps/{appID}/targets/thing:th.none/states", 404),
        ("/thing-if/apps/{otherID}/targets/thing:{thingID}/states", 401),
        ("/api/apps/{otherID}/things/{thingID}", 401),
        ("/api/apps//things/{thingID}", 404),
        ("/", 404),
    ],
)
def test_strange_paths_lead_nowhere(
    api: Api, thing: Thing, connected: MqttClient, path: str, status: int
) -> None:
    path = path.format(appID=api.app_id, otherID="b" * 20, thingID=thing.id)
    answer = connected.ask("GET", path, token=thing.token)
    assert answer.status == status, answer
    assert answer.error_code
    assert_still_served(connected, thing)


@pytest.mark.spec("kii 10.2")
def test_percent_escapes_are_read_as_over_http(
    api: Api, thing: Thing, connected: MqttClient
) -> None:
    path = f"/api/apps/{api.app_id}/things/VENDOR%5fTHING_ID%3A{thing.vendor_thing_id}"
    answer = connected.ask("GET", path, token=thing.token)
    assert answer.json()["_thingID"] == thing.id


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_another_clients_prefix_is_refused(
    api: Api, thing: Thing, connected: MqttClient, qos: int
) -> None:
    other = Thing(api, unique("thing"))
    with other.connect() as client:
        client.subscribe()
        request = frame("PUT", {"Authorization": f"Bearer {other.token}"}, {"a": 1})
        mqtt_topic = f"p/{client.client_id}{other.target}/states"
        connected.paho.publish(mqtt_topic, request, qos)
        connected.wait_until_lost()
        assert client.ask("GET", f"{other.target}/states", token=other.token).json() == {}
        assert client.received.empty()


def test_another_app_is_out_of_reach_even_with_its_token(
    server: Server, app: dict[str, str], thing: Thing, connected: MqttClient
) -> None:
    other_app = Api(server.url, server.create_app(unique("other")))
    other = Thing(other_app, "thing")
    path = f"{other.target}/states"
    refused = connected.ask("PUT", path, {"a": 1}, token=other.token)
    assert_refused(refused, 401, "UNAUTHORIZED")
    shown = other_app.ok("GET", f"{other_app.url}{path}", token=other.token)
    assert shown == {}
    other_app.close()


# --- commands of others --------------------------------------------------------------------------


@pytest.mark.spec("kii 10.6")
def test_results_for_someone_elses_command_are_refused(
    api: Api, thing: Thing, connected: MqttClient
) -> None:
    user = api.pseudo_user()
    other = Thing(api, unique("thing"))
    other.own(user)
    with other.connect() as client:
        client.subscribe()
        url = f"{api.url}{other.target}/commands"
        body = {"actions": ACTIONS}
        command_id = api.ok("POST", url, token=user.token, json=body)["commandID"]
        assert client.next_push()["commandID"] == command_id
        path = f"{other.target}/commands/{command_id}/action-results"
        assert_refused(connected.ask("PUT", path, RESULTS, token=thing.token), 401, "UNAUTHORIZED")
        assert_refused(connected.ask("PUT", path, RESULTS), 401, "UNAUTHORIZED")
        assert_refused(connected.ask("PUT", path, RESULTS, token=user.token), 401, "UNAUTHORIZED")
        own = f"{thing.target}/commands/{command_id}/action-results"
        assert_refused(
            connected.ask("PUT", own, RESULTS, token=thing.token), 404, "COMMAND_NOT_FOUND"
        )
        shown = api.ok("GET", f"{url}/{command_id}", token=user.token)
        assert shown["commandState"] == "SENDING"
        assert "actionResults" not in shown


@pytest.mark.spec("kii 10.6")
@pytest.mark.parametrize(
    "body",
    [{}, {"actionResults": []}, {"actionResults": {}}, {"actionResults": [1]}, b"[", b""],
    ids=repr,
)
def test_broken_results_change_nothing(
    api: Api, thing: Thing, connected: MqttClient, body: Any
) -> None:
    user = api.pseudo_user()
    thing.own(user)
    url = f"{api.url}{thing.target}/commands"
    command_id = api.ok("POST", url, token=user.token, json={"actions": ACTIONS})["commandID"]
    assert connected.next_push()["commandID"] == command_id
    path = f"{thing.target}/commands/{command_id}/action-results"
    assert connected.ask("PUT", path, body, token=thing.token).status == 400
    shown = api.ok("GET", f"{url}/{command_id}", token=user.token)
    assert shown["commandState"] == "SENDING"


# --- floods --------------------------------------------------------------------------------------


def test_a_flood_is_told_and_no_request_is_without_an_answer(
    thing: Thing, connected: MqttClient
) -> None:
    path = f"{thing.target}/states"
    for number in range(REQUESTS_AT_ONCE):
        headers = {"Authorization": f"Bearer {thing.token}", "X-Kii-RequestID": str(number)}
        connected.publish(path, frame("PUT", headers, {"number": number}))
    answers = [connected.next_answer() for _ in range(REQUESTS_AT_ONCE)]
    assert sorted(int(each.request_id) for each in answers) == [*range(REQUESTS_AT_ONCE)]
    done = [int(each.request_id) for each in answers if each.status == 204]
    refused = [int(each.request_id) for each in answers if each.status == 429]
    assert len(done) + len(refused) == REQUESTS_AT_ONCE
    assert refused
    assert done == sorted(done)
    assert refused == sorted(refused)
    shown = connected.ask("GET", path, token=thing.token)
    assert shown.json() == {"number": done[-1]}


def test_who_floods_beyond_measure_is_disconnected_and_others_are_served(
    api: Api, thing: Thing
) -> None:
    other = Thing(api, unique("thing"))
    with other.connect() as bystander, thing.connect() as flooder:
        for _ in range(10 * REQUESTS_AT_ONCE):
            flooder.publish(f"{thing.target}/states", b"GET\r\n\r\n")
        flooder.wait_until_lost()
        assert_still_served(bystander, other)


# --- onboarding ----------------------------------------------------------------------------------


@pytest.mark.spec("kii 10.1")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/thing-if/apps/{appID}/onboardings"),
        ("PUT", "/thing-if/apps/{appID}/targets/thing:{thingID}/states"),
        ("GET", "/api/apps/{appID}/things/{thingID}"),
        ("PUT", "/api/apps/{appID}/things/{thingID}/buckets/bucket/objects/onboardings"),
        ("PUT", "/api/apps/{appID}/things/{thingID}/topics/onboardings"),
        ("POST", "/api/apps/{appID}/users"),
        ("POST", "/thing-if/apps/{otherID}/onboardings"),
        ("POST", "/thing-if/apps/{appID}/x/../onboardings"),
    ],
)
def test_the_default_endpoint_does_nothing_but_onboard(
    api: Api, thing: Thing, anonymous: MqttClient, method: str, path: str
) -> None:
    path = path.format(appID=api.app_id, thingID=thing.id, otherID="b" * 20)
    assert_refused(anonymous.ask(method, path, {"a": 1}, token=thing.token), 401, "UNAUTHORIZED")
    body = {"vendorThingID": unique("thing"), "thingPassword": PASSWORD}
    path = f"{thing.folder}/onboardings"
    assert anonymous.ask("POST", path, body, content_type=VENDOR_THING_ID).status == 200


@pytest.mark.parametrize("mqtt_topic", ["anonymous", "#", "p/anonymous/#", "p/+/thing-if/#"])
def test_the_default_endpoint_hears_nothing_of_others(
    server: Server, app: dict[str, str], anonymous: MqttClient, mqtt_topic: str
) -> None:
    anonymous.paho.subscribe(mqtt_topic)
    path = f"/thing-if/apps/{app['appID']}/onboardings"
    with MqttClient.anonymous(server.mqtt_address, app) as other:
        body = {"vendorThingID": unique("thing"), "thingPassword": PASSWORD}
        assert other.ask("POST", path, body, content_type=VENDOR_THING_ID).status == 200
    body = {"vendorThingID": unique("thing"), "thingPassword": ""}
    assert anonymous.ask("POST", path, body, content_type=VENDOR_THING_ID).status == 400
    assert anonymous.received.empty()


@pytest.mark.spec("kii 10.5")
def test_five_wrong_passwords_close_a_thing_for_that_address(
    server: Server, api: Api, thing: Thing
) -> None:
    """However many connections they come from, and over HTTP too."""
    path = f"{thing.folder}/onboardings"
    wrong = {"vendorThingID": thing.vendor_thing_id, "thingPassword": "wrong"}
    for _ in range(5):
        with MqttClient.anonymous(server.mqtt_address, api.app) as client:
            refused = client.ask("POST", path, wrong, content_type=VENDOR_THING_ID)
            assert_refused(refused, 401, "UNAUTHORIZED")
    right = wrong | {"thingPassword": PASSWORD}
    with MqttClient.anonymous(server.mqtt_address, api.app) as client:
        for body in (wrong, right):
            refused = client.ask("POST", path, body, content_type=VENDOR_THING_ID)
            assert_refused(refused, 429, "TOO_MANY_REQUESTS")
            assert int(refused.headers["retry-after"]) > 0
        headers = {"Content-Type": VENDOR_THING_ID}
        assert api.call("POST", f"{api.url}{path}", json=right, headers=headers).status_code == 429
        other = {"vendorThingID": unique("thing"), "thingPassword": PASSWORD}
        assert client.ask("POST", path, other, content_type=VENDOR_THING_ID).status == 200


@pytest.mark.spec("kii 10.5")
def test_a_things_names_share_their_wrong_passwords(api: Api, thing: Thing) -> None:
    url = f"{api.url}{thing.folder}/onboardings"
    user = api.pseudo_user()
    token_url = f"{api.url}/api/oauth2/token"
    name = thing.vendor_thing_id
    attempts: list[tuple[str, str, dict[str, str]]] = [
        (url, VENDOR_THING_ID, {"vendorThingID": name, "thingPassword": "wrong"}),
        (url, THING_ID, {"thingID": thing.id, "thingPassword": "wrong"}),
        (
            token_url,
            "application/json",
            {"username": f"VENDOR_THING_ID:{name}", "password": "wrong"},
        ),
        (
            f"{api.base}/things/{thing.id}/ownership",
            "application/vnd.kii.ThingOwnershipRequest+json",
            {"userID": user.id, "thingPassword": "wrong"},
        ),
    ]
    statuses = []
    for number in range(6):
        where, content_type, body = attempts[number % 4]
        headers = {"Content-Type": content_type}
        token = user.token if where.endswith("/ownership") else None
        answer = api.call("POST", where, token=token, json=body, headers=headers)
        statuses.append(answer.status_code)
    assert statuses == [401, 401, 400, 400, 401, 429]


@pytest.mark.spec("kii 1.4")
def test_a_disabled_thing_can_do_nothing(
    server: Server, api: Api, admin_token: str, thing: Thing
) -> None:
    user: Account = api.pseudo_user()
    thing.own(user)
    disable = {"Content-Type": "application/vnd.kii.ThingStatusUpdateRequest+json"}
    status = f"/things/{thing.id}/status"
    with thing.connect() as client:
        client.subscribe()
        api.ok("PUT", status, token=admin_token, json={"disabled": True}, headers=disable)
        client.wait_until_lost()
    with pytest.raises(ConnectionRefusedError), thing.connect():
        pass
    path = f"{thing.folder}/onboardings"
    body = {"vendorThingID": thing.vendor_thing_id, "thingPassword": PASSWORD}
    with MqttClient.anonymous(server.mqtt_address, api.app) as client:
        refused = client.ask("POST", path, body, content_type=VENDOR_THING_ID)
        assert_refused(refused, 401, "THING_DISABLED")
    refused_state = api.call("PUT", f"{api.url}{thing.target}/states", token=thing.token, json={})
    assert refused_state.json()["errorCode"] == "THING_DISABLED"
    api.ok("PUT", status, token=admin_token, json={"disabled": False}, headers=disable)
    with thing.connect() as client:
        client.subscribe()
        assert_still_served(client, thing)
