"""Values a program would hardly send: each was once answered 5xx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique

HUGE = 2**63  # one more than SQLite's integers hold, and still an integer to the JSON parser


@pytest.fixture
def bucket(api: Api, user: Account) -> str:
    path = f"/users/{user.id}/buckets/{unique('strange')}"
    api.ok("PUT", f"{path}/objects/huge", token=user.token, json={"n": HUGE})
    api.ok("PUT", f"{path}/objects/small", token=user.token, json={"n": 1})
    return path


@pytest.mark.parametrize(
    "clause",
    [
        {"type": "eq", "field": "n", "value": HUGE},
        {"type": "in", "field": "n", "values": [HUGE]},
        {"type": "range", "field": "n", "lowerLimit": HUGE},
        {"type": "range", "field": "n", "upperLimit": 2**64 - 1, "lowerLimit": 2},
    ],
)
@pytest.mark.spec("kii 4.4")
def test_a_clause_compares_integers_of_any_size(
    api: Api, user: Account, bucket: str, clause: Mapping[str, Any]
) -> None:
    body = {"bucketQuery": {"clause": clause}}
    found = api.ok("POST", f"{bucket}/query", token=user.token, json=body)["results"]
    assert [each["_id"] for each in found] == ["huge"]
    api.ok("PUT", f"{bucket}/filters/huge", token=user.token, json={"clause": clause})


@pytest.mark.parametrize("field", ["a\0b", "\0", 'a"b', "", "x" * 201, 1, None])
@pytest.mark.spec("kii 4.4")
def test_a_field_that_cannot_be_asked_for_is_400(
    api: Api, user: Account, bucket: str, field: object
) -> None:
    clause = {"type": "eq", "field": field, "value": 1}
    for path, method, body in (
        (f"{bucket}/query", "POST", {"bucketQuery": {"clause": clause}}),
        (f"{bucket}/filters/bad", "PUT", {"clause": clause}),
    ):
        answer = api.call(method, path, token=user.token, json=body)
        assert_refused(answer, 400, "INVALID_INPUT_DATA")


@pytest.mark.parametrize("value", [b"Basic \xe9", b"Basic !", b"Basic /w==", b"Bearer \xe9"])
@pytest.mark.spec("kii 0.3")
def test_credentials_that_are_no_ascii_are_401(api: Api, value: bytes) -> None:
    answer = api.http.get(f"{api.base}/users/me", headers={b"Authorization": value})
    assert_refused(answer, 401, "UNAUTHORIZED")
