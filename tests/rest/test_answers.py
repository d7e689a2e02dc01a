"""What every answer looks like: headers, JSON, errors, CORS (spec kii 0.4, 0.5)."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique

EXPOSED = (
    "Content-Type, Authorization, Content-Length, X-Requested-With, ETag, X-Step-Count,"
    " X-Environment-version, X-HTTP-Status-Code"
)


def some_answers(api: Api, user: Account) -> list[httpx.Response]:
    """Of many statuses: 200, 201, 204, 400, 401, 404, 405, 409."""
    topic = f"/users/me/topics/{unique('answers')}"
    calls = [
        ("GET", "/users/me"),
        ("POST", "/users/me/buckets/bb/objects"),
        ("PUT", topic),
        ("PUT", topic),
        ("PUT", "/users/me/buckets/!/objects/oo"),
        ("GET", "/installations/none"),
        ("GET", "/no/such/path"),
        ("DELETE", "/users"),
    ]
    answers = [api.call(method, path, token=user.token, content=b"{}") for method, path in calls]
    return [*answers, api.call("GET", "/users/me", token="wrong")]


@pytest.mark.spec("kii 0.4")
def test_every_answer_has_the_headers_of_the_service(api: Api, user: Account) -> None:
    answers = some_answers(api, user)
    assert {answer.status_code for answer in answers} == {200, 201, 204, 400, 401, 404, 405, 409}
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert set(EXPOSED.split(", ")) <= set(exposed)
        assert answer.headers["cache-control"] == "max-age=0, no-cache, no-store"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["x-http-status-code"] == str(answer.status_code)


@pytest.mark.spec("kii 0.4")
def test_no_answer_names_the_software_it_comes_from(api: Api, user: Account) -> None:
    for answer in some_answers(api, user):
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers


@pytest.mark.spec("kii 0.4")
def test_json_is_typed_as_the_service_typed_it(api: Api, user: Account) -> None:
    made = api.call("POST", "/users/me/buckets/bb/objects", token=user.token, json={})
    expected = "application/vnd.kii.ObjectCreationResponse+json;charset=UTF-8"
    assert made.headers["content-type"] == expected


@pytest.mark.spec("kii 0.4")
def test_json_is_written_over_lines_with_blanks_around_the_colon(api: Api, user: Account) -> None:
    path = f"/users/me/buckets/bb/objects/{unique('pretty')}"
    api.ok("PUT", path, token=user.token, json={"a": {"b": [1]}, 'q"': "x: y"})
    lines = api.call("GET", path, token=user.token).text.split("\n")
    assert lines[0] == "{"
    assert lines[-1] == "}"
    assert '  "a" : {' in lines
    assert '    "b" : [' in lines
    assert '  "q\\"" : "x: y",' in lines


@pytest.mark.spec("kii 0.4")
def test_a_percent_sign_is_escaped_in_every_body(api: Api, user: Account) -> None:
    path = f"/users/me/buckets/bb/objects/{unique('percent')}"
    document = {"100%": "%41%zz", "nested": ["%"]}
    api.ok("PUT", path, token=user.token, json=document)
    answer = api.call("GET", path, token=user.token)
    assert "%" not in answer.text
    assert answer.json() | document == answer.json()


@pytest.mark.spec("kii 0.4")
def test_a_percent_sign_is_escaped_in_errors(api: Api, user: Account) -> None:
    answer = api.call("GET", "/installations/%2541", token=user.token)
    assert answer.json()["installationID"] == "%41"
    assert "%" not in answer.text


@pytest.mark.spec("kii 0.4")
@pytest.mark.parametrize(
    "path", ["/users", "/installations/x/mqtt-endpoint", "/users/me/buckets/b/objects/o"]
)
def test_a_browser_s_question_before_its_request_is_answered(api: Api, path: str) -> None:
    headers = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, content-type, x-kii-appid",
    }
    answer = httpx.options(f"{api.base}{path}", headers=headers, trust_env=False)
    assert answer.is_success
    assert answer.headers["access-control-allow-origin"] == "*"
    allowed = answer.headers["access-control-allow-headers"].lower()
    for name in (
        "authorization", "content-type", "x-kii-appid", "x-kii-appkey", "x-kii-sdk",
        "x-http-method-override", "if-match", "if-none-match",
    ):  # fmt: skip
        assert name in allowed
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        assert method in answer.headers["access-control-allow-methods"]


@pytest.mark.spec("kii 0.4")
def test_what_is_made_tells_where_it_is(api: Api, user: Account) -> None:
    made = api.call("POST", "/installations", token=user.token, json={"deviceType": "MQTT"})
    assert made.headers["location"] == f"{api.base}/installations/{made.json()['installationID']}"
    made = api.call("POST", "/buckets/places/objects", token=user.token, json={})
    expected = f"{api.base}/buckets/rw:places/objects/{made.json()['objectID']}"
    assert made.headers["location"] == expected


@pytest.mark.spec("kii 0.4")
def test_every_location_can_be_followed(api: Api, user: Account) -> None:
    answers = [
        api.call("POST", "/installations", token=user.token, json={"deviceType": "MQTT"}),
        api.call("POST", "/buckets/places/objects", token=user.token, json={}),
        api.call("POST", "/users/me/buckets/places/objects", token=user.token, json={}),
        api.call("PUT", f"/buckets/places/objects/{unique('o')}", token=user.token, json={}),
    ]
    for answer in answers:
        assert answer.status_code == 201
        assert api.call("GET", answer.headers["location"], token=user.token).status_code == 200


@pytest.mark.spec("kii 0.5")
def test_an_unknown_path_and_a_wrong_method_are_told_as_errors(api: Api, user: Account) -> None:
    assert_refused(api.call("GET", "/no/such/path", token=user.token), 404, "NOT_FOUND")
    wrong = api.call("DELETE", "/users", token=user.token)
    assert_refused(wrong, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in wrong.headers["allow"]


@pytest.mark.spec("kii A")
def test_a_refusal_tells_who_was_refused(api: Api, user: Account, other_user: Account) -> None:
    refused = api.call("GET", f"/users/{other_user.id}/topics/tt/acl", token=user.token)
    if refused.status_code == 404:  # the topic may be looked for first
        refused = api.call("DELETE", f"/users/{other_user.id}", token=user.token)
    body = assert_refused(refused, 401, "UNAUTHORIZED")
    assert body["authenticatedAppID"] == api.app_id
    assert body["authenticatedPrincipalID"] == user.id
    expected = "application/vnd.kii.UnauthorizedAccessException+json;charset=UTF-8"
    assert refused.headers["content-type"] == expected


@pytest.mark.spec("kii A")
def test_what_was_not_found_is_told_with_its_facts(api: Api, user: Account) -> None:
    def facts(path: str, code: str, exception: str) -> dict[str, object]:
        answer = api.call("GET", path, token=user.token)
        body = assert_refused(answer, 404, code)
        assert f"vnd.kii.{exception}Exception+json" in answer.headers["content-type"]
        return {key: value for key, value in body.items() if key not in ("errorCode", "message")}

    app_scope = {"appID": api.app_id, "type": "APP"}
    user_scope = {"appID": api.app_id, "userID": user.id, "type": "APP_AND_USER"}
    bucket = unique("facts")
    api.ok("POST", f"/buckets/{bucket}/objects", token=user.token, json={})
    assert facts("/installations/ios:none", "INSTALLATION_NOT_FOUND", "InstallationNotFound") == {
        "appID": api.app_id,
        "deviceType": "IOS",
        "installationRegistrationID": "none",
    }
    assert facts("/installations/none", "INSTALLATION_NOT_FOUND", "InstallationNotFound") == {
        "appID": api.app_id,
        "installationID": "none",
    }
    assert facts("/users/me/topics/none", "TOPIC_NOT_FOUND", "TopicNotFound") == {
        "topicID": "none",
        "objectScope": user_scope,
    }
    assert facts(f"/buckets/{bucket}/objects/none", "OBJECT_NOT_FOUND", "ObjectNotFound") == {
        "bucketID": bucket,
        "objectID": "none",
        "objectScope": app_scope,
    }
    assert facts("/users/EMAIL:a@b.c/topics/t1", "USER_NOT_FOUND", "UserNotFound") == {
        "field": "emailAddress",
        "value": "a@b.c",
        "appID": api.app_id,
    }
    assert facts("/things/VENDOR_THING_ID:none", "THING_NOT_FOUND", "ThingNotFound") == {
        "field": "vendorThingID",
        "value": "none",
        "appID": api.app_id,
    }
    assert facts("/groups/none/topics/t1", "GROUP_NOT_FOUND", "GroupNotFound") == {
        "groupID": "none",
        "appID": api.app_id,
    }


@pytest.mark.spec("kii A")
def test_a_subscription_that_exists_is_told_with_its_facts(api: Api, user: Account) -> None:
    topic = unique("facts")
    api.ok("PUT", f"/users/me/topics/{topic}", token=user.token)
    path = f"/users/me/topics/{topic}/push/subscriptions/users"
    api.ok("POST", path, token=user.token)
    answer = api.call("POST", path, token=user.token)
    body = assert_refused(answer, 409, "PUSH_SUBSCRIPTION_ALREADY_EXISTS")
    assert body["topicID"] == topic
    assert body["objectScope"]["type"] == "APP_AND_USER"
    assert "subject" in body
    assert "PushSubscriptionAlreadyExistsException" in answer.headers["content-type"]


def test_health_and_metrics_need_no_credentials(api: Api) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        answer = httpx.get(f"{api.url}{path}", trust_env=False)
        assert answer.status_code == 200
    assert re.search(r"^mqttpush_http_requests_total\{.*\} \d", answer.text, re.MULTILINE)
