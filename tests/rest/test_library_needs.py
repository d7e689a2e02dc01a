"""What the service's own libraries, and the tests they ran against the service, rely on."""

from __future__ import annotations

import time

import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique

PASSWORD = "secret-1"
AUTHORIZATION = "application/vnd.kii.RegistrationAndAuthorizationRequest+json"
UPDATE = {"Content-Type": "application/vnd.kii.UserUpdateRequest+json"}


def sign_up(api: Api, **fields: object) -> Account:
    body = {"loginName": unique("login"), "password": PASSWORD, **fields}
    headers = {"Content-Type": AUTHORIZATION}
    made = api.ok("POST", "/users", json=body, headers=headers)
    return Account(made["userID"], made["_accessToken"])


# --- users -------------------------------------------------------------------------------------


@pytest.mark.spec("kii 1.3")
@pytest.mark.parametrize("form", ["{id}", "LOGIN_NAME:{name}", "EMAIL:{name}@example.com"])
def test_a_user_finds_who_another_is_but_not_what_he_keeps(
    api: Api, other_user: Account, form: str
) -> None:
    name = unique("found")
    email = f"{name}@example.com"
    user = sign_up(api, loginName=name, emailAddress=email, displayName="Zoë", age=5)
    path = f"/users/{form.format(id=user.id, name=name)}"
    seen = api.ok("GET", path, token=other_user.token)
    public = {"userID": user.id, "loginName": name, "displayName": "Zoë", "_disabled": False}
    assert seen == public
    assert api.ok("GET", path, token=user.token)["age"] == 5
    assert_refused(api.call("GET", path), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 1.3")
def test_addresses_nobody_has_to_verify_are_verified(api: Api) -> None:
    user = sign_up(api, emailAddress=f"{unique('mail')}@example.com", phoneNumber="+819012345678")
    shown = api.ok("GET", "/users/me", token=user.token)
    assert shown["emailAddressVerified"] is shown["phoneNumberVerified"] is True
    assert 0 < shown["internalUserID"] < 2**53
    nameless = api.ok("GET", "/users/me", token=sign_up(api).token)
    assert not nameless.keys() & {"emailAddressVerified", "phoneNumberVerified"}


@pytest.mark.spec("kii 1.3")
def test_signing_up_tells_what_getting_the_user_tells(api: Api) -> None:
    body = {"loginName": unique("login"), "password": PASSWORD, "age": 5}
    made = api.ok("POST", "/users", json=body, headers={"Content-Type": AUTHORIZATION})
    token = made.pop("_accessToken")
    assert api.ok("GET", "/users/me", token=token) == made


@pytest.mark.spec("kii 1.3")
def test_a_post_replaces_the_own_fields_of_a_user_and_keeps_the_predefined_ones(api: Api) -> None:
    user = sign_up(api, displayName="Anna", country="JP", locale="ja", old=1, both=1)
    told = {"internalUserID": 1, "emailAddressVerified": False, "_hasPassword": False}
    body = {"both": 2, "new": 2, **told}
    changed = api.ok("POST", "/users/me", token=user.token, json=body, headers=UPDATE)
    shown = api.ok("GET", "/users/me", token=user.token)
    assert changed["modifiedAt"] > 0
    assert {name: shown.get(name) for name in ("displayName", "country", "locale")} == {
        "displayName": "Anna",
        "country": "JP",
        "locale": "ja",
    }
    assert (shown.get("old"), shown["both"], shown["new"]) == (None, 2, 2)
    assert shown["_hasPassword"] is True
    assert shown["internalUserID"] != 1
    assert "emailAddressVerified" not in shown


@pytest.mark.spec("kii 1.3")
def test_a_patch_keeps_the_own_fields_of_a_user(api: Api) -> None:
    user = sign_up(api, old=1)
    changed = api.ok("PATCH", "/users/me", token=user.token, json={"new": 2})
    assert (changed["old"], changed["new"]) == (1, 2)


@pytest.mark.spec("kii 1.2")
def test_a_local_number_is_kept_in_its_global_form(api: Api) -> None:
    digits = f"{time.monotonic_ns() % 10**8:08}"
    user = sign_up(api, phoneNumber=f"090{digits}", country="JP")
    shown = api.ok("GET", "/users/me", token=user.token)
    assert shown["phoneNumber"] == f"+8190{digits}"
    for name in (f"+8190{digits}", f"PHONE:JP-090{digits}", f"PHONE:+8190{digits}"):
        body = {"username": name, "password": PASSWORD}
        answer = api.call("POST", f"{api.url}/api/oauth2/token", json=body)
        assert answer.json()["id"] == user.id, name


# --- groups ------------------------------------------------------------------------------------


@pytest.mark.spec("kii 1.6")
def test_a_user_makes_a_group_for_another(api: Api, user: Account, other_user: Account) -> None:
    body = {"name": "team", "owner": other_user.id, "members": [user.id]}
    group_id = api.ok("POST", "/groups", token=user.token, json=body)["groupID"]
    group = api.ok("GET", f"/groups/{group_id}", token=user.token)
    assert group["owner"] == other_user.id
    refused = api.call("DELETE", f"/groups/{group_id}", token=user.token)
    assert_refused(refused, 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 1.6")
@pytest.mark.parametrize("query", ["owner", "is_member"])
def test_of_another_s_groups_a_user_sees_those_he_is_in(
    api: Api, user: Account, other_user: Account, query: str
) -> None:
    def make(members: list[str]) -> str:
        body = {"name": "g", "owner": user.id, "members": members}
        group_id: str = api.ok("POST", "/groups", token=user.token, json=body)["groupID"]
        return group_id

    shared, private = make([other_user.id]), make([])
    path = f"/groups?{query}={user.id}"
    seen = {each["groupID"] for each in api.ok("GET", path, token=other_user.token)["groups"]}
    own = {each["groupID"] for each in api.ok("GET", path, token=user.token)["groups"]}
    assert seen == {shared}
    assert own == {shared, private}


# --- rights and owners -------------------------------------------------------------------------


@pytest.mark.spec("kii 6.6")
def test_the_rules_of_one_verb_are_a_list_and_one_subject_an_object(
    api: Api, user: Account
) -> None:
    api.ok("PUT", "/users/me/topics/tt", token=user.token)
    rules = "/users/me/topics/tt/acl"
    assert api.ok("GET", f"{rules}/SUBSCRIBE_TO_TOPIC", token=user.token) == [{"userID": user.id}]
    one = api.ok("GET", f"{rules}/SUBSCRIBE_TO_TOPIC/UserID:{user.id}", token=user.token)
    assert one == {"userID": user.id}


@pytest.mark.spec("kii 6.6")
def test_a_verb_that_nobody_has_is_not_listed(api: Api, admin_token: str) -> None:
    rules = api.ok("GET", "/acl", token=admin_token)
    assert rules == {"CREATE_NEW_BUCKET": [{"userID": "ANY_AUTHENTICATED_USER"}]}


@pytest.mark.spec("kii 1.5")
def test_the_owners_of_a_thing_are_users_and_groups(api: Api, user: Account) -> None:
    thing = api.thing()
    group = api.ok("POST", "/groups", token=user.token, json={"name": "g", "owner": user.id})
    for owner in (f"user:{user.id}", f"group:{group['groupID']}"):
        api.ok("PUT", f"/things/{thing.id}/ownership/{owner}", token=user.token)
    owners = api.ok("GET", f"/things/{thing.id}/ownership", token=thing.token)
    assert owners == {"users": [user.id], "groups": [group["groupID"]]}


# --- buckets and installations -----------------------------------------------------------------


@pytest.mark.spec("kii 4.1")
@pytest.mark.parametrize("prefix", ["", "rw:", "default:"])
def test_a_bucket_tells_its_type_and_size(api: Api, user: Account, prefix: str) -> None:
    bucket = f"/users/me/buckets/{prefix}{unique('sized')}"
    missing = api.call("GET", bucket, token=user.token)
    assert_refused(missing, 404, "BUCKET_NOT_FOUND")
    for _ in range(2):
        api.ok("POST", f"{bucket}/objects", token=user.token, json={"a": 1})
    assert api.ok("GET", bucket, token=user.token) == {"bucketType": "rw", "size": 2}
    assert api.call("HEAD", bucket, token=user.token).is_success


@pytest.mark.spec("kii 2.1")
def test_a_device_type_may_be_called_installation_type(api: Api, user: Account) -> None:
    body = {"installationType": "MQTT", "development": True}
    made = api.ok("POST", "/installations", token=user.token, json=body)
    path = f"/installations/{made['installationID']}"
    assert api.ok("GET", path, token=user.token)["deviceType"] == "MQTT"
