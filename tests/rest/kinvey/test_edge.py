"""What holds for every path: credentials, versions, headers, CORS, errors (spec kinvey 1, 2)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.collections import Environment, Member, assert_error, basic
from tests.support.operating import choose, operate
from tests.support.rest import Account, unique
from tests.support.server import Server

REQUEST_ID = re.compile("[0-9a-f]{32}")


@pytest.mark.spec("kinvey 1")
def test_all_kinds_of_credentials_shake_hands(kinvey: Environment, joe: Member) -> None:
    for authorization in (kinvey.app, kinvey.master, joe.authorization):
        answer = kinvey.ok("GET", "appdata", authorization)
        assert answer["environmentName"] == kinvey.key
        assert answer["version"]
        assert answer["kinvey"]
        assert answer["appName"]


@pytest.mark.spec("kinvey 1")
def test_a_trailing_slash_means_nothing(kinvey: Environment, joe: Member) -> None:
    for path in ("user/_me", "user/_me/", "user//_me"):
        assert kinvey.ok("GET", path, joe.authorization)["_id"] == joe.id


@pytest.mark.spec("kinvey 2")
@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + "Og",
        "Kinvey",
        "Kinvey wrong",
        "Bearer wrong",
        basic("nobody", "x"),
        "Negotiate x",
    ],
)
def test_bad_credentials_are_invalid_and_nobody_is_asked_to_authenticate(
    kinvey: Environment, authorization: str
) -> None:
    refused = kinvey.call("GET", "user/_me", authorization, version=3)
    assert_error(refused, 401, "InvalidCredentials")
    assert "www-authenticate" not in refused.headers


@pytest.mark.spec("kinvey 2")
def test_the_app_s_id_with_another_secret_is_no_user(kinvey: Environment) -> None:
    refused = kinvey.call("GET", "appdata", basic(kinvey.key, "wrong"))
    assert_error(refused, 401, "InvalidCredentials")


@pytest.mark.spec("kinvey 1.4")
def test_an_unknown_app_is_told_like_a_wrong_secret(
    kinvey: Environment, joe: Member, app: dict[str, str]
) -> None:
    for authorization in (basic("nowhere", app["appKey"]), joe.authorization, basic("joe", "x")):
        headers = {"Authorization": authorization, "X-Kinvey-API-Version": "3"}
        url = f"{kinvey.url}/user/nowhere/_me"
        assert_error(kinvey.http.get(url, headers=headers), 401, "InvalidCredentials")


@pytest.mark.spec("kinvey 2")
def test_a_user_may_show_his_password_up_to_version_5(kinvey: Environment) -> None:
    name = unique("basic")
    user = kinvey.ok("POST", "user", kinvey.app, {"username": name, "password": "p:w"})
    for version in (0, 3, 5):
        own = kinvey.ok("GET", "user/_me", basic(name, "p:w"), version=version)
        assert own["_id"] == user["_id"]
    refused = kinvey.call("GET", "user/_me", basic(name, "p:w"), version=6)
    assert "token" in assert_error(refused, 401, "InvalidCredentials")["debug"]
    refused = kinvey.call("GET", "user/_me", basic(name, "wrong"), version=5)
    assert_error(refused, 401, "InvalidCredentials")


@pytest.mark.spec("kinvey 2")
def test_wrong_passwords_in_the_header_are_counted(kinvey: Environment) -> None:
    name = unique("guessed")
    kinvey.ok("POST", "user", kinvey.app, {"username": name, "password": "secret"})
    answers = [kinvey.call("GET", "user/_me", basic(name, "wrong"), version=3) for _ in range(30)]
    assert answers[0].status_code == 401
    assert_error(answers[-1], 429, "TooManyRequests")
    assert int(answers[-1].headers["retry-after"]) > 0
    assert kinvey.call("GET", "user/_me", basic(name, "secret"), version=3).status_code == 429


def test_a_thing_s_token_is_no_user_s(kinvey: Environment, thing: Account) -> None:
    refused = kinvey.call("GET", "user/_me", f"Kinvey {thing.token}")
    assert_error(refused, 401, "InvalidCredentials")


@pytest.mark.spec("kinvey 1.1")
@pytest.mark.parametrize("version", ["7", "-1", "1.0", "x", "", "10", "٣".encode()])
def test_an_unknown_version_is_refused(kinvey: Environment, version: str | bytes) -> None:
    raw = version if isinstance(version, bytes) else version.encode()
    headers = [(b"Authorization", kinvey.app.encode()), (b"X-Kinvey-API-Version", raw)]
    url = f"{kinvey.url}/appdata/{kinvey.key}"
    assert_error(kinvey.http.get(url, headers=headers), 400, "APIVersionNotAvailable")


@pytest.mark.spec("kinvey 1.2")
def test_every_answer_has_a_name_and_a_version(kinvey: Environment, joe: Member) -> None:
    answers = [
        kinvey.call("GET", "user/_me", joe.authorization, version=5),
        kinvey.call("GET", "user/_me", "", version=5),
        kinvey.call("GET", "user/a/b/c/d", joe.authorization, version=5),
        kinvey.call("POST", "user/login", kinvey.app, version=5),
    ]
    names = [answer.headers["x-kinvey-request-id"] for answer in answers]
    assert all(REQUEST_ID.fullmatch(name) for name in names)
    assert len(set(names)) == len(names)
    assert {answer.headers["x-kinvey-api-version"] for answer in answers} == {"5"}
    url = f"{kinvey.url}/appdata/{kinvey.key}"
    unversioned = kinvey.http.get(url, headers={"Authorization": kinvey.app})
    assert unversioned.headers["x-kinvey-api-version"] == "3"


@pytest.mark.spec("kinvey 1.3")
def test_pages_of_any_origin_may_call(kinvey: Environment) -> None:
    origin = "https://shop.example"
    url = f"{kinvey.url}/user/{kinvey.key}/login"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-kinvey-api-version",
    }
    preflight = kinvey.http.options(url, headers=asked)
    assert preflight.status_code == 204
    allowed = preflight.headers
    assert allowed["access-control-allow-origin"] == origin
    assert allowed["access-control-allow-credentials"] == "true"
    assert {"GET", "POST", "PUT", "DELETE"} <= set(
        allowed["access-control-allow-methods"].split(", ")
    )
    for name in (
        "authorization",
        "content-type",
        "x-kinvey-api-version",
        "x-kinvey-client-app-version",
        "x-kinvey-custom-request-properties",
        "x-kinvey-skip-business-logic",
        "x-kinvey-responsewrapper",
        "x-kinvey-include-headers-in-response",
        "x-kinvey-device-information",
        "x-kinvey-content-type",
        "x-kinvey-trace-request",
    ):
        assert name in allowed["access-control-allow-headers"]
    answer = kinvey.call("GET", "appdata", kinvey.app, Origin=origin)
    assert answer.headers["access-control-allow-origin"] == origin
    assert "Location" in answer.headers["access-control-expose-headers"]
    assert "X-Kinvey-Request-Id" in answer.headers["access-control-expose-headers"]
    refused = kinvey.call("GET", "appdata", "", Origin=origin)
    assert refused.headers["access-control-allow-origin"] == origin


@pytest.mark.spec("kinvey 1")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "group/g"),
        ("POST", "blob"),
        ("PUT", "stream/s/u"),
        ("POST", "rpc/joe/user-password-reset-initiate"),
        ("POST", "rpc/joe/user-email-verification-initiate"),
        ("POST", "rpc/user-forgot-username"),
        ("GET", "user/u/roles"),
        ("PUT", "user/u/roles/r"),
        ("POST", "user/mfa/challenge"),
        ("GET", "user/u/authenticators"),
        ("POST", "user/u/authenticators/a/verify"),
        ("POST", "user/u/recovery-codes"),
    ],
)
def test_what_is_out_of_scope_is_told_as_such(kinvey: Environment, method: str, path: str) -> None:
    assert_error(kinvey.call(method, path, kinvey.app), 400, "FeatureUnavailable")


def test_an_unknown_path_and_a_wrong_method(kinvey: Environment) -> None:
    assert_error(kinvey.call("GET", "push/nothing", kinvey.app), 404, "NotFound")
    assert_error(kinvey.call("PATCH", "user/login", kinvey.app), 405, "MethodNotAllowed")


@pytest.mark.spec("kinvey 1.4")
def test_a_bad_body_is_told_by_name(kinvey: Environment) -> None:
    url = f"{kinvey.url}/user/{kinvey.key}/login"
    headers = {"Authorization": kinvey.app, "Content-Type": "application/json; charset=utf-8"}

    def post(content: bytes, **more: str) -> httpx.Response:
        return kinvey.http.post(url, content=content, headers={**headers, **more})

    assert_error(post(b""), 400, "IncompleteRequestBody")
    assert_error(post(b"[1]"), 400, "IncompleteRequestBody")
    assert_error(post(b'{"username":'), 400, "JSONParseError")
    assert_error(post(b"\xff"), 400, "JSONParseError")
    assert_error(post(b'{"a":' * 5000 + b"1" + b"}" * 5000), 400, "JSONParseError")
    untyped = kinvey.http.build_request("POST", url, content=b"{}")
    untyped.headers["Authorization"] = kinvey.app
    assert_error(kinvey.http.send(untyped), 400, "MissingRequestHeader")
    large = post(b'{"username":"' + b"x" * 1_100_000 + b'"}')
    assert large.status_code == 413
    assert set(large.json()) == {"error", "description", "debug"}


@pytest.mark.spec("kinvey 1.1")
def test_headers_come_in_the_body_for_clients_that_ask(kinvey: Environment) -> None:
    answer = kinvey.call(
        "POST",
        "user",
        kinvey.app,
        {},
        X_Kinvey_ResponseWrapper="true",
        X_Kinvey_Include_Headers_In_Response="X-Kinvey-Request-Id;Location",
    )
    wrapped = answer.json()
    assert answer.status_code == 201
    assert wrapped["headers"] == {
        "X-Kinvey-Request-Id": answer.headers["x-kinvey-request-id"],
        "Location": answer.headers["location"],
    }
    assert wrapped["body"]["_id"]


def test_a_percent_sign_and_utf_8_come_back_as_they_are(kinvey: Environment, joe: Member) -> None:
    own = {"text": "100 % sure, \u00fc\u20ac\U0001f600"}
    raw = kinvey.call("PUT", f"user/{joe.id}", joe.authorization, own)
    assert raw.json()["text"] == own["text"]
    assert "100 % sure" in raw.text


@pytest.fixture
def own(server: Server) -> Iterator[Environment]:
    """An app of the test's own, to change what is chosen for it."""
    environment = Environment(server.url, server.create_app(unique("own")))
    yield environment
    environment.close()


