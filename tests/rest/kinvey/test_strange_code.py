"""What server code leaves of a request, however odd, gets an answer that a client understands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.collections import Environment, assert_error
from tests.support.rest import unique
from tests.support.server import Server, run_cli

HOOKS = '''
import json

def leave(request, response, modules):
    """As the header says: a status, a body, parameters."""
    wish = json.loads(request.headers.get("x-wish", "{}"))
    if "answer" in wish:
        response.body = wish["answer"]
    if "status" in wish:
        response.complete(wish["status"])
    if "body" in wish:
        request.body = wish["body"]
    if "params" in wish:
        request.params = wish["params"]

def leave_after(request, response, modules):
    wish = json.loads(request.headers.get("x-wish", "{}"))
    if "after" in wish:
        response.complete(wish["after"])
'''


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An app that runs this before each request for its users."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "strange_hooks.py").write_text(HOOKS)
    hook = {"type": "python", "entryPoint": "strange_hooks:leave"}
    hooks = dict.fromkeys(("onPreFetch", "onPreSave", "onPreDelete", "onPreLogin"), hook)
    hooks["onPostDelete"] = {"type": "python", "entryPoint": "strange_hooks:leave_after"}
    content = {"schemaVersion": "1.0.0", "configType": "environment"}
    file = folder / "environment.json"
    file.write_text(json.dumps({**content, "collectionHooks": {"user": hooks}}))
    with Server(folder, {"HOOKS__PYTHON_MODULES": '["strange_hooks"]'}) as server:
        app = server.create_app("strange")
        arguments = ("kinvey", "apply", str(file), "--app-id", app["appID"])
        result = run_cli(*arguments, environ=server.environ, cwd=folder)
        assert result.returncode == 0, result.stderr
        environment = Environment(server.url, app)
        yield environment
        environment.close()


def ask(
    code: Environment, wish: Any, method: str = "GET", path: str = "user", body: Any = None
) -> httpx.Response:
    return code.call(method, path, code.master, body, X_Wish=json.dumps(wish))


@pytest.mark.spec("kinvey 8.4")
@pytest.mark.parametrize(
    ("wished", "told"), [(202, 202), (204, 204), (304, 304), (100, 200), (101, 200), (600, 200)]
)
def test_a_status_of_code_leaves_the_connection_whole(
    code: Environment, wished: int, told: int
) -> None:
    for _ in range(2):
        answer = ask(code, {"status": wished})
        assert answer.status_code == told
        assert answer.content == (b"" if told in (204, 304) else b"{}")


@pytest.mark.spec("kinvey 8.4")
@pytest.mark.parametrize("body", [None, False, 0, "", "text", [], {}])
def test_an_answer_of_code_may_be_any_json(code: Environment, body: Any) -> None:
    answer = ask(code, {"status": 200, "answer": body})
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    assert answer.content == json.dumps(body).encode()


@pytest.mark.spec("kinvey 8.4")
@pytest.mark.parametrize(("wished", "content"), [(200, b"{}"), (204, b"")])
def test_no_body_is_not_null_once_code_gives_it_another_status(
    code: Environment, wished: int, content: bytes
) -> None:
    answer = ask(code, {"after": wished}, "DELETE", f"user/{code.member().id}?hard=true")
    assert (answer.status_code, answer.content) == (wished, content)


@pytest.mark.spec("kinvey 8.3")
@pytest.mark.parametrize("body", [None, "text", 5, [1]])
def test_a_body_that_is_no_object_any_more_is_told_as_such(code: Environment, body: Any) -> None:
    pair = {"username": unique("odd"), "password": "secret"}
    for path in ("user", "user/login"):
        refused = ask(code, {"body": body}, "POST", path, pair)
        assert_error(refused, 400, "IncompleteRequestBody")


@pytest.mark.spec("kinvey 8.3")
def test_parameters_may_be_json_of_any_kind(code: Environment) -> None:
    for _ in range(2):
        code.member()
    assert len(ask(code, {"params": {"limit": 1}}).json()) == 1
    assert ask(code, {"params": {"query": {"username": "nobody"}}}).json() == []
    assert len(ask(code, {"params": {"query": None, "sort": {"username": 1}}}).json()) >= 2
    assert len(ask(code, {"params": [1]}).json()) >= 2
    gone = code.member()
    ask(code, {"params": {"hard": True}}, "DELETE", f"user/{gone.id}")
    assert_error(code.call("GET", f"user/{gone.id}", code.master), 404, "UserNotFound")


@pytest.mark.spec("kinvey 1.1")
def test_properties_too_deep_for_code_count_as_none(code: Environment) -> None:
    deep = '{"a":' + "[" * 500 + "]" * 500 + "}"
    answer = code.call("GET", "user", code.master, X_Kinvey_Custom_Request_Properties=deep)
    assert answer.status_code == 200
