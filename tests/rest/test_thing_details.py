"""What devices and their owners set after onboarding: states in parts, firmware, names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique

PATCH = {"Content-Type": "application/vnd.kii.MultipleTraitStatePatch+json"}
BULK = {"Content-Type": "application/vnd.kii.StateBulkUploadRequest+json"}
PATCH_BULK = {"Content-Type": "application/vnd.kii.StatePatchBulkUploadRequest+json"}


def thing_if(api: Api, path: str) -> str:
    return f"{api.url}/thing-if/apps/{api.app_id}{path}"


def states(api: Api, thing: Account) -> Any:
    return api.ok("GET", thing_if(api, f"/targets/thing:{thing.id}/states"), token=thing.token)


@pytest.fixture
def owned(api: Api, user: Account, thing: Account) -> Account:
    """A thing of the user's."""
    api.ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=user.token)
    return thing


@pytest.mark.spec("kii 10.6")
def test_a_patch_of_states_keeps_what_it_does_not_name(api: Api, thing: Account) -> None:
    path = thing_if(api, f"/targets/thing:{thing.id}/states")
    for change in ({"lamp": {"power": True, "color": 1}}, {"lamp": {"color": 2}, "fan": {"on": 1}}):
        answer = api.call("PATCH", path, token=thing.token, json=change, headers=PATCH)
        assert answer.status_code == 204
    assert states(api, thing) == {"lamp": {"power": True, "color": 2}, "fan": {"on": 1}}


@pytest.mark.spec("kii 10.6")
@pytest.mark.parametrize(
    ("headers", "expected"), [(BULK, {"b": 2}), (PATCH_BULK, {"a": 1, "b": 2})]
)
def test_of_states_in_bulk_the_newest_counts(
    api: Api, thing: Account, headers: dict[str, str], expected: dict[str, int]
) -> None:
    path = thing_if(api, f"/targets/thing:{thing.id}/states-bulk")
    late = {"generatedAt": 2000, "payload": {"lamp": {"b": 2}}}
    early = {"generatedAt": 1000, "payload": {"lamp": {"a": 1, "b": 1}, "fan": {"on": 1}}}
    body = {"states": [late, early]}
    assert api.call("POST", path, token=thing.token, json=body, headers=headers).is_success
    assert states(api, thing) == {"lamp": expected, "fan": {"on": 1}}


@pytest.mark.spec("kii 10.6")
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "states"), ("PATCH", "states"), ("POST", "states-bulk")]
)
def test_a_state_without_a_body_is_refused_in_the_service_s_words(
    api: Api, thing: Account, method: str, path: str
) -> None:
    target = thing_if(api, f"/targets/thing:{thing.id}/{path}")
    refused = api.call(method, target, token=thing.token)
    assert_refused(refused, 400, "EMPTY_BODY")


