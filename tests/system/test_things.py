"""Things that speak only MQTT: onboarding, the API over MQTT, commands, presence (kii 1.4, 10)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.rest import Account, Api, unique
from tests.support.server import Server, call_cli
from tests.support.things import (
    COMMAND_RESULTS,
    PASSWORD,
    THING_ID,
    THING_ID_BY_OWNER,
    TIMEOUT_S,
    VENDOR_THING_ID,
    VENDOR_THING_ID_BY_OWNER,
    MqttClient,
    Thing,
    body_below_its_first_line,
    onboard,
    read_answer,
)

ACTIONS = [{"turnPower": {"power": True}}, {"setFanSpeed": {"fanSpeed": 5}}]


@pytest.fixture
def user(api: Api) -> Account:
    return api.pseudo_user()


@pytest.fixture
def thing(api: Api, user: Account) -> Thing:
    """A thing of the user's."""
    thing = Thing(api, unique("thing"))
    thing.own(user)
    return thing


@pytest.fixture
def connected(thing: Thing) -> Iterator[MqttClient]:
    """The thing's connection, subscribed."""
    with thing.connect() as client:
        client.subscribe()
        yield client


def command(api: Api, thing: Thing, token: str, **fields: Any) -> str:
    """Its ID."""
    body = {"actions": ACTIONS, "schema": "Fan", "schemaVersion": 1, **fields}
    answer = api.ok("POST", f"{api.url}{thing.target}/commands", token=token, json=body)
    return str(answer["commandID"])


def state_of(api: Api, thing: Thing, token: str, command_id: str) -> str:
    fields = api.ok("GET", f"{api.url}{thing.target}/commands/{command_id}", token=token)
    return str(fields["commandState"])


def wait_for_state(api: Api, thing: Thing, token: str, command_id: str, wanted: str) -> None:
    """Ask until the server has written down what became of the command."""
    deadline = time.monotonic() + TIMEOUT_S
    while (state := state_of(api, thing, token, command_id)) == "SENDING":
        assert time.monotonic() < deadline
    assert state == wanted


def wait_until_online(api: Api, thing_id: str, token: str) -> None:
    """Ask until the server has written down that the thing is online."""
    deadline = time.monotonic() + TIMEOUT_S
    while not api.ok("GET", f"/things/{thing_id}", token=token)["_online"]:
        assert time.monotonic() < deadline


# --- the default endpoint ------------------------------------------------------------------------


@pytest.mark.spec("kii 10.1")
def test_two_devices_onboard_at_once_on_the_shared_client_id(
    server: Server, app: dict[str, str], api: Api
) -> None:
    """Row 5 of appendix C: QoS 1, LF line ends, no subscription, the answer on the same topic."""
    mqtt_topic = f"p/anonymous/thing-if/apps/{app['appID']}/onboardings"
    with (
        MqttClient.anonymous(server.mqtt_address, app) as first,
        MqttClient.anonymous(server.mqtt_address, app) as second,
    ):
        names = [unique("mq"), unique("mq")]
        for client, name in zip((first, second), names, strict=True):
            request = (
                "POST\n"
                f"Content-type:{VENDOR_THING_ID}\n"
                f"X-Kii-RequestID:{name}\n"
                "\n"
                f'{{"vendorThingID":"{name}","thingPassword":"{PASSWORD}"}}\r\n'
            )
            client.paho.publish(mqtt_topic, request, qos=1)
        things = []
        for client, name in zip((first, second), names, strict=True):
            client.published.get(timeout=TIMEOUT_S)  # PUBACK
            answered_on, payload = client.next()
            assert answered_on == mqtt_topic
            assert payload.startswith(b"200\r\n")
            answer = read_answer(answered_on, payload)
            assert answer.request_id == name
            things.append(answer.json())
            assert client.received.empty()
    assert things[0]["thingID"] != things[1]["thingID"]
    for fields in things:
        endpoint = fields["mqttEndpoint"]
        assert endpoint["ttl"] > 0
        with MqttClient.of(endpoint) as client:
            client.subscribe()
            wait_until_online(api, fields["thingID"], fields["accessToken"])


