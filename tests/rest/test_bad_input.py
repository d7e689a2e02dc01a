"""Bodies and paths no client should send: told as the specification says, and nothing changed."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.rest.support import assert_refused
from tests.support.rest import Account, Api, unique
from tests.support.server import Server

DEEP = 100_000
NOT_JSON = {
    "nothing": b"",
    "text": b"not json",
    "half": b'{"a":',
    "trailing comma": b'{"a":1,}',
    "two documents": b'{"a":1}{"b":2}',
    "single quotes": b"{'a':1}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "not UTF-8": b'{"a":"\xff\xfe"}',
    "half a surrogate pair": b'{"a":"\\ud800"}',
    "raw control character": b'{"a":"\x01"}',
    "deep list": b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "65 deep": b'{"a":' * 65 + b"1" + b"}" * 65,
    "list": b"[1]",
    "number": b"7",
    "null": b"null",
    "byte order mark": b"\xef\xbb\xbf{}",
}
bad_bodies = pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())


@pytest.fixture
def object_path(api: Api, user: Account) -> str:
    """An object at version 1."""
    path = f"/users/me/buckets/bb/objects/{unique('bad')}"
    api.ok("PUT", path, token=user.token, json={"a": 1})
    return path


@pytest.mark.spec("kii 4.3")
@bad_bodies
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_object_that_is_no_json_object_is_400_and_changes_nothing(
    api: Api, user: Account, object_path: str, method: str, body: bytes
) -> None:
    before = api.ok("GET", object_path, token=user.token)
    headers = {"Content-Type": "application/json"}
    refused = api.call(method, object_path, token=user.token, content=body, headers=headers)
    assert_refused(refused, 400, "INVALID_JSON")
    assert api.ok("GET", object_path, token=user.token) == before


@bad_bodies
def test_every_route_with_a_body_refuses_what_is_no_json_object(
    api: Api, user: Account, admin_token: str, body: bytes
) -> None:
    topic = f"/users/me/topics/{unique('bad')}"
    api.ok("PUT", topic, token=user.token)
    if not body:  # means {} where every field may be left out
        return
    for path, token in (
        ("/users/me/buckets/bb/objects", user.token),
        ("/users/me/buckets/bb/query", user.token),
        ("/installations", user.token),
        (f"{topic}/push/messages", user.token),
        ("/users", None),
        ("/things", None),
        ("/groups", user.token),
        (f"{api.url}/api/oauth2/token", None),
        (f"/users/{user.id}/push/messages", admin_token),
    ):
        refused = api.call("POST", path, token=token, content=body)
        assert_refused(refused, 400, "INVALID_JSON")


@pytest.mark.spec("kii 12")
def test_an_object_may_have_65534_characters_and_not_one_more(
    api: Api, user: Account, object_path: str
) -> None:
    def put(text: str) -> httpx.Response:
        document = json.dumps({"t": text}, ensure_ascii=False, separators=(",", ":"))
        return api.call("PUT", object_path, token=user.token, content=document.encode())

    room = 65_534 - len('{"t":""}')
    for filler in ("x", "ü", "€"):
        assert put(filler * room).status_code == 200
        assert put(filler * (room + 1)).status_code == 400
    found = api.ok("GET", object_path, token=user.token)
    assert (found["t"], str(found["_version"])) == ("€" * room, "4")


@pytest.mark.spec("kii 12")
def test_a_patch_may_not_make_an_object_too_big(api: Api, user: Account, object_path: str) -> None:
    api.ok("PUT", object_path, token=user.token, json={"a": "x" * 40_000})
    refused = api.call("PATCH", object_path, token=user.token, json={"b": "x" * 40_000})
    assert refused.status_code == 400
    assert "b" not in api.ok("GET", object_path, token=user.token)


def test_64_levels_are_not_too_deep(api: Api, user: Account, object_path: str) -> None:
    body = b'{"a":' * 64 + b"1" + b"}" * 64
    assert api.call("PUT", object_path, token=user.token, content=body).status_code == 200


def test_many_brackets_inside_a_text_are_not_deep(
    api: Api, user: Account, object_path: str
) -> None:
    api.ok("PUT", object_path, token=user.token, json={"a": "[{" * 5000})


@pytest.mark.parametrize(
    "number", ["0", "-0.0", "1e308", str(2**53), str(2**63), str(2**64), "1.7976931348623157e308"]
)
def test_a_number_comes_back_as_the_number_it_was(
    api: Api, user: Account, object_path: str, number: str
) -> None:
    body = f'{{"n":{number}}}'.encode()
    assert api.call("PUT", object_path, token=user.token, content=body).status_code == 200
    assert api.ok("GET", object_path, token=user.token)["n"] == json.loads(number)


def test_a_number_that_is_no_number_is_refused_or_kept_finite(
    api: Api, user: Account, object_path: str
) -> None:
    answer = api.call("PUT", object_path, token=user.token, content=b'{"n":1e999}')
    assert_refused(answer, 400, "INVALID_JSON")


@pytest.mark.parametrize("key", ["", "a.b", "$where", "'; --", "ü€😀", "__proto__", "a\nb", "%"])
def test_any_text_is_a_key(api: Api, user: Account, object_path: str, key: str) -> None:
    api.ok("PUT", object_path, token=user.token, json={key: key})
    assert api.ok("GET", object_path, token=user.token)[key] == key


def test_a_body_over_the_server_s_limit_is_413(api: Api, user: Account) -> None:
    body = b'{"a":"' + b"x" * 1_100_000 + b'"}'
    refused = api.call("POST", "/users/me/buckets/bb/objects", token=user.token, content=body)
    assert refused.status_code == 413
    assert "errorCode" in refused.json()


@pytest.mark.spec("kii 0.5")
@pytest.mark.parametrize(
    "token", [b"wrong", b"a" * 43, b"x" * 5000, b"\xc3\xbc"], ids=["short", "a", "long", "no ASCII"]
)
def test_a_wrong_token_is_401_everywhere(api: Api, user: Account, token: bytes) -> None:
    for method, path in (
        ("GET", "/users/me"),
        ("POST", "/buckets/bb/objects"),
        ("POST", "/installations"),
        ("PUT", "/users/me/topics/tt"),
        ("GET", f"/users/{user.id}"),
    ):
        answer = api.http.request(
            method,
            f"{api.base}{path}",
            headers=[(b"Authorization", b"Bearer " + token)],
            content=b'{"deviceType":"MQTT"}',
        )
        assert_refused(answer, 401, "UNAUTHORIZED")


def test_an_unknown_app_is_404_for_anonymous_and_401_for_a_token(api: Api, user: Account) -> None:
    url = f"{api.url}/api/apps/nowhere/users"
    anonymous = httpx.post(url, content=b"{}", trust_env=False)
    assert_refused(anonymous, 404, "APP_NOT_FOUND")
    headers = {"Authorization": f"Bearer {user.token}"}
    assert_refused(httpx.get(f"{url}/me", headers=headers, trust_env=False), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "path",
    [
        "/users/%FF%FE",
        "/users/%00",
        "/users/%0d%0aX-Injected:%201",
        "/things/VENDOR_THING_ID:",
        "/users/EMAIL:",
        "/users/PHONE:",
        "/users/:",
        "/installations/MQTT:",
        "/installations/%3Cscript%3E",
        "/users/me/buckets/%2e%2e/objects/%2e%2e%2fsecret",
        "/users/me/topics/%F0%9F%98%80",
        "/groups/%2F%2F/topics/tt",
        f"/users/{'x' * 4000}",
        "/users/me/buckets/bb/objects/oo/acl/NO_SUCH_VERB/UserID:x",
        "/users/me/acl/CREATE_NEW_TOPIC/Nonsense:x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
def test_a_strange_path_is_the_client_s_mistake_and_never_ours(
    api: Api, user: Account, method: str, path: str
) -> None:
    content = b"{}" if method in ("PUT", "POST", "PATCH") else None
    answer = api.call(method, path, token=user.token, content=content)
    assert 400 <= answer.status_code < 500, answer.text
    assert "x-injected" not in answer.headers
    assert answer.json()["errorCode"]
    assert "Traceback" not in answer.text


def test_nothing_of_all_this_was_an_error_of_the_server(server: Server, api: Api) -> None:
    metrics = httpx.get(f"{api.url}/metrics", trust_env=False).text
    assert 'status="500"' not in metrics
    assert "Traceback" not in server.stderr
