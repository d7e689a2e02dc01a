"""What all providers share: a request is judged, perhaps struck by a fault, written down, answered.

Owns that order, and the devices that are dead. Knows no socket: requests come in and outcomes go
out as plain values. The one idea: a network refuses by raising `Refusal` with its own error code,
and a fault with a code is rendered by the same table: an error looks the same whatever its cause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable
from email.utils import formatdate
from typing import Any, NamedTuple

from mqttpush.provider_simulator.faults import NOT_TAKEN, Cut, Fault, FaultPlan
from mqttpush.provider_simulator.ledger import Arrival, Ledger

Clock = Callable[[], float]
PLAIN_BODY = b"<!DOCTYPE html><title>Error</title><p>The server could not serve this request.</p>"


class Request(NamedTuple):
    """One HTTP request. headers: by lower-case name; repeated: names that came more than once.

    peer: serial number of the client certificate, in hexadecimal; empty without one.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    repeated: frozenset[str] = frozenset()
    peer: str = ""


class Reply(NamedTuple):
    """One HTTP answer; Content-Length is the link's business."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Outcome(NamedTuple):
    """An answer and how it goes out. later: not known yet; takes the place of all the rest."""

    reply: Reply
    cut: Cut | None = None
    delay_s: float = 0.0
    slow_body_s: float = 0.0
    later: asyncio.Future[Reply] | None = None


class Verdict(NamedTuple):
    """A request the network takes. payload: None if nothing reaches a device (dry run, OAuth2)."""

    reply: Reply
    token: str = ""
    payload: bytes | None = None
    place: str = "send"


class Death(NamedTuple):
    """Why and since when a device is gone."""

    code: str
    since_ms: int


class Refusal(Exception):
    """The network does not take it. code: of its own table of errors; facts: for its body."""

    def __init__(self, code: str, message: str = "", **facts: Any) -> None:
        self.code = code
        self.message = message
        self.facts = facts
        super().__init__(f"{code} {message}")


class Provider:
    """One network. Subclasses say what is right (`judge`) and how an error looks (`render`)."""

    network = ""
    death_code = ""
    codes: Container[str] = ()

    def __init__(self, *, clock: Clock, faults: FaultPlan) -> None:
        self.clock = clock
        self.faults = faults
        self.ledger = Ledger()
        self.death_by_token: dict[str, Death] = {}
        self.url = ""

    def judge(self, request: Request) -> Verdict:
        """Check it as the network does; raises Refusal."""
        raise NotImplementedError

    def make_tokens(self, count: int = 1) -> list[str]:
        """New devices that the network knows: their tokens."""
        raise NotImplementedError

    def render(self, refusal: Refusal) -> Reply:
        """The error as the network writes it; an unknown code comes with a status in its facts."""
        raise NotImplementedError

    def require_code(self, code: str, status: int) -> None:
        """Raises ValueError for a fault's code that could not be rendered."""
        if code and not status and code not in self.codes:
            raise ValueError(f"{self.network} has no error {code}: give a status, too")

    def key_of(self, token: str) -> str:
        """The device's key in counts, faults and deaths: its token, unless that is a document."""
        return token

    def receive(self, request: Request) -> Outcome:
        """Judge, strike, write down."""
        return self.receive_as(request, lambda: self.judge(request))

    def receive_as(self, request: Request, judge: Callable[[], Verdict]) -> Outcome:
        """The same with a judgement of the caller's."""
        try:
            verdict = judge()
        except Refusal as refusal:
            self.ledger.refusals[refusal.code] += 1
            return Outcome(self._dated(self.render(refusal)))
        fault = self.faults.pick(self.network, verdict.place, verdict.token)
        if fault is None:
            self._take(request, verdict)
            return Outcome(verdict.reply)
        self.ledger.fault_count += 1
        reply = self._struck(verdict.reply, fault)
        if reply.status < 300 and fault.cut not in NOT_TAKEN:
            self._take(request, verdict)
        return Outcome(reply, fault.cut, fault.delay_s, fault.slow_body_s)

    def kill(self, tokens: Iterable[str], *, code: str = "", since_ms: int | None = None) -> None:
        """These devices are gone since then (by default now), as the network says it."""
        since_ms = int(self.clock() * 1000) if since_ms is None else since_ms
        death = Death(code or self.death_code, since_ms)
        self.death_by_token.update((self.key_of(token), death) for token in tokens)

    def revive(self, tokens: Iterable[str]) -> None:
        """The devices are there again."""
        for token in tokens:
            self.death_by_token.pop(self.key_of(token), None)

    def count(self, token: str) -> int:
        """Pushes this device has got."""
        return self.ledger.count_by_token.get(self.key_of(token), 0)

    def last(self, token: str) -> Arrival | None:
        """The last push this device has got; None if 10,000 others have got one since."""
        return self.ledger.last_by_token.get(self.key_of(token))

    def reset(self) -> None:
        """Forget pushes and deaths; keys and devices stay."""
        self.ledger.clear()
        self.death_by_token.clear()

    def _require_alive(self, token: str) -> None:
        if self.death_by_token and (death := self.death_by_token.get(token)):
            raise Refusal(death.code, since_ms=death.since_ms)

    def _take(self, request: Request, verdict: Verdict) -> None:
        if verdict.payload is not None:
            at_ms = int(self.clock() * 1000)
            self.ledger.take(Arrival(verdict.token, verdict.payload, request.headers, at_ms))
        elif verdict.place == "send":
            self.ledger.dry_run_count += 1

    def _struck(self, reply: Reply, fault: Fault) -> Reply:
        if fault.code:
            facts = {"status": fault.status, "since_ms": fault.since_ms}
            known = {name: value for name, value in facts.items() if value is not None}
            reply = self.render(Refusal(fault.code, "", **known))
        elif fault.status:
            reply = Reply(fault.status, PLAIN_BODY if fault.status >= 400 else reply.body)
        headers = [*reply.headers, *fault.headers.items()]
        if fault.retry_after is not None:
            headers.append(("retry-after", str(fault.retry_after)))
        body = reply.body if fault.body is None else fault.body.encode()
        if fault.huge_body_bytes:
            body = body.ljust(fault.huge_body_bytes)
        return self._dated(Reply(fault.status or reply.status, body, tuple(headers)))

    def _dated(self, reply: Reply) -> Reply:
        """With the simulator's time, by which a client may find its own clock wrong."""
        date = ("date", formatdate(self.clock(), usegmt=True))
        return reply._replace(headers=(*reply.headers, date))