@pytest.mark.spec("kii 10.3")
def test_a_web_page_onboards_and_calls_over_websocket(start_server: StartServer) -> None:
    """Row 6 of appendix C: Paho over WebSocket, `Header:value` lines, body from the line `{`."""
    server = start_server(MQTT__WS_PORT="0")
    app = server.create_app("web")
    host, _, port = str(server.ready["mqtt_ws"]).rpartition(":")
    with MqttClient.anonymous((host, int(port)), app, transport="ws") as client:
        mqtt_topic = f"p/anonymous/thing-if/apps/{app['appID']}/onboardings"
        body = json.dumps({"vendorThingID": "web", "thingPassword": PASSWORD})
        client.paho.publish(mqtt_topic, f"POST\nContent-type:{VENDOR_THING_ID}\n\n{body}")
        fields = body_below_its_first_line(client.next()[1])
    with MqttClient.of(fields["mqttEndpoint"], transport="ws") as client:
        client.subscribe()
        lines = [
            "PUT",
            "X-Kii-RequestID:123",
            f"Authorization:Bearer {fields['accessToken']}",
            "Content-type:application/json",
            "",
            '{"power":true}',
        ]
        path = f"/thing-if/apps/{app['appID']}/targets/thing:{fields['thingID']}/states"
        client.publish(path, "\n".join(lines).encode())
        assert client.next_answer().status == 204
        lines[0] = "GET"
        client.publish(path, "\n".join(lines[:3]).encode() + b"\n\n")
        assert body_below_its_first_line(client.next()[1]) == {"power": True}


@pytest.mark.spec("kii 10.1")
def test_a_connection_that_does_not_onboard_is_closed(start_server: StartServer) -> None:
    server = start_server(MQTT__ONBOARDING_TIMEOUT_S="0.5")
    with MqttClient.anonymous(server.mqtt_address, server.create_app("idle")) as client:
        client.wait_until_lost()


@pytest.mark.spec("kii 10.1")
@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("type=oauth2&client_id=nosuchapp", "client_secret=x"),
        ("client_id={appID}", "client_secret={appKey}"),
        ("{appID}", "{appKey}"),
        ("", ""),
    ],
)
def test_the_default_endpoint_is_for_known_apps(
    server: Server, app: dict[str, str], username: str, password: str
) -> None:
    client = MqttClient(
        server.mqtt_address, "anonymous", username.format(**app), password.format(**app)
    )
    assert client.connect() in ("Bad user name or password", "Not authorized")
    client.close()


@pytest.mark.spec("kii 0.3")
def test_a_strict_app_wants_its_key_at_the_default_endpoint(start_server: StartServer) -> None:
    server = start_server()
    app = server.create_app("strict")
    arguments = ("app", "change", app["appID"], "--app-key-checked")
    assert call_cli(*arguments, environ=server.environ, cwd=server.folder).returncode == 0
    with MqttClient.anonymous(server.mqtt_address, app) as client:
        path = f"/thing-if/apps/{app['appID']}/onboardings"
        body = {"vendorThingID": "strict", "thingPassword": PASSWORD}
        assert client.ask("POST", path, body, content_type=VENDOR_THING_ID).status == 200
    wrong = MqttClient.anonymous(server.mqtt_address, app | {"appKey": "wrong"})
    assert wrong.connect() in ("Bad user name or password", "Not authorized")
    wrong.close()


# --- onboarding ----------------------------------------------------------------------------------


@pytest.mark.spec("kii 10.5")
def test_the_first_onboarding_makes_the_thing_and_fixes_its_password(api: Api) -> None:
    name = unique("thing")
    body = {
        "vendorThingID": name,
        "thingPassword": PASSWORD,
        "thingType": "lamp",
        "firmwareVersion": "1.0",
        "layoutPosition": "STANDALONE",
        "thingProperties": {"colour": "red", "_thingID": "th.mine"},
        "dataGroupingInterval": "1_MINUTE",
    }
    first = onboard(api, VENDOR_THING_ID, body)
    assert first.status_code == 200, first.text
    thing = first.json()
    shown = api.ok("GET", f"/things/{thing['thingID']}", token=thing["accessToken"])
    assert shown["_vendorThingID"] == name
    assert shown["_thingID"] == thing["thingID"] != "th.mine"
    assert (shown["_thingType"], shown["_firmwareVersion"]) == ("lamp", "1.0")
    assert shown["colour"] == "red"
    assert shown["_online"] is False
    again = onboard(api, VENDOR_THING_ID, body).json()
    assert again["thingID"] == thing["thingID"]
    assert again["accessToken"] != thing["accessToken"]
    assert again["mqttEndpoint"] == thing["mqttEndpoint"]
    by_id = {"thingID": thing["thingID"], "thingPassword": PASSWORD}
    assert onboard(api, THING_ID, by_id).json()["mqttEndpoint"] == thing["mqttEndpoint"]


