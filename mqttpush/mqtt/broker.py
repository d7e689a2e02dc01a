"""Broker: all connections of this process, from the first byte to the last.

Owns which connection has which client ID, who is being authenticated, and every deadline. Knows no
users, buckets or SQL: who may connect is an injected callable, what is pushed comes from outside.
The one idea: everything happens between two awaits of the event loop, on plain objects; there is no
task, timer or queue per connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence, Set
from math import inf
from typing import Protocol

from mqttpush.config import MqttSettings
from mqttpush.metrics import Metrics
from mqttpush.mqtt.admission import Admission
from mqttpush.mqtt.authentication import (
    Admitted,
    Authenticate,
    AuthenticationQueue,
    ConnectAttempt,
    RefusalReason,
    Refused,
)
from mqttpush.mqtt.codec import PINGREQ, PINGRESP, encode
from mqttpush.mqtt.connection import ANONYMOUS_CLIENT_ID, Connection, Rules, State
from mqttpush.mqtt.fan_out import FanOut
from mqttpush.mqtt.handle import Handle, Transport
from mqttpush.mqtt.happenings import (
    BoundMet,
    Closed,
    ConnectionEvent,
    ConnectReceived,
    RequestReceived,
    SubscriptionChanged,
)
from mqttpush.mqtt.packets import Connect, Publish, ReasonCode
from mqttpush.mqtt.wheel import TimerWheel

__all__ = [
    "Admitted",
    "Authenticate",
    "Broker",
    "ConnectAttempt",
    "Handle",
    "ReasonCode",
    "RefusalReason",
    "Refused",
]

TICK_S = 0.25
SWEEP_EVERY_TICKS = 40
# After our last packet a peer has this long to take it before the socket is cut.
LINGER_S = 5.0


class RandomSource(Protocol):
    """The part of `random.Random` that is used here."""

    def shuffle(self, x: list[Handle]) -> None: ...

    def uniform(self, a: float, b: float) -> float: ...


class Broker:
    """See the module. All methods are for the event loop's thread."""

    def __init__(
        self,
        *,
        settings: MqttSettings,
        metrics: Metrics,
        clock: Callable[[], float],
        random: RandomSource,
        authenticate: Authenticate,
        on_closed: Callable[[Handle], None],
        on_request: Callable[[Handle, str, bytes], None],
        on_subscribed: Callable[[Handle], None] = lambda _: None,
    ) -> None:
        self._rules = Rules(settings)
        self.metrics = metrics
        self._clock = clock
        self._random = random
        self._on_closed = on_closed
        self._on_request = on_request
        self._on_subscribed = on_subscribed
        self._loop = asyncio.get_running_loop()
        self._pushes = FanOut(
            rules=self._rules, metrics=metrics, call_soon=self._loop.call_soon, clock=clock
        )
        self._admission = Admission(settings, metrics)
        self._wheel = TimerWheel(now=clock())
        self._handles: set[Handle] = set()  # every open socket
        self._handle_by_client_id: dict[str, Handle] = {}
        self._queue = AuthenticationQueue(
            rules=self._rules, authenticate=authenticate, on_answer=self._answer
        )
        self._tick: asyncio.TimerHandle | None = None
        self._tick_due_at = 0.0
        self._tick_number = 0
        self._lag_s = 0.0
        self._unsent_total = 0  # bytes that sockets of slow readers have been given
        self._is_draining = False
        self._is_socket_lost = asyncio.Event()
        metrics.mqtt_connections.read = lambda: self._admission.authenticated_count
        metrics.mqtt_unauthenticated.read = lambda: self._admission.unauthenticated_count
        metrics.loop_lag.read = lambda: self._lag_s

    # -- for the router and the REST side --

    @property
    def connection_count(self) -> int:
        """Authenticated connections."""
        return self._admission.authenticated_count

    def fan_out(
        self,
        handles: Iterable[Handle],
        payload: bytes,
        *,
        conflation_key: str | None = None,
        source_keys: Sequence[int] = (),
    ) -> int:
        """Append one QoS 0 PUBLISH per handle and return how many took it; written at tick's end.

        payload: UTF-8 JSON. conflation_key: of two waiting pushes of one key the older is the first
        to go when a slow reader's outbox is full. source_keys: see `withdraw`. Cost: two look-ups
        and one append a handle.
        """
        return self._pushes.fan_out(handles, payload, conflation_key, source_keys)

    def withdraw(self, handles: Iterable[Handle], source_key: int, heard_keys: Set[int]) -> None:
        """These handles hear `source_key` no longer, and still `heard_keys`.

        A push with that key that waits for one of them is dropped, unless one of its other keys is
        heard. What the socket has been given goes out. Cost: a look at what waits for them.
        """
        self._pushes.withdraw(handles, source_key, heard_keys)

    def respond(self, handle: Handle, mqtt_topic: str, payload: bytes) -> bool:
        """Publish on an explicit topic to one connection; False if it is gone or does not read."""
        connection = handle.connection
        if connection.state is not State.OPEN:
            return False
        settings = self._rules.settings
        packet = encode(connection.version, Publish(mqtt_topic, payload))
        reason = ""
        if len(packet) > connection.max_packet_bytes:
            reason = "too_large"
        elif handle.is_paused and self._unsent(handle) > settings.max_outbox_bytes:
            reason = "outbox_full"
        elif (
            len(packet) > settings.write_buffer_bytes
            and self._unsent_total + len(packet) > settings.max_outbox_total_bytes
        ):
            reason = "outbox_total_full"
        if reason:
            self.metrics.pushes_dropped.add(reason, handle.app_id)
            return False
        handle.transport.write(packet)
        if handle.is_paused:
            self._note_unsent(handle, self._unsent(handle))
        return True

    def close(self, handle: Handle, reason: ReasonCode) -> None:
        """Close from our side; MQTT 5 clients are told the reason. Calls `on_closed` at once."""
        reference = self._rules.settings.server_reference
        if reason is not ReasonCode.SERVER_MOVED:
            reference = ""
        connection = handle.connection
        self._apply(handle, connection.disconnect(reason, server_reference=reference))

    # -- for the listeners --

    @property
    def socket_count(self) -> int:
        """Open sockets, authenticated or not."""
        return len(self._handles)

    def open(self, transport: Transport, address: str, *, is_proxy: bool = False) -> Handle | None:
        """A new socket; None: close it at once, a bound is met. Then call `begin_stage`.

        is_proxy: `change_address` follows.
        """
        now = self._clock()
        if self._is_draining or not self._admission.open(address, now, is_proxy=is_proxy):
            return None
        handle = Handle(self._new_connection(), transport, address)
        self._handles.add(handle)
        return handle

    def begin_stage(self, handle: Handle, setting: str) -> None:
        """The peer must finish what comes next within `setting` seconds, a name in the section."""
        handle.stage = setting
        handle.stage_deadline = self._clock() + getattr(self._rules.settings, setting)
        self._wheel.schedule(handle)

    def change_address(self, handle: Handle, address: str) -> bool:
        """The socket's peer is a proxy, and `address` its client; False: close the socket."""
        self._admission.closed(handle.address, was_authenticated=False)
        handle.address = address
        if self._admission.open(address, self._clock()):
            return True
        self._forget_socket(handle)
        handle.connection.abandon()
        return False

    def receive(self, handle: Handle, data: bytes) -> bool:
        """Bytes of MQTT from the peer; True: it pinged or subscribed, and may be silent."""
        now = self._clock()
        if data == PINGREQ and not handle.is_paused and handle.connection.take_ping(now):
            handle.transport.write(PINGRESP)
            return True
        events = handle.connection.receive(data, now)
        self._apply(handle, events)
        if handle.connection.packet_deadline != inf:
            self._wheel.schedule(handle)
        return len(events) == 1 and isinstance(events[0], SubscriptionChanged)

    def pause(self, handle: Handle) -> None:
        """The socket takes nothing more: pushes wait, and the stall deadline runs."""
        if handle.is_paused:
            return
        handle.is_paused = True
        self._pushes.refresh(handle)
        self._note_unsent(handle, self._unsent(handle))
        if handle.connection.state is State.OPEN and not handle.connection.is_onboarding:
            self.begin_stage(handle, "stall_timeout_s")

    def resume(self, handle: Handle) -> None:
        """The socket takes bytes again."""
        handle.is_paused = False
        self._note_unsent(handle, 0)
        if handle.connection.state is State.OPEN:
            if not handle.connection.is_onboarding:
                handle.stage_deadline = inf
            self._pushes.resume(handle)

    def lost(self, handle: Handle) -> None:
        """The socket is gone."""
        if handle not in self._handles:
            return
        if handle.connection.state is not State.CLOSED:
            handle.connection.abandon()
            self._end(handle, "connection_lost")
        self._forget_socket(handle)
        was_authenticated = bool(handle.connection.client_id)
        self._admission.closed(handle.address, was_authenticated=was_authenticated)

    def end(self, handle: Handle, reason: str) -> None:
        """The bytes below MQTT are over or broken: write what is left, then close."""
        if handle.connection.state is not State.CLOSED:
            handle.connection.abandon()
            self._close_socket(handle, reason)

    def abort(self, handle: Handle, reason: str) -> None:
        """Cut the socket without a word."""
        if handle.connection.state is not State.CLOSED:
            handle.connection.abandon()
            self._end(handle, reason)
        handle.transport.abort()

    def start(self) -> None:
        """Begin to watch deadlines and the loop's lag."""
        self._tick_due_at = self._clock() + TICK_S
        self._tick = self._loop.call_later(TICK_S, self._on_tick)

    def note_lag(self, lag_s: float) -> None:
        """The loop ran `lag_s` late; half of the last lag is kept, so that it is not forgotten."""
        self._lag_s = max(lag_s, self._lag_s / 2, 0.0)

    def check_deadlines(self) -> None:
        """Act on every deadline that has passed; the timer calls it."""
        now = self._clock()
        for item in self._wheel.advance(now):
            assert isinstance(item, Handle)
            self._expire(item, now)

    async def drain(self, timeout_s: float) -> None:
        """Close every connection within `timeout_s`, in batches, so that not all return at once."""
        self._is_draining = True
        deadline = self._clock() + timeout_s
        handles = list(self._handles)
        self._random.shuffle(handles)
        moved = bool(self._rules.settings.server_reference)
        reason = ReasonCode.SERVER_MOVED if moved else ReasonCode.SERVER_SHUTTING_DOWN
        # Half of the time for 20 batches, the other half for peers to take what is left.
        batch_size = max(50, -(-len(handles) // 20))
        pause_s = timeout_s / 40
        for start in range(0, len(handles), batch_size):
            if start:
                await asyncio.sleep(pause_s * self._random.uniform(0.5, 1.5))
            for handle in handles[start : start + batch_size]:
                self.close(handle, reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(deadline - self._clock(), 0)):
                while self._handles:
                    self._is_socket_lost.clear()
                    await self._is_socket_lost.wait()
        for handle in list(self._handles):
            handle.transport.abort()

    async def stop(self) -> None:
        """End the timer and the running authentication; cut what `drain` has left."""
        self._is_draining = True
        if self._tick is not None:
            self._tick.cancel()
        await self._queue.stop()
        for handle in list(self._handles):
            self.abort(handle, "server_shutting_down")

    def reload(self, settings: MqttSettings) -> None:
        """Take new limits; they hold from the next packet on."""
        self._rules.settings = settings
        self._admission.apply(settings)

    # -- inside --

    def _new_connection(self) -> Connection:
        return Connection(self._rules, self._clock())

    def _forget_socket(self, handle: Handle) -> None:
        self._handles.discard(handle)
        handle.stage_deadline = inf
        self._note_unsent(handle, 0)
        self._is_socket_lost.set()

    def _note_unsent(self, handle: Handle, unsent_bytes: int) -> None:
        self._unsent_total += unsent_bytes - handle.unsent_bytes
        handle.unsent_bytes = unsent_bytes

    def _unsent(self, handle: Handle) -> int:
        return handle.transport.get_write_buffer_size()

    def _apply(self, handle: Handle, events: Sequence[ConnectionEvent]) -> None:
        """Write what the state machine answered, then act on what it found."""
        output = handle.connection.take_output()
        if output:
            handle.transport.write(output)
            limit = self._rules.settings.max_outbox_bytes
            if handle.is_paused and self._unsent(handle) > limit:
                self.abort(handle, "stalled")  # it asks and does not take the answers
                return
        for event in events:
            if isinstance(event, RequestReceived):
                self.metrics.mqtt_requests.value += 1
                self._on_request(handle, event.mqtt_topic, event.payload)
            elif isinstance(event, SubscriptionChanged):
                self._pushes.refresh(handle)
                if handle.connection.is_subscribed:
                    self._on_subscribed(handle)
            elif isinstance(event, ConnectReceived):
                self._on_connect(handle, event.connect)
            elif isinstance(event, Closed):
                self._close_socket(handle, event.reason)
            else:
                assert isinstance(event, BoundMet)
                self.metrics.limits_reached.add(f"mqtt.{event.setting}")

    def _close_socket(self, handle: Handle, reason: str) -> None:
        self._end(handle, reason)
        if handle.is_paused:
            handle.transport.abort()  # it would never take the rest
            return
        handle.transport.close()
        handle.stage_deadline = self._clock() + LINGER_S
        self._wheel.schedule(handle)

    def _end(self, handle: Handle, reason: str) -> None:
        """The connection is over, whatever becomes of the socket."""
        self.metrics.mqtt_disconnects.add(reason)
        self._pushes.drop_all(handle)
        client_id = handle.connection.client_id
        if self._handle_by_client_id.get(client_id) is handle:
            del self._handle_by_client_id[client_id]
        if handle.is_admitted:
            handle.is_admitted = False
            self._on_closed(handle)

    def _on_connect(self, handle: Handle, connect: Connect) -> None:
        now = self._clock()
        reason: ReasonCode | None = None
        if self._is_draining:
            reason = ReasonCode.SERVER_SHUTTING_DOWN
        elif self._lag_s * 1000 > self._rules.settings.max_loop_lag_ms:
            self.metrics.limits_reached.add("mqtt.max_loop_lag_ms")
            reason = ReasonCode.SERVER_BUSY
        else:
            reason = self._admission.check(handle.address, connect.client_id, now)
        if reason is not None:
            self._refuse(handle, reason)
            return
        self.begin_stage(handle, "authenticate_timeout_s")
        attempt = ConnectAttempt(
            handle,
            connect.client_id,
            connect.username or "",
            connect.password or b"",
            connect.version,
            handle.address,
        )
        self._queue.add(attempt)

    def _answer(self, attempt: ConnectAttempt, answer: Admitted | Refused) -> None:
        handle = attempt.handle
        if isinstance(answer, Refused):
            if answer.reason is RefusalReason.BAD_CREDENTIALS:
                self._admission.failed(handle.address, attempt.client_id, self._clock())
            self._refuse(handle, answer.reason.value)
            return
        if handle.connection.state is not State.CHECKING:
            self._on_closed(handle)  # the socket died meanwhile
            return
        handle.is_admitted = True
        handle.app_id = answer.app_id
        client_id = attempt.client_id or answer.mqtt_topic or ANONYMOUS_CLIENT_ID
        reason = self._admission.check_room(handle.address)
        if reason is None and not answer.is_onboarding:
            reason = self._admission.check_client(client_id, self._clock())
            reason = reason or self._take_over(client_id)
        if reason is not None:
            self._refuse(handle, reason)
            return
        if not answer.is_onboarding:
            self._handle_by_client_id[client_id] = handle
        self._admission.authenticated(handle.address)
        self.metrics.mqtt_connects.add("accepted")
        events = handle.connection.admit(
            client_id=client_id,
            mqtt_topic=answer.mqtt_topic,
            is_onboarding=answer.is_onboarding,
            now=self._clock(),
        )
        self._pushes.start(handle)
        if answer.is_onboarding:
            self.begin_stage(handle, "onboarding_timeout_s")
        elif handle.is_paused:
            self.begin_stage(handle, "stall_timeout_s")
        else:
            handle.stage_deadline = inf
        self._wheel.schedule(handle)
        self._apply(handle, events)

    def _take_over(self, client_id: str) -> ReasonCode | None:
        """Close the connection that has `client_id` [MQTT-3.1.4-2, v5 3.1.4-3], or say why not."""
        older = self._handle_by_client_id.get(client_id)
        if older is not None:
            if not self._admission.may_take_over(client_id, self._clock()):
                return ReasonCode.CONNECTION_RATE_EXCEEDED
            self.close(older, ReasonCode.SESSION_TAKEN_OVER)
        return None

    def _refuse(self, handle: Handle, reason: ReasonCode) -> None:
        if handle.connection.state is State.CHECKING:
            self.metrics.mqtt_connects.add(reason.name.lower())
            self._apply(handle, handle.connection.refuse(reason))

    def _on_tick(self) -> None:
        now = self._clock()
        self.note_lag(now - self._tick_due_at)
        self._tick_due_at = now + TICK_S
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        self._tick_number += 1
        if self._tick_number % SWEEP_EVERY_TICKS == 0:
            self._admission.sweep(now)
        self.check_deadlines()

    def _expire(self, handle: Handle, now: float) -> None:
        if handle not in self._handles:
            return
        connection = handle.connection
        if connection.state is State.CHECKING:
            self.metrics.limits_reached.add("mqtt.authenticate_timeout_s")
            self._refuse(handle, ReasonCode.SERVER_UNAVAILABLE)
        elif connection.state is not State.OPEN:
            if connection.state is not State.CLOSED:
                self.metrics.limits_reached.add(f"mqtt.{handle.stage}")
            self.abort(handle, handle.stage.removesuffix("_s"))
        elif now >= connection.keep_alive_deadline():  # [MQTT-3.1.2-24]
            self.close(handle, ReasonCode.KEEP_ALIVE_TIMEOUT)
        elif now >= connection.packet_deadline:
            self.metrics.limits_reached.add("mqtt.stall_timeout_s")
            self.abort(handle, "stalled")
        elif connection.is_onboarding:
            self.metrics.limits_reached.add("mqtt.onboarding_timeout_s")
            self.close(handle, ReasonCode.MAXIMUM_CONNECT_TIME)
        else:
            unsent_bytes = self._unsent(handle)
            if unsent_bytes >= handle.unsent_bytes:
                self.metrics.limits_reached.add("mqtt.stall_timeout_s")
                self.abort(handle, "stalled")
                return
            self._note_unsent(handle, unsent_bytes)
            self.begin_stage(handle, "stall_timeout_s")
