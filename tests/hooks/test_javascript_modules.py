"""The modules of scripts: what they ask of the host and what they work out themselves (8.7)."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from mqttpush.hooks import HostRefused, Result
from tests.hooks.script_support import TableHost, endpoint, outcomes, run, script, value
from tests.hooks.support import call_of

pytestmark = pytest.mark.spec("kinvey 8.7")


def asked(statement: str) -> list[tuple[str, list[Any]]]:
    """What the statement asks of the host; `c` is a collection, `done` a callback."""
    host = TableHost()
    prepared = (
        "var c = modules.collectionAccess.collection('c'), push = modules.push,"
        " email = modules.email, done = function () {};"
    )
    run(endpoint(f"{prepared} {statement}; response.complete();"), host=host)
    return host.questions


@pytest.mark.parametrize(
    ("statement", "question", "arguments"),
    [
        ("push.send({_id: 1}, 'x')", "push.sendMessage", [{"_id": 1}, "x"]),
        ("push.sendMessage(['1'], 'x', done)", "push.sendMessage", [["1"], "x"]),
        ("push.sendPayload('1', {alert: 'x'}, {a: 1})", "push.sendPayload",
         ["1", {"alert": "x"}, {"a": 1}, None]),
        ("push.sendPayload('1', null, null, {from: 'x'}, done, 'more')", "push.sendPayload",
         ["1", None, None, {"from": "x"}]),
        ("push.broadcast('x', done)", "push.broadcastMessage", ["x"]),
        ("push.broadcastPayload({alert: 'x'}, done)", "push.broadcastPayload",
         [{"alert": "x"}, None, None]),
        ("email.send('a@x', 'b@x', 's', 't', done)", "email.send",
         ["a@x", "b@x", "s", "t", None, None, None, None]),
        ("email.send('a@x', 'b@x', 's', 't', 'r@x', '<p>', 'c@x', 'd@x', done)", "email.send",
         ["a@x", "b@x", "s", "t", "r@x", "<p>", "c@x", "d@x"]),
        ("c.find('{\"a\": 1}', [], done)", "collectionAccess.find", ["c", {"a": 1}, {}]),
        ("c.find(done)", "collectionAccess.find", ["c", {}, {}]),
        ("c.find({name: /^a/i}, ['name'], done)", "collectionAccess.find",
         ["c", {"name": {"$regex": "^a", "$options": "i"}}, {"fields": ["name"]}]),
        ("c.findOne({}, {limit: 1}, done)", "collectionAccess.findOne", ["c", {}, {"limit": 1}]),
        ("c.insert([{a: 1}], done)", "collectionAccess.insert", ["c", [{"a": 1}], {}]),
        ("c.save({_id: '1'})", "collectionAccess.save", ["c", {"_id": "1"}, {}]),
        ("c.update({a: 1}, {$inc: {n: 1}}, {multi: true}, done)", "collectionAccess.update",
         ["c", {"a": 1}, {"$inc": {"n": 1}}, {"multi": True}]),
        ("c.remove({a: 1}, done)", "collectionAccess.remove", ["c", {"a": 1}, {}]),
        ("c.findAndModify({a: 1}, [['a', 1]], {$set: {b: 1}}, {new: true}, done)",
         "collectionAccess.findAndModify",
         ["c", {"a": 1}, [["a", 1]], {"$set": {"b": 1}}, {"new": True}]),
        ("c.findAndRemove({a: 1}, [], done)", "collectionAccess.findAndRemove",
         ["c", {"a": 1}, [], {}]),
        ("c.distinct('a', {b: 1}, done)", "collectionAccess.distinct", ["c", "a", {"b": 1}, {}]),
        ("c.count(done)", "collectionAccess.count", ["c", {}]),
        ("c.find({_id: c.objectID('5')}, done)", "collectionAccess.find", ["c", {"_id": "5"}, {}]),
        ("modules.collectionAccess.collectionExists('c', done)",
         "collectionAccess.collectionExists", ["c"]),
    ],
)  # fmt: skip
def test_a_module_call_asks_the_host(statement: str, question: str, arguments: list[Any]) -> None:
    assert asked(statement) == [(question, arguments)]


@pytest.mark.parametrize(
    "statement",
    ["push.send(null, 'x')", "push.send({_id: 1})", "push.broadcast()", "email.send('a@x')"],
)
def test_a_call_that_lacks_something_is_logged_and_not_made(statement: str) -> None:
    assert asked(statement) == []
    code = endpoint(f"var push = modules.push, email = modules.email; {statement};"
                    " setTimeout(function () { response.complete() }, 1)")  # fmt: skip
    ((level, message),) = run(code).log
    assert level == "error"
    assert message.startswith("TypeError: The '")


def test_a_refusal_reaches_the_callback_as_its_error() -> None:
    refused = HostRefused("MissingConfiguration", "No push", "configure it")
    host = TableHost({"push.sendMessage": refused})
    code = endpoint(
        "modules.push.send({_id: 1}, 'x', function (error, result) { response.body ="
        " {error: error, text: String(error), result: result}; response.complete(); })"
    )
    assert run(code, host=host).response["body"] == {
        "error": {
            "error": "MissingConfiguration",
            "description": "No push",
            "debug": "configure it",
        },
        "text": "MissingConfiguration: No push",
        "result": None,
    }


def test_a_refusal_without_a_callback_is_logged() -> None:
    host = TableHost({"push.sendMessage": HostRefused("BadRequest", "No")})
    late: list[tuple[str, str]] = []
    code = endpoint("modules.push.send({_id: 1}, 'x'); response.complete()")
    asyncio.run(outcomes([(code, call_of("customEndpoint"))], host=host, late=late))
    assert late == [
        ("error", 'push.sendMessage: {"error":"BadRequest","description":"No","debug":""}')
    ]


def test_a_thousand_questions_at_once_are_all_answered() -> None:
    host = TableHost({"collectionAccess.count": 1})
    code = endpoint(
        "var c = modules.collectionAccess.collection('c'), left = 1000, sum = 0;"
        " for (var i = 0; i < 1000; i++) c.count({i: i}, function (error, count) {"
        " sum += count; if (--left === 0) { response.body = sum; response.complete(); } });"
    )
    assert run(code, host=host).response["body"] == 1000
    assert [arguments[1]["i"] for _, arguments in host.questions] == list(range(1000))


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("{{name}}!", {"name": "<A&B>"}, "&lt;A&amp;B&gt;!"),
        ("{{{name}}} {{&name}}", {"name": "A&B"}, "A&B A&B"),
        ("{{a.b}}", {"a": {"b": 1}}, "1"),
        ("{{#list}}<{{.}}>{{/list}}{{^list}}none{{/list}}", {"list": [1, 2]}, "<1><2>"),
        ("{{#list}}x{{/list}}{{^list}}none{{/list}}{{! said }}", {"list": []}, "none"),
        ("[{{missing}}]", {}, "[]"),
        ("[{{> partial}}]", {}, "[]"),
    ],
)
def test_templates_are_mustache(template: str, values: dict[str, Any], text: str) -> None:
    rendered = value("modules.utils.renderTemplate(request.body.template, request.body.values)",
                     body={"template": template, "values": values})  # fmt: skip
    assert rendered == text


def test_escaping_in_templates_can_be_switched_off() -> None:
    call = call_of("customEndpoint")
    call = replace(call, app={**call.app, "templateEscape": False})
    code = endpoint("response.body = modules.utils.renderTemplate('{{a}}', {a: 'A&B'});"
                    " response.complete()")  # fmt: skip
    assert run(code, call).response["body"] == "A&B"


def test_an_entity_gets_an_id_an_owner_and_times() -> None:
    made = value("modules.utils.kinveyEntity({a: 1})", userId="u1")
    assert re.fullmatch("[0-9a-f]{24}", made["_id"])
    assert made["_acl"] == {"creator": "u1"}
    assert made["_kmd"]["ect"] == made["_kmd"]["lmt"]
    assert value("modules.utils.kinveyEntity('id1')._id") == "id1"
    assert value("modules.utils.kinveyEntity()._id !== modules.utils.kinveyEntity()._id")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("utils.base64.encode('h\\u00e9 \\ud83d\\ude00')", "aMOpIPCfmIA="),
        ("utils.base64.decode('aMOpIPCfmIA=')", "hé 😀"),
        ("utils.base64.decode(utils.base64.encode(''))", ""),
        ("utils.convert.toKinveyDateString(new Date(0))", 'ISODate("1970-01-01T00:00:00.000Z")'),
        ("utils.convert.toKinveyDateString('nonsense')", "Invalid date"),
        ("utils.convert.toKinveyDateString(null)", None),
        ("utils.convert.fromKinveyDateString('ISODate(\"1970-01-01T00:00:01.000Z\")').getTime()",
         1000),
        ("utils.convert.fromKinveyDateString('ISODate(\"1970\")', 'string')", "1970"),
        ("utils.convert.fromKinveyDateString('ISODate(\"1970-01-01T00:00:01Z\")', 'moment')"
         ".valueOf()", 1000),
        ("utils.convert.fromKinveyDateString('1970')", "Invalid date"),
        ("modules.validation.doValidation({a: {required: true}, b: {pattern: ['^x$']}}, {b: 'y'})",
         [{"attr": "a", "valid": False, "msg": "a is required"},
          {"attr": "b", "valid": False, "msg": "b does not match ^x$"}]),
        ("modules.validation.doValidation({b: {pattern: '^y'}}, {b: 'y'})", []),
        ("new modules.Query().equalTo('a', 1).greaterThan('b', 2).lessThan('b', 9).ascending('a')"
         ".toQueryString()",
         {"query": '{"a":1,"b":{"$gt":2,"$lt":9}}', "sort": '{"a":1}'}),
        ("new modules.Query().equalTo('a', 1).or(new modules.Query().contains('b', [1])).filter",
         {"$or": [{"a": 1}, {"b": {"$in": [1]}}]}),
        ("modules.moment('2020-02-03').format('D.M.YYYY')", "3.2.2020"),
        ("moment.utc(0).toISOString()", "1970-01-01T00:00:00.000Z"),
        ("modules.underscore.pluck([{a: 1}, {a: 2}], 'a')", [1, 2]),
        ("_.last([1, 2])", 2),
        ("typeof modules.async.waterfall + typeof async.each", "functionfunction"),
        ("(function () { var moment = 1; return moment; })()", 1),
        ("modules.backendContext.getAppKey()", "app"),
        ("modules.backendContext.getAppSecret()", "s"),
        ("modules.backendContext.getMasterSecret()", "m"),
        ("modules.requestContext.getAuthenticatedUserId()", None),
        ("modules.requestContext.getSecurityContext()", "unknown"),
        ("modules.requestContext.clientAppVersion.stringValue()", None),
        ("isNaN(modules.requestContext.clientAppVersion.majorVersion())", True),
        ("[request.appKey, request.collectionName, request.entityId === undefined]",
         ["app", "scores", True]),
    ],
)  # fmt: skip
def test_helpers_work_without_the_host(expression: str, expected: Any) -> None:
    assert value(f"(function () {{ var utils = modules.utils; return {expression}; }})()") == (
        expected
    )


def test_the_request_is_known_to_its_context() -> None:
    got = value(
        "[modules.requestContext.getAuthenticatedUserId(),"
        " modules.backendContext.getAuthenticatedUsername(),"
        " modules.requestContext.getSecurityContext(),"
        " modules.requestContext.clientAppVersion.majorVersion(),"
        " modules.requestContext.clientAppVersion.minorVersion(),"
        " modules.requestContext.getCustomRequestProperty('k')]",
        userId="u1", username="ann", securityContext="user", clientAppVersion="2.5.x",
        customRequestProperties={"k": [1]},
    )  # fmt: skip
    assert got == ["u1", "ann", "user", 2, 5, [1]]


def test_stores_and_properties_are_handed_on() -> None:
    source = """function onPreSave(request, response, modules) {
      modules.utils.tempObjectStore.set("seen", request.tempObjectStore.get("before") + 1);
      modules.requestContext.setCustomRequestProperty("k", {v: 1});
      response.continue();
    }"""
    result = run(script(source), call_of(tempObjectStore={"before": 1}))
    assert result.request["tempObjectStore"] == {"before": 1, "seen": 2}
    assert result.request["customRequestProperties"] == {"k": {"v": 1}}


def test_what_a_script_says_is_in_its_log_in_order() -> None:
    code = endpoint(
        "modules.logger.info({a: [1]}); modules.logger.warn('w'); modules.logger.error(null);"
        " modules.logger.fatal(new Error('e')); console.log('a', 1, undefined);"
        " console.error('c'); response.complete()"
    )
    assert run(code).log == (
        ("info", '{"a":[1]}'),
        ("warn", "w"),
        ("error", "null"),
        ("fatal", "Error: e"),
        ("info", "a 1 undefined"),
        ("error", "c"),
    )


def test_the_libraries_cost_nothing_until_they_are_used() -> None:
    (outcome,) = asyncio.run(
        outcomes([(endpoint("response.body = Object.getOwnPropertyDescriptor(modules, 'moment')"
                            ".get !== undefined; response.complete()"),
                   call_of("customEndpoint"))])
    )  # fmt: skip
    assert isinstance(outcome, Result)
    assert outcome.response["body"] is True


def test_modules_named_after_a_script_changed_all_objects_are_whole() -> None:
    """Modules are made when they are named: what old libraries do to prototypes comes before."""
    code = endpoint(
        "['get', 'set', 'value', 'writable', 'extend'].forEach(function (name) {"
        " Object.prototype[name] = function () { return 'evil'; }; });"
        " response.body = [modules.utils.renderTemplate('{{a}}', {a: 1}),"
        " modules.moment(0).toISOString(), modules.underscore.keys({a: 1}).length,"
        " new modules.Query().equalTo('a', 1).toQueryString().query];"
        " modules.collectionAccess.collection('c').count(response.complete);"
    )
    (outcome,) = asyncio.run(outcomes([(code, call_of("customEndpoint"))]))
    assert isinstance(outcome, Result), outcome
    assert outcome.response["body"] == ["1", "1970-01-01T00:00:00.000Z", 1, '{"a":1}']
