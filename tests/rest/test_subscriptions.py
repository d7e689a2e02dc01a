"""Subscriptions of users and things to buckets and topics (spec kii 5, 6.3)."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique

ALREADY, NOT_SUBSCRIBED = "PUSH_SUBSCRIPTION_ALREADY_EXISTS", "PUSH_SUBSCRIPTION_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Place:
    """A source whose subscriptions are tried, in app scope, and one who may hear it."""

    api: Api
    base: str
    subscriber: Account

    @property
    def noun(self) -> str:
        return "things" if self.subscriber.id.startswith("th.") else "users"

    def call(
        self, method: str, *, of: str | None = None, token: str | None = None
    ) -> httpx.Response:
        """of: the subscriber's ID in the path; None for the form without."""
        path = f"{self.base}/push/subscriptions/{self.noun}"
        path = path if of is None else f"{path}/{of}"
        return self.api.call(method, path, token=token or self.subscriber.token)

    def is_subscribed(self) -> bool:
        answer = self.call("GET", of=self.subscriber.id)
        assert answer.status_code in (204, 404)
        return answer.status_code == 204


@pytest.fixture(params=["bucket", "topic"])
def base(request: pytest.FixtureRequest, api: Api, admin_token: str) -> str:
    """A source in app scope that exists."""
    if request.param == "bucket":
        bucket = f"/buckets/{unique('bucket')}"
        api.ok("POST", f"{bucket}/objects", token=admin_token, json={})
        return f"{bucket}/filters/all"
    topic = f"/topics/{unique('topic')}"
    api.ok("PUT", topic, token=admin_token)
    return topic


@pytest.fixture(params=["user", "thing"])
def place(request: pytest.FixtureRequest, api: Api, base: str) -> Place:
    return Place(api, base, api.pseudo_user() if request.param == "user" else api.thing())


@pytest.mark.spec("kii 5")
@pytest.mark.parametrize(("method", "named"), [("POST", False), ("PUT", False), ("PUT", True)])
def test_one_subscribes_oneself_in_three_forms(place: Place, method: str, named: bool) -> None:
    assert not place.is_subscribed()
    made = place.call(method, of=place.subscriber.id if named else None)
    assert (made.status_code, made.content) == (204, b"")
    assert place.is_subscribed()


@pytest.mark.spec("kii 5")
@pytest.mark.parametrize(("method", "named"), [("POST", False), ("PUT", False), ("PUT", True)])
def test_subscribing_twice_is_409(place: Place, method: str, named: bool) -> None:
    place.call("POST")
    again = place.call(method, of=place.subscriber.id if named else None)
    assert_refused(again, 409, ALREADY)
    assert place.is_subscribed()


@pytest.mark.spec("kii 5")
def test_unsubscribing_ends_it_and_is_404_the_second_time(place: Place) -> None:
    place.call("POST")
    assert place.call("DELETE", of=place.subscriber.id).status_code == 204
    assert not place.is_subscribed()
    for method in ("GET", "DELETE"):
        refused = place.call(method, of=place.subscriber.id)
        assert_refused(refused, 404, NOT_SUBSCRIBED)


@pytest.mark.spec("kii 5")
def test_unsubscribing_needs_the_id(place: Place) -> None:
    place.call("POST")
    assert place.call("DELETE").status_code in (400, 404, 405)
    assert place.is_subscribed()


@pytest.mark.spec("kii 5")
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_nobody_acts_for_somebody_else(place: Place, method: str) -> None:
    if method == "DELETE":
        place.call("POST")
    before = place.is_subscribed()
    for stranger in (place.api.pseudo_user(), place.api.thing()):
        refused = place.call(method, of=place.subscriber.id, token=stranger.token)
        assert_refused(refused, 401, "UNAUTHORIZED")
    assert place.is_subscribed() == before


@pytest.mark.spec("kii 5")
def test_the_admin_acts_for_everybody(place: Place, admin_token: str) -> None:
    who = place.subscriber.id
    for method in ("PUT", "GET", "DELETE"):
        assert place.call(method, of=who, token=admin_token).status_code == 204
    assert not place.is_subscribed()


