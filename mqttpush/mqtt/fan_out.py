"""Fan-out: pushes from the router to the sockets, one write per client and tick.

Owns the clients that have something to write in this tick, and what waits for slow readers. Knows
no users. The one idea: a push costs one append per client while the tick lasts; at its end each
client's packets are joined and handed to its socket at once, because a system call per packet would
be the whole cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set

from mqttpush.metrics import Metrics
from mqttpush.mqtt.connection import NO_PACKET_LIMIT, Rules, State
from mqttpush.mqtt.handle import Handle
from mqttpush.mqtt.outbox import Backlog, BacklogTotals, Push, Variants

# Fixed header 5, topic size 2, MQTT 5 properties at most 4: a packet beside its topic and payload.
_OVERHEAD_BYTES = 11
# A tick that has collected so much is flushed early: 100,000 references are 0.8 MB, and 64 MiB is
# what the clients' joined packets may come to.
_TICK_LIMIT_PACKETS = 100_000
_TICK_LIMIT_BYTES = 67_108_864


class FanOut:
    """Collects pushes and writes them at the end of the loop tick."""

    def __init__(
        self,
        *,
        rules: Rules,
        metrics: Metrics,
        call_soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._metrics = metrics
        self._call_soon = call_soon
        self._clock = clock
        self._dirty: list[Handle] = []
        self._is_flush_due = False
        self._pending_count = 0
        self._pending_bytes = 0
        self._event_count = 0  # of this tick, for the latency metric
        self._first_event_at = 0.0
        self._totals = BacklogTotals()
        self._variants = Variants()
        metrics.outbox_packets.read = lambda: self._totals.packet_count
        metrics.outbox_bytes.read = lambda: self._totals.size_bytes

    def fan_out(
        self,
        handles: Iterable[Handle],
        payload: bytes,
        conflation_key: str | None,
        source_keys: Sequence[int],
    ) -> int:
        """Append one QoS 0 PUBLISH per handle and return how many took it.

        Hot: two look-ups and one append a handle, no system call.
        """
        push = Push(payload, conflation_key, source_keys)
        size_bytes = len(payload)
        dirty = self._dirty
        taken_count = 0
        for handle in handles:
            if size_bytes <= handle.room:
                outbox = handle.outbox
                if not outbox:
                    dirty.append(handle)
                outbox.append(push)
                taken_count += 1
            elif self._offer(handle, push):
                taken_count += 1
        self._pending_count += taken_count
        self._pending_bytes += taken_count * size_bytes
        if dirty:
            if not self._event_count:
                self._first_event_at = self._clock()
            self._event_count += 1
        if self._pending_count > _TICK_LIMIT_PACKETS or self._pending_bytes > _TICK_LIMIT_BYTES:
            self.flush()
        elif dirty and not self._is_flush_due:
            self._is_flush_due = True
            self._call_soon(self.flush)
        return taken_count

    def flush(self) -> None:
        """Write every client's packets, joined. Called by the loop at the end of a tick."""
        dirty, self._dirty = self._dirty, []
        self._is_flush_due = False
        self._pending_count = 0
        self._pending_bytes = 0
        for handle in dirty:
            if handle.outbox:
                self._write(handle)
        self._metrics.push_encodings.value += self._variants.end_flush()
        if self._event_count:  # the first one's wait counts for all of the tick
            latency_s = self._clock() - self._first_event_at
            self._metrics.fan_out_latency.observe(latency_s, count=self._event_count)
            self._event_count = 0

    def start(self, handle: Handle) -> None:
        """The connection is open: choose how its pushes are encoded."""
        connection = handle.connection
        handle.topic_name = connection.mqtt_topic.encode()
        if connection.topic_alias_maximum:
            handle.variant = self._variants.aliasing(len(handle.topic_name))
        else:
            handle.variant = self._variants.plain(connection.version, len(handle.topic_name))

    def refresh(self, handle: Handle) -> None:
        """Something that decides whether the fast path may be taken has changed."""
        connection = handle.connection
        if connection.is_subscribed and not handle.is_paused:
            size_bytes = len(handle.topic_name)
            handle.room = min(connection.max_packet_bytes, NO_PACKET_LIMIT) - size_bytes
            handle.room -= _OVERHEAD_BYTES
        else:
            handle.room = -1

    def resume(self, handle: Handle) -> None:
        """The socket takes bytes again: what waited goes out at the end of the tick."""
        self.refresh(handle)
        backlog, handle.backlog = handle.backlog, None
        if backlog is None:
            return
        if not handle.outbox:
            self._dirty.append(handle)
        handle.outbox += backlog.take_all()
        if not self._is_flush_due:
            self._is_flush_due = True
            self._call_soon(self.flush)

    def withdraw(self, handles: Iterable[Handle], source_key: int, heard_keys: Set[int]) -> None:
        """These hear `source_key` no longer: what waits for them by it alone is not sent."""
        for handle in handles:
            outbox, backlog = handle.outbox, handle.backlog
            count = 0
            if outbox:
                kept = [push for push in outbox if not push.is_withdrawn(source_key, heard_keys)]
                count = len(outbox) - len(kept)
                outbox[:] = kept
            if backlog:
                count += backlog.withdraw(source_key, heard_keys)
            if count:
                self._metrics.pushes_dropped.add("withdrawn", handle.app_id, count=count)

    def drop_all(self, handle: Handle) -> None:
        """The connection is over: count what it will not get."""
        handle.room = -1
        lost_count = len(handle.outbox)
        handle.outbox.clear()
        backlog, handle.backlog = handle.backlog, None
        if backlog is not None:
            lost_count += len(backlog.take_all())
        if lost_count:
            self._metrics.pushes_dropped.add("closed", handle.app_id, count=lost_count)

    def _write(self, handle: Handle) -> None:
        pushes = handle.outbox
        start = 0
        while start < len(pushes):
            assert handle.variant is not None
            # The packet that says the alias goes alone; those behind it only use it.
            limit = 1 if handle.variant.is_aliasing else self._rules.settings.max_outbox_packets
            part = pushes if start == 0 and len(pushes) <= limit else pushes[start : start + limit]
            data = handle.variant.join(handle.topic_name, part)
            if handle.variant.is_aliasing:
                handle.variant = self._variants.aliased
                handle.topic_name = b""
            start += len(part)
            self._metrics.pushes_sent.value += len(part)
            self._metrics.socket_writes.value += 1
            handle.transport.write(data)
            if handle.is_paused:
                for push in pushes[start:]:
                    self._offer(handle, push)
                break
        pushes.clear()

    def _offer(self, handle: Handle, push: Push) -> bool:
        """The slow way: a client that is not there, takes only small packets, or does not read."""
        connection = handle.connection
        if not connection.is_subscribed:
            is_open = connection.state is not State.CLOSED
            self._drop(handle, "not_subscribed" if is_open else "closed")
            return False
        assert handle.variant is not None
        if handle.variant.size_bytes(push) > connection.max_packet_bytes:  # v5 [MQTT-3.1.2-28]
            self._drop(handle, "too_large")
            return False
        if handle.is_paused:
            return self._hold(handle, push)
        if not handle.outbox:
            self._dirty.append(handle)
        handle.outbox.append(push)
        return True

    def _hold(self, handle: Handle, push: Push) -> bool:
        """Keep a push for a slow reader, within the three bounds."""
        settings = self._rules.settings
        backlog, totals = handle.backlog, self._totals
        if backlog is None:
            backlog = handle.backlog = Backlog(totals)
        backlog.append(push)
        while True:
            is_over = (
                len(backlog) > settings.max_outbox_packets
                or backlog.size_bytes > settings.max_outbox_bytes
            )
            if not is_over and totals.size_bytes <= settings.max_outbox_total_bytes:
                return True
            reason = backlog.drop_one()
            if reason == "outbox_full" and not is_over:
                reason = "outbox_total_full"
            self._drop(handle, reason)
            if not backlog:
                return False

    def _drop(self, handle: Handle, reason: str) -> None:
        self._metrics.pushes_dropped.add(reason, handle.app_id)
