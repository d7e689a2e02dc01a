"""Scripts on a real server: around requests, as endpoints, as Kii's server code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hooks.conftest import Environment, basic
from tests.hooks.test_business_logic import wait_for_log
from tests.support.rest import Api, unique


def script(code: str) -> dict[str, str]:
    """A hook of an environment file."""
    return {"type": "internal", "code": code}


def before(statements: str) -> dict[str, dict[str, str]]:
    code = f"function onPreSave(request, response, modules) {{ {statements} }}"
    return {"onPreSave": script(code)}


def endpoint(statements: str) -> dict[str, str]:
    return script(f"function onRequest(request, response, modules) {{ {statements} }}")


HOOKS = {
    "js-changed": before("request.body.total = add(1, 2); response.continue();"),
    "js-kept": before("response.body = {message: 'kept'}; response.complete(202);"),
    "js-null": before("response.body = null; response.complete();"),
    "js-null-after": {
        name: script(f"function {name}(request, response) {{ {statements} }}")
        for name, statements in (
            ("onPostInsert", "response.body = null; response.complete(200);"),
            ("onPostUpdate", "response.body = null; response.continue();"),
            ("onPostSave", "response.body = [response.body]; response.complete();"),
        )
    },
    "js-refused": before("response.error('x');"),
    "js-broken-after": {"onPostSave": script("function onPostSave() {\n foo();\n}")},
    "js-carried": {
        **before("modules.utils.tempObjectStore.set('seen', 1); response.continue();"),
        "onPostSave": script(
            "function onPostSave(request, response, modules) {"
            " response.body.seen = modules.utils.tempObjectStore.get('seen');"
            " response.complete(); }"
        ),
    },
}
ENDPOINTS = {
    "js-who": endpoint("response.body = [request.username, modules.requestContext"
                       ".getSecurityContext()]; response.complete(201);"),
    "js-loop": endpoint("while (true) {}"),
    "js-memory": endpoint("for (var a = [];;) a.push(new Uint8Array(1 << 20));"),
    "js-pattern": endpoint("/(a+)+b/.test('a'.repeat(40));"),
    "js-native": endpoint("new Array(4294967295).join('');"),
    "js-silent": endpoint(""),
    "js-secrets": endpoint("response.body = [modules.backendContext.getMasterSecret(), request"
                           ".headers.authorization]; response.complete();"),
    "js-null": endpoint("response.body = null; response.complete();"),
    "js-undefined": endpoint("response.body = undefined; response.complete();"),
    "js-logs": endpoint("modules.logger.warn({said: 1}); response.complete();"),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def hooks(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("file") / "environment.json"
    document = {
        "schemaVersion": "1.0.0",
        "configType": "environment",
        "commonCode": {"helpers": {"code": "function add(a, b) { return a + b; }"}},
        "collectionHooks": HOOKS,
        "customEndpoints": ENDPOINTS,
    }
    file.write_text(json.dumps(document))
    environment.apply(file)


@pytest.fixture(scope="module")
def user(environment: Environment) -> str:
    return environment.user()


def run(environment: Environment, user: str, name: str) -> Any:
    return environment.call("POST", f"/rpc/:app/custom/{name}", user, {})


@pytest.mark.spec("kinvey 8.4")
def test_a_script_changes_what_is_stored(environment: Environment, user: str) -> None:
    answer = environment.save(user, "js-changed", name="Joe")
    assert answer.status_code == 201, answer.text
    (entity,) = environment.stored("js-changed")
    assert (entity["name"], entity["total"]) == ("Joe", 3)


@pytest.mark.spec("kinvey 8.4")
def test_a_script_that_completes_stores_nothing(environment: Environment, user: str) -> None:
    answer = environment.save(user, "js-kept")
    assert (answer.status_code, answer.json()) == (202, {"message": "kept"})
    assert not environment.stored("js-kept")


@pytest.mark.spec("kinvey 8.4")
def test_a_script_may_answer_null(environment: Environment, user: str) -> None:
    for answer in (run(environment, user, "js-null"), environment.save(user, "js-null")):
        assert (answer.status_code, answer.content) == (200, b"null")
    assert run(environment, user, "js-undefined").content == b"{}"
    made = environment.save(user, "js-null-after")
    assert (made.status_code, made.content) == (200, b"null")
    (stored,) = environment.stored("js-null-after")
    path = f"/appdata/:app/js-null-after/{stored['_id']}"
    assert environment.call("PUT", path, user, {}).content == b"[null]"


@pytest.mark.spec("kinvey 8.4")
def test_a_scripts_error_is_400_with_its_text(environment: Environment, user: str) -> None:
    answer = environment.save(user, "js-refused")
    assert answer.status_code == 400
    assert answer.json()["error"] == "BLRuntimeError"
    assert answer.json()["debug"] == "UserDefinedError: x"


@pytest.mark.spec("kinvey 8.5")
def test_a_script_that_fails_afterwards_leaves_the_entity(
    environment: Environment, user: str
) -> None:
    answer = environment.save(user, "js-broken-after")
    assert answer.status_code == 400
    assert answer.json()["debug"].startswith("ReferenceError: foo is not defined (line ")
    assert len(environment.stored("js-broken-after")) == 1


@pytest.mark.spec("kinvey 8.7")
def test_a_post_hook_has_what_the_pre_hook_kept(environment: Environment, user: str) -> None:
    answer = environment.save(user, "js-carried")
    assert (answer.status_code, answer.json()["seen"]) == (201, 1)


@pytest.mark.spec("kinvey 8.2")
def test_an_endpoint_is_a_script(environment: Environment, user: str) -> None:
    answer = run(environment, user, "js-who")
    assert answer.status_code == 201
    assert answer.json()[1] == "user"


@pytest.mark.spec("kinvey 8.7")
def test_code_is_given_a_master_secret_of_its_own_or_none(
    environment: Environment, user: str
) -> None:
    """Never the app's, which the administrator sent; and what a user sent is his to be used."""
    secret, header = run(environment, environment.master, "js-secrets").json()
    own = basic(environment.app["appID"], secret)
    assert header == own != environment.master
    assert environment.call("GET", "/user/:app", own).status_code == 200
    assert run(environment, user, "js-secrets").json()[1] == user
    change = ("kinvey", "settings", environment.app["appID"])
    environment.cli(*change, "shows_master_secret=false")
    try:
        assert run(environment, environment.master, "js-secrets").json() == [None, None]
        assert run(environment, user, "js-secrets").json() == [None, user]
    finally:
        environment.cli(*change, "shows_master_secret=true")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("js-loop", "BLTimeoutError"),
        ("js-memory", "BLViolationError"),
        ("js-pattern", "BLTimeoutError"),
        ("js-native", "BLTimeoutError"),
        ("js-silent", "BLTimeoutError"),
    ],
)
@pytest.mark.spec("kinvey 13")
def test_a_hostile_script_is_550_in_time_and_the_next_request_works(
    environment: Environment, user: str, name: str, error: str
) -> None:
    answer = run(environment, user, name)
    assert (answer.status_code, answer.json()["error"]) == (550, error)
    assert answer.elapsed.total_seconds() < 3.0  # a wall limit of 2 s, and one more
    assert run(environment, user, "js-who").status_code == 201


