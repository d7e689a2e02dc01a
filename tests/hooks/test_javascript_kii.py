"""Server code in JavaScript: `function name(params, context, done)` (spec kii 11)."""

from __future__ import annotations

from typing import Any

import pytest

from mqttpush.hooks import FailureKind
from tests.hooks.script_support import TableHost, failure, run, script
from tests.hooks.support import call_of

pytestmark = pytest.mark.spec("kii 11")


class Api(TableHost):
    """The REST API: answers `METHOD path` from a table, all else with 404."""

    async def ask(self, call: Any, module: str, function: str, arguments: list[Any]) -> Any:
        self.questions.append((f"{module}.{function}", arguments))
        status, body = self.answers.get(" ".join(arguments[:2]), (404, {"errorCode": "NOT_FOUND"}))
        return {"status": status, "headers": {}, "body": body}


def returned(source: str, *, api: Api | None = None, **parameters: Any) -> Any:
    result = run(script(source, "main"), call_of("serverCode", body=parameters), api or Api())
    assert result.is_final
    return result.response["body"]


@pytest.mark.parametrize(
    "source",
    [
        "function main(params) { return params.a + 1; }",
        "function main(params, context, done) { done(params.a + 1); }",
        "function main(params, context, done) { setTimeout(() => done(params.a + 1), 1); }",
        "async function main(params) { await null; return params.a + 1; }",
        "function main(params) { return new Promise((done) => setTimeout(done, 1, 2)); }",
        "function main(params, context, done) { done(2); done(3); }",
    ],
)
def test_what_a_function_returns_or_hands_to_done_is_its_value(source: str) -> None:
    assert returned(source, a=1) == 2


def test_a_function_that_returns_nothing_has_no_value() -> None:
    assert returned("function main() {}") is None


@pytest.mark.parametrize(
    ("source", "kind", "debug"),
    [
        ("function main() { foo(); }", FailureKind.RUNTIME, "ReferenceError: foo is not defined"),
        ("async function main() { throw new Error('no'); }", FailureKind.RUNTIME, "Error: no"),
        ("function main(params, context, done) {}", FailureKind.TIMEOUT, "the script ended"),
        ("function other() {}", FailureKind.RUNTIME, "ReferenceError: the script defines no fun"),
    ],
)
def test_server_code_fails(source: str, kind: FailureKind, debug: str) -> None:
    error = failure(script(source, "main"), call_of("serverCode"), Api())
    assert error.kind is kind
    assert error.debug.startswith(debug)


def test_the_context_knows_the_app() -> None:
    source = "function main(p, c) { return [c.getAppID(), c.getAppKey(), c.getAccessToken()]; }"
    assert returned(source) == ["app", "s", None]


def test_a_message_goes_to_a_topic_as_the_guide_shows() -> None:
    api = Api({"POST /topics/Sending%20Alert/push/messages": (201, {"pushMessageID": "m1"})})
    source = """function main(params, context, done) {
      var adminContext = context.getAppAdminContext();
      var topic = adminContext.topicWithName("Sending Alert");
      var message = new KiiPushMessageBuilder({message: "hello push!"}).build();
      topic.sendMessage(message, {
        success: function (theTopic, theMessage) { done(theTopic.getName()); },
        failure: function (theTopic, errorString) { done("failed: " + errorString); }
      });
    }"""
    assert returned(source, api=api) == "Sending Alert"
    ((name, (_, _, body, content_type)),) = api.questions
    assert name == "api.request"
    assert content_type == "application/vnd.kii.SendPushMessageRequest+json"
    assert body["data"] == {"message": "hello push!"}
    assert body["mqtt"] == {"enabled": True}


def test_promises_resolve_with_what_callbacks_would_be_given() -> None:
    api = Api({"POST /users/u1/topics/t/push/messages": (201, {})})
    source = """function main(params, context, done) {
      var topic = context.getAppAdminContext().userWithID("u1").topicWithName("t");
      topic.sendMessage(new KiiPushMessageBuilder({a: 1}).apnsAlert("x").enableGcm(false).build())
        .then(function (params) { done([params[0].getName(), params[1].apns.alert,
                                        params[1].gcm.enabled]); });
    }"""
    assert returned(source, api=api) == ["t", {"body": "x"}, False]


def test_an_error_of_the_server_is_caught_with_its_code() -> None:
    source = """function main(params, context, done) {
      context.getAppAdminContext().topicWithName("none").sendMessage({}).catch(
        function (error) { done([error.errorCode, error.status, error.target.getName()]); });
    }"""
    assert returned(source) == ["NOT_FOUND", 404, "none"]


OBJECTS = """async function main(params, context) {
  var admin = context.getAppAdminContext(), bucket = admin.bucketWithName("b");
  var object = bucket.createObject();
  object.set("n", 1);
  await object.save();
  object.set("n", 2);
  await object.save();
  var other = admin.groupWithID("g1").bucketWithName("b").createObjectWithID("o/2");
  await other.refresh();
  var query = KiiQuery.queryWithClause(KiiClause.and(
    KiiClause.equals("n", 1), KiiClause.greaterThan("m", 2)));
  query.setLimit(1);
  query.sortByDesc("n");
  var found = await bucket.executeQuery(query);
  await object.delete();
  return [object.getUUID(), object.getModified(), other.get("name"),
          found[1][0].get("n"), found[2].toRequest().paginationKey];
}"""


def test_objects_are_written_read_and_found() -> None:
    api = Api(
        {
            "POST /buckets/b/objects": (201, {"objectID": "o1", "createdAt": 5}),
            "PUT /buckets/b/objects/o1": (200, {"modifiedAt": 6}),
            "GET /groups/g1/buckets/b/objects/o%2F2": (200, {"_id": "o/2", "name": "two"}),
            "POST /buckets/b/query": (
                200,
                {"results": [{"_id": "o1", "n": 1}], "nextPaginationKey": "k"},
            ),
            "DELETE /buckets/b/objects/o1": (204, None),
        }
    )
    assert returned(OBJECTS, api=api) == ["o1", 6, "two", 1, "k"]
    sent = {" ".join(arguments[:2]): arguments[2:] for _, arguments in api.questions}
    assert sent["PUT /buckets/b/objects/o1"] == [{"n": 2}, "application/json"]
    assert sent["POST /buckets/b/query"] == [
        {
            "bucketQuery": {
                "clause": {
                    "type": "and",
                    "clauses": [
                        {"type": "eq", "field": "n", "value": 1},
                        {"type": "range", "field": "m", "lowerLimit": 2, "lowerIncluded": False},
                    ],
                },
                "orderBy": "n",
                "descending": True,
            },
            "bestEffortLimit": 1,
        },
        "application/vnd.kii.QueryRequest+json",
    ]


@pytest.mark.parametrize("name", ["eval", "Function", "parseInt", "moment", "setTimeout", "_"])
def test_what_the_script_did_not_define_is_no_endpoint(name: str) -> None:
    """Anybody of the app names the function to run."""
    error = failure(script("function main() {}", name), call_of("serverCode"), Api())
    assert error.debug == f"ReferenceError: the script defines no function {name}"
    own = script(f"function {name}() {{ return 'own'; }}", name)
    assert run(own, call_of("serverCode"), Api()).response["body"] == "own"
