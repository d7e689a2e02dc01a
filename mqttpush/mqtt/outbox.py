"""Outboxes: pushes on their way to a client, encoded once per variant and joined per client.

Owns what waits for a socket and in which order it is given up. Knows no socket and no client. The
one idea: an outbox holds references to shared `Push` objects, and a client's bytes exist only while
they are written, so a thousand slow readers of one event hold its payload once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence, Set
from dataclasses import dataclass

from mqttpush.mqtt.codec import push_parts
from mqttpush.mqtt.packets import Version

# The alias every MQTT 5 client gets for its private topic, as a property set of PUBLISH.
_TOPIC_ALIAS_PROPERTIES = b"\x03\x23\x00\x01"


class Push:
    """One payload for any number of clients.

    source_keys: hearing one of them is the right to get it; empty: nothing takes that right.
    """

    __slots__ = ("conflation_key", "parts_by_variant", "payload", "source_keys")

    def __init__(
        self, payload: bytes, conflation_key: str | None, source_keys: Sequence[int] = ()
    ) -> None:
        self.payload = payload
        self.conflation_key = conflation_key
        self.source_keys = source_keys
        self.parts_by_variant: dict[Variant, tuple[bytes, bytes]] = {}

    def is_withdrawn(self, source_key: int, heard_keys: Set[int]) -> bool:
        """Is it for nobody who no longer hears `source_key` and still hears `heard_keys`?"""
        return source_key in self.source_keys and heard_keys.isdisjoint(self.source_keys)


class Variant:
    """A way to encode a push: protocol version, size of the topic name, topic alias.

    The packets of two clients of one variant differ only in the topic name, so a sequence of pushes
    is encoded once: the topic name joins the pieces between which it stands.
    """

    __slots__ = (
        "_pieces",
        "_pushes",
        "encoding_count",
        "is_aliasing",
        "properties",
        "topic_size_bytes",
        "version",
    )

    def __init__(self, version: Version, topic_size_bytes: int, properties: bytes = b"\0") -> None:
        self.version = version
        self.topic_size_bytes = topic_size_bytes
        self.properties = properties
        self.encoding_count = 0
        # Says a topic name and the alias it has from then on: good for one packet a client.
        self.is_aliasing = topic_size_bytes > 0 and properties == _TOPIC_ALIAS_PROPERTIES
        self._pushes: list[Push] = []
        self._pieces: list[bytes] = []

    def join(self, topic_name: bytes, pushes: list[Push]) -> bytes:
        """All packets of `pushes` for one client. Hot: clients of one burst share the pieces."""
        if pushes != self._pushes:  # by identity of the pushes
            self._pieces = self._cut(pushes)
            self._pushes = pushes.copy()
        return topic_name.join(self._pieces)

    def forget(self) -> None:
        """Let go of the last sequence: call at the end of a flush."""
        self._pushes = []
        self._pieces = []

    def size_bytes(self, push: Push) -> int:
        """The size of one packet of this variant."""
        head, tail = self._parts(push)
        return len(head) + self.topic_size_bytes + len(tail)

    def _cut(self, pushes: list[Push]) -> list[bytes]:
        pieces: list[bytes] = []
        before = b""
        for push in pushes:
            head, tail = self._parts(push)
            pieces.append(before + head)
            before = tail
        pieces.append(before)
        if self.topic_size_bytes == 0:
            return [b"".join(pieces)]  # no topic name to put in: one object serves every client
        return pieces

    def _parts(self, push: Push) -> tuple[bytes, bytes]:
        parts = push.parts_by_variant.get(self)
        if parts is None:
            parts = push_parts(self.version, self.topic_size_bytes, push.payload, self.properties)
            push.parts_by_variant[self] = parts
            self.encoding_count += 1
        return parts


class Variants:
    """The variants of one server: a few, however many clients there are."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[Version, int], Variant] = {}
        self._aliased_by_size: dict[int, Variant] = {}
        # An established alias needs no topic name, so one variant serves all.
        self.aliased = Variant(Version.V5, 0, _TOPIC_ALIAS_PROPERTIES)

    def plain(self, version: Version, topic_size_bytes: int) -> Variant:
        # MQTT 3.1 and 3.1.1 encode a PUBLISH alike.
        key = (Version.V5 if version is Version.V5 else Version.V3_1_1, topic_size_bytes)
        variant = self._by_key.get(key)
        if variant is None:
            variant = self._by_key[key] = Variant(*key)
        return variant

    def aliasing(self, topic_size_bytes: int) -> Variant:
        """The first packet to a client: says the topic name and the alias it will have."""
        variant = self._aliased_by_size.get(topic_size_bytes)
        if variant is None:
            variant = Variant(Version.V5, topic_size_bytes, _TOPIC_ALIAS_PROPERTIES)
            self._aliased_by_size[topic_size_bytes] = variant
        return variant

    def end_flush(self) -> int:
        """Forget the joined sequences; the number of encodings since the last call."""
        encoding_count = 0
        for variant in (*self._by_key.values(), *self._aliased_by_size.values(), self.aliased):
            variant.forget()
            encoding_count += variant.encoding_count
            variant.encoding_count = 0
        return encoding_count