@pytest.mark.spec("kii 10.5")
@pytest.mark.parametrize("spelling", [str, str.lower], ids=["as documented", "lower case"])
def test_content_types_are_read_in_any_case(api: Api, spelling: Any) -> None:
    body = {"vendorThingID": unique("thing"), "thingPassword": PASSWORD}
    assert onboard(api, f"{spelling(VENDOR_THING_ID)};charset=UTF-8", body).status_code == 200
    assert onboard(api, "application/json", body).status_code == 200


@pytest.mark.spec("kii 10.5")
def test_the_installation_of_an_onboarding_is_the_one_a_thing_would_make(
    api: Api, thing: Thing
) -> None:
    endpoint = api.mqtt_endpoint(thing.account)
    same = ("installationID", "username", "password", "mqttTopic", "portTCP")
    assert {key: endpoint[key] for key in same} == {key: thing.endpoint[key] for key in same}
    path = f"/installations/{endpoint['installationID']}"
    shown = api.ok("GET", path, token=thing.token)
    assert shown["development"] is False
    assert shown["thingID"] == thing.id


@pytest.mark.spec("kii 10.5")
def test_an_owner_onboards_his_thing(api: Api, user: Account) -> None:
    name = unique("thing")
    body = {"vendorThingID": name, "thingPassword": PASSWORD, "owner": f"USER:{user.id}"}
    thing = onboard(api, VENDOR_THING_ID_BY_OWNER, body, user.token).json()
    assert thing["mqttEndpoint"]["mqttTopic"]
    api.ok("GET", f"/things/{thing['thingID']}/ownership/user:{user.id}", token=user.token)
    second = api.pseudo_user()
    body = {"thingID": thing["thingID"], "thingPassword": PASSWORD, "owner": f"user:{second.id}"}
    again = onboard(api, THING_ID_BY_OWNER, body, second.token)
    assert again.json()["thingID"] == thing["thingID"]
    path = f"/things/{thing['thingID']}/ownership/user:{second.id}"
    api.ok("GET", path, token=second.token)


@pytest.mark.spec("kii 10.5")
def test_a_member_onboards_a_thing_for_his_group(api: Api, user: Account) -> None:
    group = api.ok("POST", "/groups", token=user.token, json={"name": "home", "owner": user.id})
    owner = f"group:{group['groupID']}"
    body = {"vendorThingID": unique("thing"), "thingPassword": PASSWORD, "owner": owner}
    stranger = api.pseudo_user()
    assert onboard(api, VENDOR_THING_ID_BY_OWNER, body, stranger.token).status_code == 401
    assert onboard(api, VENDOR_THING_ID_BY_OWNER, body, user.token).status_code == 200


@pytest.mark.spec("kii 10.5")
@pytest.mark.parametrize("who", ["nobody", "someone else", "a thing"])
def test_nobody_onboards_a_thing_for_another(
    api: Api, user: Account, thing: Thing, who: str
) -> None:
    tokens = {"nobody": None, "someone else": api.pseudo_user().token, "a thing": thing.token}
    name = unique("thing")
    body = {"vendorThingID": name, "thingPassword": PASSWORD, "owner": f"user:{user.id}"}
    refused = onboard(api, VENDOR_THING_ID_BY_OWNER, body, tokens[who])
    assert (refused.status_code, refused.json()["errorCode"]) == (401, "UNAUTHORIZED")
    path = f"/things/VENDOR_THING_ID:{name}"
    assert api.call("GET", path, token=api.admin_token()).status_code == 404


@pytest.mark.spec("kii 10.5")
@pytest.mark.parametrize("kind", ["GatewayThingID", "GatewayVendorThingID"])
def test_end_nodes_are_refused_clearly(api: Api, user: Account, kind: str) -> None:
    content_type = f"application/vnd.kii.OnboardingEndNodeWith{kind}+json"
    refused = onboard(api, content_type, {}, user.token)
    assert refused.status_code == 501
    assert refused.json()["errorCode"] == "OPERATION_NOT_IMPLEMENTED"


