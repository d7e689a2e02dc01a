"""Entities are heard live, listed and counted if and only if they are readable.

The whole domain runs on a real store; only sockets are left out. After every random write of an
entity, who heard it is compared with who may read it by its ID at that moment; lists and counts of
everybody are compared with the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttpush.config import LiveSettings, SecuritySettings, StoreSettings
from mqttpush.credentials import Passwords
from mqttpush.errors import DomainError
from mqttpush.events import Committed
from mqttpush.kinvey import Permission
from mqttpush.live import LiveIndex, LiveStream
from mqttpush.metrics import Metrics
from mqttpush.models import Credentials, SourceKind
from mqttpush.operations import Operations
from mqttpush.operations.acls import ResourceReference, SubjectReference
from mqttpush.operations.context import ID, Reference, ScopeReference
from mqttpush.operations.groups import GroupDraft
from mqttpush.operations.principals import UserDraft
from mqttpush.operations.queries import EntityQuery, entity_query
from mqttpush.store.blobs import open_blobs
from mqttpush.store.sqlite import open_sqlite
from tests.support.contexts import make_context

USERS = 3
DEVICE = "device"
# The last one is a bucket of the other dialect, without a permission of its own.
COLLECTIONS = ["private", "shared", "readonly", "full", "bucket"]
ANYBODY = ["user:ANY_AUTHENTICATED_USER", "user:ANONYMOUS_USER"]
RULED = [
    ("READ_EXISTING_OBJECT", "e0"),
    ("READ_EXISTING_OBJECT", "e1"),
    ("READ_OBJECTS_IN_BUCKET", ""),
]


@dataclass
class Actor:
    """A user with a session, and a stream of what he follows."""

    id: str
    credentials: Credentials
    stream: LiveStream
    follows: set[str] = field(default_factory=set)

    async def heard(self) -> list[bytes]:
        """Channels of what came since, as many as frames."""
        return [frame.channel.encode() for frame in await self.stream.next(0)]


@dataclass
class World:
    """One app with users, a group and a collection of each permission."""

    operations: Operations
    index: LiveIndex
    admin: Credentials
    actors: list[Actor] = field(default_factory=list)
    group_id: str = ""

    async def step(self, name: str, actor: int, collection: int, value: Any) -> None:
        """One random thing happens; what is refused changes nothing."""
        with suppress(DomainError):
            await getattr(self, name)(self.actors[actor], COLLECTIONS[collection], value)

    async def put(self, actor: Actor, collection: str, value: dict[str, Any]) -> None:
        by = self.admin if value["by_admin"] else actor.credentials
        entity = {"n": value["n"], **({"_acl": self._acl(value)} if value["has_acl"] else {})}
        await self.operations.entities.put(by, collection, value["id"], entity)

    async def delete(self, actor: Actor, collection: str, value: dict[str, Any]) -> None:
        await self.operations.entities.delete(actor.credentials, collection, value["id"])

    async def follow(self, actor: Actor, collection: str, _: Any) -> None:
        await self.operations.live.follow(actor.credentials, collection, DEVICE)
        actor.follows.add(collection)

    async def unfollow(self, actor: Actor, collection: str, _: Any) -> None:
        await self.operations.live.leave(actor.credentials, collection, DEVICE)
        actor.follows.discard(collection)

    async def rule(self, _: Actor, collection: str, value: dict[str, Any]) -> None:
        """The other dialect's way to change rights."""
        verb, object_id = RULED[value["n"] % len(RULED)]
        resource = ResourceReference(ScopeReference(), SourceKind.BUCKET, collection, object_id)
        acls = self.operations.acls
        change = acls.grant if value["gr"] else acls.revoke
        await change(self.admin, resource, verb, self._subject(value["subject"]))

    async def join(self, actor: Actor, _: str, __: Any) -> None:
        await self.operations.groups.add_member(self.admin, self.group_id, Reference(ID, actor.id))

    async def part(self, actor: Actor, _: str, __: Any) -> None:
        member = Reference(ID, actor.id)
        await self.operations.groups.remove_member(self.admin, self.group_id, member)

    async def declare(self, _: Actor, collection: str, value: dict[str, Any]) -> None:
        app_id = self.admin.app_id
        permission = list(Permission)[value["n"]]
        await self.operations.entities.declare(app_id, collection, permission)

    async def may_read(self, actor: Actor, collection: str, entity_id: str) -> bool:
        try:
            await self.operations.entities.get(actor.credentials, collection, entity_id)
        except DomainError:
            return False
        return True

    async def check_write(self, collection: str, entity_id: str) -> None:
        """Write as the admin, leaving the rules: who hears it is who follows and may read it."""
        for actor in self.actors:
            await actor.heard()
        try:
            entity = await self.operations.entities.get(self.admin, collection, entity_id)
        except DomainError:
            return
        del entity["_acl"]
        await self.operations.entities.put(self.admin, collection, entity_id, entity)
        for actor in self.actors:
            is_due = collection in actor.follows and await self.may_read(
                actor, collection, entity_id
            )
            channels = await actor.heard()
            assert len(channels) == int(is_due), (collection, entity_id)
            own = f"{self.admin.app_id}.c-{collection}".encode()
            assert all(each in (own, own + f".u-{actor.id}".encode()) for each in channels)

    async def check_lists(self, collection: str) -> None:
        """Nobody is listed, counted or told by a query what he may not read."""
        entities = self.operations.entities
        found = await entities.find(self.admin, collection, EntityQuery())
        for actor in self.actors:
            readable = [
                entity["_id"]
                for entity in found
                if await self.may_read(actor, collection, entity["_id"])
            ]
            listed = await entities.find(actor.credentials, collection, EntityQuery())
            assert [entity["_id"] for entity in listed] == readable
            query = entity_query({"n": {"$regex": "x"}, "_id": {"$exists": True}})
            assert await entities.count(actor.credentials, collection, query) == 0
            assert await entities.count(actor.credentials, collection, EntityQuery()) == len(listed)

    def _acl(self, value: dict[str, Any]) -> dict[str, Any]:
        acl: dict[str, Any] = {"gr": value["gr"], "gw": value["gw"]}
        acl["r"] = [self.actors[number].id for number in value["r"]]
        acl["w"] = [self.actors[number].id for number in value["w"]]
        acl["groups"] = {"r": [self.group_id] if value["of_group"] else []}
        return acl

    def _subject(self, subject: int) -> SubjectReference:
        if subject < USERS:
            return SubjectReference("user", Reference(ID, self.actors[subject].id))
        if subject == USERS:
            return SubjectReference("group", Reference(ID, self.group_id))
        return SubjectReference("user", Reference(ID, ""), ANYBODY[subject - USERS - 1])


