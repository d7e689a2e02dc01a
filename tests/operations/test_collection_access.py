"""What server code may do to collections, as scripts of the field write it (spec kinvey 8.7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.errors import InvalidRequest, NotAuthorized
from mqttpush.models import Credentials
from mqttpush.operations import Operations
from mqttpush.operations.accounts import AccountDraft
from mqttpush.operations.collection_access import CollectionAccess
from mqttpush.operations.principals import UserDraft
from mqttpush.operations.update_operators import changed
from mqttpush.store.blobs import open_blobs
from tests.support.contexts import make_context
from tests.support.stores import opened


class Code:
    """Running code of one app."""

    def __init__(
        self, operations: Operations, access: CollectionAccess, admin: Credentials
    ) -> None:
        self.operations = operations
        self.access = access
        self.admin = admin

    async def ask(self, method: str, *arguments: Any) -> Any:
        return await self.access.ask(self.admin, method, list(arguments))

    async def fill(self) -> None:
        await self.ask(
            "insert", "books", [{"_id": f"b{n}", "n": n, "tags": ["x"]} for n in range(4)]
        )


def run(script: Callable[[Code], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with _code() as code:
            await script(code)

    asyncio.run(whole())


@asynccontextmanager
async def _code() -> AsyncIterator[Code]:
    passwords = Passwords(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
    async with AsyncExitStack() as stack:
        store = (await stack.enter_async_context(opened())).store
        blobs = stack.enter_context(open_blobs(None))
        context = make_context(store, blobs, passwords, now_ms=lambda: 1)
        operations = Operations.over(context)
        app = (await operations.apps.create("test")).app
        token = await operations.apps.issue_admin_token(app.app_id, lifetime_s=3600)
        admin = Credentials(app.app_id, token=token)
        yield Code(operations, CollectionAccess(context, operations.accounts), admin)
    passwords.close()


@pytest.mark.spec("kinvey 8.7")
def test_documents_are_found_counted_and_told_apart() -> None:
    async def script(code: Code) -> None:
        assert await code.ask("find", "books", {}) == []
        assert await code.ask("findOne", "books", {}) is None
        assert await code.ask("collectionExists", "books") is False
        await code.fill()
        assert await code.ask("collectionExists", "books") is True
        found = await code.ask(
            "find", "books", '{"n": {"$gt": 0}}', {"sort": {"n": -1}, "limit": 2}
        )
        assert [each["_id"] for each in found] == ["b3", "b2"]
        assert [each["n"] for each in await code.ask("find", "books", None, [])] == [0, 1, 2, 3]
        one = await code.ask("findOne", "books", {"n": 2}, {"fields": {"n": 1}})
        assert one == {"_id": "b2", "_acl": one["_acl"], "n": 2}
        assert await code.ask("count", "books") == 4
        assert await code.ask("count", "books", {"n": 1}) == 1
        assert await code.ask("distinct", "books", "tags", {}) == ["x"]
        assert await code.ask("distinct", "books", "n", {"n": {"$lt": 2}}) == [0, 1]

    run(script)


@pytest.mark.spec("kinvey 8.7")
def test_documents_are_changed_and_removed() -> None:
    async def script(code: Code) -> None:
        await code.fill()
        assert await code.ask("update", "books", {}, {"$inc": {"n": 10}}) == 1
        assert await code.ask("update", "books", {}, {"$set": {"a.b": 1}}, {"multi": True}) == 4
        assert await code.ask("count", "books", {"a.b": 1}) == 4
        assert await code.ask("update", "books", {"n": 99}, {"$set": {"m": 1}}) == 0
        upsert = {"upsert": True}
        assert await code.ask("update", "books", {"n": 99}, {"$set": {"m": 1}}, upsert) == 1
        assert (await code.ask("findOne", "books", {"n": 99}))["m"] == 1
        old = await code.ask("findAndModify", "books", {"n": 1}, [], {"$set": {"n": 7}})
        assert old["n"] == 1
        new = await code.ask("findAndModify", "books", {"n": 7}, [], {"n": 8}, {"new": True})
        assert (new["_id"], new["n"], "tags" in new) == ("b1", 8, False)
        assert await code.ask("findAndModify", "books", {"n": 1}, [], {"n": 2}) == {}
        saved = await code.ask("save", "books", {"_id": "b1", "n": 9})
        assert (saved["_id"], saved["n"]) == ("b1", 9)
        removed = await code.ask("findAndRemove", "books", {}, {"n": -1})
        assert removed["n"] == 99
        assert await code.ask("findAndRemove", "books", {"n": 99}) is None
        assert await code.ask("remove", "books", {"n": {"$in": [2, 3]}}) == 2
        assert await code.ask("count", "books") == 2

    run(script)


@pytest.mark.spec("kinvey 8.7")
def test_users_are_read_and_only_their_own_fields_changed() -> None:
    async def script(code: Code) -> None:
        draft = AccountDraft(username="joe", password="secret", fields={"team": "red"})
        session = await code.operations.accounts.sign_up(code.admin, draft)
        user = await code.ask("findOne", "user", {"team": "red"})
        assert user["_id"] == session.account.user.user_id
        assert user["_messaging"] == {"pushTokens": []}
        assert "password" not in user
        change = {"$set": {"team": "blue", "username": "eve"}}
        assert await code.ask("update", "user", {"username": "joe"}, change) == 1
        assert (await code.ask("findOne", "user", {"team": "blue"}))["username"] == "joe"
        assert await code.ask("count", "user") == 1
        for method in ("insert", "remove"):
            with pytest.raises(InvalidRequest):
                await code.ask(method, "user", {})

    run(script)


def test_what_makes_no_sense_is_refused() -> None:
    async def script(code: Code) -> None:
        await code.fill()
        for method, *arguments in (
            ("geoNear", "books", 1),
            ("find",),
            ("find", "_hidden", {}),
            ("find", "books", "{"),
            ("find", "books", {"a": {"$where": 1}}),
            ("insert", "books", 5),
            ("insert", "books", {"_id": "b1"}),
            ("update", "books", {}, {"$rename": {"a": "b"}}),
        ):
            with pytest.raises(InvalidRequest):
                await code.ask(method, *arguments)
        user, token = await code.operations.principals.create_user(
            Credentials(code.admin.app_id), UserDraft(), with_token=True
        )
        own = Credentials(user.app_id, token=token)
        with pytest.raises(NotAuthorized):
            await code.access.ask(own, "find", ["books", {}])

    run(script)


@pytest.mark.parametrize(
    ("document", "change", "result"),
    [
        ({"a": 1}, {"b": 2}, {"b": 2}),
        ({"_id": "x", "a": 1}, {"b": 2}, {"_id": "x", "b": 2}),
        ({"a": 1}, {"$set": {"b.c": 2}}, {"a": 1, "b": {"c": 2}}),
        ({"a": [1, 2]}, {"$set": {"a.1": 5, "a.3": 6}}, {"a": [1, 5, None, 6]}),
        ({"a": {"b": 1, "c": 2}}, {"$unset": {"a.b": ""}}, {"a": {"c": 2}}),
        ({"a": 1}, {"$unset": {"x.y": 1}}, {"a": 1}),
        ({"a": 1.5}, {"$inc": {"a": 2, "b": -1}}, {"a": 3.5, "b": -1}),
        ({}, {"$push": {"a": 1}}, {"a": [1]}),
        ({"a": [1]}, {"$push": {"a": {"$each": [1, 2]}}}, {"a": [1, 1, 2]}),
        ({"a": [1]}, {"$addToSet": {"a": 1}}, {"a": [1]}),
        ({"a": [1]}, {"$addToSet": {"a": True}}, {"a": [1, True]}),
        ({"a": [1, 2, 1]}, {"$pull": {"a": 1}}, {"a": [2]}),
        ({"a": [{"b": 1, "c": 2}, {"b": 3}]}, {"$pull": {"a": {"b": 1}}}, {"a": [{"b": 3}]}),
        ({}, {"$pull": {"a": 1}}, {}),
    ],
)
def test_change_operators(document: Any, change: Any, result: Any) -> None:
    before = repr(document)
    assert changed(document, change) == result
    assert repr(document) == before


@pytest.mark.parametrize(
    "change",
    [
        {"$set": {"a": 1}, "b": 2},
        {"$inc": {"a": "x"}},
        {"$inc": {"t": 1}},
        {"$push": {"t": 1}},
        {"$set": {"t.x": 1}},
        {"$set": {"l.99999999": 1}},
        {"$set": 5},
        {"$bit": {"a": 1}},
    ],
)
def test_changes_that_make_no_sense_are_refused(change: Any) -> None:
    with pytest.raises(InvalidRequest):
        changed({"t": "text", "l": []}, change)
