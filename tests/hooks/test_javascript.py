"""Scripts: what they are given, what they leave, and how they fail (spec kinvey 8.1 to 8.6)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from mqttpush.hooks import Call, FailureKind, HookFailed, Result
from mqttpush.hooks.javascript.runner import JavaScriptRunner
from tests.hooks import scripts
from tests.hooks.script_support import (
    SETTINGS,
    TableHost,
    endpoint,
    failure,
    outcomes,
    run,
    script,
    value,
)
from tests.hooks.support import call_of

spec = pytest.mark.spec
GUIDE = scripts.GUIDE.read_text(encoding="utf-8")
STORY = {"section": "sports", "headline": "A & B win"}


def check(source: str, function: str = "onPreSave") -> None:
    async def work() -> None:
        runner = JavaScriptRunner(SETTINGS)
        try:
            await runner.check(script(source, function))
        finally:
            await runner.close()

    asyncio.run(work())


@spec("kinvey 8.4")
def test_the_push_guides_script_sends_each_user_a_text_of_his_own() -> None:
    users = [{"_id": "1", "givenName": "Ann"}, {"_id": "2", "givenName": "Bob"}]
    host = TableHost({"collectionAccess.find": users})
    result = run(script(GUIDE), call_of(body=STORY), host)
    assert result.is_final
    assert result.response["status"] == 200
    assert result.response["body"] == {"message": "Attempted to push 2 messages."}
    assert host.questions == [
        ("collectionAccess.find", ["user", {"follows": "sports"}, {}]),
        ("push.sendMessage", [users[0], "Ann, A &amp; B win is new in sports!"]),
        ("push.sendMessage", [users[1], "Bob, A &amp; B win is new in sports!"]),
    ]


@spec("kinvey 8.4")
def test_the_push_guides_script_times_out_at_once_when_nobody_matches() -> None:
    host = TableHost({"collectionAccess.find": []})
    error = failure(script(GUIDE), call_of(body=STORY, wall_limit_s=20.0), host)
    assert error.kind is FailureKind.TIMEOUT
    assert error.debug == "the script ended without completing the request"


@spec("kinvey 8.3")
def test_a_pre_hook_changes_the_body_and_the_query() -> None:
    source = """function onPreSave(request, response, modules) {
      request.body.changed = request.params.query;
      request.params.query = '{"b":2}';
      request.headers.x = "y"; request.method = "PUT"; request.entityId = "other";
      response.continue();
    }"""
    call = call_of(body={"name": "Joe"}, params={"query": '{"a":1}'}, entityId="e1")
    result = run(script(source), call)
    assert not result.is_final
    assert result.request["body"] == {"name": "Joe", "changed": '{"a":1}'}
    assert result.request["params"] == {"query": '{"b":2}'}
    assert result.request["method"] == "POST"
    assert result.request["headers"] == {}
    assert result.request["entityId"] == "e1"


@pytest.mark.parametrize(
    ("statements", "status", "body"),
    [
        ("response.complete()", 200, {}),
        ("response.complete(202)", 202, {}),
        ("response.complete('late')", 200, {}),
        ("response.complete(99)", 200, {}),
        ("response.complete(600)", 200, {}),
        ("response.complete(201.5)", 200, {}),
        ("response.statusCode = 404; response.complete()", 404, {}),
        ("response.continue()", 200, {}),
        ("response.body = null; response.complete()", 200, None),
        ("response.body = undefined; response.complete()", 200, {}),
        ("response.body = [1, 'a', null]; response.complete()", 200, [1, "a", None]),
        ("response.body = 'text'; response.complete()", 200, "text"),
        ("response.body = '{\"a\": 1}'; response.complete()", 200, {"a": 1}),
        ("response.body = '[broken'; response.complete()", 200, "[broken"),
        ("response.body = 'half \\ud83d'; response.complete()", 200, "half �"),
        ("response.body = '\\\\ud83d'; response.complete()", 200, "\\ud83d"),
        ("response.body = 'nul \\0'; response.complete()", 200, "nul \0"),
        ("response.complete(201); response.complete(202)", 201, {}),
    ],
)
@spec("kinvey 8.4")
def test_an_endpoint_answers(statements: str, status: int, body: Any) -> None:
    result = run(endpoint(statements))
    assert (result.is_final, result.response["status"]) == (True, status)
    assert result.response["body"] == body


@spec("kinvey 8.4")
def test_a_second_completion_is_logged_and_ignored() -> None:
    result = run(endpoint("response.complete(201); response.error('x')"))
    assert result.response["status"] == 201
    assert result.log == (("warn", "the request is complete already; this call is ignored"),)


@spec("kinvey 8.4")
def test_a_post_hook_has_the_result_and_keeps_its_status() -> None:
    source = """function onPostSave(request, response) {
      response.body.seen = response.status; response.continue();
    }"""
    result = run(script(source, "onPostSave"), call_of("post"))
    assert not result.is_final
    assert result.response == {
        "status": 201,
        "headers": {},
        "body": {"stored": True, "seen": 201},
    }


@pytest.mark.parametrize(
    ("thrown", "text"),
    [
        ("'x'", "x"),
        ("new TypeError('no')", "TypeError: no"),
        ("{reason: 'no'}", '{"reason":"no"}'),
        ("", ""),
    ],
)
@spec("kinvey 8.4")
def test_error_is_a_runtime_error_with_its_text(thrown: str, text: str) -> None:
    error = failure(endpoint(f"modules.logger.warn('before'); response.error({thrown})"))
    assert error.kind is FailureKind.RUNTIME
    assert error.debug == f"UserDefinedError: {text}"
    assert error.log == (("warn", "before"),)


@pytest.mark.parametrize(
    ("statements", "debug"),
    [
        ("foo.bar()", "ReferenceError: foo is not defined (line 3)"),
        ("JSON.parse('{')", "SyntaxError: Expected property name"),
        ("throw 'text'", "text"),
        ("throw {toString: function () { throw 1; }}", "an exception that has no text"),
        ("throw Object.create(null)", "an exception that has no text"),
        ("setTimeout(function () { foo(); }, 1)", "ReferenceError: foo is not defined (line 3)"),
        ("Promise.reject(new Error('no')).then(null, function (e) { queueMicrotask(() => {"
         " throw e; }); })", "Error: no (line 3)"),
        ("modules.push.send(1, 'x', function () { foo(); })", "ReferenceError: foo is not def"),
        ("var a = {}; a.a = a; response.body = a; response.complete()", "TypeError: circular"),
        ("response.body = 1n; response.complete()", "TypeError: "),
        ("setTimeout('foo()')", "TypeError: the callback is not a function (line 3)"),
    ],
)  # fmt: skip
@spec("kinvey 8.5")
def test_an_exception_is_told_with_its_line_and_no_path(statements: str, debug: str) -> None:
    source = f"// line 1\nfunction onRequest(request, response, modules) {{\n{statements}\n}}"
    error = failure(script(source, "onRequest"))
    assert error.kind is FailureKind.RUNTIME
    assert error.debug.startswith(debug)
    assert "/" not in error.debug


@spec("kinvey 8.5")
def test_an_exception_in_an_async_function_ends_the_run() -> None:
    source = "async function onPreSave() { await 1; throw new RangeError('late'); }"
    error = failure(script(source), call_of())
    assert (error.kind, error.debug) == (FailureKind.RUNTIME, "RangeError: late (line 1)")


@spec("kinvey 8.2")
def test_what_a_function_returns_counts_for_nothing_even_with_a_then() -> None:
    code = endpoint(
        "setTimeout(function () { response.complete(201); }, 1);"
        " return {then: function () { throw new Error('asked'); }};"
    )
    assert run(code).response["status"] == 201


@pytest.mark.parametrize(
    "source", ["function onPreSave(", "}", "'use strict'; var a = 010;", "let a; let a;", "a\0b"]
)
@spec("kinvey 8.5")
def test_a_script_that_does_not_parse_is_refused_by_check_and_run(source: str) -> None:
    with pytest.raises(HookFailed) as caught:
        check(source)
    assert caught.value.kind is FailureKind.SYNTAX
    assert failure(script(source), call_of()).kind is FailureKind.SYNTAX


def test_a_check_says_which_line_does_not_parse() -> None:
    with pytest.raises(HookFailed, match=r"SyntaxError: .* \(line 3\)"):
        check("function onPreSave() {\n}\nvar = 1;\n")


def test_a_check_asks_for_the_function() -> None:
    with pytest.raises(HookFailed, match="the script defines no function onPreSave"):
        check("function onPostSave() {}")
    with pytest.raises(HookFailed, match="is no name of a function"):
        check("function onPreSave() {}", "a;b")


@pytest.mark.parametrize(
    "source",
    [
        GUIDE,
        "var onPreSave = function () {};",
        "const onPreSave = async () => {};",
        "'use strict'\nfunction onPreSave() {}",
        "function helper() { return 1 }\nfunction onPreSave() { return helper() }",
        "notYetThere(); function onPreSave() {}",
    ],
)
def test_a_check_takes_every_way_to_define_a_function(source: str) -> None:
    check(source)


def test_a_script_keeps_nothing_for_the_next_run() -> None:
    source = """var count = (globalThis.count || 0) + 1;
    Array.prototype.left = "behind";
    function onRequest(request, response) { response.body = [count, [].left]; response.complete(); }
    """
    code = script(source, "onRequest")
    calls: list[tuple[Any, Call]] = [
        (code, call_of("customEndpoint")),
        (endpoint("response.body = [typeof count, [].left]; response.complete()"),
         call_of("customEndpoint")),
    ]  # fmt: skip
    first, second = asyncio.run(outcomes(calls))
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert first.response["body"] == [1, "behind"]
    assert second.response["body"] == ["undefined", None]


@spec("kinvey 8.6")
def test_a_callback_never_runs_inside_the_call_that_takes_it() -> None:
    order = value(
        "(function () { var order = []; modules.push.send(null, 'x', function () {"
        " order.push('called back'); response.body = order; response.complete(); });"
        " order.push('returned'); return order; })()"
    )
    assert order == ["returned"]
    code = endpoint(
        "var order = []; modules.push.send(null, 'x', function (error) {"
        " order.push(error.name); response.body = order; response.complete(); });"
        " order.push('returned');"
    )
    assert run(code).response["body"] == ["returned", "TypeError"]


@spec("kinvey 8.6")
def test_a_push_started_before_completion_is_sent_although_the_script_has_ended() -> None:
    host = TableHost()
    run(endpoint("modules.push.send({_id: 1}, 'x'); response.complete()"), host=host)
    assert host.questions == [("push.sendMessage", [{"_id": 1}, "x"])]


@spec("kinvey 8.6")
def test_what_callbacks_do_after_completion_is_done_and_logged() -> None:
    late: list[tuple[str, str]] = []
    host = TableHost()
    code = endpoint(
        "modules.push.send({_id: 1}, 'first', function () {"
        " modules.logger.info('late'); modules.push.send({_id: 2}, 'second', function () {"
        " foo(); }); }); response.complete(201);"
    )
    calls = [(code, call_of("customEndpoint"))]
    (outcome,) = asyncio.run(outcomes(calls, host=host, late=late))
    assert isinstance(outcome, Result)
    assert outcome.response["status"] == 201
    assert [arguments[1] for _, arguments in host.questions] == ["first", "second"]
    assert late == [
        ("info", "late"),
        ("error", "BLRuntimeError: ReferenceError: foo is not defined (line 1)"),
    ]


@spec("kinvey 8.7")
def test_timers_run_in_order_within_the_run() -> None:
    code = endpoint(
        "var order = []; var note = function (n) { order.push(n); };"
        " setTimeout(note, 20, 'late'); setTimeout(note, 1, 'soon'); setImmediate(note, 'now');"
        " clearTimeout(setTimeout(note, 2, 'never'));"
        " setTimeout(function () { response.body = order; response.complete(); }, 40);"
    )
    assert run(code).response["body"] == ["now", "soon", "late"]


@pytest.mark.parametrize(
    "delay", ["Infinity", "1e300", "-1", "'soon'", "{valueOf: function () { return NaN; }}"]
)
@spec("kinvey 8.7")
def test_a_timer_whose_delay_is_no_time_fires_at_once(delay: str) -> None:
    """As in browsers and Node; the process goes on to its next run."""
    code = endpoint(f"setTimeout(function () {{ response.complete(201); }}, {delay})")
    calls = [(code, call_of("customEndpoint"))] * 2
    for outcome in asyncio.run(outcomes(calls)):
        assert isinstance(outcome, Result), outcome
        assert outcome.response["status"] == 201


def test_the_engine_has_no_way_out() -> None:
    names = ["require", "process", "module", "fetch", "XMLHttpRequest", "std", "os", "Worker",
             "setInterval", "SharedArrayBuffer", "Atomics", "WebAssembly"]  # fmt: skip
    known = value(f"{names}.filter(function (name) {{ return eval('typeof ' + name)"
                  " !== 'undefined'; })")  # fmt: skip
    assert known == []


DOCUMENT = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```js\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_the_documents_examples_run() -> None:
    hook, server_code = EXAMPLES
    users = [{"_id": "1"}, {"_id": "2"}]
    host = TableHost({"collectionAccess.find": users})
    result = run(script(hook), call_of(body=STORY), host)
    assert result.request["body"]["slug"] == "a-b-win"
    assert host.questions[1] == ("push.sendMessage", [users, "New in sports: A & B win"])
    host = TableHost({"api.request": {"status": 201, "headers": {}, "body": {"objectID": "o1"}}})
    result = run(script(server_code, "onInbox"), call_of("serverCode", body={"uri": "u"}), host)
    assert result.response["body"] == "o1"
    assert [arguments[1] for _, arguments in host.questions] == [
        "/buckets/log/objects",
        "/topics/news/push/messages",
    ]
