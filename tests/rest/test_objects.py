"""Buckets and objects (spec kii 4.1 to 4.4)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique

SERVER_FIELDS = {"_id", "_owner", "_created", "_modified", "_version"}


class Bucket:
    """One bucket of the user's own scope, and its user."""

    def __init__(self, api: Api, user: Account) -> None:
        self.api = api
        self.user = user
        self.id = unique("bucket")
        self.path = f"/users/me/buckets/{self.id}"

    def call(self, method: str, object_id: str, json: Any = None, **headers: str) -> httpx.Response:
        """headers: `if_match` is sent as `If-Match`."""
        return self.api.call(
            method,
            f"{self.path}/objects/{object_id}",
            token=self.user.token,
            json=json,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    def query(self, **body: Any) -> Any:
        sent = {"bucketQuery": {"clause": {"type": "all"}}, **body}
        return self.api.ok("POST", f"{self.path}/query", token=self.user.token, json=sent)


@pytest.fixture
def bucket(api: Api, user: Account) -> Bucket:
    return Bucket(api, user)


@pytest.mark.spec("kii 4.2")
def test_creating_tells_id_time_and_type(bucket: Bucket) -> None:
    made = bucket.call("POST", "", {"a": 1})
    assert made.status_code == 201
    assert made.headers["etag"] == '"1"'
    assert made.json().keys() == {"objectID", "createdAt", "dataType"}
    assert len(made.json()["objectID"]) == 36
    assert made.json()["dataType"] == "application/json"


@pytest.mark.spec("kii 4.2")
def test_an_object_keeps_the_type_it_was_created_with(bucket: Bucket) -> None:
    kind = f"application/vnd.{bucket.api.app_id}.MyData+json"
    made = bucket.call("POST", "", {"a": 1}, content_type=f"{kind};charset=UTF-8")
    assert made.json()["dataType"] == kind
    read = bucket.call("GET", made.json()["objectID"])
    assert read.headers["content-type"].startswith(kind)
    assert read.json()["_dataType"] == "MyData"
    bucket.call("POST", "", {"a": 1})
    for value, count in (("MyData", 1), ("mydata", 0), (kind, 0)):
        clause = {"type": "eq", "field": "_dataType", "value": value}
        assert len(bucket.query(bucketQuery={"clause": clause})["results"]) == count


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x+json"])
def test_an_object_without_a_type_of_the_app_s_tells_none(
    bucket: Bucket, content_type: str
) -> None:
    bucket.call("PUT", "oo", {"a": 1}, content_type=content_type)
    found = bucket.call("GET", "oo")
    assert found.headers["content-type"].startswith("application/json")
    assert "_dataType" not in found.json()


@pytest.mark.spec("kii 4.2")
def test_putting_creates_and_then_replaces(bucket: Bucket) -> None:
    made = bucket.call("PUT", "oo", {"a": 1, "b": 1})
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    assert made.json().keys() == {"createdAt", "modifiedAt"}
    assert made.headers["location"].endswith(f"/buckets/rw:{bucket.id}/objects/oo")
    replaced = bucket.call("PUT", "oo", {"b": 2})
    assert (replaced.status_code, replaced.headers["etag"]) == (200, '"2"')
    assert replaced.json()["createdAt"] == made.json()["createdAt"]
    assert "ObjectUpdateResponse+json" in replaced.headers["content-type"]
    found = bucket.call("GET", "oo").json()
    assert {key: found[key] for key in found.keys() - SERVER_FIELDS} == {"b": 2}


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_patching_changes_the_given_fields_and_returns_the_whole(
    bucket: Bucket, method: str
) -> None:
    bucket.call("PUT", "oo", {"a": 1, "b": {"c": 1}})
    override = {"x_http_method_override": "PATCH"} if method == "POST" else {}
    patched = bucket.call(method, "oo", {"b": {"d": 2}, "e": None}, **override)
    assert (patched.status_code, patched.headers["etag"]) == (200, '"2"')
    body = patched.json()
    assert (body["a"], body["b"], body["e"]) == (1, {"d": 2}, None)
    assert body.keys() >= SERVER_FIELDS
    assert (body["_id"], body["_owner"], str(body["_version"])) == ("oo", bucket.user.id, "2")
    assert bucket.call("GET", "oo").json() == body


@pytest.mark.spec("kii 4.2")
def test_deleting_removes_the_object(bucket: Bucket) -> None:
    bucket.call("PUT", "oo", {})
    deleted = bucket.call("DELETE", "oo")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "DELETE", "PATCH"):
        refused = bucket.call(method, "oo", {} if method == "PATCH" else None)
        assert_refused(refused, 404, "OBJECT_NOT_FOUND")


