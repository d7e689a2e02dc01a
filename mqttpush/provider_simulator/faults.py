"""Faults: what goes wrong on purpose, and for which request.

Owns the list of faults in force and the choice among them. Knows no network and no socket. The one
idea: a fault counts the requests it could strike and strikes by that count, so the same requests in
the same order always meet the same faults. Only a request the network would have taken counts; one
that it refuses for itself is refused as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Cut(StrEnum):
    """Ways a link is lost. Over HTTP/1.1 the HTTP/2 ones mean the nearest thing it has."""

    RESET_BEFORE = "reset_before"  # TCP reset, the push was not taken
    RESET_AFTER = "reset_after"  # the push was taken, then TCP reset without an answer
    GOAWAY = "goaway"  # answered; later streams are not heard (HTTP/1.1: Connection: close)
    GOAWAY_ABRUPT = (
        "goaway_abrupt"  # GOAWAY that names the stream before it, then closed; not taken
    )
    REFUSED_STREAM = "refused_stream"  # RST_STREAM, REFUSED_STREAM: not taken
    RST_STREAM = "rst_stream"  # taken, then RST_STREAM, INTERNAL_ERROR


NOT_TAKEN = frozenset({Cut.RESET_BEFORE, Cut.GOAWAY_ABRUPT, Cut.REFUSED_STREAM})
PLACES = ("send", "oauth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Which requests: `network`; `token` (empty: any device); `place` "oauth" strikes FCM's token
    endpoint instead of sends; of the requests that match, the first `skip` pass, of the rest each
    `every`-th is struck, `times` of them (None: until it is removed).
    What happens: `code`, an error of the network (its status and body as the network writes them);
    `status` and `body` overrule those, `body` being any text, JSON or not; a code the network does
    not document needs a status; `since_ms` goes with a dead token; `retry_after` and `headers` are
    added to the answer; `delay_s` passes before it; `slow_body_s` while its body trickles;
    `huge_body_bytes` is the size of its body; `cut` ends the link. Without code, status and body
    the request is answered as ever.
    """

    network: str
    place: str = "send"
    token: str = ""
    skip: int = 0
    every: int = 1
    times: int | None = 1
    code: str = ""
    status: int = 0
    body: str | None = None
    since_ms: int | None = None
    retry_after: str | int | float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    slow_body_s: float = 0.0
    huge_body_bytes: int = 0
    cut: Cut | None = None

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(f"place is one of {', '.join(PLACES)}, not {self.place}")
        if self.every < 1 or self.skip < 0 or (self.times is not None and self.times < 1):
            raise ValueError("skip is at least 0, every and times at least 1")


class _Rule:
    """A fault and how many requests it has seen and struck."""

    __slots__ = ("fault", "seen_count", "struck_count")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.seen_count = 0
        self.struck_count = 0

    def is_due(self) -> bool:
        """Count one request; is it struck?"""
        fault = self.fault
        self.seen_count += 1
        if fault.times is not None and self.struck_count >= fault.times:
            return False
        return self.seen_count > fault.skip and (self.seen_count - fault.skip) % fault.every == 0


class FaultPlan:
    """The faults in force. Where several strike, the one added first does."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str, str], list[_Rule]] = {}

    def add(self, fault: Fault, *, token: str = "") -> None:
        """Put a fault in force; token: the device's key, empty for any device."""
        key = (fault.network, fault.place, token)
        self._rules.setdefault(key, []).append(_Rule(fault))

    def clear(self) -> None:
        self._rules.clear()

    def pick(self, network: str, place: str, token: str) -> Fault | None:
        """The fault that strikes this request. Every rule that matches counts it."""
        if not self._rules:
            return None
        struck: _Rule | None = None
        for key in ((network, place, token), (network, place, "")):
            for rule in self._rules.get(key, ()):
                if rule.is_due() and struck is None:
                    struck = rule
        if struck is None:
            return None
        struck.struck_count += 1
        return struck.fault

    def report(self) -> list[dict[str, object]]:
        """Each fault with how many requests it has seen and struck."""
        return [
            {**asdict(rule.fault), "seen_count": rule.seen_count, "struck_count": rule.struck_count}
            for rules in self._rules.values()
            for rule in rules
        ]
