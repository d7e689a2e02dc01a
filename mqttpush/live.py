"""The Live Service's part of the router: an entity that changed -> the clients who follow it.

Owns the index of live clients and the frames that wait for those that are not MQTT. Knows no store
and no HTTP. As in the router, the index is a fold over what transactions emit, in commit order, and
whoever wrote an entity has said who may read it: so a frame goes out if and only if the client
followed the collection, and could have read the entity, at that moment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

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
from mqttpush.metrics import Metrics
from mqttpush.models import Owner


class Frame(NamedTuple):
    """One message. timetoken: unique, growing; units of 100 ns as old clients know it."""

    timetoken: int
    channel: str
    message: bytes  # JSON

    def json(self) -> bytes:
        channel = orjson.dumps(self.channel)
        return b'{"channel":%b,"message":%b,"timetoken":"%d"}' % (
            channel,
            self.message,
            self.timetoken,
        )


class _Budget:
    """What waits for all streams together.

    waiting: the streams with something that waits, and first who has not been empty for longest.
    """

    def __init__(self, settings: LiveSettings, metrics: Metrics) -> None:
        self.settings = settings
        self.used_bytes = 0
        self.waiting: dict[LiveStream, None] = {}
        self._metrics = metrics

    def drop(self, stream: LiveStream, limit: str) -> None:
        """The oldest frame of the stream, for which there is no room."""
        stream.drop_first()
        self._metrics.live_frames_dropped.value += 1
        self._metrics.limits_reached.add(f"live.{limit}")

    def make_room(self) -> None:
        """Who reads keeps his own: the slowest lose theirs first."""
        while self.used_bytes > self.settings.max_waiting_total_bytes:
            self.drop(next(iter(self.waiting)), "max_waiting_total_bytes")


class LiveStream:
    """Frames that wait for one client; the oldest go when there are too many, and are counted."""

    def __init__(self, budget: _Budget, now_ms: Callable[[], int], opened: int) -> None:
        self.is_closed = False
        self._opened: int | None = opened
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._budget = budget
        self._now_ms = now_ms
        self._changed = asyncio.Event()
        self._turn = 0
        self._waiters = 0
        self._seen_ms = now_ms()

    @property
    def is_forgotten(self) -> bool:
        """Has nobody asked for it for too long?"""
        limit_ms = self._budget.settings.idle_timeout_s * 1000
        return not self._waiters and self._now_ms() - self._seen_ms > limit_ms

    @property
    def is_unasked(self) -> bool:
        """Has nobody begun to poll it?"""
        return self._opened is not None

    def put(self, frame: Frame) -> None:
        if self.is_closed:
            return
        self._frames.append(frame)
        self._budget.waiting[self] = None
        self._count(len(frame.message))
        settings = self._budget.settings
        if len(self._frames) > settings.max_waiting_frames:
            self._budget.drop(self, "max_waiting_frames")
        while self._bytes > settings.max_waiting_bytes:
            self._budget.drop(self, "max_waiting_bytes")
        self._budget.make_room()
        self._changed.set()

    def close(self) -> None:
        """What waits is thrown away: its reader may have lost the right to it."""
        self.is_closed = True
        while self._frames:
            self.drop_first()
        self._changed.set()

    def begin(self, now: int) -> int:
        """The timetoken after which to ask: when the stream was opened, or `now` if not new."""
        opened, self._opened = self._opened, None
        if opened is not None:
            return opened
        self.forget(now)
        return now

    def take_over(self, spare: LiveStream) -> None:
        """Go on for a stream that nobody has asked for."""
        self._opened = spare._opened
        while spare._frames:
            frame = spare._frames[0]
            spare.drop_first()
            self.put(frame)

    async def next(self, timeout_s: float) -> list[Frame]:
        """What waits, and forget it; empty after the time, or when the stream is closed."""
        await self._wait(timeout_s)
        frames = list(self._frames)
        self.forget(frames[-1].timetoken if frames else 0)
        return frames

    async def after(self, timetoken: int, timeout_s: float) -> list[Frame]:
        """What came after `timetoken`, kept until a later question shows that it has arrived.

        A newer question ends an older one, which gets nothing.
        """
        self.forget(timetoken)
        self._opened = None
        self._turn += 1
        turn = self._turn
        self._changed.set()
        await self._wait(timeout_s)
        return list(self._frames) if turn == self._turn else []

    def forget(self, timetoken: int) -> None:
        while self._frames and self._frames[0].timetoken <= timetoken:
            self.drop_first()

    async def _wait(self, timeout_s: float) -> None:
        turn = self._turn
        self._waiters += 1
        try:
            async with asyncio.timeout(timeout_s):
                while not (self._frames or self.is_closed or turn != self._turn):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waiters -= 1
            self._seen_ms = self._now_ms()

    def drop_first(self) -> None:
        """Forget the oldest frame; there must be one."""
        self._count(-len(self._frames.popleft().message))
        if not self._frames:
            del self._budget.waiting[self]

    def _count(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        self._budget.used_bytes += size_bytes


Handle = Any  # a LiveStream, or the MQTT server's connection


@dataclass(eq=False, slots=True)
class _Client:
    handle: Handle
    owner: Owner
    installation_id: str
    is_mqtt: bool
    expires_ms: int
    is_spare: bool
    source_keys: set[int] = field(default_factory=set)


class LiveIndex:
    """Who follows what, now.

    fan_out(handles, payload): send one payload to MQTT connections; returns how many took it.
    is_connected(handle): is it an MQTT connection that the router knows? now_ms: the wall clock.
    """

    def __init__(
        self,
        *,
        settings: LiveSettings,
        fan_out: Callable[[Iterable[Handle], bytes], int],
        is_connected: Callable[[Handle], bool],
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._fan_out = fan_out
        self._is_connected = is_connected
        self._metrics = metrics
        self._now_ms = now_ms
        self._budget = _Budget(settings, metrics)
        self._timetoken = 0
        self._is_closing = False
        self._client_by_handle: dict[Handle, _Client] = {}
        self._clients_by_installation: dict[str, list[_Client]] = {}
        self._clients_by_source: dict[int, dict[_Client, None]] = {}
        metrics.live_clients.read = lambda: len(self._client_by_handle)
        metrics.live_queued_bytes.read = lambda: self._budget.used_bytes

    @property
    def handlers(self) -> Mapping[type, Callable[[Any], None]]:
        """What to call for each kind of committed change."""
        return {
            EntityPublished: self._published,
            LiveAttached: self._attached,
            LiveFollowed: self._followed,
            LiveLeft: self._left,
            SourceRemoved: self._source_removed,
            InstallationRemoved: lambda change: self._end(
                self._clients_by_installation.get(change.installation_id, ())
            ),
            OwnerRemoved: self._owner_removed,
            AppRemoved: self._app_removed,
        }

    def reload(self, settings: LiveSettings) -> None:
        """Take new limits; they hold from the next frame on."""
        self._budget.settings = settings

    def open_stream(self) -> LiveStream:
        """A stream nobody feeds before it is attached; a closed one when the server stops."""
        stream = LiveStream(self._budget, self._now_ms, self.now())
        if self._is_closing:
            stream.close()
        return stream

    def now(self) -> int:
        """A timetoken after all frames so far, and before all to come."""
        self._timetoken = max(self._timetoken, self._now_ms() * 10_000)
        return self._timetoken

    def detach(self, handle: Handle) -> None:
        """The connection is gone; unknown handles are fine."""
        client = self._client_by_handle.pop(handle, None)
        if client is None:
            return
        if not client.is_mqtt:
            handle.close()
        clients = self._clients_by_installation[client.installation_id]
        clients.remove(client)
        if not clients:
            del self._clients_by_installation[client.installation_id]
        for source_key in client.source_keys:
            self._drop(source_key, client)

    def close_expired(self) -> None:
        """End clients whose session is over or who do not ask any more; to be called often."""
        now_ms = self._now_ms()
        self._end(
            client
            for client in self._client_by_handle.values()
            if client.expires_ms <= now_ms or (not client.is_mqtt and client.handle.is_forgotten)
        )

    def close(self) -> None:
        """End all streams: the server stops."""
        self._is_closing = True
        self._end(client for client in self._client_by_handle.values() if not client.is_mqtt)

    # --- events ---------------------------------------------------------------------------

    def _published(self, event: EntityPublished) -> None:
        clients = self._clients_by_source.get(event.source.key)
        if not clients:
            return
        self._timetoken = max(self._timetoken + 1, self._now_ms() * 10_000)
        channel = f"{event.source.scope.app_id}.c-{event.source.id}"
        if event.readers is None:
            self._send(list(clients), Frame(self._timetoken, channel, event.entity))
            return
        clients_by_user: dict[str, list[_Client]] = {}
        for client in clients:
            if client.owner.subject in event.readers:
                clients_by_user.setdefault(client.owner.id, []).append(client)
        for user_id, own in clients_by_user.items():
            self._send(own, Frame(self._timetoken, f"{channel}.u-{user_id}", event.entity))

    def _send(self, clients: Sequence[_Client], frame: Frame) -> None:
        connected = [client.handle for client in clients if client.is_mqtt]
        if connected:
            self._fan_out(connected, frame.json())
        for client in clients:
            if not client.is_mqtt:
                client.handle.put(frame)
        self._metrics.live_frames.value += len(clients)

    # --- changes of the index -------------------------------------------------------------

    def _attached(self, change: LiveAttached) -> None:
        if change.is_mqtt and not self._is_connected(change.handle):
            return  # gone, or refused
        if not change.is_mqtt and change.handle.is_closed:
            return
        clients = self._clients_by_installation.get(change.installation_id, ())
        if change.is_spare and clients:
            change.handle.close()
            return
        for spare in [each for each in clients if each.is_spare and each.handle.is_unasked]:
            if not change.is_mqtt:
                change.handle.take_over(spare.handle)
            self.detach(spare.handle)
        streams = [client for client in clients if not client.is_mqtt]
        excess = len(streams) + 1 - self._budget.settings.max_streams_per_client
        if not change.is_mqtt and excess > 0:
            self._metrics.limits_reached.add("live.max_streams_per_client")
            self._end(streams[:excess])
        client = _Client(
            change.handle,
            change.owner,
            change.installation_id,
            change.is_mqtt,
            change.expires_ms,
            change.is_spare,
        )
        self._client_by_handle[change.handle] = client
        self._clients_by_installation.setdefault(change.installation_id, []).append(client)
        for source_key in change.source_keys:
            self._add(source_key, client)

    def _followed(self, change: LiveFollowed) -> None:
        for client in self._clients_by_installation.get(change.installation_id, ()):
            self._add(change.source_key, client)

    def _left(self, change: LiveLeft) -> None:
        for client in self._clients_by_installation.get(change.installation_id, ()):
            client.source_keys.discard(change.source_key)
            self._drop(change.source_key, client)

    def _source_removed(self, change: SourceRemoved) -> None:
        for client in self._clients_by_source.pop(change.source_key, ()):
            client.source_keys.discard(change.source_key)

    def _owner_removed(self, change: OwnerRemoved) -> None:
        self._end(each for each in self._client_by_handle.values() if each.owner == change.owner)

    def _app_removed(self, change: AppRemoved) -> None:
        clients = self._client_by_handle.values()
        self._end(client for client in clients if client.owner.app_id == change.app_id)

    def _end(self, clients: Iterable[_Client]) -> None:
        """Out of the index; an MQTT connection is the router's to close."""
        for client in list(clients):
            self.detach(client.handle)

    def _add(self, source_key: int, client: _Client) -> None:
        client.source_keys.add(source_key)
        self._clients_by_source.setdefault(source_key, {})[client] = None

    def _drop(self, source_key: int, client: _Client) -> None:
        clients = self._clients_by_source.get(source_key)
        if clients is not None:
            clients.pop(client, None)
            if not clients:
                del self._clients_by_source[source_key]
