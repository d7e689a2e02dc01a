"""The index of live clients: what waits for them is bounded, counted, and ends with a session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from mqttpush.config import LiveSettings
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
from mqttpush.live import LiveIndex, LiveStream
from mqttpush.metrics import Metrics
from mqttpush.models import NEVER_MS, Owner, Scope, Source, SourceKind
from tests.support.loop import in_loop

ANNA = Owner("app", "user:anna")
LIMITS = LiveSettings(
    max_waiting_frames=5,
    max_waiting_bytes=4096,
    max_waiting_total_bytes=8192,
    max_streams_per_client=2,
    idle_timeout_s=60,
)
BOOKS = Source(1, SourceKind.BUCKET, Scope("app"), "books", "admin:")


class Stage:
    """An index with one clock and an MQTT server that keeps what it was told."""

    def __init__(self) -> None:
        self.now_ms = 1000
        self.sent: list[tuple[list[str], bytes]] = []
        self.metrics = Metrics()
        self.index = LiveIndex(
            settings=LIMITS,
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
        self,
        handle: Any = None,
        *,
        installation: str = "i1",
        expires_ms: int = NEVER_MS,
        is_spare: bool = False,
    ) -> Any:
        is_mqtt = handle is not None
        handle = handle or self.index.open_stream()
        own = (ANNA, installation, expires_ms, (BOOKS.key,))
        self.apply(LiveAttached(handle, *own, is_mqtt, is_spare))
        return handle

    def met(self, limit: str) -> int:
        return self.metrics.limits_reached.values.get((f"live.{limit}",), 0)

    def publish(self, entity: bytes = b"{}", readers: frozenset[str] | None = None) -> None:
        self.apply(EntityPublished(BOOKS, readers, entity))


async def frames_of(stream: LiveStream) -> list[bytes]:
    return [frame.message for frame in await stream.next(0)]


@in_loop
async def test_a_slow_reader_loses_the_oldest_frames_and_they_are_counted() -> None:
    stage = Stage()
    stream = stage.attach()
    for number in range(LIMITS.max_waiting_frames + 3):
        stage.publish(b"%d" % number)
    frames = await frames_of(stream)
    assert frames[0] == b"3"
    assert len(frames) == LIMITS.max_waiting_frames
    assert stage.metrics.live_frames_dropped.value == 3
    assert stage.met("max_waiting_frames") == 3
    assert stage.metrics.live_queued_bytes.read() == 0


@in_loop
async def test_large_frames_are_bounded_by_their_bytes() -> None:
    stage = Stage()
    stream = stage.attach()
    for _ in range(5):
        stage.publish(b"x" * (LIMITS.max_waiting_bytes // 2))
    assert stage.metrics.live_queued_bytes.read() <= LIMITS.max_waiting_bytes
    assert stage.met("max_waiting_bytes") == 3
    assert len(await frames_of(stream)) == 2


@in_loop
async def test_who_never_reads_takes_no_room_from_who_does() -> None:
    stage = Stage()
    hoards = [stage.attach(installation=f"hoard-{number}") for number in range(4)]
    for _ in range(4):
        stage.publish(b"x" * 1024)
    reader = stage.attach()
    for number in range(20):
        stage.publish(b"%1000d" % number)
        assert [int(frame) for frame in await frames_of(reader)] == [number]
        assert stage.metrics.live_queued_bytes.read() <= LIMITS.max_waiting_total_bytes
    assert stage.met("max_waiting_total_bytes") > 0
    for hoard in hoards:
        stage.index.detach(hoard)
    assert stage.metrics.live_queued_bytes.read() == 0


@in_loop
async def test_a_spare_stream_is_for_a_client_without_any_connection() -> None:
    stage = Stage()
    spare = stage.attach(is_spare=True)
    stage.publish(b"1")
    begun = spare.begin(stage.index.now())
    stage.publish(b"2")
    assert [frame.message for frame in await spare.after(begun, 0)] == [b"1", b"2"]
    stage.attach("device")
    assert not spare.is_closed, "it is asked for"
    assert stage.attach(is_spare=True).is_closed
    unasked = stage.attach(installation="i2", is_spare=True)
    stage.attach("other", installation="i2")
    assert unasked.is_closed


@in_loop
async def test_what_waits_in_a_spare_stream_goes_to_the_stream_that_comes() -> None:
    stage = Stage()
    spare = stage.attach(is_spare=True)
    stage.publish(b"1")
    stream = stage.attach()
    assert spare.is_closed
    stage.publish(b"2")
    begun = stream.begin(stage.index.now())
    assert [frame.message for frame in await stream.after(begun, 0)] == [b"1", b"2"]
    stage.index.detach(stream)
    assert stage.metrics.live_queued_bytes.read() == 0


@in_loop
async def test_no_frame_has_the_timetoken_that_was_told() -> None:
    stage = Stage()
    stream = stage.attach()
    stage.publish(b"1")
    told = stage.index.now()
    stage.publish(b"2")
    assert [frame.message for frame in await stream.after(told, 0)] == [b"2"]


@in_loop
async def test_a_client_has_so_many_streams_and_the_oldest_end() -> None:
    stage = Stage()
    streams = [stage.attach() for _ in range(5)]
    assert [stream.is_closed for stream in streams] == [True, True, True, False, False]
    assert stage.met("max_streams_per_client") == 3
    stage.index.reload(LIMITS.model_copy(update={"max_streams_per_client": 1}))
    assert not stage.attach().is_closed
    assert all(stream.is_closed for stream in streams)


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
    stage.now_ms += 120_000
    stage.index.close_expired()
    assert not polled.is_closed, "it is being asked for"
    stage.publish(b"1")
    assert [frame.message for frame in await waiting] == [b"1"]
    stage.now_ms += 60_001
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
