"""Router: what was committed reaches the right handles, and only those."""

from __future__ import annotations

import gc
import weakref

import pytest

from mqttpush.events import (
    AppRemoved,
    ClientAttached,
    InstallationChanged,
    InstallationRemoved,
    MessageSent,
    OwnerRemoved,
    SourceRemoved,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from mqttpush.models import Audience, ObjectEventType, SourceKind
from mqttpush.router import CloseReason
from tests.support import nouns
from tests.support.routers import (
    ANNA,
    BEN,
    BUCKET,
    FILTER,
    OTHER_BUCKET,
    STRANGER,
    TOPIC,
    Stage,
    object_event,
)


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


def test_who_hears_a_source_no_more_loses_what_waits_by_it_alone(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET, FILTER)
    stage.attach("anna-2", ANNA, BUCKET, FILTER)
    stage.attach("ben-1", BEN, BUCKET)
    stage.apply(SubscriptionRemoved(BUCKET, ANNA), SubscriptionRemoved(BUCKET, ANNA))
    assert stage.broker.withdrawn == [(["anna-1", "anna-2"], BUCKET, {FILTER})]
    stage.apply(SourceRemoved(BUCKET), SourceRemoved(FILTER))
    assert stage.broker.withdrawn[1:] == [
        (["ben-1"], BUCKET, set()),
        (["anna-1", "anna-2"], FILTER, set()),
    ]


def test_a_push_names_the_sources_by_which_it_is_heard(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET, TOPIC)
    stage.hearers_of_event(BUCKET, FILTER)
    stage.hearers_of_message(TOPIC)
    stage.hearers_of_direct(ANNA)
    assert stage.broker.source_keys == [(BUCKET, FILTER), (TOPIC,), ()]


def test_the_last_word_about_a_bucket_is_not_withdrawn_with_it(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    deleted = object_event(BUCKET, FILTER)._replace(type=ObjectEventType.BUCKET_DELETED)
    stage.apply(deleted, SourceRemoved(BUCKET))
    assert stage.broker.source_keys == [()]


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
    stage.apply(MessageSent("m", Audience.of_topic(topic), {}))
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
    assert not any(reference() for reference in left)


def test_nothing_is_delivered_between_a_removal_and_the_close(stage: Stage) -> None:
    stage.attach("anna-1", ANNA, BUCKET)
    stage.apply(OwnerRemoved(ANNA), object_event(BUCKET))
    assert stage.broker.pushes == []
