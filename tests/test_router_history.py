"""Router: under any history a push goes to exactly the handles it should."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqttpush.events import (
    AppRemoved,
    InstallationChanged,
    InstallationRemoved,
    OwnerRemoved,
    SourceRemoved,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from mqttpush.models import Owner
from tests.support.routers import ANNA, BEN, STRANGER, Stage

OWNERS = (ANNA, BEN, STRANGER, Owner("app-1", "thing:lamp"))
SOURCE_KEYS = (1, 2, 3, 4, 5)
owners = st.sampled_from(OWNERS)
source_keys = st.sampled_from(SOURCE_KEYS)


class RouterMachine(RuleBasedStateMachine):
    """Random histories. The model is the store: who subscribed to what, who is connected."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.subscriptions: set[tuple[int, Owner]] = set()
        self.connected: dict[str, Owner] = {}
        self.development: set[str] = set()
        self.closed: set[str] = set()
        self.count = 0

    @rule(owner=owners, is_development=st.booleans())
    def attach(self, owner: Owner, is_development: bool) -> None:
        self.count += 1
        handle = f"handle-{self.count}"
        keys = [key for key, subscriber in self.subscriptions if subscriber == owner]
        self.stage.attach(handle, owner, *keys, is_development=is_development)
        self.connected[handle] = owner
        if is_development:
            self.development.add(handle)

    @rule(owner=owners)
    def attach_too_late(self, owner: Owner) -> None:
        self.stage.broker.gone.add("late")
        self.stage.attach("late", owner, *SOURCE_KEYS)

    @rule(number=st.integers(0, 100))
    def detach(self, number: int) -> None:
        if self.connected:
            handle = sorted(self.connected)[number % len(self.connected)]
            self.stage.router.detach(handle)
            del self.connected[handle]

    @rule(key=source_keys, owner=owners)
    def subscribe(self, key: int, owner: Owner) -> None:
        self.subscriptions.add((key, owner))
        self.stage.apply(SubscriptionAdded(key, owner))

    @rule(key=source_keys, owner=owners)
    def unsubscribe(self, key: int, owner: Owner) -> None:
        self.subscriptions.discard((key, owner))
        self.stage.apply(SubscriptionRemoved(key, owner))

    @rule(key=source_keys)
    def remove_source(self, key: int) -> None:
        self.subscriptions = {row for row in self.subscriptions if row[0] != key}
        self.stage.apply(SourceRemoved(key))

    @rule(number=st.integers(0, 100), is_development=st.booleans())
    def change_installation(self, number: int, is_development: bool) -> None:
        if self.connected:
            handle = sorted(self.connected)[number % len(self.connected)]
            owner = self.connected[handle]
            self.stage.apply(InstallationChanged(handle, owner, is_development))
            (self.development.add if is_development else self.development.discard)(handle)

    @rule(number=st.integers(0, 100))
    def remove_installation(self, number: int) -> None:
        if self.connected:
            handle = sorted(self.connected)[number % len(self.connected)]
            self.stage.apply(InstallationRemoved(self.connected[handle], handle))
            self.close({handle})

    @rule(owner=owners)
    def remove_owner(self, owner: Owner) -> None:
        self.subscriptions = {row for row in self.subscriptions if row[1] != owner}
        self.stage.apply(OwnerRemoved(owner))
        self.close({handle for handle, of in self.connected.items() if of == owner})

    @rule()
    def remove_app(self) -> None:
        self.subscriptions = {row for row in self.subscriptions if row[1].app_id != "app-2"}
        self.stage.apply(AppRemoved("app-2"))
        self.close({handle for handle, of in self.connected.items() if of.app_id == "app-2"})

    @rule(key=source_keys, filter_keys=st.sets(source_keys, max_size=2))
    def write(self, key: int, filter_keys: set[int]) -> None:
        keys = {key, *filter_keys}
        assert self.stage.hearers_of_event(key, *filter_keys) == sorted(
            handle
            for handle, owner in self.connected.items()
            if any((each, owner) in self.subscriptions for each in keys)
        )

    @rule(key=source_keys, to_development=st.booleans(), to_production=st.booleans())
    def send(self, key: int, to_development: bool, to_production: bool) -> None:
        wanted = {True: to_development, False: to_production}
        found = self.stage.hearers_of_message(
            key, to_development=to_development, to_production=to_production
        )
        assert found == sorted(
            handle
            for handle, owner in self.connected.items()
            if (key, owner) in self.subscriptions and wanted[handle in self.development]
        )

    @rule(owner=owners)
    def push(self, owner: Owner) -> None:
        expected = sorted(handle for handle, of in self.connected.items() if of == owner)
        assert self.stage.hearers_of_direct(owner) == expected

    @invariant()
    def only_the_right_ones_were_closed(self) -> None:
        assert set(self.stage.broker.closed) == self.closed

    @invariant()
    def the_index_holds_connected_owners_only(self) -> None:
        live = set(self.connected.values())
        assert {owner for owner in OWNERS if self.stage.router.is_live(owner)} == live
        expected = sum(owner in live for _, owner in self.subscriptions)
        assert self.stage.metrics.live_subscriptions.read() == expected

    def close(self, handles: set[str]) -> None:
        for handle in handles:
            del self.connected[handle]
        self.closed |= handles


RouterMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestRouterMachine = RouterMachine.TestCase