def test_what_a_script_says_is_found_by_the_request(environment: Environment, user: str) -> None:
    request_id = run(environment, user, "js-logs").headers["X-Kinvey-Request-Id"]
    (line,) = wait_for_log(environment, request_id)
    assert (line["level"], line["message"]) == ("warn", '{"said":1}')


def deploy(api: Api, source: str) -> Any:
    return api.call(
        "POST",
        "/server-code",
        content=source.encode(),
        token=api.admin_token(),
        headers={"Content-Type": "application/javascript"},
    )


@pytest.mark.spec("kinvey 8.5")
def test_a_script_that_does_not_parse_is_refused_at_upload(code_api: Api) -> None:
    assert deploy(code_api, "function main( {").status_code == 400


@pytest.mark.spec("kii 11")
def test_an_endpoint_that_the_script_does_not_define_is_404(code_api: Api) -> None:
    lines = (
        "const bound = 7; function main() { return 1; }\nconst valueOf = () => 2; function odd() {"
    )
    lies = 'throw new ReferenceError("the script defines no function odd"); }'
    version = deploy(code_api, lines + lies).json()["versionID"]
    path = f"/server-code/versions/{version}"
    for name in ("Main", "bound", "parseInt", "toString", "constructor", "x-y", "a%20b", "7"):
        answer = code_api.call("POST", f"{path}/{name}", json={})
        told = (answer.status_code, answer.json()["errorCode"])
        assert told == (404, "SERVER_CODE_ENDPOINT_NOT_FOUND"), name
    answer = code_api.call("POST", f"{path}/odd", json={})
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "SERVER_CODE_FAILED")
    for name, value in (("main", 1), ("valueOf", 2)):
        assert code_api.ok("POST", f"{path}/{name}", json={})["returnedValue"] == value


@pytest.mark.spec("kii 11")
def test_server_code_writes_an_object_and_sends_to_a_topic(code_api: Api) -> None:
    bucket, topic = unique("bucket"), unique("topic")
    admin = code_api.admin_token()
    code_api.ok("PUT", f"/topics/{topic}", token=admin)
    source = f"""async function main(params, context) {{
      var admin = context.getAppAdminContext();
      var object = admin.bucketWithName("{bucket}").createObject();
      object.set("n", params.n);
      await object.save();
      var message = new KiiPushMessageBuilder({{text: "hello"}}).build();
      await admin.topicWithName("{topic}").sendMessage(message);
      return object.getUUID();
    }}"""
    version = deploy(code_api, source).json()["versionID"]
    path = f"/server-code/versions/{version}/main"
    ran = code_api.ok("POST", path, token=admin, json={"n": 5})
    stored = code_api.ok("GET", f"/buckets/{bucket}/objects/{ran['returnedValue']}", token=admin)
    assert stored["n"] == 5


@pytest.mark.spec("kii 11")
def test_no_version_is_current_once_that_is_taken_back(code_api: Api) -> None:
    admin = code_api.admin_token()
    version = deploy(code_api, "function main() { return 1; }").json()["versionID"]
    path = "/server-code/versions/current"
    code_api.ok("PUT", path, token=admin, content=version.encode())
    assert code_api.call("DELETE", path, token=admin).status_code == 204
    for method in ("GET", "DELETE"):
        gone = code_api.call(method, path, token=admin)
        assert (gone.status_code, gone.json()["errorCode"]) == (
            404,
            "SERVER_CODE_VERSION_NOT_FOUND",
        )
    kept = code_api.call("POST", f"/server-code/versions/{version}/main", token=admin)
    assert kept.json() == {"returnedValue": 1, "returnValue": 1}
