"""Nouns of delivery to phones: a job, its deliveries, and what became of them.

Knows no SQL, no network and no retry. The one idea: a job is one push over one network, made in the
unit that made the push; a delivery is one device of it. What is in neither of them is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from mqttpush.models import Audience, PhonePayload

# Any would do; the same for ever.
_PUSHES: Final = UUID("6c3aa9b4-6a5e-4d0c-9a87-0d2b5f2f2b61")


@dataclass(frozen=True, slots=True)
class PushJob:
    """What is to be sent to the phones of one push over one network.

    message_id: empty for an event. place: what it was sent to, for people. payloads: by variant; a
    device takes that of its own variant, else that of its network; an empty one is not sent.
    is_once: owners whom a live connection has reached are left out. ready_ms: not before.
    expires_ms: not after.
    """

    app_id: str
    network: str
    message_id: str
    place: str
    payloads: Mapping[str, PhonePayload]
    audience: Audience
    created_ms: int
    ready_ms: int
    expires_ms: int
    to_development: bool = True
    to_production: bool = True
    is_once: bool = False
    key: int = 0  # the store's


class Delivery(NamedTuple):
    """One device of a job that is to be sent to. token: empty if the device is gone.

    is_allowed: the device is still its owner's, and he enabled. has_problem: it is marked.
    """

    job: PushJob
    installation_id: str
    token: str
    variant: str
    is_development: bool
    attempts: int
    is_allowed: bool
    has_problem: bool

    @property
    def key(self) -> tuple[int, str]:
        return self.job.key, self.installation_id

    @property
    def push_id(self) -> str:
        return push_id(self.job.message_id or str(self.job.key), self.installation_id)

    @property
    def payload(self) -> PhonePayload | None:
        payloads = self.job.payloads
        payload = payloads.get(self.variant) or payloads.get(self.job.network)
        return payload if payload is not None and payload.body else None


class Attempt(NamedTuple):
    """What came of one attempt, to be written down.

    ending: None if it is tried again at `ready_ms`. attempts: this one included. is_dead: the
    device token goes, unless it was registered again after `dead_since_ms`. problem: marks the
    device; None leaves it as it is, the empty one clears it.
    """

    delivery: Delivery
    ending: str | None
    code: str
    attempts: int
    ready_ms: int
    is_dead: bool = False
    dead_since_ms: int | None = None
    problem: str | None = None


class Expanded(NamedTuple):
    """A page of an audience. made: deliveries to be sent; reached: ended, a connection took it."""

    made: int
    reached: int
    is_done: bool  # it was the last


class Page(NamedTuple):
    """Deliveries to be sent now. next_ms: when to look again, None if nothing is left.

    is_held_back: more follows only when some of what was taken has its ending.
    """

    deliveries: Sequence[Delivery]
    next_ms: int | None
    is_held_back: bool = False


class Trace(NamedTuple):
    """What became of one delivery. ending: None while it is open."""

    installation_id: str
    network: str
    message_id: str
    place: str
    subject: str
    attempts: int
    ready_ms: int
    ending: str | None
    code: str
    done_ms: int
    job_key: int

    @property
    def push_id(self) -> str:
        return push_id(self.message_id or str(self.job_key), self.installation_id)


def push_id(message: str, installation_id: str) -> str:
    """A UUID, the same at each attempt: what Apple's tools find a push by (`apns-id`)."""
    return str(uuid5(_PUSHES, f"{message}/{installation_id}"))


class Queue(NamedTuple):
    """What waits for one network. oldest_ms: when the oldest was made."""

    network: str
    jobs: int
    deliveries: int
    oldest_ms: int | None
