"""Bodies that anybody may read, and bodies that change their object."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique

TEXT = {"Content-Type": "text/plain;charset=UTF-8"}


class Place:
    """A user's bucket with an object that has a body."""

    def __init__(self, api: Api, user: Account) -> None:
        self.api = api
        self.user = user
        self.bucket_id = unique("bucket")
        self.path = f"/users/me/buckets/{self.bucket_id}/objects"
        self.make("oo", b"hello")

    def make(self, object_id: str, body: bytes | None = None) -> None:
        token = self.user.token
        self.api.ok("PUT", f"{self.path}/{object_id}", token=token, json={"a": 1})
        if body is not None:
            path = f"{self.path}/{object_id}/body"
            self.api.ok("PUT", path, token=token, content=body, headers=TEXT)

    def publish(self, **body: Any) -> str:
        made = self.api.ok("POST", f"{self.path}/oo/body/publish", token=self.user.token, json=body)
        assert made["url"].endswith(f"/api/x/{made['publicationID']}")
        return str(made["url"])

    def move(self, to: str, **scope: str) -> httpx.Response:
        body = {
            "targetObjectScope": {"appID": self.api.app_id, "type": "APP_AND_USER", **scope},
            "targetBucketID": self.bucket_id,
            "targetObjectID": to,
        }
        return self.api.call("POST", f"{self.path}/oo/body/move", token=self.user.token, json=body)

    def body(self, object_id: str) -> httpx.Response:
        return self.api.call("GET", f"{self.path}/{object_id}/body", token=self.user.token)


@pytest.fixture
def place(api: Api, user: Account) -> Place:
    return Place(api, user)


def read(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False)


@pytest.mark.spec("kii 4.2")
def test_a_published_body_is_read_without_any_right(place: Place) -> None:
    url = place.publish()
    found = read(url)
    assert (found.status_code, found.content) == (200, b"hello")
    assert found.headers["content-type"] == TEXT["Content-Type"]
    assert found.headers["content-security-policy"] == "sandbox"
    assert read(url, Range="bytes=1-2").content == b"el"
    assert place.publish() == url


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("end", ["expiresAt", "expiresIn"])
def test_a_publication_has_the_end_it_was_given(place: Place, end: str) -> None:
    value = 3600 if end == "expiresIn" else round(time.time() * 1000) + 3_600_000
    path = f"{place.path}/oo/body/publish"
    made = place.api.call("POST", path, token=place.user.token, json={end: value})
    assert made.status_code == 201
    assert made.headers["location"] == made.json()["url"]
    assert made.headers["expires"].endswith("GMT")
    assert read(made.json()["url"]).content == b"hello"
    assert made.json()["url"] != place.publish()


@pytest.mark.spec("kii 4.2")
def test_a_publication_that_has_ended_is_410(place: Place) -> None:
    assert_refused(read(place.publish(expiresAt=1000)), 410, "PUBLICATION_EXPIRED")


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("what", ["/body", ""])
def test_a_publication_ends_with_its_body_and_with_its_object(place: Place, what: str) -> None:
    url = place.publish()
    place.api.call("DELETE", f"{place.path}/oo{what}", token=place.user.token)
    assert_refused(read(url), 404, "PUBLICATION_NOT_FOUND")
    place.make("oo", b"another")
    assert_refused(read(url), 404, "PUBLICATION_NOT_FOUND")


@pytest.mark.spec("kii 4.2")
def test_only_who_may_read_a_body_publishes_it(place: Place, other_user: Account) -> None:
    path = f"/users/{place.user.id}/buckets/{place.bucket_id}/objects/oo/body/publish"
    for token in (other_user.token, None):
        assert_refused(place.api.call("POST", path, token=token, json={}), 401, "UNAUTHORIZED")
    place.make("empty")
    path = f"{place.path}/empty/body/publish"
    missing = place.api.call("POST", path, token=place.user.token, json={})
    assert_refused(missing, 404, "OBJECT_BODY_NOT_FOUND")


@pytest.mark.spec("kii 4.2")
def test_both_ends_at_once_are_400(place: Place) -> None:
    path, body = f"{place.path}/oo/body/publish", {"expiresAt": 10**13, "expiresIn": 5}
    refused = place.api.call("POST", path, token=place.user.token, json=body)
    assert_refused(refused, 400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_body_moves_to_another_object(place: Place, old: bytes | None) -> None:
    place.make("to", old)
    assert place.move("to", userID=place.user.id).status_code == 204
    assert (place.body("to").content, place.body("oo").status_code) == (b"hello", 404)
    assert place.body("to").headers["content-type"] == TEXT["Content-Type"]
    place.make("oo", b"again")
    assert place.move("to", userID=place.user.id).status_code == 204
    assert place.body("to").content == b"again"


@pytest.mark.spec("kii 4.2")
def test_a_body_moves_to_another_scope(place: Place) -> None:
    path = f"/buckets/{place.bucket_id}/objects/to"
    place.api.ok("PUT", path, token=place.user.token, json={})
    assert place.move("to", type="APP").status_code == 204
    assert place.api.call("GET", f"{path}/body", token=place.user.token).content == b"hello"


@pytest.mark.spec("kii 4.2")
def test_a_body_moved_to_its_own_object_stays(place: Place) -> None:
    assert place.move("oo", userID=place.user.id).status_code == 204
    assert place.body("oo").content == b"hello"


@pytest.mark.spec("kii 4.2")
def test_a_body_moves_only_where_one_may_write(place: Place, other_user: Account) -> None:
    other = Place(place.api, other_user)
    place.bucket_id, own = other.bucket_id, place.bucket_id
    place.path = place.path.replace(other.bucket_id, own)
    assert_refused(place.move("oo", userID=other_user.id), 401, "UNAUTHORIZED")
    assert (place.body("oo").content, other.body("oo").content) == (b"hello", b"hello")
    assert_refused(place.move("oo"), 400, "INVALID_INPUT_DATA")
    refused = place.move("oo", userID=place.user.id, appID="another")
    assert_refused(refused, 400, "INVALID_INPUT_DATA")