@pytest.mark.spec("kii 4.2")
def test_fields_of_the_server_sent_back_are_not_stored(bucket: Bucket) -> None:
    bucket.call("PUT", "oo", {"a": 1})
    read = bucket.call("GET", "oo").json()
    bucket.call("PUT", "oo", {**read, "_owner": "forged", "_id": "forged", "_version": "99"})
    again = bucket.call("GET", "oo").json()
    assert (again["_id"], again["_owner"], str(again["_version"])) == ("oo", bucket.user.id, "2")


@pytest.mark.spec("kii 4.1")
def test_a_bucket_with_its_type_is_the_same_bucket(bucket: Bucket) -> None:
    bucket.call("PUT", "oo", {"a": 1})
    path = f"/users/me/buckets/rw:{bucket.id}/objects/oo"
    assert bucket.api.ok("GET", path, token=bucket.user.token)["a"] == 1
    encoded = path.replace(":", "%3A")
    assert bucket.api.ok("GET", encoded, token=bucket.user.token)["a"] == 1


@pytest.mark.spec("kii 4.1")
@pytest.mark.parametrize(
    "bucket_id", ["a", "a" * 65, "a.b", "a%20b", "%C3%BC%C3%BC", "a%2Fb", "!!"]
)
def test_a_bucket_id_outside_its_alphabet_is_400(api: Api, user: Account, bucket_id: str) -> None:
    path = f"/users/me/buckets/{bucket_id}/objects"
    refused = api.call("POST", path, token=user.token, json={})
    assert_refused(refused, 400, "INVALID_BUCKET")


@pytest.mark.spec("kii 4.1")
@pytest.mark.parametrize("bucket_id", ["ab", "a" * 64, "A-b_9"])
def test_a_bucket_id_at_its_bounds_is_taken(api: Api, user: Account, bucket_id: str) -> None:
    path = f"/users/me/buckets/{bucket_id}/objects"
    assert api.call("POST", path, token=user.token, json={}).status_code == 201


@pytest.mark.spec("kii 4.1")
@pytest.mark.parametrize("object_id", ["a", "a" * 101, "a%20b", "%C3%BC%C3%BC", "a%2Fb", "a:b"])
def test_an_object_id_outside_its_alphabet_is_400(bucket: Bucket, object_id: str) -> None:
    assert_refused(bucket.call("PUT", object_id, {}), 400, "INVALID_OBJECT_ID")


@pytest.mark.spec("kii 4.1")
@pytest.mark.parametrize("object_id", ["ab", "a" * 100, "A-b_9.z", ".."])
def test_an_object_id_at_its_bounds_is_taken(bucket: Bucket, object_id: str) -> None:
    # httpx resolves `..` in a path as every browser does, so it is sent encoded.
    assert bucket.call("PUT", object_id.replace("..", "%2E%2E"), {}).status_code == 201


@pytest.mark.spec("kii 4.1")
def test_a_bucket_is_made_once_and_dropped_with_its_objects(bucket: Bucket) -> None:
    api, token = bucket.api, bucket.user.token
    assert api.call("PUT", bucket.path, token=token).is_success
    again = api.call("PUT", bucket.path, token=token)
    assert_refused(again, 409, "BUCKET_ALREADY_EXISTS")
    bucket.call("PUT", "oo", {})
    assert api.call("DELETE", bucket.path, token=token).status_code == 204
    refused = api.call("DELETE", bucket.path, token=token)
    assert_refused(refused, 404, "BUCKET_NOT_FOUND")
    assert bucket.call("GET", "oo").status_code == 404
    assert bucket.call("PUT", "oo", {}).headers["etag"] == '"1"'