@pytest.mark.spec("kinvey 1.4")
def test_a_disabled_app_is_told(server: Server, own: Environment) -> None:
    member = own.member()
    operate(server, lambda operations: operations.apps.change(own.key, is_disabled=True))
    for authorization in (own.app, own.master, member.authorization):
        refused = own.call("GET", "appdata", authorization)
        assert_error(refused, 403, "AppProblem")


@pytest.mark.spec("kinvey 1.3")
def test_an_app_may_forbid_pages_of_other_origins(server: Server, own: Environment) -> None:
    choose(server, own.key, is_cors_allowed=False)
    url, origin = f"{own.url}/appdata/{own.key}", "https://shop.example"
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    assert_error(own.http.options(url, headers=asked), 400, "CORSDisabled")
    assert_error(own.call("GET", "appdata", own.app, Origin=origin), 400, "CORSDisabled")
    assert own.call("GET", "appdata", own.app).status_code == 200
    assert own.call("GET", "appdata", own.app, Origin=own.url).status_code == 200


@pytest.mark.spec("kinvey 1.1")
def test_an_app_has_a_version_of_its_own_for_requests_without(
    server: Server, own: Environment
) -> None:
    choose(server, own.key, api_version=6)
    name = unique("basic")
    own.ok("POST", "user", own.app, {"username": name, "password": "secret"})
    headers = {"Authorization": basic(name, "secret")}
    refused = own.http.get(f"{own.url}/user/{own.key}/_me", headers=headers)
    assert_error(refused, 401, "InvalidCredentials")
    headers = {"Authorization": own.app}
    greeted = own.http.get(f"{own.url}/appdata/{own.key}", headers=headers)
    assert greeted.headers["x-kinvey-api-version"] == "6"
