"""The document is true: every route stands in it, and every answer is one that it tells."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis

from tests.rest.kinvey.samples import ENDLESS, NEEDS_SETUP
from tests.rest.world import MARK, Operation, World, make_world, read_operations
from tests.support.rest import Account, Api
from tests.support.server import Server

UNTRIED = (*ENDLESS, *NEEDS_SETUP)
# Tags of routes that need no credentials.
OF_ANYBODY = (["Server"], ["Kinvey: pages of links in mails"])


class Document:
    """/openapi.json as it was read from the server."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/openapi.json"
        self.response = httpx.get(self.url, trust_env=False)
        self.text = self.response.text
        self.content: dict[str, Any] = json.loads(self.text)
        self.operations = list(read_operations(self.content))

    def resolve(self, value: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in value:
            place: Any = self.content
            for key in value["$ref"].removeprefix("#/").split("/"):
                place = place[key]
            value = place
        return value

    def check(self, operation: Operation, response: httpx.Response) -> None:
        """The answer is one the document tells: status, media type, fields."""
        told = operation.described["responses"]
        assert str(response.status_code) in told, (operation.name, response.text)
        content = self.resolve(told[str(response.status_code)]).get("content")
        if not content or operation.method == "HEAD":
            assert not response.content
            return
        media_type = response.headers["content-type"].partition(";")[0]
        schema = content.get(media_type) or content.get("application/*") or content.get("*/*")
        assert schema is not None, (operation.name, media_type, list(content))
        if media_type.endswith("json"):
            whole = {**schema["schema"], "components": self.content["components"]}
            jsonschema_rs.validate(whole, response.json())


@pytest.fixture(scope="module")
def document(server: Server) -> Document:
    return Document(server.url)


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    world = make_world(server, "documented")
    yield world
    world.api.close()


def test_the_document_is_valid_openapi_3_1(document: Document) -> None:
    assert document.response.headers["content-type"] == "application/json;charset=UTF-8"
    assert document.content["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document.content).validate()


def test_every_operation_has_a_name_of_its_own_a_section_and_a_summary(document: Document) -> None:
    names = Counter(each.described["operationId"] for each in document.operations)
    assert [name for name, count in names.items() if count > 1] == []
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-zA-Z0-9]*)+", name) for name in names)
    sections = {tag["name"] for tag in document.content["tags"]}
    for operation in document.operations:
        assert operation.described["summary"], operation.name
        assert set(operation.described["tags"]) <= sections, operation.name
        assert operation.described["tags"][0], operation.name


def test_every_parameter_of_a_path_is_described(document: Document) -> None:
    for operation in document.operations:
        described = [document.resolve(each) for each in operation.described.get("parameters", [])]
        of_path = {each["name"] for each in described if each["in"] == "path"}
        assert of_path == set(re.findall(r"\{(\w+)\}", operation.path)), operation.name
        assert all(each["description"] and each["schema"] for each in described), operation.name


def test_every_operation_of_an_app_names_its_credentials(document: Document) -> None:
    schemes = document.content["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}
    for operation in document.operations:
        named = operation.described.get("security", [])
        assert bool(named) == (operation.described["tags"] not in OF_ANYBODY), operation.name
        assert {name for each in named for name in each} <= set(schemes)


def test_every_success_with_a_body_says_its_fields(document: Document) -> None:
    for operation in document.operations:
        for status in ("200", "201"):
            told = operation.described["responses"].get(status)
            assert told is None or told["content"], operation.name


def test_the_document_names_no_host_and_is_the_same_each_time(
    server: Server, document: Document
) -> None:
    assert "127.0.0.1" not in document.text
    assert httpx.get(document.url, trust_env=False).text == document.text


def test_head_and_options_of_the_document_are_answered(document: Document) -> None:
    head = httpx.head(document.url, trust_env=False)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == document.response.headers["content-length"]
    options = httpx.options(document.url, trust_env=False)
    assert (options.status_code, options.headers["allow"]) == (204, "GET, OPTIONS")


def test_every_operation_can_succeed_and_answers_as_the_document_tells(
    document: Document, world: World
) -> None:
    """Each is tried by everybody until it succeeds; what cannot succeed is not documented well."""
    kept = [each for each in document.operations if each.method != "DELETE"]
    removed = [each for each in document.operations if each.method == "DELETE"]
    kept = [each for each in kept if not each.path.endswith(UNTRIED)]
    # What is inside goes first, and the app, whose path is short in one dialect only, last.
    removed.sort(key=lambda each: (each.inside != "", each.path.count("/")), reverse=True)
    # What needs another operation first succeeds the second time.
    waiting = [each for each in kept if _try(document, world, each) is not None]
    failed = [
        f"{operation.name}: {answers}"
        for operation in [*waiting, *removed]
        if (answers := _try(document, world, operation)) is not None
    ]
    assert not failed, "\n".join(failed)


def _try(document: Document, world: World, operation: Operation) -> str | None:
    """None if it succeeded for somebody, else what everybody was answered."""
    answers = []
    accounts: tuple[Account | None, ...] = (*world.accounts, None)
    for account in accounts:
        response = world.call(operation, account)
        document.check(operation, response)
        if response.is_success:
            return None
        told = response.json() if response.content else {}
        code = told.get("errorCode") or told.get("error")
        answers.append(f"{response.status_code} {code}")
    return ", ".join(dict.fromkeys(answers))


def test_the_secrets_of_others_stand_in_no_error(document: Document, api: Api) -> None:
    """An error tells facts of the request, which the caller knows; the sample has none of ours."""
    for operation in document.operations:
        if operation.path.startswith("/api/apps") and operation.method == "GET":
            path = re.sub(r"\{\w+\}", "unknown", operation.inside)
            response = api.call("GET", path)
            document.check(operation, response)
            assert MARK not in response.text
