"""What real clients put on the wire (spec kii 0.2), sent as bytes."""

from __future__ import annotations

import base64
import json
import socket
from urllib.parse import urlsplit

import pytest

from tests.rest.support import chunked, exchange, read_response
from tests.support.rest import Account, Api, unique

INSTALL = b'{"deviceType":"MQTT","development":"false"}'
INSTALL_TYPE = "application/vnd.kii.InstallationCreationRequest+json"


def authority(api: Api) -> str:
    return urlsplit(api.url).netloc


def request_bytes(
    api: Api,
    method: str,
    target: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """target: everything after the app's base path, unless it starts with http."""
    if not target.startswith(("http", "/api")):
        target = f"/api/apps/{api.app_id}{target}"
    lines = [f"{method} {target} HTTP/{version}"]
    sent = {"Host": authority(api), **(headers or {})}
    if body is not None and "Transfer-Encoding" not in sent:
        sent["Content-Length"] = str(len(body))
    lines += [f"{name}: {value}" for name, value in sent.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def bearer(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.token}"}


@pytest.mark.spec("kii 0.2.1")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("host", ["", "https://api.kii.com"], ids=["own host", "https host"])
def test_an_absolute_form_target_is_taken(api: Api, user: Account, version: str, host: str) -> None:
    target = f"{host or api.url}/api/apps/{api.app_id}/installations"
    headers = {**bearer(user), "Content-Type": INSTALL_TYPE, "Connection": "close"}
    answer = exchange(
        api.url,
        request_bytes(api, "POST", target, headers=headers, body=INSTALL, version=version),
    )
    assert answer.status == 201
    assert len(answer.json()["installationID"]) == 25


@pytest.mark.spec("kii 0.2.1")
def test_http_1_0_without_a_host_is_answered_and_closed(api: Api, user: Account) -> None:
    target = f"/api/apps/{api.app_id}/users/me"
    request = f"GET {target} HTTP/1.0\r\nAuthorization: Bearer {user.token}\r\n\r\n"
    answer = exchange(api.url, request.encode())
    assert answer.status == 200
    assert answer.json()["userID"] == user.id
    assert answer.is_closed


@pytest.mark.spec("kii 0.2.2")
@pytest.mark.parametrize(
    "line",
    [
        "authorization:bearer {token}",
        "AUTHORIZATION:BEARER {token}",
        "Authorization:   Bearer   {token}",
        "authorization: bearer {token} ",
    ],
)
def test_header_names_and_schemes_come_in_any_case_and_spacing(
    api: Api, user: Account, line: str
) -> None:
    request = (
        f"GET /api/apps/{api.app_id}/users/me HTTP/1.1\r\nhost:{authority(api)}\r\n"
        f"{line.format(token=user.token)}\r\n\r\n"
    )
    assert exchange(api.url, request.encode()).status == 200


@pytest.mark.spec("kii 0.2.12")
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_body_is_taken(api: Api, user: Account, size: int) -> None:
    document = {"text": "ü" * 500}
    headers = {
        **bearer(user),
        "Content-Type": "application/json",
        "Transfer-Encoding": "chunked",
        "Connection": "Close",
    }
    body = chunked(json.dumps(document).encode(), size)
    path = f"/users/me/buckets/bb/objects/{unique('chunked')}"
    answer = exchange(api.url, request_bytes(api, "PUT", path, headers=headers, body=body))
    assert answer.status == 201
    assert answer.is_closed
    assert api.ok("GET", path, token=user.token)["text"] == document["text"]


@pytest.mark.spec("kii 0.2.12")
def test_a_client_that_stops_in_the_middle_of_its_body_changes_nothing(
    api: Api, user: Account
) -> None:
    path = f"/users/me/buckets/bb/objects/{unique('half')}"
    headers = {**bearer(user), "Content-Type": "application/json", "Content-Length": "1000"}
    request = request_bytes(api, "PUT", path, headers=headers)
    parts = urlsplit(api.url)
    with socket.create_connection((parts.hostname, parts.port), 20.0) as link:
        link.sendall(request + b'{"a":1}')
        link.shutdown(socket.SHUT_WR)
        link.recv(65536)
    assert api.call("GET", path, token=user.token).status_code == 404


@pytest.mark.spec("kii 0.2.8")
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Length": "0"}, None),
        ({}, b""),
        ({}, None),
        ({"Content-Type": "application/json"}, b""),
        ({"Transfer-Encoding": "chunked"}, chunked(b"")),
        ({}, b"to be ignored"),
        ({"Content-Type": "text/plain"}, b"{not json"),
    ],
)
def test_a_request_that_needs_no_body_takes_none_an_empty_one_and_any(
    api: Api, user: Account, headers: dict[str, str], body: bytes | None
) -> None:
    path = f"/users/me/topics/{unique('empty')}"
    request = request_bytes(api, "PUT", path, headers={**bearer(user), **headers}, body=body)
    assert exchange(api.url, request).status == 204


