"""What happened to users, groups, things and installations runs code (kii 11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.hooks.conftest import MODULE, Environment
from tests.hooks.test_server_code import CURRENT, HOOKS_TYPE, wait_for, when
from tests.support.rest import Account, Api, unique
from tests.support.server import Server
from tests.support.tokens import subscription

pytestmark = pytest.mark.spec("kii 11")

EVENTS = {
    "users": ("USER_CREATED", "USER_UPDATED", "USER_PASSWORD_CHANGED", "USER_DELETED"),
    "groups": ("GROUP_CREATED", "GROUP_MEMBERS_ADDED", "GROUP_MEMBERS_REMOVED", "GROUP_DELETED"),
    "things": ("THING_CREATED", "THING_UPDATED", "THING_DELETED"),
    "installations": ("INSTALLATION_CREATED", "INSTALLATION_DELETED"),
}
GROUP_TYPE = {"Content-Type": "application/vnd.kii.GroupCreationRequest+json"}


@dataclass(frozen=True, slots=True)
class Watch:
    """An app over both dialects, whose code notes all that happens."""

    environment: Environment
    api: Api
    admin: str

    def install(self, account: Account, token: Any, device_type: str = "ANDROID") -> str:
        body = {"deviceType": device_type, "installationRegistrationID": token}
        made = self.api.ok("POST", "/installations", token=account.token, json=body)
        return str(made["installationID"])

    def register(self, user: str, token: str) -> None:
        self.kinvey("POST", "/push/:app/register-device", user, _device(token))

    def kinvey(self, method: str, path: str, user: str, body: Any = None) -> Any:
        answer = self.environment.call(method, path, user, body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def login(self) -> tuple[str, str]:
        """A user of the second dialect: credentials and ID."""
        user = self.environment.user()
        return user, self.kinvey("GET", "/user/:app/_me", user)["_id"]

    def await_events(self, key: str, value: str, *expected: str) -> list[dict[str, Any]]:
        """What happened to it, in any order, once there is as much as expected."""
        query = {"bucketQuery": {"clause": {"type": "eq", "field": key, "value": value}}}

        def found() -> Any:
            answer = self.api.ok("POST", "/buckets/noted/query", token=self.admin, json=query)
            results = answer["results"]
            return results if len(results) >= len(expected) else None

        events: list[dict[str, Any]] = wait_for(found)
        assert sorted(each["type"] for each in events) == sorted(expected)
        return events


def _device(token: str) -> dict[str, str]:
    return {"platform": "android", "deviceId": token}


@pytest.fixture(scope="module")
def watch(code_server: Server) -> Iterator[Watch]:
    app = code_server.create_app("watched")
    api = Api(code_server.url, app)
    admin = api.admin_token()
    document = {
        f"kiicloud://{place}": [each for name in names for each in when(name, f"{MODULE}:note")]
        for place, names in EVENTS.items()
    }
    api.ok("PUT", CURRENT, token=admin, json=document, headers=HOOKS_TYPE)
    with httpx.Client(trust_env=False, timeout=30.0) as http:
        yield Watch(Environment(code_server, app, http), api, admin)
    api.close()


def test_a_user_comes_changes_and_goes_with_his_phones(watch: Watch) -> None:
    user, user_id = watch.login()
    watch.register(user, unique("phone"))
    watch.kinvey("PUT", f"/user/:app/{user_id}", user, {"password": "other"})
    watch.kinvey("DELETE", f"/user/:app/{user_id}?hard=true", user)
    installations = ["INSTALLATION_CREATED", "INSTALLATION_DELETED"]
    events = watch.await_events("userID", user_id, *EVENTS["users"], *installations)
    phones = [each["installationID"] for each in events if each["type"] in installations]
    assert phones[0] == phones[1]


def test_a_thing_comes_and_goes_with_its_installation(watch: Watch) -> None:
    thing = watch.api.thing()
    watch.api.mqtt_endpoint(thing)
    watch.api.ok("DELETE", f"/things/{thing.id}", token=thing.token)
    expected = ("THING_CREATED", "THING_DELETED", *EVENTS["installations"])
    watch.await_events("thingID", thing.id, *expected)


def test_groups_go_with_their_owner_and_members_leave(watch: Watch) -> None:
    owner, member = watch.api.pseudo_user(), watch.api.pseudo_user()

    def group_of(account: Account, other: Account) -> str:
        body = {"name": "g", "owner": account.id, "members": [other.id]}
        made = watch.api.ok("POST", "/groups", token=account.token, json=body, headers=GROUP_TYPE)
        return str(made["groupID"])

    own, others = group_of(owner, member), group_of(member, owner)
    watch.api.ok("DELETE", "/users/me", token=owner.token)
    watch.await_events("groupID", own, "GROUP_CREATED", "GROUP_MEMBERS_ADDED", "GROUP_DELETED")
    events = watch.await_events(
        "groupID", others, "GROUP_CREATED", "GROUP_MEMBERS_ADDED", "GROUP_MEMBERS_REMOVED"
    )
    assert [each["members"] for each in events if "members" in each] == [[owner.id]] * 2


def test_a_phone_that_changes_hands_goes_from_one_and_comes_to_the_other(watch: Watch) -> None:
    """In both dialects; the installation stays the same."""
    token, first, second = unique("phone"), watch.api.pseudo_user(), watch.api.pseudo_user()
    installation_id = watch.install(first, token)
    for account in (second, second):
        assert watch.install(account, token) == installation_id
    user, user_id = watch.login()
    watch.register(user, token)
    watch.register(user, token)
    both = EVENTS["installations"]
    events = watch.await_events("installationID", installation_id, *both, *both, both[0])
    hands = [(each["type"].rpartition("_")[2], each["userID"]) for each in events]
    assert sorted(hands) == sorted(
        [("CREATED", each) for each in (first.id, second.id, user_id)]
        + [("DELETED", each) for each in (first.id, second.id)]
    )


def test_a_browser_that_makes_room_for_another_is_told(watch: Watch) -> None:
    user = watch.api.pseudo_user()
    oldest, _ = (watch.install(user, subscription(unique("b")), "WEBPUSH") for _ in range(2))
    watch.await_events("installationID", oldest, *EVENTS["installations"])


def test_phones_taken_off_a_user_s_list_are_told(watch: Watch) -> None:
    user, user_id = watch.login()
    watch.register(user, unique("phone"))
    watch.kinvey("PUT", f"/user/:app/{user_id}", user, {"_messaging": {"pushTokens": []}})
    expected = ("USER_CREATED", "USER_UPDATED", *EVENTS["installations"])
    watch.await_events("userID", user_id, *expected)