@pytest.mark.spec("kii 4.3")
def test_looking_into_a_missing_bucket_is_404(bucket: Bucket) -> None:
    assert_refused(bucket.call("GET", "oo"), 404, "BUCKET_NOT_FOUND")
    refused = bucket.api.call("POST", f"{bucket.path}/query", token=bucket.user.token, json={})
    assert_refused(refused, 404, "BUCKET_NOT_FOUND")


# --- conditional headers -----------------------------------------------------------------------


@pytest.mark.spec("kii 4.3")
@pytest.mark.parametrize("version", ["1", '"1"'])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match_lets_the_right_version_through(bucket: Bucket, method: str, version: str) -> None:
    bucket.call("PUT", "oo", {"a": 1})
    document = None if method == "DELETE" else {"a": 2}
    assert bucket.call(method, "oo", document, if_match=version).status_code in (200, 204)


@pytest.mark.spec("kii 4.3")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("version", ["1", '"1"', "3", "99"])
def test_if_match_holds_any_other_version_back(bucket: Bucket, method: str, version: str) -> None:
    bucket.call("PUT", "oo", {"a": 1})
    bucket.call("PUT", "oo", {"a": 2})
    before = bucket.call("GET", "oo").json()
    document = None if method == "DELETE" else {"a": 3}
    refused = bucket.call(method, "oo", document, if_match=version)
    assert_refused(refused, 409, "OBJECT_VERSION_IS_STALE")
    assert bucket.call("GET", "oo").json() == before


@pytest.mark.spec("kii 4.3")
def test_if_none_match_creates_only_what_is_absent(bucket: Bucket) -> None:
    assert bucket.call("PUT", "oo", {"a": 1}, if_none_match="*").status_code == 201
    refused = bucket.call("PUT", "oo", {"a": 2}, if_none_match="*")
    assert_refused(refused, 409, "OBJECT_ALREADY_EXISTS")
    assert bucket.call("GET", "oo").json()["a"] == 1


@pytest.mark.spec("kii 4.3")
def test_if_none_match_changes_nothing_on_delete(bucket: Bucket) -> None:
    bucket.call("PUT", "oo", {})
    assert bucket.call("DELETE", "oo", if_none_match="*").status_code == 204


@pytest.mark.spec("kii 4.3")
def test_both_conditions_together_are_400(bucket: Bucket) -> None:
    bucket.call("PUT", "oo", {"a": 1})
    refused = bucket.call("PUT", "oo", {"a": 2}, if_match="1", if_none_match="*")
    assert_refused(refused, 400, "INVALID_INPUT_DATA")
    assert bucket.call("GET", "oo").json()["a"] == 1


@pytest.mark.spec("kii 4.3")
def test_patch_creates_with_if_none_match_and_otherwise_is_404(bucket: Bucket) -> None:
    bucket.call("PUT", "first", {})
    assert_refused(bucket.call("PATCH", "oo", {"a": 1}), 404, "OBJECT_NOT_FOUND")
    created = bucket.call("PATCH", "oo", {"a": 1}, if_none_match="*")
    assert created.is_success
    assert bucket.call("GET", "oo").json()["a"] == 1


@pytest.mark.spec("kii 4.3")
@pytest.mark.parametrize("version", ["x", "1.0", "-1", "1" * 30, "W/1"])
def test_a_condition_that_is_no_version_changes_nothing(bucket: Bucket, version: str) -> None:
    bucket.call("PUT", "oo", {"a": 1})
    assert bucket.call("PUT", "oo", {"a": 2}, if_match=version).status_code in (400, 409)
    assert bucket.call("GET", "oo").json()["a"] == 1


# --- rights ------------------------------------------------------------------------------------


@pytest.mark.spec("kii 4.5")
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_user_s_object_is_401_and_untouched(
    bucket: Bucket, other_user: Account, method: str
) -> None:
    bucket.call("PUT", "oo", {"a": 1})
    path = f"/users/{bucket.user.id}/buckets/{bucket.id}/objects/oo"
    document = {"a": 2} if method in ("PUT", "PATCH") else None
    refused = bucket.api.call(method, path, token=other_user.token, json=document)
    assert_refused(refused, 401, "UNAUTHORIZED")
    assert_refused(bucket.api.call(method, path, json=document), 401, "UNAUTHORIZED")
    assert bucket.call("GET", "oo").json()["a"] == 1