someone = st.lists(st.integers(0, USERS - 1), max_size=2)
values = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["e0", "e1"]),
        "n": st.integers(0, 3),
        "by_admin": st.booleans(),
        "has_acl": st.booleans(),
        "gr": st.booleans(),
        "gw": st.booleans(),
        "r": someone,
        "w": someone,
        "of_group": st.booleans(),
        "subject": st.integers(0, USERS + 2),
    }
)
STEPS = st.tuples(
    st.sampled_from(
        [
            "put",
            "put",
            "put",
            "delete",
            "follow",
            "unfollow",
            "rule",
            "rule",
            "join",
            "part",
            "declare",
        ]
    ),
    st.integers(0, USERS - 1),
    st.integers(0, len(COLLECTIONS) - 1),
    values,
)


@pytest.mark.spec("kinvey 7.3")
@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, min_size=5, max_size=30))
def test_an_entity_is_heard_and_listed_if_and_only_if_it_is_readable(
    steps: list[tuple[str, int, int, dict[str, Any]]],
) -> None:
    async def run() -> None:
        async with open_world() as world:
            for step in steps:
                await world.step(*step)
                collection = COLLECTIONS[step[2]]
                for entity_id in ("e0", "e1"):
                    await world.check_write(collection, entity_id)
                await world.check_lists(collection)

    asyncio.run(run())


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    metrics = Metrics()
    index = LiveIndex(
        settings=LiveSettings(),
        fan_out=lambda *_: 0,
        is_connected=lambda _: False,
        metrics=metrics,
        now_ms=lambda: 1,
    )
    handlers = index.handlers

    def apply(committed: Sequence[Committed]) -> None:
        for change in committed:
            if type(change) in handlers:
                handlers[type(change)](change)

    passwords = Passwords(SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024))
    async with AsyncExitStack() as stack:
        opening = open_sqlite(
            StoreSettings(dsn="sqlite:///:memory:"), metrics=metrics, on_commit=apply
        )
        store = await stack.enter_async_context(opening)
        blobs = stack.enter_context(open_blobs(None))
        context = make_context(store, blobs, passwords, now_ms=lambda: 1)
        operations = Operations.over(context)
        app = (await operations.apps.create("test")).app
        token = await operations.apps.issue_admin_token(app.app_id, lifetime_s=3600)
        world = World(operations, index, Credentials(app.app_id, token=token))
        await operations.environments.change_settings(app.app_id, {"is_live_service_on": True})
        await _fill(world, app.app_id)
        yield world
    passwords.close()


async def _fill(world: World, app_id: str) -> None:
    operations = world.operations
    for collection, permission in zip(COLLECTIONS, Permission, strict=False):
        await operations.entities.declare(app_id, collection, permission)
    await operations.buckets.create(world.admin, ScopeReference(), COLLECTIONS[-1])
    for _ in range(USERS):
        user, token = await operations.principals.create_user(
            Credentials(app_id), UserDraft(), with_token=True
        )
        credentials = Credentials(app_id, token=token)
        await operations.live.register(credentials, user.user_id, DEVICE)
        actor = Actor(user.user_id, credentials, world.index.open_stream())
        await operations.live.attach(credentials, DEVICE, actor.stream)
        world.actors.append(actor)
    owner = Reference(ID, world.actors[0].id)
    created = await operations.groups.create(world.admin, GroupDraft("group", owner))
    world.group_id = created.group.group_id
    for number in range(USERS):
        for position in range(len(COLLECTIONS)):
            await world.step("follow", number, position, None)