@pytest.mark.spec("kii 0.2.5")
@pytest.mark.parametrize("base", ["/api/apps/{app}//", "//api//apps/{app}///", "/api/apps/{app}/"])
def test_doubled_slashes_are_one(api: Api, user: Account, base: str) -> None:
    target = f"{base.format(app=api.app_id)}users//me/"
    request = request_bytes(api, "GET", f"{api.url}{target}", headers=bearer(user))
    assert exchange(api.url, request).status == 200


@pytest.mark.spec("kii 0.2.5")
def test_the_path_a_javascript_client_builds_subscribes(api: Api, user: Account) -> None:
    bucket = unique("js")
    api.ok("POST", f"/buckets/{bucket}/objects", token=user.token, json={})
    path = f"//buckets/{bucket}/filters/all/push/subscriptions/users"
    query = "?disable_cache=1463364001875"
    assert api.call("POST", f"{path}{query}", token=user.token).status_code == 204
    one = f"{path}/{user.id}{query}"
    assert api.call("GET", one, token=user.token).status_code == 204


@pytest.mark.spec("kii 0.2.4")
@pytest.mark.parametrize("query", ["disable_cache=1", "a=1&b=&c", "x=%E2%82%AC", "=&&", "?"])
def test_unknown_query_parameters_are_ignored(api: Api, user: Account, query: str) -> None:
    assert api.call("GET", f"/users/me?{query}", token=user.token).status_code == 200


@pytest.mark.spec("kii 0.2.6")
@pytest.mark.parametrize(
    "content_type",
    [
        "application/vnd.kii.RegistrationAndAuthorizationRequest+json",
        "application/vnd.kii.RegistrationAndAuthorizationRequest+json;charset=UTF-8",
        "application/vnd.kii.registrationandauthorizationrequest+JSON; charset=utf-8",
        "APPLICATION/VND.KII.REGISTRATIONANDAUTHORIZATIONREQUEST+JSON",
    ],
)
def test_the_content_type_counts_in_any_case_and_with_a_charset(
    api: Api, content_type: str
) -> None:
    body = json.dumps({"loginName": unique("user"), "password": "123456"}).encode()
    answer = api.ok("POST", "/users", content=body, headers={"Content-Type": content_type})
    assert "_accessToken" in answer