@pytest.mark.spec("kii 5")
def test_the_admin_cannot_be_meant_by_the_form_without_an_id(
    place: Place, admin_token: str
) -> None:
    assert_refused(place.call("POST", token=admin_token), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 5")
def test_anonymous_subscribes_nobody(place: Place) -> None:
    for method, tail in (("POST", ""), ("PUT", f"/{place.subscriber.id}")):
        path = f"{place.base}/push/subscriptions/{place.noun}{tail}"
        assert_refused(place.api.call(method, path), 401, "UNAUTHORIZED")
    assert not place.is_subscribed()


@pytest.mark.spec("kii 5")
def test_a_thing_token_is_no_user_and_a_user_token_no_thing(place: Place) -> None:
    other_noun = "users" if place.noun == "things" else "things"
    path = f"{place.base}/push/subscriptions/{other_noun}"
    refused = place.api.call("POST", path, token=place.subscriber.token)
    assert_refused(refused, 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 5")
def test_an_unknown_subscriber_is_404(place: Place, admin_token: str) -> None:
    code = "THING_NOT_FOUND" if place.noun == "things" else "USER_NOT_FOUND"
    for method in ("PUT", "GET", "DELETE"):
        refused = place.call(method, of="nobody", token=admin_token)
        assert_refused(refused, 404, code)


@pytest.mark.spec("kii 5")
def test_me_is_the_calling_user(api: Api, base: str, user: Account) -> None:
    path = f"{base}/push/subscriptions/users/me"
    for method in ("PUT", "GET", "DELETE"):
        assert api.call(method, path, token=user.token).status_code == 204


@pytest.mark.spec("kii 5")
def test_a_vendor_id_names_the_subscribing_thing(api: Api, base: str, thing: Account) -> None:
    vendor_id = api.ok("GET", f"/things/{thing.id}", token=thing.token)["_vendorThingID"]
    path = f"{base}/push/subscriptions/things/VENDOR_THING_ID:{vendor_id}"
    for method in ("PUT", "GET", "DELETE"):
        assert api.call(method, path, token=thing.token).status_code == 204


@pytest.mark.spec("kii 5")
def test_the_owner_of_a_thing_subscribes_it(
    api: Api, base: str, thing: Account, user: Account
) -> None:
    path = f"{base}/push/subscriptions/things/{thing.id}"
    assert_refused(api.call("PUT", path, token=user.token), 401, "UNAUTHORIZED")
    api.ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=thing.token)
    assert api.call("PUT", path, token=user.token).status_code == 204
    assert api.call("GET", path, token=thing.token).status_code == 204


# --- buckets -----------------------------------------------------------------------------------


@pytest.mark.spec("kii 5")
def test_subscribing_makes_a_missing_bucket_where_one_may(api: Api, user: Account) -> None:
    bucket = f"/users/me/buckets/{unique('missing')}"
    path = f"{bucket}/filters/all/push/subscriptions/users"
    assert api.call("POST", path, token=user.token).status_code == 204
    answer = api.ok("POST", f"{bucket}/query", token=user.token, json={})
    assert answer["results"] == []


@pytest.mark.spec("kii 5")
def test_asking_about_a_missing_bucket_is_a_missing_filter(api: Api, user: Account) -> None:
    path = f"/users/me/buckets/{unique('missing')}/filters/all/push/subscriptions/users/me"
    for method in ("GET", "DELETE"):
        refused = api.call(method, path, token=user.token)
        assert_refused(refused, 404, "FILTER_NOT_FOUND")


@pytest.mark.spec("kii 5")
def test_an_unknown_filter_is_404(api: Api, user: Account) -> None:
    bucket = f"/users/me/buckets/{unique('bucket')}"
    api.ok("POST", f"{bucket}/objects", token=user.token, json={})
    for method in ("PUT", "GET", "DELETE"):
        path = f"{bucket}/filters/unknown/push/subscriptions/users/me"
        refused = api.call(method, path, token=user.token)
        assert_refused(refused, 404, "FILTER_NOT_FOUND")


@pytest.mark.spec("kii 5")
def test_hearing_a_bucket_needs_the_right_to_query_it(
    api: Api, user: Account, other_user: Account
) -> None:
    bucket = unique("private")
    api.ok("POST", f"/users/me/buckets/{bucket}/objects", token=user.token, json={})
    path = f"/users/{user.id}/buckets/{bucket}/filters/all/push/subscriptions/users"
    assert_refused(api.call("POST", path, token=other_user.token), 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 5")
def test_the_admin_cannot_subscribe_who_may_not_hear(
    api: Api, user: Account, other_user: Account, admin_token: str
) -> None:
    bucket = unique("private")
    api.ok("POST", f"/users/me/buckets/{bucket}/objects", token=user.token, json={})
    base = f"/users/{user.id}/buckets/{bucket}/filters/all/push/subscriptions/users"
    refused = api.call("PUT", f"{base}/{other_user.id}", token=admin_token)
    assert_refused(refused, 401, "UNAUTHORIZED")


@pytest.mark.spec("kii 5")
@pytest.mark.parametrize(
    ("scope", "code"),
    [
        ("/users/nobody", "USER_NOT_FOUND"),
        ("/things/th.nothing", "THING_NOT_FOUND"),
        ("/groups/none", "GROUP_NOT_FOUND"),
    ],
)
@pytest.mark.parametrize("source", ["/buckets/bb/filters/all", "/topics/tt"])
def test_an_unknown_scope_is_404(
    api: Api, user: Account, scope: str, code: str, source: str
) -> None:
    path = f"{scope}{source}/push/subscriptions/users"
    assert_refused(api.call("POST", path, token=user.token), 404, code)


@pytest.mark.spec("kii 5")
def test_a_dropped_bucket_takes_its_subscriptions_with_it(api: Api, user: Account) -> None:
    bucket = f"/users/me/buckets/{unique('dropped')}"
    path = f"{bucket}/filters/all/push/subscriptions/users/me"
    api.ok("PUT", path, token=user.token)
    api.ok("DELETE", bucket, token=user.token)
    assert_refused(api.call("GET", path, token=user.token), 404, "FILTER_NOT_FOUND")
    api.ok("PUT", bucket, token=user.token)
    assert_refused(api.call("GET", path, token=user.token), 404, NOT_SUBSCRIBED)


@pytest.mark.spec("kii 5")
def test_in_a_thing_s_scope_thing_and_owner_subscribe_and_others_do_not(
    api: Api, thing: Account, user: Account, other_user: Account
) -> None:
    bucket = f"/things/{thing.id}/buckets/{unique('state')}"
    api.ok("POST", f"{bucket}/objects", token=thing.token, json={})
    base = f"{bucket}/filters/all/push/subscriptions"
    api.ok("POST", f"{base}/things", token=thing.token)
    assert_refused(api.call("POST", f"{base}/users", token=user.token), 401, "UNAUTHORIZED")
    api.ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=thing.token)
    api.ok("POST", f"{base}/users", token=user.token)
    refused = api.call("POST", f"{base}/users", token=other_user.token)
    assert_refused(refused, 401, "UNAUTHORIZED")