@pytest.mark.spec("kii 10.6")
@pytest.mark.parametrize(("method", "path"), [("PATCH", "states"), ("POST", "states-bulk")])
def test_the_owner_does_not_say_how_his_thing_is(
    api: Api, user: Account, owned: Account, method: str, path: str
) -> None:
    target = thing_if(api, f"/targets/thing:{owned.id}/{path}")
    state = {"lamp": {"power": True}}
    body: dict[str, Any] = {"states": [{"payload": state}]} if method == "POST" else state
    assert_refused(api.call(method, target, token=user.token, json=body), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 10.5")
@pytest.mark.parametrize(
    ("path", "field", "code"),
    [
        ("firmware-version", "firmwareVersion", "THING_WITHOUT_FIRMWARE_VERSION"),
        ("thing-type", "thingType", "THING_WITHOUT_THING_TYPE"),
    ],
)
def test_a_thing_tells_its_firmware_and_type_once_they_are_set(
    api: Api, user: Account, owned: Account, path: str, field: str, code: str
) -> None:
    target = thing_if(api, f"/things/{owned.id}/{path}")
    assert_refused(api.call("GET", target, token=owned.token), 404, code)
    assert api.call("PUT", target, token=owned.token, json={field: "1.2"}).status_code == 204
    assert api.ok("GET", target, token=user.token) == {field: "1.2"}
    assert api.ok("GET", f"/things/{owned.id}", token=owned.token)[f"_{field}"] == "1.2"


@pytest.mark.spec("kii 1.4")
def test_an_owner_gives_his_thing_another_vendor_id(
    api: Api, user: Account, owned: Account
) -> None:
    path, name = f"/things/{owned.id}/vendor-thing-id", unique("replaced")
    body = {"_vendorThingID": name, "_password": "new-password"}
    assert_refused(api.call("PUT", path, token=owned.token, json=body), 401, "UNAUTHORIZED")
    assert api.call("PUT", path, token=user.token, json=body).status_code == 204
    assert api.ok("GET", path, token=user.token) == {"_vendorThingID": name}
    assert_refused(api.call("GET", path, token=owned.token), 401, "UNAUTHORIZED")
    login = {"username": f"VENDOR_THING_ID:{name}", "password": "new-password"}
    again = api.ok("POST", f"{api.url}/api/oauth2/token", json=login)
    assert again["id"] == owned.id
    other = api.thing()
    api.ok("PUT", f"/things/{other.id}/ownership/user:{user.id}", token=user.token)
    taken = api.call("PUT", f"/things/{other.id}/vendor-thing-id", token=user.token, json=body)
    assert_refused(taken, 409, "THING_ALREADY_EXISTS")


@pytest.mark.spec("kii 1.4")
def test_only_the_admin_sets_a_thing_s_password(
    api: Api, user: Account, owned: Account, admin_token: str
) -> None:
    path, body = f"/things/{owned.id}/password", {"newPassword": "by-the-admin"}
    for token in (user.token, owned.token, None):
        assert_refused(api.call("PUT", path, token=token, json=body), 401, "UNAUTHORIZED")
    assert api.call("PUT", path, token=admin_token, json=body).status_code == 204
    assert_refused(api.call("GET", f"/things/{owned.id}", token=owned.token), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 10.6")
def test_a_list_of_commands_is_as_long_as_asked_for(
    api: Api, user: Account, owned: Account
) -> None:
    path = thing_if(api, f"/targets/thing:{owned.id}/commands")
    for _ in range(2):
        api.ok("POST", path, token=user.token, json={"actions": [{"turnPower": {"power": True}}]})
    first = api.ok("GET", f"{path}?bestEffortLimit=1", token=user.token)
    assert len(first["commands"]) == 1
    key = first["nextPaginationKey"]
    rest = api.ok("GET", f"{path}?bestEffortLimit=9&paginationKey={key}", token=user.token)
    assert len(rest["commands"]) == 1
    assert "nextPaginationKey" not in rest


@pytest.mark.spec("kii 10.6")
def test_commands_of_one_moment_are_all_listed_though_pages_part_them(
    api: Api, user: Account, owned: Account
) -> None:
    path = thing_if(api, f"/targets/thing:{owned.id}/commands")

    def send(number: int) -> str:
        body = {"actions": [{"setNumber": {"number": number}}]}
        made: str = api.ok("POST", path, token=user.token, json=body)["commandID"]
        return made

    with ThreadPoolExecutor(10) as threads:
        sent = set(threads.map(send, range(40)))
    page = api.ok("GET", f"{path}?bestEffortLimit=3", token=user.token)
    listed = page["commands"]
    while "nextPaginationKey" in page:
        query = f"bestEffortLimit=3&paginationKey={page['nextPaginationKey']}"
        page = api.ok("GET", f"{path}?{query}", token=user.token)
        listed += page["commands"]
    assert len(listed) == len(sent)
    assert {each["commandID"] for each in listed} == sent