@pytest.mark.spec("kii 0.2.7")
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
def test_a_json_body_is_taken_under_any_content_type(
    api: Api, user: Account, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = api.call(
        "POST", "/users/me/buckets/bb/objects", token=user.token, content=b'{"a":1}',
        headers=headers,
    )  # fmt: skip
    assert response.status_code == 201


@pytest.mark.spec("kii 0.2.10")
@pytest.mark.parametrize("override", ["PATCH", "patch"])
def test_a_post_that_says_patch_is_a_patch(api: Api, user: Account, override: str) -> None:
    path = f"/users/me/buckets/bb/objects/{unique('override')}"
    api.ok("PUT", path, token=user.token, json={"a": 1, "b": 1})
    headers = {"X-HTTP-Method-Override": override}
    api.ok("POST", path, token=user.token, json={"b": 2}, headers=headers)
    found = api.ok("GET", path, token=user.token)
    assert (found["a"], found["b"]) == (1, 2)


@pytest.mark.spec("kii 0.2.10")
def test_only_a_post_can_be_overridden(api: Api, user: Account) -> None:
    path = f"/users/me/buckets/bb/objects/{unique('override')}"
    api.ok("PUT", path, token=user.token, json={})
    headers = {"X-HTTP-Method-Override": "DELETE"}
    assert api.call("GET", path, token=user.token, headers=headers).status_code == 200
    assert api.call("GET", path, token=user.token).status_code == 200


@pytest.mark.spec("kii 0.2.11")
def test_the_headers_sdks_add_are_ignored(api: Api, user: Account) -> None:
    headers = {"X-Kii-SDK": "sn=jk;sv=2.4.10", "kii-m": "0", "Accept": "*/*"}
    assert api.call("GET", "/users/me", token=user.token, headers=headers).status_code == 200


@pytest.mark.spec("kii 0.2.9")
@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"development": "false"}, False),
        ({"development": "true"}, True),
        ({"development": True}, True),
        ({"development": False}, False),
        ({"development": None}, False),
        ({}, False),
    ],
)
def test_development_may_be_a_word(
    api: Api, user: Account, sent: dict[str, object], stored: bool
) -> None:
    body = {"deviceType": "MQTT", **sent}
    made = api.ok("POST", "/installations", token=user.token, json=body)
    found = api.ok("GET", f"/installations/{made['installationID']}", token=user.token)
    assert found["development"] is stored


@pytest.mark.spec("kii 0.3")
@pytest.mark.parametrize("key", ["right", "k", ""])
def test_basic_credentials_are_anonymous_access(api: Api, key: str) -> None:
    pair = f"{api.app_id}:{api.app['appKey'] if key == 'right' else key}"
    headers = {
        "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
        "Content-Type": "application/vnd.kii.RegistrationAndAuthorizationRequest+json",
    }
    request = request_bytes(api, "POST", "/users", headers=headers, body=b"{}")
    assert exchange(api.url, request).status == 201


@pytest.mark.spec("kii 0.3")
def test_a_token_alone_is_enough(api: Api, user: Account) -> None:
    request = request_bytes(api, "GET", "/users/me", headers=bearer(user))
    assert exchange(api.url, request).status == 200


@pytest.mark.spec("kii 0.3")
@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Basic !!!",
        "Basic {basic of nobody}",
        "Digest x",
        "Bearer one two",
        "token",
    ],
)
def test_an_authorization_that_says_nothing_is_401(api: Api, authorization: str) -> None:
    basic = base64.b64encode(b"nobody:key").decode()
    value = authorization.replace("{basic of nobody}", basic)
    request = request_bytes(api, "GET", "/users/me", headers={"Authorization": value})
    answer = exchange(api.url, request)
    assert (answer.status, answer.json()["errorCode"]) == (401, "UNAUTHORIZED")


def test_one_connection_serves_many_requests(api: Api, user: Account) -> None:
    parts = urlsplit(api.url)
    with socket.create_connection((parts.hostname, parts.port), 20.0) as link:
        for _ in range(3):
            link.sendall(request_bytes(api, "GET", "/users/me", headers=bearer(user)))
            assert read_response(link).status == 200


def test_a_request_head_without_an_end_is_cut_off(api: Api) -> None:
    """The parser would keep all of it, and copy it with each piece."""
    parts = urlsplit(api.url)
    piece = b"x" * 65_536
    with socket.create_connection((parts.hostname, parts.port), 20.0) as link:
        link.sendall(f"GET / HTTP/1.1\r\nHost: {authority(api)}\r\nX-Long: ".encode())
        try:
            for _ in range(1000):
                link.sendall(piece)
        except ConnectionError:
            return
    pytest.fail("64 MiB of a header were taken")


def test_a_long_query_and_headers_are_taken(api: Api, user: Account) -> None:
    target = f"/users/me?long={'x' * 60_000}"
    headers = {**bearer(user), "X-Own": "y" * 40_000}
    answer = exchange(api.url, request_bytes(api, "GET", target, headers=headers))
    assert answer.status == 200