@dataclass(slots=True)
class BacklogTotals:
    """What waits for all slow readers of the process together."""

    packet_count: int = 0
    size_bytes: int = 0


class Backlog:
    """Pushes waiting for one slow reader, within bounds; arrivals and drops cost O(1) a push."""

    __slots__ = ("_latest_by_key", "_pushes", "_superseded", "_totals", "size_bytes")

    def __init__(self, totals: BacklogTotals) -> None:
        self._totals = totals
        self.size_bytes = 0
        self._pushes: OrderedDict[int, Push] = OrderedDict()  # by arrival
        self._latest_by_key: dict[str, int] = {}
        self._superseded: deque[int] = deque()  # arrivals that have a newer one of their key

    def __len__(self) -> int:
        return len(self._pushes)

    def append(self, push: Push) -> None:
        arrival = next(reversed(self._pushes), -1) + 1
        self._pushes[arrival] = push
        key = push.conflation_key
        if key is not None:
            older = self._latest_by_key.get(key)
            if older is not None:
                self._superseded.append(older)
            self._latest_by_key[key] = arrival
        self.size_bytes += len(push.payload)
        self._totals.size_bytes += len(push.payload)
        self._totals.packet_count += 1

    def drop_one(self) -> str:
        """Give up one push: one that a newer of its key replaces, else the oldest. Says which."""
        while self._superseded:
            arrival = self._superseded.popleft()
            if arrival in self._pushes:
                self._removed(self._pushes.pop(arrival))
                return "conflated"
        arrival, push = self._pushes.popitem(last=False)
        key = push.conflation_key
        if key is not None and self._latest_by_key.get(key) == arrival:
            del self._latest_by_key[key]
        self._removed(push)
        return "outbox_full"

    def withdraw(self, source_key: int, heard_keys: Set[int]) -> int:
        """Give up what came by `source_key` alone; how many. Costs a look at all that waits."""
        kept = [
            push for push in self._pushes.values() if not push.is_withdrawn(source_key, heard_keys)
        ]
        withdrawn_count = len(self._pushes) - len(kept)
        if withdrawn_count:
            self.take_all()
            for push in kept:
                self.append(push)
        return withdrawn_count

    def take_all(self) -> list[Push]:
        """Everything in order of arrival; the backlog is empty afterwards."""
        pushes = list(self._pushes.values())
        self._totals.size_bytes -= self.size_bytes
        self._totals.packet_count -= len(pushes)
        self.size_bytes = 0
        self._pushes.clear()
        self._latest_by_key.clear()
        self._superseded.clear()
        return pushes

    def _removed(self, push: Push) -> None:
        self.size_bytes -= len(push.payload)
        self._totals.size_bytes -= len(push.payload)
        self._totals.packet_count -= 1