@pytest.mark.spec("kii 10.5")
@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        (THING_ID, {"thingID": "th.none", "thingPassword": "x"}, 404, "THING_NOT_FOUND"),
        (THING_ID, {"vendorThingID": "v", "thingPassword": "x"}, 400, "INVALID_INPUT_DATA"),
        (VENDOR_THING_ID, {"thingPassword": "x"}, 400, "INVALID_INPUT_DATA"),
        (VENDOR_THING_ID, {"vendorThingID": "v"}, 400, "INVALID_INPUT_DATA"),
        (
            VENDOR_THING_ID,
            {"vendorThingID": "a b", "thingPassword": "x"},
            400,
            "INVALID_INPUT_DATA",
        ),
        (VENDOR_THING_ID, {"vendorThingID": 7, "thingPassword": "x"}, 400, "INVALID_INPUT_DATA"),
    ],
)
def test_bad_onboardings_are_told(
    api: Api, content_type: str, body: dict[str, Any], status: int, code: str
) -> None:
    refused = onboard(api, content_type, body)
    assert (refused.status_code, refused.json()["errorCode"]) == (status, code)


# --- commands ------------------------------------------------------------------------------------


@pytest.mark.spec("kii 10.6")
def test_a_command_goes_to_the_thing_and_its_results_to_the_issuer(
    api: Api, user: Account, thing: Thing, connected: MqttClient
) -> None:
    with Device(api.mqtt_endpoint(user)) as phone:
        command_id = command(api, thing, user.token, title="on", metadata={"by": "hand"})
        assert len(command_id) == 36
        push = connected.next_push()
        assert push == {
            "schema": "Fan",
            "schemaVersion": 1,
            "title": "on",
            "metadata": {"by": "hand"},
            "commandID": command_id,
            "actions": ACTIONS,
            "issuer": f"user:{user.id}",
        }
        assert state_of(api, thing, user.token, command_id) == "SENDING"
        results = [{"turnPower": {"succeeded": True}}, {"setFanSpeed": {"succeeded": True}}]
        path = f"{thing.target}/commands/{command_id}/action-results"
        answer = connected.ask("PUT", path, {"actionResults": results}, token=thing.token)
        assert (answer.status, answer.body) == (204, b"")
        told = phone.next_push()
        assert told["commandID"] == command_id
        assert "topic" not in told
        assert "bucketID" not in told
    shown = api.ok("GET", f"{api.url}{thing.target}/commands/{command_id}", token=user.token)
    assert shown["commandState"] == "DONE"
    assert shown["actionResults"] == results
    assert shown["target"] == f"thing:{thing.id}"
    assert shown["issuer"] == f"user:{user.id}"
    listed = api.ok("GET", f"{api.url}{thing.target}/commands", token=user.token)
    assert [each["commandID"] for each in listed["commands"]] == [command_id]


@pytest.mark.spec("kii 10.6")
@pytest.mark.parametrize(
    ("results", "state"),
    [
        ([{"lamp": [{"turnPower": {"succeeded": True, "data": {}}}]}], "DONE"),
        (
            [
                {"lamp": [{"turnPower": {"succeeded": True}}]},
                {"fan": [{"set": {"succeeded": False, "errorMessage": "stuck"}}]},
            ],
            "INCOMPLETE",
        ),
    ],
)
def test_a_command_by_traits_is_done_or_incomplete(
    api: Api, user: Account, thing: Thing, connected: MqttClient, results: Any, state: str
) -> None:
    actions = [{"lamp": [{"turnPower": True}, {"setTemp": 23}]}]
    answer = api.ok(
        "POST",
        f"{api.url}{thing.folder}/targets/THING:{thing.id}/commands",
        token=user.token,
        json={"actions": actions, "issuer": "user:somebody-else"},
        headers={"Content-Type": "application/vnd.kii.CommandCreationRequest+json"},
    )
    command_id = answer["commandID"]
    assert connected.next_push() == {
        "commandID": command_id,
        "actions": actions,
        "issuer": f"user:{user.id}",
    }
    path = f"{thing.target}/commands/{command_id}/action-results"
    body = {"actionResults": results}
    answered = connected.ask("PUT", path, body, token=thing.token, content_type=COMMAND_RESULTS)
    assert answered.status == 204
    assert state_of(api, thing, user.token, command_id) == state


@pytest.mark.spec("kii 10.6")
def test_a_command_to_an_offline_thing_fails_at_once(api: Api, user: Account, thing: Thing) -> None:
    command_id = command(api, thing, user.token)
    wait_for_state(api, thing, user.token, command_id, "SEND_FAILED")
    with thing.connect() as client:
        client.subscribe()
        later = command(api, thing, user.token)
        assert client.next_push()["commandID"] == later


