"""A router on a fake MQTT server that keeps what it was told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

from mqttpush.events import (
    ClientAttached,
    Committed,
    MessageSent,
    ObjectEvent,
    PhoneChange,
)
from mqttpush.metrics import Metrics
from mqttpush.models import NEVER_MS, Audience, ObjectEventType, Owner, SourceKind
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
    source_keys: list[Sequence[int]] = field(default_factory=list)  # of each push so far
    withdrawn: list[tuple[list[str], int, set[int]]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    reasons: list[CloseReason] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    rendered: list[tuple[ObjectEvent, int]] = field(default_factory=list)

    def fan_out(
        self,
        handles: Iterable[str],
        payload: bytes,
        conflation_key: str | None,
        source_keys: Sequence[int],
    ) -> int:
        listed = list(handles)
        self.source_keys.append(source_keys)
        self.pushes.append((listed, payload, conflation_key))
        return sum(handle not in self.full for handle in listed)

    def withdraw(self, handles: Iterable[str], source_key: int, heard_keys: Set[int]) -> None:
        self.withdrawn.append((list(handles), source_key, set(heard_keys)))

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
    reached: list[tuple[MessageSent, list[Owner]]] = field(default_factory=list)
    phones: list[PhoneChange] = field(default_factory=list)
    now_ms: int = nouns.NOW_MS

    def __post_init__(self) -> None:
        self.router = Router(
            fan_out=self.broker.fan_out,
            withdraw=self.broker.withdraw,
            close=self.broker.close,
            is_open=lambda handle: handle not in self.broker.gone,
            render_event=self.broker.render,
            on_routed=lambda *facts: self.routed.append(facts),
            on_command_routed=lambda *_: None,
            on_presence=lambda *_: None,
            on_reached=lambda *facts: self.reached.append(facts),
            on_phones=lambda change: self.phones.append(change),
            on_runs_queued=lambda _: None,
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
        audience = Audience.of_topic(topic)
        self.apply(MessageSent("m", audience, MQTT, to_development, to_production))
        return self.broker.receivers()

    def hearers_of_direct(
        self, target: Owner, *, to_development: bool = True, to_production: bool = True
    ) -> list[str]:
        audience = Audience.of_owners(target)
        self.apply(MessageSent("m", audience, MQTT, to_development, to_production))
        return self.broker.receivers()


def object_event(key: int, *filter_keys: int) -> ObjectEvent:
    type_ = ObjectEventType.CREATED
    bucket = nouns.source(key)
    return ObjectEvent(type_, bucket, "object", nouns.NOW_MS, "user:anna", filter_keys)
