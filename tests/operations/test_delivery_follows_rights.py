"""Delivered if and only if readable, whatever happens to rights, memberships and connections.

The whole domain runs on a real store; only sockets are left out. After every random step each
source is written to, and who got the push is compared with who may read the source by REST.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttpush import payloads
from mqttpush.config import SecuritySettings, StoreSettings
from mqttpush.credentials import Passwords
from mqttpush.errors import DomainError
from mqttpush.metrics import Metrics
from mqttpush.models import (
    Credentials,
    DeviceType,
    Message,
    ObjectQuery,
    PrincipalKind,
    ScopeType,
    SourceKind,
)
from mqttpush.operations import Operations
from mqttpush.operations.acls import ResourceReference, SubjectReference
from mqttpush.operations.context import ID, Reference, ScopeReference
from mqttpush.operations.groups import GroupDraft
from mqttpush.operations.installations import ConnectRequest, InstallationDraft
from mqttpush.operations.ownership import ThingOwnerReference
from mqttpush.operations.principals import ThingDraft, UserDraft
from mqttpush.operations.subscriptions import SubscriptionReference
from mqttpush.router import CloseReason, Router
from mqttpush.store.blobs import open_blobs
from mqttpush.store.sqlite import open_sqlite
from tests.support.contexts import make_context

USERS = 3
ACTORS = USERS + 1  # the last one is a thing
HELLO = Message(data={"text": "hello"}, networks={"mqtt": {"enabled": True}})
HEARING_VERB = {
    SourceKind.BUCKET: "QUERY_OBJECTS_IN_BUCKET",
    SourceKind.TOPIC: "SUBSCRIBE_TO_TOPIC",
}
SPECIAL = ["user:ANY_AUTHENTICATED_USER", "user:ANONYMOUS_USER"]


@dataclass(eq=False)
class Connection:
    """What the router holds of a client; `received` counts pushes."""

    actor: int
    is_open: bool = True
    received: int = 0


@dataclass
class Actor:
    """A user or thing with a token, an MQTT installation, and perhaps a connection."""

    kind: PrincipalKind
    id: str
    credentials: Credentials
    username: str
    password: str
    mqtt_topic: str
    connection: Connection | None = None

    @property
    def reference(self) -> Reference:
        return Reference(ID, self.id)


@dataclass
class World:
    """One app with users, a thing, a group, and a bucket and a topic in each scope."""

    operations: Operations
    router: Router
    admin: Credentials
    actors: list[Actor] = field(default_factory=list)
    group_id: str = ""
    sources: list[tuple[SourceKind, ScopeReference, str]] = field(default_factory=list)

    async def step(self, name: str, actor: int, source: int, subject: int) -> None:
        """One random thing happens; what is refused changes nothing."""
        with suppress(DomainError):
            await getattr(self, name)(self.actors[actor], source, subject)

    async def subscribe(self, actor: Actor, source: int, _: int) -> None:
        await self.operations.subscriptions.subscribe(
            actor.credentials, self._subscription(actor, source)
        )

    async def unsubscribe(self, actor: Actor, source: int, _: int) -> None:
        await self.operations.subscriptions.unsubscribe(
            actor.credentials, self._subscription(actor, source)
        )

    async def grant(self, _: Actor, source: int, subject: int) -> None:
        kind, scope, source_id = self.sources[source]
        resource = ResourceReference(scope, kind, source_id)
        verb = HEARING_VERB[kind]
        await self.operations.acls.grant(self.admin, resource, verb, self._subject(subject))

    async def revoke(self, _: Actor, source: int, subject: int) -> None:
        kind, scope, source_id = self.sources[source]
        resource = ResourceReference(scope, kind, source_id)
        verb = HEARING_VERB[kind]
        await self.operations.acls.revoke(self.admin, resource, verb, self._subject(subject))

    async def join(self, actor: Actor, _: int, __: int) -> None:
        await self.operations.groups.add_member(self.admin, self.group_id, actor.reference)

    async def leave(self, actor: Actor, _: int, __: int) -> None:
        await self.operations.groups.remove_member(self.admin, self.group_id, actor.reference)

    async def own(self, _: Actor, __: int, subject: int) -> None:
        await self.operations.ownership.add(self.admin, self._thing(), self._owner(subject))

    async def disown(self, _: Actor, __: int, subject: int) -> None:
        await self.operations.ownership.remove(self.admin, self._thing(), self._owner(subject))

    async def disable(self, actor: Actor, _: int, __: int) -> None:
        await self._set_disabled(actor, is_disabled=True)

    async def enable(self, actor: Actor, _: int, __: int) -> None:
        await self._set_disabled(actor, is_disabled=False)

    async def connect(self, actor: Actor, _: int, __: int) -> None:
        connection = Connection(self.actors.index(actor))
        request = ConnectRequest(
            connection, actor.mqtt_topic, actor.username, actor.password.encode()
        )
        [answer] = await self.operations.installations.connect([request])
        if answer.is_admitted:
            await self.disconnect(actor, 0, 0)  # the broker ends the older one
            actor.connection = connection

    async def disconnect(self, actor: Actor, _: int, __: int) -> None:
        if actor.connection is not None:
            actor.connection.is_open = False
            self.router.detach(actor.connection)
            actor.connection = None

    async def receivers(self, source: int) -> set[int]:
        """Write to the source as the admin: who gets the push, once each."""
        for actor in self.actors:
            if actor.connection is not None:
                actor.connection.received = 0
        kind, scope, source_id = self.sources[source]
        if kind is SourceKind.BUCKET:
            await self.operations.buckets.create_object(
                self.admin, scope, source_id, {"n": 1}, "application/json"
            )
        else:
            await self.operations.messages.send_to_topic(self.admin, scope, source_id, HELLO)
        connections = [actor.connection for actor in self.actors if actor.connection]
        assert all(connection.received <= 1 for connection in connections)
        return {connection.actor for connection in connections if connection.received}

    async def readers(self, source: int) -> set[int]:
        """Who should: connected, subscribed, and let in by REST at this moment."""
        found = set()
        for number, actor in enumerate(self.actors):
            connection = actor.connection
            if connection is None or not connection.is_open:
                continue
            with suppress(DomainError):
                await self.operations.subscriptions.check(
                    actor.credentials, self._subscription(actor, source)
                )
                await self._read(actor, source)
                found.add(number)
        return found

    async def _read(self, actor: Actor, source: int) -> None:
        """Raises unless the actor may: query the bucket, or find the topic in the list."""
        kind, scope, source_id = self.sources[source]
        if kind is SourceKind.BUCKET:
            query = {"type": "eq", "field": "n", "value": 0}
            await self.operations.buckets.query(
                actor.credentials, scope, source_id, ObjectQuery(query, 1)
            )
            return
        page = await self.operations.topics.list(actor.credentials, scope, after="", limit=100)
        if source_id not in [topic.id for topic in page.topics]:
            raise DomainError("not listed")

    async def _set_disabled(self, actor: Actor, *, is_disabled: bool) -> None:
        principals = self.operations.principals
        if actor.kind is PrincipalKind.USER:
            await principals.set_user_disabled(self.admin, actor.reference, is_disabled)
        else:
            await principals.set_thing_disabled(self.admin, actor.reference, is_disabled)

    def _subscription(self, actor: Actor, source: int) -> SubscriptionReference:
        kind, scope, source_id = self.sources[source]
        return SubscriptionReference(kind, scope, source_id, actor.kind, actor.reference)

    def _subject(self, subject: int) -> SubjectReference:
        if subject < ACTORS:
            actor = self.actors[subject]
            return SubjectReference(actor.kind.value, actor.reference)
        if subject == ACTORS:
            return SubjectReference("group", Reference(ID, self.group_id))
        special = SPECIAL[subject - ACTORS - 1]
        return SubjectReference("user", Reference(ID, ""), special)

    def _owner(self, subject: int) -> ThingOwnerReference:
        if subject < USERS:
            return ThingOwnerReference("user", self.actors[subject].reference)
        return ThingOwnerReference("group", Reference(ID, self.group_id))

    def _thing(self) -> Reference:
        return self.actors[-1].reference


STEPS = st.tuples(
    st.sampled_from(
        [
            "subscribe",
            "subscribe",
            "unsubscribe",
            "grant",
            "revoke",
            "join",
            "leave",
            "own",
            "disown",
            "disable",
            "enable",
            "connect",
            "connect",
            "disconnect",
        ]
    ),
    st.integers(0, ACTORS - 1),
    st.integers(0, 7),
    st.integers(0, ACTORS + 2),
)


@pytest.mark.spec("kii 6.6")
@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, min_size=5, max_size=40))
def test_a_push_is_delivered_if_and_only_if_its_source_is_readable(
    steps: list[tuple[str, int, int, int]],
) -> None:
    async def run() -> None:
        async with open_world() as world:
            for step in steps:
                await world.step(*step)
                for source in range(len(world.sources)):
                    assert await world.receivers(source) == await world.readers(source), step

    asyncio.run(run())


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    def fan_out(handles: Iterable[Connection], *_: object) -> int:
        count = 0
        for connection in handles:
            connection.received += 1
            count += 1
        return count

    def close(connection: Connection, _: CloseReason) -> None:
        connection.is_open = False
        world.actors[connection.actor].connection = None

    metrics = Metrics()
    router = Router(
        fan_out=fan_out,
        withdraw=lambda *_: None,
        close=close,
        is_open=lambda connection: connection.is_open,
        render_event=payloads.render_event,
        on_routed=lambda *_: None,
        on_command_routed=lambda *_: None,
        on_presence=lambda *_: None,
        on_reached=lambda *_: None,
        on_phones=lambda _: None,
        on_runs_queued=lambda _: None,
        metrics=metrics,
        now_ms=lambda: 1,
    )
    security = SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024)
    passwords = Passwords(security)
    store_settings = StoreSettings(dsn="sqlite:///:memory:")
    async with AsyncExitStack() as stack:
        opening = open_sqlite(store_settings, metrics=metrics, on_commit=router.apply)
        store = await stack.enter_async_context(opening)
        blobs = stack.enter_context(open_blobs(None))
        context = make_context(store, blobs, passwords, now_ms=lambda: 1)
        operations = Operations.over(context)
        app = (await operations.apps.create("test")).app
        token = await operations.apps.issue_admin_token(app.app_id, lifetime_s=3600)
        world = World(operations, router, Credentials(app.app_id, token=token))
        await _fill(world, app.app_id)
        await _connect_and_subscribe(world)
        yield world
    passwords.close()


async def _fill(world: World, app_id: str) -> None:
    principals, anybody = world.operations.principals, Credentials(app_id)
    for _ in range(USERS):
        user, token = await principals.create_user(anybody, UserDraft(), with_token=True)
        await _add_actor(world, PrincipalKind.USER, user.user_id, Credentials(app_id, token=token))
    draft = ThingDraft("vendor", "password")
    thing, token = await principals.create_thing(anybody, draft, with_token=True)
    await _add_actor(world, PrincipalKind.THING, thing.thing_id, Credentials(app_id, token=token))
    owner = world.actors[0].reference
    created = await world.operations.groups.create(world.admin, GroupDraft("group", owner))
    world.group_id = created.group.group_id
    scopes = [
        ScopeReference(),
        ScopeReference(ScopeType.USER, world.actors[0].reference),
        ScopeReference(ScopeType.GROUP, Reference(ID, world.group_id)),
        ScopeReference(ScopeType.THING, world.actors[-1].reference),
    ]
    for scope in scopes:
        await world.operations.buckets.create(world.admin, scope, "bucket")
        await world.operations.topics.create(world.admin, scope, "topic")
        world.sources += [(SourceKind.BUCKET, scope, "bucket"), (SourceKind.TOPIC, scope, "topic")]


async def _connect_and_subscribe(world: World) -> None:
    """Every actor hears whatever he may."""
    for actor in range(ACTORS):
        await world.step("connect", actor, 0, 0)
        for source in range(len(world.sources)):
            await world.step("subscribe", actor, source, 0)


async def _add_actor(
    world: World, kind: PrincipalKind, identifier: str, credentials: Credentials
) -> None:
    installations = world.operations.installations
    draft = InstallationDraft(DeviceType.MQTT, None, is_development=False)
    made = await installations.create(credentials, draft)
    view = await installations.mqtt_endpoint(credentials, made.installation_id)
    endpoint = view.endpoint
    world.actors.append(
        Actor(kind, identifier, credentials, endpoint.username, view.password, endpoint.mqtt_topic)
    )
