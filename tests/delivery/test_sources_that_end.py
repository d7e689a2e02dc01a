"""What was sent to a topic or happened in a bucket reaches phones though its source is deleted."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from mqttpush.credentials import secret_hash
from mqttpush.models import (
    NEVER_MS,
    Audience,
    Credentials,
    Group,
    Owner,
    Principal,
    PrincipalKind,
    Scope,
    ScopeType,
    SourceKind,
)
from mqttpush.networks import Ending
from mqttpush.operations.context import Reference, ScopeReference
from mqttpush.store import Transaction
from tests.support import nouns
from tests.support.loop import in_loop
from tests.support.phones import Phones, phones_on

APP = "app-1"
ADMIN = Credentials(APP, token="token")
DELIVERED = Ending.DELIVERED.value


async def let_admin_in(world: Phones) -> None:
    def unit(tx: Transaction) -> None:
        admin = Principal(APP, PrincipalKind.ADMIN)
        tx.tokens.insert(secret_hash("token"), admin, nouns.NOW_MS, NEVER_MS)

    await world.context.store.write(unit)


@in_loop
async def test_who_heard_a_topic_when_a_message_was_sent_gets_it_though_it_is_deleted() -> None:
    async with phones_on(concurrency=2, page_size=10) as world:
        await let_admin_in(world)
        owners = await world.users(60)
        audience = await world.topic(owners)
        world.network.gate.clear()
        message_id = await world.send(audience)
        await world.until(lambda: world.network.under_way == 2)
        await world.operations.topics.delete(ADMIN, ScopeReference(), "topic")
        world.network.gate.set()
        assert await world.until_ended(message_id, 60) == {DELIVERED: 60}


@pytest.mark.parametrize("ending", ["group", "group owner", "user", "thing"])
def test_so_they_do_if_it_ends_with_its_group_user_or_thing(ending: str) -> None:
    check_scope_ends(ending)


@in_loop
async def check_scope_ends(ending: str) -> None:
    async with phones_on(concurrency=2, page_size=10) as world:
        await let_admin_in(world)
        owners = await world.users(60)
        scope = await world.context.store.write(lambda tx: make_scope(tx, ending))
        audience = await world.topic(owners, scope=scope)
        world.network.gate.clear()
        message_id = await world.send(audience)
        await world.until(lambda: world.network.under_way == 2)
        principals = world.operations.principals
        if ending == "group":
            await world.operations.groups.delete(ADMIN, "team")
        elif ending == "thing":
            await principals.delete_thing(ADMIN, Reference("id", "lamp"))
        else:
            await principals.delete_user(ADMIN, Reference("id", "anna"))
        world.network.gate.set()
        assert await world.until_ended(message_id, 60) == {DELIVERED: 60}


def make_scope(tx: Transaction, ending: str) -> Scope:
    tx.users.insert(nouns.user("anna"))
    if ending == "user":
        return Scope(APP, ScopeType.USER, "anna")
    if ending == "thing":
        tx.things.insert(nouns.thing("lamp"))
        return Scope(APP, ScopeType.THING, "lamp")
    group = Group(APP, "team", "the team", "anna", nouns.NOW_MS, nouns.NOW_MS)
    tx.groups.insert(group)
    return group.scope


@in_loop
async def test_that_a_bucket_is_deleted_reaches_the_phones_of_who_heard_it() -> None:
    async with phones_on(concurrency=2, page_size=10) as world:
        await let_admin_in(world)
        owners = await world.users(30)
        await world.context.store.write(lambda tx: make_bucket(tx, owners))
        buckets = world.operations.buckets
        world.network.gate.clear()
        await buckets.create_object(ADMIN, ScopeReference(), "inbox", {"a": 1}, "application/json")
        await world.until(lambda: world.network.under_way == 2)
        await buckets.delete(ADMIN, ScopeReference(), "inbox")
        world.network.gate.set()
        await world.until(lambda: len(world.network.pushes) == 60)
        types = [orjson.loads(push.payload.body)["data"]["type"] for push in world.network.pushes]
        assert Counter(types) == {"DATA_OBJECT_CREATED": 30, "BUCKET_DELETED": 30}


def make_bucket(tx: Transaction, owners: list[Owner]) -> None:
    scope = Scope(APP)
    bucket = tx.sources.insert(SourceKind.BUCKET, scope, "inbox", "admin:", nouns.NOW_MS)
    for owner in owners:
        tx.subscriptions.insert(bucket.key, owner, nouns.NOW_MS)


@in_loop
async def test_what_is_too_much_to_look_up_when_a_topic_ends_is_counted() -> None:
    async with phones_on() as world:
        owners = await world.users(30)
        audience: Audience = await world.topic(owners)
        message_id = await world.send(audience, is_once=True)

        def end(tx: Transaction) -> int:
            assert audience.source is not None
            (job,) = tx.pushes.waiting_of_sources(APP, [audience.source.key])
            assert not tx.pushes.expand(job, 10, world.clock.now_ms()).is_done
            return tx.pushes.end(job)

        assert await world.context.store.write(end) == 20
        world.clock.advance(10)
        await world.settle()
        assert len(await world.traces(message_id)) == 10