def test_a_command_waits_for_its_thing_as_long_as_it_says(
    api: Api, user: Account, thing: Thing
) -> None:
    ids = [command(api, thing, user.token, ttl=600) for _ in range(3)]
    assert [state_of(api, thing, user.token, each) for each in ids] == ["SENDING"] * 3
    with thing.connect() as client:
        client.subscribe()
        assert [client.next_push()["commandID"] for _ in ids] == ids
    with thing.connect() as client:  # what was taken does not come again
        client.subscribe()
        last = command(api, thing, user.token)
        assert client.next_push()["commandID"] == last


def test_a_waiting_command_fails_when_its_time_is_over(
    api: Api, user: Account, thing: Thing
) -> None:
    waiting = command(api, thing, user.token, ttl=1)
    patient = command(api, thing, user.token, ttl=600)
    wait_for_state(api, thing, user.token, waiting, "SEND_FAILED")
    with thing.connect() as client:
        client.subscribe()
        assert client.next_push()["commandID"] == patient


@pytest.mark.spec("kii 10.6")
def test_a_thing_has_no_commands_of_another(api: Api, user: Account, thing: Thing) -> None:
    stranger = api.pseudo_user()
    path = f"{api.url}{thing.target}/commands"
    for token in (stranger.token, thing.token, Thing(api, unique("thing")).token, None):
        refused = api.call("POST", path, token=token, json={"actions": ACTIONS})
        assert refused.status_code == 401
    assert api.ok("GET", path, token=user.token) == {"commands": []}


@pytest.mark.spec("kii 10.6")
def test_a_things_state_is_stored_whole_and_by_trait(
    api: Api, user: Account, thing: Thing, connected: MqttClient
) -> None:
    path = f"{thing.target}/states"
    assert connected.ask("PUT", path, {"power": True}, token=thing.token).status == 204
    traits = "application/vnd.kii.MultipleTraitState+json"
    body = {"lamp": {"dim": 3}, "fan": {"speed": 1}}
    assert connected.ask("PUT", path, body, token=thing.token, content_type=traits).status == 204
    alias = f"{path}/aliases/lamp"
    assert connected.ask("PUT", alias, {"dim": 4}, token=thing.token).status == 204
    shown = api.ok("GET", f"{api.url}{path}", token=user.token)
    assert shown == {"power": True, "lamp": {"dim": 4}, "fan": {"speed": 1}}
    assert connected.ask("GET", alias, token=thing.token).json() == {"dim": 4}
    for token in (user.token, api.pseudo_user().token):
        refused = api.call("PUT", f"{api.url}{path}", token=token, json={"power": False})
        assert refused.status_code == 401


# --- presence ------------------------------------------------------------------------------------


@pytest.mark.spec("kii 1.4")
def test_an_owner_hears_when_his_thing_comes_and_goes(
    api: Api, user: Account, thing: Thing
) -> None:
    topic = f"/things/{thing.id}/topics/_presence"
    api.ok("PUT", topic, token=user.token)
    api.subscribe(user, topic)
    with Device(api.mqtt_endpoint(user)) as phone:
        with thing.connect() as client:
            client.subscribe()
            came = phone.next_push()
            assert (came["online"], came["thingID"], came["topic"]) == (True, thing.id, "_presence")
            shown = api.ok("GET", f"/things/{thing.id}", token=user.token)
            assert shown["_online"] is True
            assert shown["_onlineStatusModifiedAt"] == came["when"]
        went = phone.next_push()
        assert (went["online"], went["thingID"]) == (False, thing.id)
        shown = api.ok("GET", f"/things/{thing.id}", token=user.token)
        assert shown["_online"] is False
        assert shown["_onlineStatusModifiedAt"] == went["when"] >= came["when"]


@pytest.mark.spec("kii 1.4")
def test_a_restarted_server_finds_nobody_online(start_server: StartServer) -> None:
    server = start_server()
    app = server.create_app("presence")
    api = Api(server.url, app)
    thing = Thing(api, "lamp")
    with thing.connect() as client:
        client.subscribe()
        wait_until_online(api, thing.id, thing.token)
        server.kill()
    api.close()
    api = Api(start_server(server.folder).url, app)
    assert api.ok("GET", f"/things/{thing.id}", token=thing.token)["_online"] is False
    api.close()
