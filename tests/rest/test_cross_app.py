"""Every route of the table, called with the credentials of another app: never data, never effect.

The table is the server's own, so a new route is tried without a new test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import httpx
import pytest

from mqttpush.operations import Operations
from mqttpush.rest.kii.installations import MqttAddress
from mqttpush.rest.kii.table import kii_routes
from mqttpush.rest.routing import Route
from tests.support.rest import Api, unique


class _Anything:
    """Stands for the verbs: the table is read, nothing is called."""

    def __getattr__(self, name: str) -> Any:
        return _Anything()


ROUTES = [
    route
    for route in kii_routes(
        cast(Operations, _Anything()), lambda: MqttAddress("", 0, 0, 0, 0), cast(Any, _Anything())
    )
    if "{appID}" in route.path
]
every_route = pytest.mark.parametrize(
    "route", ROUTES, ids=[f"{route.method} {route.path.removeprefix('/api')}" for route in ROUTES]
)
# Anybody may: they show nothing of the app, and credentials of another app are refused there too.
OPEN_ROUTES = {
    "POST /api/apps/{appID}/oauth2/token",
    "POST /api/apps/{appID}/users",
    "POST /api/apps/{appID}/things",
}


# What a route's body must have beside `{}`, by the end of its path.
BODIES: dict[str, dict[str, Any]] = {
    r"/installations$": {"deviceType": "MQTT"},
    r"/push/messages$": {"data": {"a": 1}, "mqtt": {"enabled": True}},
    r"/groups(/\{groupID\})?$": {"name": "theirs", "members": []},
    r"/move$": {
        "targetObjectScope": {"type": "APP"},
        "targetBucketID": "theirs",
        "targetObjectID": "theirs",
    },
    r"/states$": {"lamp": {"power": True}},
    r"/ownership$": {"userID": "unknown"},
    r"/vendor-thing-id$": {"_vendorThingID": "theirs", "_password": "password"},
    r"/thing-type$": {"thingType": "theirs"},
    r"/firmware-version$": {"firmwareVersion": "theirs"},
    r"/states-bulk$": {"states": [{"payload": {"lamp": {"power": True}}}]},
    r"/password$": {"oldPassword": "123456", "newPassword": "654321"},
    r"/status$": {"disabled": True},
    r"/onboardings$": {"vendorThingID": "theirs", "thingPassword": "password"},
    r"/commands$": {"actions": [{"turnPower": {"power": True}}]},
    r"/networks/\{network\}$": {"subject": "mailto:push@example.com"},
    r"/action-results$": {"actionResults": [{"turnPower": {"succeeded": True}}]},
}


@pytest.fixture(scope="session")
def client(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def nouns(app: dict[str, str], admin_token: str, server_url: str) -> Mapping[str, str]:
    """One of each noun in the app that is attacked, by the parameter that names it."""
    api = Api(server_url, app)
    try:
        return _make_nouns(api, admin_token)
    finally:
        api.close()


def _make_nouns(api: Api, admin_token: str) -> dict[str, str]:
    user, thing = api.pseudo_user(), api.thing()
    group = api.ok(
        "POST", "/groups", token=user.token, json={"name": "team", "owner": user.id, "members": []}
    )
    names = {
        "appID": api.app_id,
        "userID": user.id,
        "thingID": thing.id,
        "groupID": group["groupID"],
        "bucketID": unique("bucket"),
        "objectID": "object",
        "topicID": unique("topic"),
        "filterID": "named",
        "subscriberID": user.id,
        "verb": "SUBSCRIBE_TO_TOPIC",
        "subject": f"UserID:{user.id}",
        "owner": f"user:{user.id}",
        "memberID": user.id,
        "target": f"thing:{thing.id}",
        "alias": "lamp",
        "network": "webpush",
    }
    scopes = ("", f"/users/{user.id}", f"/things/{thing.id}", f"/groups/{names['groupID']}")
    for scope in scopes:
        api.ok("PUT", f"{scope}/topics/{names['topicID']}", token=admin_token)
        path = f"{scope}/buckets/{names['bucketID']}/objects/object"
        api.ok("PUT", path, token=admin_token, json={"secret": "canary"})
        api.ok("PUT", f"{path}/body", token=admin_token, content=b"canary")
        names["uploadID"] = api.ok("POST", f"{path}/body/uploads", token=admin_token)["uploadID"]
        named = f"{scope}/buckets/{names['bucketID']}/filters/named"
        api.ok("PUT", named, token=admin_token, json={})
    installation = api.ok("POST", "/installations", token=user.token, json={"deviceType": "MQTT"})
    names["installationID"] = installation["installationID"]
    body = {"data": {"secret": "canary"}, "mqtt": {"enabled": True}}
    sent = api.ok("POST", f"/users/{user.id}/push/messages", token=admin_token, json=body)
    names["messageID"] = sent["pushMessageID"]
    return names


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("server").url)


@pytest.fixture(scope="session")
def intruders(server_url: str, other_app: dict[str, str]) -> dict[str, str]:
    """Tokens of another app, by who holds them."""
    api = Api(server_url, other_app)
    try:
        return {
            "admin": api.admin_token(),
            "user": api.pseudo_user().token,
            "thing": api.thing().token,
        }
    finally:
        api.close()


def path_of(route: Route, names: Mapping[str, str]) -> str:
    """The route's path with the attacked app's nouns; a parameter we do not know gets a word."""
    return re.sub(r"\{(\w+)\}", lambda match: names.get(match[1], "unknown"), route.path)


def call(
    client: httpx.Client, route: Route, names: Mapping[str, str], headers: dict[str, str]
) -> httpx.Response:
    """Call the route with a body that would do, so that only the right is missing."""
    path = path_of(route, names)
    bodies = (body for ending, body in BODIES.items() if re.search(ending, route.path))
    body = next(bodies, {})
    content = b"" if route.method in ("GET", "HEAD", "DELETE") else json.dumps(body).encode()
    if route.path.endswith("/data"):
        headers = {**headers, "Content-Range": f"bytes=0-{len(content) - 1}/{len(content)}"}
    return client.request(route.method, path, headers=headers, content=content)


@every_route
def test_a_token_of_another_app_opens_no_route(
    client: httpx.Client, route: Route, nouns: Mapping[str, str], intruders: Mapping[str, str]
) -> None:
    for token in intruders.values():
        headers = {"Authorization": f"Bearer {token}"}
        answer = call(client, route, nouns, headers)
        assert answer.status_code in ((400, 401, 404) if _is_open(route) else (401, 404)), (
            answer.text
        )
        assert "canary" not in answer.text
        assert route.method == "HEAD" or answer.json()["errorCode"]


@every_route
def test_the_app_headers_of_another_app_open_no_route(
    client: httpx.Client, route: Route, nouns: Mapping[str, str], other_app: Mapping[str, str]
) -> None:
    headers = {"X-Kii-AppID": other_app["appID"], "X-Kii-AppKey": other_app["appKey"]}
    answer = call(client, route, nouns, headers)
    assert answer.status_code in ((400, 401, 404) if _is_open(route) else (401, 404)), answer.text
    assert "canary" not in answer.text


@every_route
def test_the_nouns_of_another_app_are_not_found_in_one_s_own(
    client: httpx.Client,
    route: Route,
    nouns: Mapping[str, str],
    intruders: Mapping[str, str],
    other_app: Mapping[str, str],
) -> None:
    """Swapped IDs: the own app's path and token, another app's nouns."""
    own_names = {"userID", "thingID", "groupID", "installationID", "messageID"}
    if not any(f"{{{name}}}" in route.path for name in own_names):
        return  # names nothing that could be another app's
    if route.method == "PUT" and route.path.endswith("/groups/{groupID}"):
        return  # makes a group of one's own under that ID
    swapped = {**nouns, "appID": other_app["appID"]}
    for token in intruders.values():
        answer = call(client, route, swapped, {"Authorization": f"Bearer {token}"})
        assert answer.status_code in (400, 401, 404), answer.text
        assert "canary" not in answer.text


def test_after_all_this_the_attacked_app_is_as_it_was(
    api: Api, nouns: Mapping[str, str], admin_token: str
) -> None:
    user, thing, group = nouns["userID"], nouns["thingID"], nouns["groupID"]
    for scope in ("", f"/users/{user}", f"/things/{thing}", f"/groups/{group}"):
        path = f"{scope}/buckets/{nouns['bucketID']}/objects/object"
        found = api.ok("GET", path, token=admin_token)
        assert (found["secret"], str(found["_version"])) == ("canary", "1")
        assert api.call("GET", f"{path}/body", token=admin_token).content == b"canary"
        assert api.call("GET", f"{scope}/topics/{nouns['topicID']}", token=admin_token).is_success
    path = f"/installations/{nouns['installationID']}"
    assert api.call("GET", path, token=admin_token).is_success


def _is_open(route: Route) -> bool:
    return f"{route.method} {route.path}" in OPEN_ROUTES
