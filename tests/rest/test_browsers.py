"""Browsers as installations: the subscription is the token, and nobody else's business."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from mqttpush.config import LimitSettings
from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique
from tests.support.tokens import device_token, subscription


def install(api: Api, account: Account, token: Any, **fields: Any) -> Any:
    body = {"deviceType": "WEBPUSH", "installationRegistrationID": token, **fields}
    return api.ok("POST", "/installations", token=account.token, json=body)


def ids_of(api: Api, account: Account) -> list[str]:
    found = api.ok("GET", "/installations", token=account.token)["installations"]
    return [each["installationID"] for each in found]


def test_a_subscription_may_be_an_object_or_its_text_and_is_kept_in_one_spelling(
    api: Api, user: Account
) -> None:
    given = subscription(unique("browser"))
    made = install(api, user, given)
    kept = json.loads(made["installationRegistrationID"])
    assert kept == {"endpoint": given["endpoint"], "keys": given["keys"]}
    again = install(api, user, json.dumps(given, indent=4))
    assert again == made
    assert ids_of(api, user) == [made["installationID"]]


def test_a_browser_that_makes_new_keys_is_the_same_browser(api: Api, user: Account) -> None:
    name = unique("browser")
    first = install(api, user, subscription(name))
    new = subscription(name)
    second = install(api, user, new)
    assert second["installationID"] == first["installationID"]
    assert json.loads(second["installationRegistrationID"])["keys"] == new["keys"]
    longer = install(api, user, subscription(f"{name}-longer"))
    assert longer["installationID"] != first["installationID"]


def test_a_browser_moves_to_the_last_user_who_installs_it(
    api: Api, user: Account, other_user: Account
) -> None:
    name = unique("browser")
    install(api, user, subscription(name))
    made = install(api, other_user, subscription(name))
    assert ids_of(api, user) == []
    assert ids_of(api, other_user) == [made["installationID"]]


def test_of_too_many_browsers_of_one_user_the_one_registered_longest_ago_goes(
    api: Api, user: Account
) -> None:
    limit = LimitSettings().max_browsers_per_owner
    made = [install(api, user, subscription(unique("browser"))) for _ in range(limit)]
    first, second = made[0], made[1]
    install(api, user, json.loads(first["installationRegistrationID"]))
    device = {"deviceType": "ANDROID", "installationRegistrationID": device_token("ANDROID")}
    phone = api.ok("POST", "/installations", token=user.token, json=device)
    newest = install(api, user, subscription(unique("browser")))
    kept = {each["installationID"] for each in (*made, phone, newest)} - {second["installationID"]}
    assert set(ids_of(api, user)) == kept


def test_only_its_owner_and_the_admin_see_a_subscription(
    api: Api, user: Account, other_user: Account, admin_token: str
) -> None:
    name = unique("browser")
    made = install(api, user, subscription(name))
    path = f"/installations/{made['installationID']}"
    for token in (user.token, admin_token):
        assert name in api.ok("GET", path, token=token)["installationRegistrationID"]
    refused = api.call("GET", path, token=other_user.token)
    assert_refused(refused, 401, "UNAUTHORIZED")
    assert name not in refused.text


def test_a_browser_is_found_by_its_subscription(api: Api, user: Account) -> None:
    given = subscription(unique("browser"))
    made = install(api, user, given)
    path = f"/installations/WEBPUSH:{quote(json.dumps(given), safe='')}"
    found = api.ok("GET", path, token=user.token)
    assert found["installationID"] == made["installationID"]
    assert found["deviceType"] == "WEBPUSH"
    api.ok("DELETE", path, token=user.token)
    refused = api.call("GET", "/installations/WEBPUSH:none", token=user.token)
    assert_refused(refused, 404, "INSTALLATION_NOT_FOUND")
