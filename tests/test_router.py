"""Router: what was committed reaches the right handles, and only those."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqttpush.events import (
    AppRemoved,
    ClientAttached,
    Committed,
    InstallationChanged,
    InstallationRemoved,
    MessageSent,
    ObjectEvent,
    OwnerRemoved,
    SourceRemoved,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from mqttpush.metrics import Metrics
from mqttpush.models import NEVER_MS, ObjectEventType, Owner, SourceKind
from mqttpush.router import CloseReason, Router
from tests.support import nouns

ANNA = Owner("app-1", "user:anna")
BEN = Owner("app-1", "user:ben")
STRANGER = Owner("app-2", "user:anna")  # the same ID in another app
BUCKET, OTHER_BUCKET, TOPIC, FILTER = 1, 2, 3, 4
MQTT = {"mqtt": b"{}"}


@dataclass
class Broker:
    """What a router is given for an MQTT server: keeps what it was told."""

    pushes: list[tuple[list[str], bytes, str | None]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    reasons: list[CloseReason] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    rendered: list[tuple[ObjectEvent, int]] = field(default_factory=list)

    def fan_out(self, handles: Iterable[str], payload: bytes, conflation_key: str | None) -> int:
        listed = list(handles)
        self.pushes.append((listed, payload, conflation_key))
        return sum(handle not in self.full for handle in listed)

    def close(self, handle: str, reason: CloseReason) -> None:
        self.closed.append(handle)
        self.reasons.append(reason)

    def render(self, event: ObjectEvent, when_ms: int) -> bytes:
        self.rendered.append((event, when_ms))
        return event.object_id.encode()

    def receivers(self) -> list[str]:
        """Handles of the last push in order of name; nobody if none was sent since."""
        if not self.pushes:
            return []
        assert len(self.pushes) == 1, "one event is one fan-out"
        return sorted(self.pushes.pop()[0])


@dataclass
class Stage:
    """A router on a fake broker."""

    broker: Broker = field(default_factory=Broker)
    metrics: Metrics = field(default_factory=Metrics)
    routed: list[tuple[MessageSent, int, int]] = field(default_factory=list)
    now_ms: int = nouns.NOW_MS

    def __post_init__(self) -> None:
        self.router = Router(
            fan_out=self.broker.fan_out,
            close=self.broker.close,
            is_open=lambda handle: handle not in self.broker.gone,
            render_event=self.broker.render,
            on_routed=lambda *facts: self.routed.append(facts),
            metrics=self.metrics,
            now_ms=lambda: self.now_ms,
        )

    def apply(self, *committed: Committed) -> None:
        self.router.apply(committed)

    def attach(
        self,
        handle: str,
        owner: Owner,
        *source_keys: int,
        is_development: bool = False,
        expires_ms: int = NEVER_MS,
    ) -> None:
        """The installation is named as the handle."""
        self.apply(ClientAttached(handle, owner, handle, is_development, expires_ms, source_keys))

    def hearers_of_event(self, key: int, *filter_keys: int) -> list[str]:
        self.apply(object_event(key, *filter_keys))
        return self.broker.receivers()

    def hearers_of_message(
        self, key: int, *, to_development: bool = True, to_production: bool = True
    ) -> list[str]:
        topic = nouns.source(key, kind=SourceKind.TOPIC)
        self.apply(MessageSent("m", topic, None, MQTT, to_development, to_production))
        return self.broker.receivers()

    def hearers_of_direct(
        self, target: Owner, *, to_development: bool = True, to_production: bool = True
    ) -> list[str]:
        self.apply(MessageSent("m", None, target, MQTT, to_development, to_production))
        return self.broker.receivers()


def object_event(key: int, *filter_keys: int) -> ObjectEvent:
    type_ = ObjectEventType.CREATED
    bucket = nouns.source(key)
    return ObjectEvent(type_, bucket, "object", nouns.NOW_MS, "user:anna", filter_keys)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_an_event_reaches_every_installation_of_every_subscriber_in_one_fan_out(
    stage: Stage,
) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    stage.attach("anna-2", ANNA, BUCKET)
    stage.attach("ben-1", BEN, BUCKET)
    assert stage.hearers_of_event(BUCKET) == ["anna-1", "anna-2", "ben-1"]


def test_an_event_does_not_reach_who_hears_another_source(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, OTHER_BUCKET, TOPIC)
    stage.attach("ben-1", BEN)
    assert stage.hearers_of_event(BUCKET) == []


def test_an_event_nobody_hears_is_not_rendered(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, OTHER_BUCKET)
    stage.apply(object_event(BUCKET))
    assert stage.broker.rendered == []


def test_an_event_is_rendered_once_with_the_time_of_sending(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    stage.attach("ben-1", BEN, BUCKET)
    event = object_event(BUCKET)
    stage.apply(event)
    assert stage.broker.rendered == [(event, nouns.NOW_MS)]
    assert stage.broker.pushes[0][1] == b"object"


def test_events_of_one_object_share_a_conflation_key_and_of_others_do_not(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET, OTHER_BUCKET)
    event = object_event(BUCKET)
    stage.apply(event, event, event._replace(object_id="other"), object_event(OTHER_BUCKET))
    keys = [key for _, _, key in stage.broker.pushes]
    assert keys[0] == keys[1]
    assert len({keys[0], keys[2], keys[3]}) == 3


def test_who_hears_a_bucket_and_filters_of_it_hears_an_event_once(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET, FILTER)
    stage.attach("ben-1", BEN, FILTER, FILTER + 1)
    assert stage.hearers_of_event(BUCKET, FILTER, FILTER + 1) == ["anna-1", "ben-1"]


def test_who_hears_only_a_filter_does_not_hear_what_it_holds_back(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, FILTER)
    assert stage.hearers_of_event(BUCKET) == []
    assert stage.hearers_of_event(BUCKET, FILTER) == ["anna-1"]


def test_a_subscription_counts_from_its_place_in_the_commit_order(stage: Stage) -> None:
    stage.attach("anna-1", ANNA)
    stage.apply(
        object_event(BUCKET),
        SubscriptionAdded(BUCKET, ANNA),
        object_event(BUCKET),
        SubscriptionRemoved(BUCKET, ANNA),
        object_event(BUCKET),
    )
    assert [handles for handles, _, _ in stage.broker.pushes] == [["anna-1"]]


def test_a_removed_source_is_heard_no_more(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET, OTHER_BUCKET)
    stage.apply(SourceRemoved(BUCKET))
    assert stage.hearers_of_event(BUCKET) == []
    assert stage.hearers_of_event(OTHER_BUCKET) == ["anna-1"]


def test_a_client_that_closed_before_its_commit_is_not_attached(stage: Stage) -> None:
    stage.broker.gone.add("anna-1")
    stage.attach("anna-1", ANNA, BUCKET)
    assert stage.hearers_of_event(BUCKET) == []
    assert not stage.router.is_live(ANNA)


def test_a_detached_client_hears_nothing_and_the_others_go_on(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    stage.attach("anna-2", ANNA, BUCKET)
    stage.router.detach("anna-1")
    assert stage.hearers_of_event(BUCKET) == ["anna-2"]
    assert stage.hearers_of_direct(ANNA) == ["anna-2"]


def test_detaching_twice_or_a_stranger_is_fine(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    for handle in ("anna-1", "anna-1", "never seen"):
        stage.router.detach(handle)
    assert not stage.router.is_live(ANNA)


def test_the_index_is_empty_when_everybody_has_gone(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET, TOPIC)
    stage.attach("ben-1", BEN, BUCKET)
    assert stage.metrics.live_subscriptions.read() == 3
    stage.router.detach("anna-1")
    stage.router.detach("ben-1")
    assert stage.metrics.live_subscriptions.read() == 0


@pytest.mark.spec("kii 7")
def test_a_direct_push_reaches_its_target_without_a_subscription(stage: Stage) -> None:
    stage.attach("anna-1", ANNA)
    stage.attach("ben-1", BEN)
    stage.attach("stranger", STRANGER)
    assert stage.hearers_of_direct(ANNA) == ["anna-1"]


def test_a_direct_push_to_somebody_away_is_lost_quietly(stage: Stage) -> None:
    assert stage.hearers_of_direct(ANNA) == []


def test_a_message_that_does_not_go_to_mqtt_is_not_sent(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, TOPIC)
    topic = nouns.source(TOPIC, kind=SourceKind.TOPIC)
    stage.apply(MessageSent("m", topic, None, {"fcm": b"{}"}, True, True))
    assert stage.broker.pushes == []


def test_it_is_told_how_many_were_meant_and_how_many_took_a_message(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, TOPIC)
    stage.attach("anna-2", ANNA, TOPIC)
    stage.broker.full.add("anna-2")
    stage.hearers_of_message(TOPIC)
    stage.hearers_of_direct(BEN)
    assert [(live, taken) for _, live, taken in stage.routed] == [(2, 1), (0, 0)]


@pytest.mark.spec("kii 8.1")
@pytest.mark.parametrize(
    ("to_development", "to_production", "expected"),
    [
        (True, True, ["development", "production"]),
        (True, False, ["development"]),
        (False, True, ["production"]),
        (False, False, []),
    ],
)
def test_a_message_goes_to_the_environments_it_names(
    stage: Stage, to_development: bool, to_production: bool, expected: list[str]
) -> None:
    stage.attach("development", ANNA, TOPIC, is_development=True)
    stage.attach("production", ANNA, TOPIC, is_development=False)
    assert (
        stage.hearers_of_message(TOPIC, to_development=to_development, to_production=to_production)
        == expected
    )
    assert (
        stage.hearers_of_direct(ANNA, to_development=to_development, to_production=to_production)
        == expected
    )


@pytest.mark.spec("kii 12")
def test_an_event_goes_to_both_environments(stage: Stage) -> None:
    stage.attach("development", ANNA, BUCKET, is_development=True)
    stage.attach("production", ANNA, BUCKET, is_development=False)
    assert stage.hearers_of_event(BUCKET) == ["development", "production"]


def test_a_change_of_environment_counts_for_a_live_connection(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, TOPIC, is_development=False)
    stage.apply(InstallationChanged("anna-1", ANNA, True))
    assert stage.hearers_of_message(TOPIC, to_production=False) == ["anna-1"]
    assert stage.hearers_of_message(TOPIC, to_development=False) == []


def test_a_removed_installation_is_closed_and_its_sisters_are_not(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    stage.attach("anna-2", ANNA, BUCKET)
    stage.apply(InstallationRemoved(ANNA, "anna-1"))
    assert stage.broker.closed == ["anna-1"]
    assert stage.hearers_of_event(BUCKET) == ["anna-2"]


def test_a_removed_owner_is_closed_everywhere(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    stage.attach("anna-2", ANNA, BUCKET)
    stage.attach("stranger", STRANGER, OTHER_BUCKET)
    stage.apply(OwnerRemoved(ANNA))
    assert sorted(stage.broker.closed) == ["anna-1", "anna-2"]
    assert stage.hearers_of_event(BUCKET) == []
    assert stage.router.is_live(STRANGER)


def test_a_removed_app_closes_its_clients_and_no_other_app_s(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    stage.attach("ben-1", BEN)
    stage.attach("stranger", STRANGER, OTHER_BUCKET)
    stage.apply(AppRemoved("app-1"))
    assert sorted(stage.broker.closed) == ["anna-1", "ben-1"]
    assert stage.hearers_of_event(OTHER_BUCKET) == ["stranger"]


@pytest.mark.spec("kii 3.1")
def test_a_client_is_closed_when_its_credentials_end_and_not_before(stage: Stage) -> None:
    stage.attach("soon", ANNA, BUCKET, expires_ms=nouns.NOW_MS + 1000)
    stage.attach("later", ANNA, BUCKET, expires_ms=nouns.NOW_MS + 2000)
    stage.attach("never", BEN, BUCKET)
    stage.now_ms += 999
    stage.router.close_expired()
    assert stage.broker.closed == []
    stage.now_ms += 1
    stage.router.close_expired()
    assert stage.broker.closed == ["soon"]
    assert stage.broker.reasons == [CloseReason.EXPIRED]
    assert stage.hearers_of_event(BUCKET) == ["later", "never"]


@pytest.mark.spec("kii 3.1")
def test_the_end_of_credentials_of_a_client_that_has_gone_closes_nothing(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, expires_ms=nouns.NOW_MS + 1000)
    stage.router.detach("anna-1")
    stage.now_ms += 1000
    stage.router.close_expired()
    assert stage.broker.closed == []


def test_clients_that_left_are_forgotten_long_before_their_credentials_end(stage: Stage) -> None:
    class Handle:
        pass

    left = []
    for _ in range(1000):
        handle = Handle()
        attached = ClientAttached(handle, ANNA, "anna-1", False, nouns.NOW_MS + 10**9, ())
        stage.apply(attached)
        stage.router.detach(handle)
        left.append(weakref.ref(handle))
    del handle, attached
    gc.collect()
    assert sum(reference() is not None for reference in left) < 100


def test_nothing_is_delivered_between_a_removal_and_the_close(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    stage.apply(OwnerRemoved(ANNA), object_event(BUCKET))
    assert stage.broker.pushes == []


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
