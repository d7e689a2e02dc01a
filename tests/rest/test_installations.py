"""Installations and their MQTT endpoints (spec kii 2, 3.1)."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.rest.support import assert_refused
from tests.support.device import Device
from tests.support.rest import Account, Api
from tests.support.tokens import device_token, subscription

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PHONES = ["ANDROID", "IOS", "JPUSH"]  # those whose token is a plain text


def install(api: Api, account: Account, device_type: str = "MQTT", **fields: Any) -> httpx.Response:
    body = {"deviceType": device_type, **fields}
    return api.call("POST", "/installations", token=account.token, json=body)


def installed(api: Api, account: Account, device_type: str = "MQTT", **fields: Any) -> Any:
    response = install(api, account, device_type, **fields)
    assert response.status_code == 201, response.text
    return response.json()


def listed(api: Api, token: str, query: str = "") -> list[str]:
    found = api.ok("GET", f"/installations{query}", token=token)["installations"]
    return sorted(each["installationID"] for each in found)


@pytest.mark.spec("kii 2.1")
def test_an_mqtt_installation_gets_both_its_ids_from_the_server(api: Api, user: Account) -> None:
    made = install(api, user)
    assert made.status_code == 201
    assert "InstallationCreationResponse+json" in made.headers["content-type"]
    assert re.fullmatch(r"[a-z0-9]{25}", made.json()["installationID"])
    assert UUID.fullmatch(made.json()["installationRegistrationID"])


@pytest.mark.spec("kii 2.1")
def test_an_owner_has_one_mqtt_installation_returned_again(api: Api, user: Account) -> None:
    first = installed(api, user, development=True)
    again = installed(api, user, development=False)
    assert again == first
    found = api.ok("GET", f"/installations/{first['installationID']}", token=user.token)
    assert found["development"] is False
    assert listed(api, user.token) == [first["installationID"]]


@pytest.mark.spec("kii 2.1")
def test_two_owners_have_two_mqtt_installations(
    api: Api, user: Account, other_user: Account, thing: Account
) -> None:
    ids = {installed(api, who)["installationID"] for who in (user, other_user, thing)}
    assert len(ids) == 3


@pytest.mark.spec("kii 2.1")
@pytest.mark.parametrize("device_type", PHONES)
def test_a_phone_keeps_its_token_and_may_be_installed_again(
    api: Api, user: Account, device_type: str
) -> None:
    token = device_token(device_type)
    first = installed(api, user, device_type, installationRegistrationID=token)
    assert first["installationRegistrationID"] == token
    assert installed(api, user, device_type, installationRegistrationID=token) == first


@pytest.mark.parametrize("token", ["x" * 10_240, 5, ["token"]])
@pytest.mark.parametrize("device_type", PHONES)
def test_what_can_be_no_token_is_refused_by_its_field(
    api: Api, user: Account, device_type: str, token: object
) -> None:
    refused = install(api, user, device_type, installationRegistrationID=token)
    assert_refused(refused, 400, "INVALID_INPUT_DATA")
    assert list(refused.json()["invalidFields"]) == ["installationRegistrationID"]


@pytest.mark.spec("kii 2.1")
@pytest.mark.parametrize("device_type", PHONES)
def test_a_phone_s_token_moves_to_the_last_user(
    api: Api, user: Account, other_user: Account, device_type: str
) -> None:
    token = device_token(device_type)
    first = installed(api, user, device_type, installationRegistrationID=token)
    second = installed(api, other_user, device_type, installationRegistrationID=token)
    assert second["installationRegistrationID"] == token
    assert listed(api, user.token) == []
    assert listed(api, other_user.token) == [second["installationID"]]
    refused = api.call("GET", f"/installations/{first['installationID']}", token=user.token)
    assert refused.status_code in (401, 404)


@pytest.mark.spec("kii 2.1")
def test_one_token_on_two_networks_is_two_installations(api: Api, user: Account) -> None:
    token = device_token("IOS")
    for device_type in ("ANDROID", "IOS"):
        installed(api, user, device_type, installationRegistrationID=token)
    assert len(listed(api, user.token)) == 2


@pytest.mark.spec("kii 2.1")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"deviceType": "WINDOWS"},
        {"deviceType": None},
        {"deviceType": 7},
        {"deviceType": "ANDROID"},
        {"deviceType": "IOS", "installationRegistrationID": ""},
        {"deviceType": "JPUSH", "installationRegistrationID": None},
        {"deviceType": "MQTT", "development": "maybe"},
        {"deviceType": "MQTT", "development": [True]},
        {"deviceType": "ANDROID", "installationRegistrationID": 7},
        {"deviceType": "ANDROID", "installationRegistrationID": {"endpoint": "https://x.test"}},
        {"deviceType": "ANDROID", "installationRegistrationID": "with\nline"},
        {"deviceType": "ANDROID", "installationRegistrationID": "x" * 10_240},
        {"deviceType": "IOS", "installationRegistrationID": "no-hexadecimal"},
        {"deviceType": "JPUSH", "installationRegistrationID": "with space"},
        {"deviceType": "WEBPUSH"},
        {"deviceType": "WEBPUSH", "installationRegistrationID": "no JSON"},
        {"deviceType": "WEBPUSH", "installationRegistrationID": {}},
        {"deviceType": "WEBPUSH", "installationRegistrationID": subscription("a", "127.0.0.1")},
        {"deviceType": "WEBPUSH", "installationRegistrationID": subscription("a", "example.com")},
        {"deviceType": "WEBPUSH", "installationRegistrationID": {"endpoint": "https://x.test"}},
    ],
)
def test_an_installation_outside_the_rules_is_400(
    api: Api, user: Account, body: dict[str, Any]
) -> None:
    refused = api.call("POST", "/installations", token=user.token, json=body)
    assert_refused(refused, 400, "INVALID_INPUT_DATA")
    assert listed(api, user.token) == []


@pytest.mark.spec("kii 2.1")
@pytest.mark.parametrize("field", ["userID", "thingID"])
def test_only_the_admin_names_the_owner(
    api: Api, user: Account, other_user: Account, field: str
) -> None:
    refused = install(api, user, **{field: other_user.id})
    assert_refused(refused, 400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 2.1")
def test_the_admin_installs_for_a_user_or_a_thing(
    api: Api, user: Account, thing: Account, admin_token: str
) -> None:
    admin = Account("", admin_token)
    for_user = installed(api, admin, userID=user.id)
    for_thing = installed(api, admin, thingID=thing.id)
    assert listed(api, user.token) == [for_user["installationID"]]
    assert listed(api, thing.token) == [for_thing["installationID"]]


@pytest.mark.spec("kii 2.1")
def test_the_admin_names_exactly_one_owner_who_exists(
    api: Api, user: Account, thing: Account, admin_token: str
) -> None:
    admin = Account("", admin_token)
    assert_refused(install(api, admin), 400, "INVALID_INPUT_DATA")
    both = install(api, admin, userID=user.id, thingID=thing.id)
    assert_refused(both, 400, "INVALID_INPUT_DATA")
    assert_refused(install(api, admin, userID="nobody"), 404, "USER_NOT_FOUND")
    assert_refused(install(api, admin, thingID="th.nothing"), 404, "THING_NOT_FOUND")


@pytest.mark.spec("kii 2.1")
def test_anonymous_installs_nothing(api: Api) -> None:
    refused = api.call("POST", "/installations", json={"deviceType": "MQTT"})
    assert_refused(refused, 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 2.2")
def test_an_installation_is_read_in_both_forms(api: Api, user: Account, thing: Account) -> None:
    for who, field in ((user, "userID"), (thing, "thingID")):
        made = installed(api, who, development=True)
        expected = {
            "installationID": made["installationID"],
            "installationRegistrationID": made["installationRegistrationID"],
            "deviceType": "MQTT",
            field: who.id,
            "development": True,
        }
        for name in (made["installationID"], f"MQTT:{made['installationRegistrationID']}"):
            answer = api.call("GET", f"/installations/{name}", token=who.token)
            assert answer.json() | expected == answer.json()
            assert not {"userID", "thingID"} - {field} & answer.json().keys()
            assert "InstallationRetrievalResponse+json" in answer.headers["content-type"]


@pytest.mark.spec("kii 2.2")
@pytest.mark.parametrize("form", ["id", "registration"])
def test_a_deleted_installation_is_gone(api: Api, user: Account, form: str) -> None:
    made = installed(api, user)
    registration = f"MQTT:{made['installationRegistrationID']}"
    path = f"/installations/{made['installationID'] if form == 'id' else registration}"
    deleted = api.call("DELETE", path, token=user.token)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "DELETE"):
        again = api.call(method, path, token=user.token)
        assert_refused(again, 404, "INSTALLATION_NOT_FOUND")
    assert installed(api, user)["installationID"] != made["installationID"]


@pytest.mark.spec("kii 2.2")
@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("DELETE", ""), ("GET", "/mqtt-endpoint")]
)
def test_a_stranger_s_installation_is_401(
    api: Api, user: Account, other_user: Account, method: str, suffix: str
) -> None:
    path = f"/installations/{installed(api, other_user)['installationID']}{suffix}"
    assert_refused(api.call(method, path, token=user.token), 401, "UNAUTHORIZED")
    assert_refused(api.call(method, path), 401, "UNAUTHORIZED")
    assert api.call("GET", path, token=other_user.token).status_code == 200


@pytest.mark.spec("kii 2.2")
def test_lists_hold_what_the_caller_may_see(
    api: Api, user: Account, other_user: Account, thing: Account, admin_token: str
) -> None:
    api.ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=thing.token)
    of_user = installed(api, user)["installationID"]
    of_other = installed(api, other_user)["installationID"]
    of_thing = installed(api, thing)["installationID"]
    assert listed(api, user.token) == [of_user]  # not his thing's
    assert listed(api, thing.token) == [of_thing]
    assert listed(api, user.token, f"?userID={user.id}") == [of_user]
    assert listed(api, user.token, f"?thingID={thing.id}") == [of_thing]
    assert listed(api, admin_token, f"?userID={other_user.id}") == [of_other]
    assert listed(api, admin_token, f"?thingID={thing.id}") == [of_thing]
    assert {of_user, of_other, of_thing} <= set(listed(api, admin_token))
    for query in (f"?userID={other_user.id}", "?userID=me&thingID=me"):
        refused = api.call("GET", f"/installations{query}", token=user.token)
        assert refused.status_code in (400, 401)
    refused = api.call("GET", f"/installations?thingID={thing.id}", token=other_user.token)
    assert_refused(refused, 401, "UNAUTHORIZED")
    assert_refused(api.call("GET", "/installations"), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 2.2")
def test_the_owner_of_a_thing_reads_its_installation(
    api: Api, user: Account, other_user: Account, thing: Account
) -> None:
    path = f"/installations/{installed(api, thing)['installationID']}"
    assert_refused(api.call("GET", path, token=user.token), 401, "UNAUTHORIZED")
    api.ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=thing.token)
    assert api.call("GET", path, token=user.token).status_code == 200
    assert_refused(api.call("GET", path, token=other_user.token), 401, "UNAUTHORIZED")


# --- endpoints ---------------------------------------------------------------------------------


@pytest.mark.spec("kii 3.1")
def test_an_endpoint_is_ready_at_once_with_all_fields(api: Api, user: Account) -> None:
    made = installed(api, user)
    path = f"/installations/{made['installationID']}/mqtt-endpoint"
    answer = api.call("GET", path, token=user.token)
    assert answer.status_code == 200
    assert "MQTTEndpointResponse+json" in answer.headers["content-type"]
    body = answer.json()
    assert body.keys() == {
        "installationID", "username", "password", "mqttTopic", "host",
        "portTCP", "portSSL", "portWS", "portWSS", "X-MQTT-TTL",
    }  # fmt: skip
    assert body["installationID"] == made["installationID"]
    assert body["username"].startswith(f"{api.app_id}-")
    assert len(body["username"]) <= 63
    assert re.fullmatch(r"[A-Za-z]{64}", body["password"])
    assert re.fullmatch(r"[A-Za-z0-9]{23}", body["mqttTopic"])
    assert 1 <= len(body["host"]) <= 63
    assert 0 < body["portTCP"] < 65536
    assert all(isinstance(body[port], int) for port in ("portSSL", "portWS", "portWSS"))
    assert body["X-MQTT-TTL"] == 2_147_483_647
    assert answer.headers["x-mqtt-ttl"] == "2147483647"


@pytest.mark.spec("kii 3.1")
def test_an_endpoint_asked_again_is_the_same(api: Api, user: Account) -> None:
    assert api.mqtt_endpoint(user) == api.mqtt_endpoint(user)


@pytest.mark.spec("kii 3.1")
def test_every_endpoint_has_credentials_of_its_own(
    api: Api, user: Account, other_user: Account
) -> None:
    one, other = api.mqtt_endpoint(user), api.mqtt_endpoint(other_user)
    for field in ("username", "password", "mqttTopic"):
        assert one[field] != other[field]


@pytest.mark.spec("kii 3.1")
def test_a_phone_has_no_endpoint(api: Api, user: Account) -> None:
    made = installed(api, user, "IOS", installationRegistrationID=device_token("IOS"))
    path = f"/installations/{made['installationID']}/mqtt-endpoint"
    assert_refused(api.call("GET", path, token=user.token), 404, "MQTT_ENDPOINT_NOT_FOUND")


@pytest.mark.spec("kii 3.1")
def test_an_endpoint_of_no_installation_is_404(api: Api, user: Account) -> None:
    refused = api.call("GET", "/installations/none/mqtt-endpoint", token=user.token)
    assert_refused(refused, 404, "INSTALLATION_NOT_FOUND")


@pytest.mark.spec("kii 3.1")
def test_the_owner_the_admin_and_the_thing_s_owner_read_the_same_endpoint(
    api: Api, user: Account, thing: Account, admin_token: str
) -> None:
    api.ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=thing.token)
    path = f"/installations/{installed(api, thing)['installationID']}/mqtt-endpoint"
    answers = [api.ok("GET", path, token=token) for token in (thing.token, admin_token)]
    assert answers[0] == answers[1]


@pytest.mark.spec("kii 2.2")
def test_deleting_an_installation_ends_its_credentials(
    api: Api, user: Account, admin_token: str
) -> None:
    endpoint = api.mqtt_endpoint(user)
    with Device(endpoint) as device:
        api.push_to_user(admin_token, user.id, marker="before")
        assert device.next_push()["marker"] == "before"
        api.ok("DELETE", f"/installations/{endpoint['installationID']}", token=user.token)
    fresh = api.mqtt_endpoint(user)
    for field in ("username", "password", "mqttTopic"):
        assert fresh[field] != endpoint[field]
    with Device(fresh) as device:
        api.push_to_user(admin_token, user.id, marker="after")
        assert device.next_push()["marker"] == "after"
