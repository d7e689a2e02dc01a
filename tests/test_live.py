"""The index of live clients: what waits for them is bounded, counted, and ends with a session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from mqttpush.events import (
    AppRemoved,
    EntityPublished,
    InstallationRemoved,
    LiveAttached,
    LiveFollowed,
    LiveLeft,
    OwnerRemoved,
    SourceRemoved,
)
from mqttpush.live import CLIENT_LIMIT_BYTES, FRAME_LIMIT, IDLE_LIMIT_MS, LiveIndex, LiveStream
from mqttpush.metrics import Metrics
from mqttpush.models import NEVER_MS, Owner, Scope, Source, SourceKind
from tests.support.loop import in_loop

ANNA = Owner("app", "user:anna")
BOOKS = Source(1, SourceKind.BUCKET, Scope("app"), "books", "admin:")


class Stage:
    """An index with one clock and an MQTT server that keeps what it was told."""

    def __init__(self) -> None:
        self.now_ms = 1000
        self.sent: list[tuple[list[str], bytes]] = []
        self.metrics = Metrics()
        self.index = LiveIndex(
            fan_out=self._fan_out,
            is_connected=lambda handle: handle != "gone",
            metrics=self.metrics,
            now_ms=lambda: self.now_ms,
        )

    def _fan_out(self, handles: Iterable[str], payload: bytes) -> int:
        self.sent.append((list(handles), payload))
        return 1

    def apply(self, change: Any) -> None:
        self.index.handlers[type(change)](change)

    def attach(
        self, handle: Any = None, *, installation: str = "i1", expires_ms: int = NEVER_MS
    ) -> Any:
        is_mqtt = handle is not None
        handle = handle or self.index.open_stream()
        attached = LiveAttached(handle, ANNA, installation, expires_ms, (BOOKS.key,), is_mqtt)
        self.apply(attached)
        return handle

    def publish(self, entity: bytes = b"{}", readers: frozenset[str] | None = None) -> None:
        self.apply(EntityPublished(BOOKS, readers, entity))


async def frames_of(stream: LiveStream) -> list[bytes]:
    return [frame.message for frame in await stream.next(0)]


@in_loop
async def test_a_slow_reader_loses_the_oldest_frames_and_they_are_counted() -> None:
    stage = Stage()
    stream = stage.attach()
    for number in range(FRAME_LIMIT + 3):
        stage.publish(b"%d" % number)
    frames = await frames_of(stream)
    assert frames[0] == b"3"
    assert len(frames) == FRAME_LIMIT
    assert stage.metrics.live_frames_dropped.value == 3
    assert stage.metrics.live_queued_bytes.read() == 0


@in_loop
async def test_large_frames_are_bounded_by_their_bytes() -> None:
    stage = Stage()
    stream = stage.attach()
    for _ in range(5):
        stage.publish(b"x" * (CLIENT_LIMIT_BYTES // 2))
    assert stage.metrics.live_queued_bytes.read() <= CLIENT_LIMIT_BYTES
    assert len(await frames_of(stream)) == 2


@in_loop
async def test_who_follows_no_longer_hears_nothing() -> None:
    stage = Stage()
    stream = stage.attach()
    stage.apply(LiveLeft("i1", BOOKS.key))
    stage.publish(b"1")
    stage.apply(LiveFollowed("i1", BOOKS.key))
    stage.publish(b"2")
    stage.apply(SourceRemoved(BOOKS.key))
    stage.publish(b"3")
    assert await frames_of(stream) == [b"2"]


@in_loop
async def test_a_connection_that_is_gone_by_the_commit_is_not_attached() -> None:
    stage = Stage()
    stage.attach("gone")
    stage.attach("there", installation="i2")
    stage.publish(b"1", frozenset({"user:anna"}))
    [(handles, payload)] = stage.sent
    assert handles == ["there"]
    assert payload.startswith(b'{"channel":"app.c-books.u-anna","message":1,"timetoken":"')
    stage.index.detach("there")
    stage.publish(b"2")
    assert len(stage.sent) == 1


@pytest.mark.parametrize(
    "change", [InstallationRemoved(ANNA, "i1"), OwnerRemoved(ANNA), AppRemoved("app")]
)
@in_loop
async def test_a_session_that_ends_takes_along_what_waits(change: Any) -> None:
    stage = Stage()
    stream = stage.attach()
    stage.publish(b"1")
    stage.apply(change)
    assert stream.is_closed
    assert await frames_of(stream) == []
    assert stage.metrics.live_clients.read() == 0


@in_loop
async def test_sessions_and_polling_clients_that_stay_away_end_in_time() -> None:
    stage = Stage()
    short, polled = stage.attach(expires_ms=2000), stage.attach(installation="i2")
    stage.now_ms = 2000
    stage.index.close_expired()
    assert (short.is_closed, polled.is_closed) == (True, False)
    waiting = asyncio.create_task(polled.after(0, 60))
    await asyncio.sleep(0)
    stage.now_ms += 2 * IDLE_LIMIT_MS
    stage.index.close_expired()
    assert not polled.is_closed, "it is being asked for"
    stage.publish(b"1")
    assert [frame.message for frame in await waiting] == [b"1"]
    stage.now_ms += IDLE_LIMIT_MS + 1
    stage.index.close_expired()
    assert polled.is_closed


@in_loop
async def test_a_newer_question_ends_an_older_one() -> None:
    stage = Stage()
    stream = stage.attach()
    older = asyncio.create_task(stream.after(0, 60))
    await asyncio.sleep(0)
    newer = asyncio.create_task(stream.after(0, 60))
    assert await older == []
    stage.publish(b"1")
    [frame] = await newer
    assert await stream.after(frame.timetoken - 1, 0) == [frame]
    assert await stream.after(frame.timetoken, 0) == []


@in_loop
async def test_no_stream_outlives_the_server() -> None:
    stage = Stage()
    stream = stage.attach()
    stage.index.close()
    assert stream.is_closed
    assert stage.index.open_stream().is_closed
