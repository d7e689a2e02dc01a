"""Outboxes: encoded once per variant, joined per client, given up in the right order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqttpush.mqtt.outbox import Backlog, BacklogTotals, Push, Variants
from mqttpush.mqtt.packets import Property, Publish, Version
from tests.mqtt.support import packets_of

payloads = st.lists(st.binary(max_size=300), min_size=1, max_size=6)


@given(payloads, st.sampled_from(list(Version)), st.lists(st.text("abc", min_size=4, max_size=4)))
def test_joined_pushes_are_the_packets_in_order(
    contents: list[bytes], version: Version, topics: list[str]
) -> None:
    variants = Variants()
    pushes = [Push(payload, None) for payload in contents]
    variant = variants.plain(version, 4)
    for topic in topics:
        expected = [Publish(topic, payload) for payload in contents]
        assert packets_of(version, variant.join(topic.encode(), pushes)) == expected
    assert variants.end_flush() == (len(pushes) if topics else 0)


def test_the_clients_of_one_variant_share_one_encoding() -> None:
    variants = Variants()
    push = Push(b"x" * 200, None)
    for version in (Version.V3_1, Version.V3_1_1):
        for topic in (b"a" * 23, b"b" * 23):
            variants.plain(version, 23).join(topic, [push])
    assert variants.end_flush() == 1


def test_an_established_alias_needs_no_topic_and_one_object_serves_all() -> None:
    variants = Variants()
    pushes = [Push(b"1", None), Push(b"2", None)]
    first = variants.aliasing(3).join(b"abc", pushes[:1])
    alias = {Property.TOPIC_ALIAS: 1}
    assert packets_of(Version.V5, first) == [Publish("abc", b"1", properties=alias)]
    joined = variants.aliased.join(b"", pushes)
    assert joined is variants.aliased.join(b"", pushes)
    assert packets_of(Version.V5, joined) == [
        Publish("", b"1", properties=alias),
        Publish("", b"2", properties=alias),
    ]


def test_a_forgotten_sequence_keeps_no_payload() -> None:
    variants = Variants()
    variant = variants.plain(Version.V3_1_1, 1)
    variant.join(b"a", [Push(b"old", None)])
    variants.end_flush()
    assert packets_of(Version.V3_1_1, variant.join(b"a", [Push(b"new", None)])) == [
        Publish("a", b"new")
    ]


def test_a_full_backlog_gives_up_replaced_pushes_first_and_then_the_oldest() -> None:
    backlog = Backlog(BacklogTotals())
    for payload, key in ((b"1", "a"), (b"2", None), (b"3", "b"), (b"4", "a"), (b"5", "a")):
        backlog.append(Push(payload, key))
    assert [backlog.drop_one() for _ in range(3)] == ["conflated", "conflated", "outbox_full"]
    assert [push.payload for push in backlog.take_all()] == [b"3", b"5"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.binary(max_size=5), st.sampled_from("abc") | st.none()),
            st.tuples(st.sampled_from(["drop", "take"]), st.just(b""), st.none()),
        )
    )
)
def test_a_backlog_counts_what_it_holds_and_keeps_the_order(
    steps: list[tuple[str, bytes, str | None]],
) -> None:
    totals = BacklogTotals()
    backlog = Backlog(totals)
    model: list[tuple[bytes, str | None]] = []
    for step, payload, key in steps:
        if step == "append":
            backlog.append(Push(payload, key))
            model.append((payload, key))
        elif step == "take":
            assert [push.payload for push in backlog.take_all()] == [each for each, _ in model]
            model.clear()
        elif model:
            _drop_from(model, backlog.drop_one())
        assert len(backlog) == totals.packet_count == len(model)
        assert backlog.size_bytes == totals.size_bytes == sum(len(each) for each, _ in model)


def _drop_from(model: list[tuple[bytes, str | None]], reason: str) -> None:
    keys = [key for _, key in model]
    replaced = [i for i, key in enumerate(keys) if key is not None and key in keys[i + 1 :]]
    assert reason == ("conflated" if replaced else "outbox_full")
    if not replaced:
        del model[0]
        return
    # The one whose replacement came first.
    del model[min(replaced, key=lambda i: keys.index(keys[i], i + 1))]
