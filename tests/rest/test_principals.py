"""Tokens, users and things (spec kii 1.2 to 1.4)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from urllib.parse import urlencode

import httpx
import pytest

from tests.rest.support import (
    AUTHORIZATION,
    REGISTRATION,
    THING_AUTHORIZATION,
    THING_REGISTRATION,
    assert_refused,
)
from tests.support.rest import Account, Api, unique

PASSWORD = "123456"
FORM = "application/x-www-form-urlencoded"
USER_ID = re.compile(r"[a-z0-9]{12}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{8}")


def sign_up(api: Api, **fields: object) -> httpx.Response:
    body = {"password": PASSWORD, **fields}
    return api.call("POST", "/users", json=body, headers={"Content-Type": REGISTRATION})


def ask_token(api: Api, body: Mapping[str, object], *, at_app: bool = False) -> httpx.Response:
    path = "/oauth2/token" if at_app else f"{api.url}/api/oauth2/token"
    return api.call("POST", path, json=body)


def register_thing(
    api: Api, fields: Mapping[str, object] | None = None, *, kind: str = THING_REGISTRATION
) -> httpx.Response:
    body = {"_vendorThingID": unique("lamp"), "_password": PASSWORD, **(fields or {})}
    return api.call("POST", "/things", json=body, headers={"Content-Type": kind})


# --- tokens ------------------------------------------------------------------------------------


@pytest.mark.spec("kii 1.2")
@pytest.mark.parametrize("at_app", [False, True])
@pytest.mark.parametrize("with_type", [False, True], ids=["no grant_type", "grant_type"])
@pytest.mark.parametrize("form", ["{login}", "{email}", "EMAIL:{email}", "{phone}"])
def test_a_user_logs_in_by_any_of_his_names(
    api: Api, form: str, with_type: bool, at_app: bool
) -> None:
    login = unique("login")
    phone = f"+819{time.monotonic_ns() % 10**9:09}"
    names = {"login": login, "email": f"{login}@example.com", "phone": phone}
    made = sign_up(api, loginName=login, emailAddress=names["email"], phoneNumber=phone)
    assert made.status_code == 201, made.text
    body = {"username": form.format(**names), "password": PASSWORD}
    if with_type:
        body["grant_type"] = "password"
    answer = ask_token(api, body, at_app=at_app)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == made.json()["userID"]


@pytest.mark.spec("kii 1.2")
@pytest.mark.parametrize("at_app", [False, True])
def test_a_form_is_as_good_as_json(api: Api, at_app: bool) -> None:
    login = unique("form")
    sign_up(api, loginName=login)
    form = {"grant_type": "password", "username": login, "password": PASSWORD}
    path = "/oauth2/token" if at_app else f"{api.url}/api/oauth2/token"
    answer = api.call(
        "POST", path, content=urlencode(form).encode(), headers={"Content-Type": FORM}
    )
    assert answer.status_code == 200


@pytest.mark.spec("kii 1.2")
def test_a_token_answer_has_the_fields_clients_read(api: Api) -> None:
    login = unique("fields")
    sign_up(api, loginName=login)
    answer = ask_token(api, {"username": login, "password": PASSWORD})
    body = answer.json()
    assert answer.headers["content-type"].startswith("application/json")
    assert USER_ID.fullmatch(body["id"])
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", body["access_token"])
    assert 2**31 - 100 <= body["expires_in"] < 2**31
    assert body["token_type"] == "Bearer"


@pytest.mark.spec("kii 1.2")
def test_a_thing_logs_in_by_its_vendor_id(api: Api) -> None:
    vendor_id = unique("lamp")
    made = register_thing(api, {"_vendorThingID": vendor_id}).json()
    body = {"username": f"VENDOR_THING_ID:{vendor_id}", "password": PASSWORD}
    answer = ask_token(api, body)
    assert answer.json()["id"] == made["_thingID"]


@pytest.mark.spec("kii 1.2")
@pytest.mark.parametrize("at_app", [False, True])
@pytest.mark.parametrize("with_type", [False, True])
def test_the_admin_logs_in_with_the_client_s_credentials(
    api: Api, with_type: bool, at_app: bool
) -> None:
    body = {"client_id": api.app["clientID"], "client_secret": api.app["clientSecret"]}
    if with_type:
        body["grant_type"] = "client_credentials"
    answer = ask_token(api, body, at_app=at_app)
    assert answer.status_code == 200
    assert api.call("GET", "/installations", token=answer.json()["access_token"]).is_success


@pytest.mark.spec("kii 1.2")
@pytest.mark.parametrize("secret", ["appKey", "dummy"])
def test_an_embedded_client_gets_an_anonymous_token(api: Api, secret: str) -> None:
    body = {"client_id": api.app_id, "client_secret": api.app.get(secret, secret)}
    answer = ask_token(api, {**body, "grant_type": "client_credentials"}, at_app=True)
    assert answer.status_code == 200
    token = answer.json()["access_token"]
    made = api.call(
        "POST", "/users", token=token, content=b"{}", headers={"Content-Type": AUTHORIZATION}
    )
    assert made.status_code == 201
    refused = api.call("POST", "/installations", token=token, json={"deviceType": "MQTT"})
    assert_refused(refused, 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 1.2")
@pytest.mark.parametrize(
    "body",
    [
        {"username": "nobody", "password": PASSWORD},
        {"username": "VENDOR_THING_ID:nothing", "password": PASSWORD},
        {"username": "{login}", "password": "654321"},
        {"username": "LOGIN:{login}", "password": PASSWORD},
        {"client_id": "{clientID}", "client_secret": "wrong"},
    ],
    ids=lambda body: "-".join(map(str, body)),
)
def test_credentials_that_do_not_fit_are_an_invalid_grant(api: Api, body: dict[str, str]) -> None:
    login = unique("grant")
    sign_up(api, loginName=login)
    known = {"login": login, "clientID": api.app["clientID"]}
    answer = ask_token(api, {key: value.format(**known) for key, value in body.items()})
    assert answer.status_code == 400
    assert answer.json()["errorCode"] == answer.json()["error"] == "invalid_grant"
    assert "error_description" in answer.json()


@pytest.mark.spec("kii 1.2")
def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(api: Api) -> None:
    login = unique("same")
    sign_up(api, loginName=login)
    wrong = ask_token(api, {"username": login, "password": "654321"})
    unknown = ask_token(api, {"username": unique("none"), "password": "654321"})
    assert wrong.json() == unknown.json()


@pytest.mark.spec("kii 1.2")
@pytest.mark.parametrize("body", [{}, {"username": "a"}, {"client_id": "a"}, {"password": "a"}])
def test_a_token_asked_with_half_of_the_fields_is_bad_input(api: Api, body: dict[str, str]) -> None:
    assert ask_token(api, body).status_code == 400


@pytest.mark.spec("kii 1.2")
def test_a_token_with_an_end_ends(api: Api) -> None:
    login = unique("ends")
    sign_up(api, loginName=login)
    body = {"username": login, "password": PASSWORD}
    later = ask_token(api, {**body, "expiresAt": int(time.time() * 1000) + 60_000}).json()
    assert 50 <= later["expires_in"] <= 60
    assert api.call("GET", "/users/me", token=later["access_token"]).status_code == 200
    past = ask_token(api, {**body, "expiresAt": 1000})
    if past.status_code == 200:
        refused = api.call("GET", "/users/me", token=past.json()["access_token"])
        assert_refused(refused, 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 1.2")
def test_several_tokens_of_one_user_live_at_once(api: Api) -> None:
    login = unique("many")
    sign_up(api, loginName=login)
    body = {"username": login, "password": PASSWORD}
    tokens = {ask_token(api, body).json()["access_token"] for _ in range(3)}
    assert len(tokens) == 3
    for token in tokens:
        assert api.call("GET", "/users/me", token=token).status_code == 200


# --- users -------------------------------------------------------------------------------------


@pytest.mark.spec("kii 1.3")
def test_signing_up_returns_the_user_and_no_token(api: Api) -> None:
    login = unique("user")
    made = sign_up(api, loginName=login, displayName="Anna %", country="JP", level=3)
    assert made.status_code == 201
    assert "RegistrationResponse+json" in made.headers["content-type"]
    body = made.json()
    assert USER_ID.fullmatch(body["userID"])
    assert made.headers["location"] == f"{api.base}/users/{body['userID']}"
    assert "_accessToken" not in body
    assert PASSWORD not in made.text
    token = ask_token(api, {"username": login, "password": PASSWORD}).json()["access_token"]
    seen = api.ok("GET", "/users/me", token=token)
    assert (seen["userID"], seen["loginName"], seen["displayName"], seen["level"]) == (
        body["userID"], login, "Anna %", 3,
    )  # fmt: skip
    assert "password" not in seen


@pytest.mark.spec("kii 1.3")
def test_a_pseudo_user_comes_with_a_token(api: Api) -> None:
    headers = {"Content-Type": AUTHORIZATION}
    made = api.call("POST", "/users", content=b"{}", headers=headers)
    assert made.status_code == 201
    body = made.json()
    assert body["_hasPassword"] is False
    assert api.ok("GET", "/users/me", token=body["_accessToken"])["userID"] == body["userID"]


@pytest.mark.spec("kii 1.3")
@pytest.mark.parametrize(
    ("field", "value"),
    [("loginName", "{name}"), ("emailAddress", "{name}@example.com"), ("phoneNumber", "+81{n}")],
)
def test_a_name_that_is_taken_is_409(api: Api, field: str, value: str) -> None:
    taken = value.format(name=unique("taken"), n=time.monotonic_ns() % 10**10)
    assert sign_up(api, **{field: taken}).status_code == 201
    assert_refused(sign_up(api, **{field: taken}), 409, "USER_ALREADY_EXISTS")


@pytest.mark.spec("kii 1.3")
@pytest.mark.parametrize(
    "fields",
    [
        {"loginName": "ab"},
        {"loginName": "a" * 65},
        {"loginName": "bad name"},
        {"loginName": "good-name", "password": "abc"},
        {"loginName": "good-name", "password": "a" * 51},
        {"loginName": 7},
        {"loginName": "good-name", "password": None},
    ],
)
def test_a_sign_up_outside_the_rules_is_400(api: Api, fields: dict[str, object]) -> None:
    assert_refused(sign_up(api, **fields), 400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 1.3")
def test_custom_fields_may_have_63_kilobytes(api: Api) -> None:
    assert sign_up(api, loginName=unique("big"), text="x" * 60_000).status_code == 201
    refused = sign_up(api, loginName=unique("big"), text="x" * 64 * 1024)
    assert_refused(refused, 400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 1.3")
def test_a_deleted_user_is_gone_with_his_token_and_his_scope(
    api: Api, user: Account, admin_token: str
) -> None:
    api.ok("PUT", "/users/me/topics/tt", token=user.token)
    assert api.call("DELETE", f"/users/{user.id}", token=user.token).status_code == 204
    assert_refused(api.call("GET", "/users/me", token=user.token), 401, "UNAUTHORIZED")
    path = f"/users/{user.id}"
    assert_refused(api.call("GET", path, token=admin_token), 404, "USER_NOT_FOUND")
    assert_refused(api.call("GET", f"{path}/topics/tt", token=admin_token), 404, "USER_NOT_FOUND")


@pytest.mark.spec("kii 1.3")
def test_a_user_is_deleted_by_himself_or_the_admin(
    api: Api, user: Account, other_user: Account, admin_token: str
) -> None:
    refused = api.call("DELETE", f"/users/{other_user.id}", token=user.token)
    assert_refused(refused, 401, "UNAUTHORIZED")
    assert api.call("GET", "/users/me", token=other_user.token).status_code == 200
    assert api.call("DELETE", f"/users/{other_user.id}", token=admin_token).status_code == 204


# --- things ------------------------------------------------------------------------------------


@pytest.mark.spec("kii 1.4")
@pytest.mark.parametrize(
    ("kind", "response_type", "has_token"),
    [
        (THING_AUTHORIZATION, "ThingRegistrationAndAuthorizationResponse", True),
        (THING_REGISTRATION, "ThingRegistrationResponse", False),
        ("application/json", "ThingRegistrationResponse", False),
    ],
)
def test_registering_a_thing_returns_its_fields(
    api: Api, kind: str, response_type: str, has_token: bool
) -> None:
    vendor_id, given = unique("lamp"), {"_thingType": "led", "_lot": "1", "mine": [1]}
    made = register_thing(api, {"_vendorThingID": vendor_id, **given}, kind=kind)
    assert made.status_code == 201
    assert f"vnd.kii.{response_type}+json" in made.headers["content-type"]
    body = made.json()
    assert body["_thingID"].startswith("th.")
    assert USER_ID.fullmatch(body["_thingID"].removeprefix("th."))
    assert (body["_vendorThingID"], body["_disabled"]) == (vendor_id, False)
    assert (body["_thingType"], body["_lot"], body["mine"]) == ("led", "1", [1])
    assert isinstance(body["_created"], int)
    assert ("_accessToken" in body) is has_token
    assert "_password" not in body


@pytest.mark.spec("kii 1.4")
def test_a_vendor_id_that_is_taken_is_409(api: Api) -> None:
    vendor_id = unique("lamp")
    assert register_thing(api, {"_vendorThingID": vendor_id}).status_code == 201
    refused = register_thing(api, {"_vendorThingID": vendor_id})
    assert_refused(refused, 409, "THING_ALREADY_EXISTS")


@pytest.mark.spec("kii 1.4")
@pytest.mark.parametrize(
    "fields",
    [
        {"_vendorThingID": ""},
        {"_vendorThingID": "a" * 201},
        {"_vendorThingID": "with blank"},
        {"_vendorThingID": None},
        {"_password": ""},
        {"_password": "a" * 201},
        {"_password": None},
    ],
)
def test_a_thing_outside_the_rules_is_400(api: Api, fields: dict[str, object]) -> None:
    assert_refused(register_thing(api, fields), 400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 1.4")
def test_a_thing_s_longest_names_are_taken(api: Api) -> None:
    vendor_id = unique("long").ljust(200, "x")
    assert (
        register_thing(api, {"_vendorThingID": vendor_id, "_password": "p" * 200}).status_code
        == 201
    )


@pytest.mark.spec("kii 1.4")
def test_a_thing_is_read_by_both_ids_by_itself_and_the_admin_only(
    api: Api, user: Account, admin_token: str
) -> None:
    made = register_thing(api, kind=THING_AUTHORIZATION).json()
    paths = [f"/things/{made['_thingID']}", f"/things/VENDOR_THING_ID:{made['_vendorThingID']}"]
    for path in paths:
        for token in (admin_token, made["_accessToken"]):
            answer = api.call("GET", path, token=token)
            assert answer.json()["_thingID"] == made["_thingID"]
            assert "ThingRetrievalResponse" in answer.headers["content-type"]
        assert_refused(api.call("GET", path, token=user.token), 401, "UNAUTHORIZED")
        assert_refused(api.call("GET", path), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 1.4")
def test_a_disabled_thing_cannot_log_in_or_act_until_it_is_enabled(
    api: Api, admin_token: str
) -> None:
    made = register_thing(api, kind=THING_AUTHORIZATION).json()
    status = f"/things/{made['_thingID']}/status"
    assert api.ok("GET", status, token=admin_token) == {"disabled": False}
    api.ok("PUT", status, token=admin_token, json={"disabled": True})
    assert api.ok("GET", status, token=admin_token) == {"disabled": True}
    acted = api.call("GET", f"/things/{made['_thingID']}", token=made["_accessToken"])
    assert_refused(acted, 401, "THING_DISABLED")
    body = {"username": f"VENDOR_THING_ID:{made['_vendorThingID']}", "password": PASSWORD}
    assert ask_token(api, body).status_code in (400, 401)
    api.ok("PUT", status, token=admin_token, json={"disabled": False})
    assert ask_token(api, body).status_code == 200


@pytest.mark.spec("kii 1.3")
def test_an_app_s_own_field_never_hides_one_of_the_server_s(api: Api) -> None:
    fields = {"userID": "somebody", "_hasPassword": True, "_disabled": True}
    made = api.ok("POST", "/users", json=fields)
    user_id, token = made["userID"], made["_accessToken"]
    assert user_id != "somebody"
    assert api.ok("PATCH", "/users/me", token=token, json=fields)["userID"] == user_id
    found = api.ok("GET", "/users/me", token=token)
    assert (found["userID"], found["_hasPassword"], found["_disabled"]) == (user_id, False, False)