@pytest.mark.spec("kii 4.5")
def test_a_stranger_is_not_told_what_exists_in_a_user_s_scope(
    bucket: Bucket, other_user: Account
) -> None:
    bucket.call("PUT", "oo", {})
    scope = f"/users/{bucket.user.id}/buckets"
    answers = [
        bucket.api.call("GET", f"{scope}/{name}", token=other_user.token)
        for name in (f"{bucket.id}/objects/oo", f"{bucket.id}/objects/none", "none/objects/oo")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.spec("kii 4.5")
def test_anybody_reads_in_app_scope_and_only_the_authenticated_write(
    api: Api, user: Account, other_user: Account
) -> None:
    path = f"/buckets/{unique('public')}/objects/oo"
    assert_refused(api.call("PUT", path, json={}), 401, "UNAUTHORIZED")
    assert api.call("PUT", path, token=user.token, json={"a": 1}).status_code == 201
    assert api.call("GET", path).json()["a"] == 1
    assert api.call("PUT", path, token=other_user.token, json={"a": 2}).status_code == 200
    assert_refused(api.call("DELETE", path), 401, "UNAUTHORIZED")


# --- queries -----------------------------------------------------------------------------------


@pytest.mark.spec("kii 4.4")
def test_a_query_for_all_returns_every_object(bucket: Bucket) -> None:
    for number in range(3):
        bucket.call("PUT", f"o{number}", {"n": number})
    answer = bucket.query()
    assert sorted(each["n"] for each in answer["results"]) == [0, 1, 2]
    assert "nextPaginationKey" not in answer
    assert answer["results"][0].keys() >= SERVER_FIELDS


@pytest.mark.spec("kii 4.4")
def test_the_pages_of_a_query_hold_every_object_once(bucket: Bucket) -> None:
    for number in range(7):
        bucket.call("PUT", f"o{number}", {"n": number})
    found: list[int] = []
    page = bucket.query(bestEffortLimit=3)
    while True:
        assert len(page["results"]) <= 3
        found += [each["n"] for each in page["results"]]
        if "nextPaginationKey" not in page:
            break
        page = bucket.query(bestEffortLimit=3, paginationKey=page["nextPaginationKey"])
    assert sorted(found) == list(range(7))


@pytest.mark.spec("kii 4.4")
@pytest.mark.parametrize(
    "body",
    [
        {"bucketQuery": {"clause": {"type": "nonsense"}}},
        {"bucketQuery": {"clause": []}},
        {"bucketQuery": 7},
        {"bucketQuery": {"clause": {"type": "all"}}, "bestEffortLimit": -1},
        {"bucketQuery": {"clause": {"type": "all"}}, "bestEffortLimit": "ten"},
        {"bucketQuery": {"clause": {"type": "all"}}, "paginationKey": "'; DROP TABLE objects"},
        {"bucketQuery": {"clause": {"type": "eq", "field": 7, "value": 1}}},
        {"bucketQuery": {"clause": {"type": "and", "clauses": "no list"}}},
    ],
)
def test_a_query_that_makes_no_sense_is_400(bucket: Bucket, body: dict[str, Any]) -> None:
    bucket.call("PUT", "oo", {})
    answer = bucket.api.call("POST", f"{bucket.path}/query", token=bucket.user.token, json=body)
    if body["bucketQuery"] == {"clause": []}:  # an empty clause may count as none
        assert answer.status_code in (200, 400)
        return
    assert answer.status_code == 400, answer.text
    assert "errorCode" in answer.json()


@pytest.mark.spec("kii 4.5")
def test_a_query_needs_the_right(bucket: Bucket, other_user: Account) -> None:
    bucket.call("PUT", "oo", {})
    path = f"/users/{bucket.user.id}/buckets/{bucket.id}/query"
    refused = bucket.api.call("POST", path, token=other_user.token, json={})
    assert_refused(refused, 401, "UNAUTHORIZED")
