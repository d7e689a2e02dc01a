"""The cases: what is asked of which servers, and which numbers come out.

Owns devices, events and bars of every case; docs/benchmarks.md is written from this table. Knows no
process and no packet. A case gets a server that has just started, warms it up, and returns samples;
time stops when the receivers are drained.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import measure
from .hooks import PLAIN, HookPush, added_ms, p99_beside_endless_code
from .phones import DEVICES, MANY_DEVICES, PhonePush, fan_out_beside, send_rate
from .rest import CONNECTIONS
from .servers import (
    Amqtt,
    AmqttOwnTopics,
    BareC,
    Engine,
    Mosquitto,
    MosquittoOwnTopics,
    MqttPush,
    Nats,
    NatsOwnTopics,
    Server,
    ServerError,
    check_delivery,
)
from .tools import Answer

# Handshakes under way at once in a storm; below mosquitto's listen backlog of 100, beyond which
# the kernel drops a SYN and the client waits a second.
STORM_CONCURRENCY = 64
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Metric:
    """One number of a case: its unit, and the bar if there is one."""

    name: str
    unit: str
    meaning: str
    bar: float | None = None
    is_more_better: bool = False
    # (factor, server): the bar is that many times the median of another server in the same run.
    relative_bars: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Samples:
    """Values of one metric on one fresh server; `p99s` when a value has a tail of its own."""

    values: tuple[float, ...]
    p99s: tuple[float, ...] = ()


Measured = Mapping[str, Samples]


@dataclass(frozen=True)
class Scale:
    """How large a run is; `--quick` shrinks what takes long."""

    is_quick: bool

    def of(self, full: int, quick: int) -> int:
        """The full number, or the quick one."""
        return quick if self.is_quick else full


@dataclass(frozen=True)
class Case:
    """One row of the plan; the first of `servers` is held against the bars."""

    name: str
    what: str
    metrics: tuple[Metric, ...]
    measure: Callable[[Server, Scale], Measured]
    servers: tuple[type[Server], ...]
    compared: tuple[type[Server], ...] = field(default=())


def per_push_us(answer: Answer) -> float:
    """Server CPU per delivered push, microseconds."""
    return float(answer["server_cpu_s"] / answer["pushes"] * 1e6)


def _fan_out(devices: int, events: int, bursts: int) -> Callable[[Server, Scale], Measured]:
    """Cost of `events` sent together to `devices`, drained, `bursts` times over."""

    def run(server: Server, scale: Scale) -> Measured:
        count = scale.of(devices, min(devices, 1000))
        made = server.devices(count)
        server.loadgen.connect(server.mqtt_port, made, concurrency=STORM_CONCURRENCY)
        costs: list[float] = []
        rates: list[float] = []
        began = time.monotonic()
        for burst in range(scale.of(bursts, 2) + 1):
            if len(costs) > 1 and time.monotonic() - began > PATIENCE_S:
                break  # a broker that takes 40 s a burst need not show it five times
            answer = server.push(events, count)
            check_delivery(server, answer, events)
            if burst > 0:  # the first one warms up
                costs.append(per_push_us(answer))
                rates.append(answer["pushes"] / answer["seconds"])
        return {"cpu": Samples(tuple(costs)), "rate": Samples(tuple(rates))}

    return run


def _ingest(server: Server, scale: Scale) -> Measured:
    assert isinstance(server, MqttPush)
    count = scale.of(20_000, 4_000)
    costs, rates, times, tails = [], [], [], []
    for batch in range(4):
        requests = server.app.creates(server.bucket, count if batch > 0 else count // 4)
        answer = server.loadgen.http(
            server.http_port, requests, connections=CONNECTIONS, pid=server.pid
        )
        if batch > 0:
            costs.append(answer["server_cpu_s"] / len(requests) * 1e6)
            rates.append(len(requests) / answer["seconds"])
            times.append(answer["answer_ms"]["p50"])
            tails.append(answer["answer_ms"]["p99"])
    return {
        "rate": Samples(tuple(rates)),
        "cpu": Samples(tuple(costs)),
        "answer": Samples(tuple(times), tuple(tails)),
    }


def _latency(server: Server, scale: Scale) -> Measured:
    devices, rate = 10, 100
    server.loadgen.connect(server.mqtt_port, server.devices(devices))
    server.push(rate, devices, rate=rate)
    events = rate * scale.of(20, 3)
    answer = server.push(events, devices, rate=rate)
    check_delivery(server, answer, events)
    sent = answer["sent_to_received_ms"]
    measured = {"sent": Samples((sent["p50"],), (sent["p99"],))}
    if isinstance(server, MqttPush):
        accepted = answer["accepted_to_received_ms"]
        measured["accepted"] = Samples((accepted["p50"],), (accepted["p99"],))
    return measured


def _connects(server: Server, scale: Scale) -> Measured:
    count = scale.of(5_000, 1_000)
    rates, costs, times, tails = [], [], [], []
    devices = server.devices(count)
    for storm in range(4):
        answer = server.loadgen.connect(
            server.mqtt_port,
            devices if storm > 0 else devices[: count // 4],
            concurrency=STORM_CONCURRENCY,
            pid=server.pid,
        )
        server.loadgen.run("disconnect")
        time.sleep(0.5)  # let the server notice
        if storm > 0:
            rates.append(answer["connected"] / answer["connect_s"])
            costs.append(answer["server_cpu_s"] / answer["connected"] * 1e6)
            times.append(answer["connect_ms"]["p50"])
            tails.append(answer["connect_ms"]["p99"])
    return {
        "rate": Samples(tuple(rates)),
        "cpu": Samples(tuple(costs)),
        "time": Samples(tuple(times), tuple(tails)),
    }


def _memory(server: Server, scale: Scale) -> Measured:
    count, first, few = scale.of(4_000, 2_000), 100, scale.of(1_000, 500)
    devices = server.devices(first + count + 3 * few, subscriptions=10)
    options = {"concurrency": STORM_CONCURRENCY, "keep_alive_s": 600}
    server.loadgen.connect(server.mqtt_port, devices[:first], **options)
    before = _settled_memory_kib(server)
    server.loadgen.connect(server.mqtt_port, devices[first : first + count], **options)
    after = _settled_memory_kib(server)
    measured = {"tcp": Samples(((after - before) / count,))}
    if isinstance(server, MqttPush):
        # All stay connected: memory that one transport gave back would look free to the next.
        with contextlib.ExitStack() as stack:
            for index, kind in enumerate(("ws", "tls", "wss")):
                start = first + count + index * few
                stack.enter_context(server.holding(kind, devices[start : start + few]))
                before, after = after, _settled_memory_kib(server)
                measured[kind] = Samples(((after - before) / few,))
    return measured


def _settled_memory_kib(server: Server) -> int:
    time.sleep(1)  # what a handshake needed is given back
    return measure.memory_kib(server.pid)


def _idle(server: Server, scale: Scale) -> Measured:
    count, seconds = scale.of(10_000, 1_000), scale.of(30, 5)
    server.loadgen.connect(
        server.mqtt_port,
        server.devices(count),
        concurrency=STORM_CONCURRENCY,
        keep_alive_s=60,
        timeout=120,
    )
    server.loadgen.run("hold", seconds=2)
    answer = server.loadgen.run("hold", seconds=seconds, pid=server.pid)
    if answer["lost_connections"] or answer["answers"] < answer["pings"] * 0.99:
        raise ServerError(f"{server.name} lost idle connections: {answer}")
    return {"cpu": Samples((answer["server_cpu_s"] / answer["seconds"] * 100,))}


def _stalled(server: Server, scale: Scale) -> Measured:
    assert isinstance(server, MqttPush)
    devices, rate = 1_000, 20
    events = scale.of(200, 60)
    users = server.users(devices)
    # The one that will stall has a small window, so that what it does not take stays with the
    # server; 1,500 pushes of 3.8 KB are more than any socket buffer between them.
    server.loadgen.connect(server.mqtt_port, [users[0].device], receive_buffer_bytes=4096)
    server.loadgen.connect(server.mqtt_port, [user.device for user in users[1:]])
    server.push(events, devices, rate=rate)
    p99s: dict[bool, list[float]] = {False: [], True: []}
    p50s: dict[bool, list[float]] = {False: [], True: []}
    for is_stalled in (False, True, False, True):
        server.loadgen.run("stall", count=1, on=int(is_stalled))
        if is_stalled:
            flood = server.app.direct_pushes(users[0], 1_500, size=3_800)
            server.loadgen.http(server.http_port, flood, connections=CONNECTIONS)
        else:
            server.loadgen.run("hold", seconds=1)
        answer = server.push(events, devices - is_stalled, rate=rate)
        check_delivery(server, answer, events)
        p99s[is_stalled].append(answer["sent_to_received_ms"]["p99"])
        p50s[is_stalled].append(answer["sent_to_received_ms"]["p50"])
    ratios = [stalled / alone for stalled, alone in zip(p99s[True], p99s[False], strict=True)]
    return {
        "ratio": Samples(tuple(ratios)),
        "none": Samples(tuple(p50s[False]), tuple(p99s[False])),
        "one": Samples(tuple(p50s[True]), tuple(p99s[True])),
    }


def _phones(server: Server, scale: Scale) -> Measured:
    assert isinstance(server, PhonePush)
    server.fill(scale.of(DEVICES, 2_000), scale.of(MANY_DEVICES, 20_000))
    measured: dict[str, Samples] = {}
    for network in PHONE_NETWORKS:
        send_rate(server, network)  # warms up
        rates, costs = zip(*(send_rate(server, network) for _ in range(3)), strict=True)
        measured |= {f"{network}-rate": Samples(rates), f"{network}-cpu": Samples(costs)}
    devices, events = 1_000, scale.of(200, 40)
    server.loadgen.connect(server.mqtt_port, server.devices(devices))
    server.push(events, devices, rate=20)
    fan_out_beside(server, devices, events)  # fills the store's caches
    rounds = [fan_out_beside(server, devices, events) for _ in range(scale.of(3, 1))]
    alone, beside, memory = zip(*rounds, strict=True)
    ratios = [after / before for before, after in zip(alone, beside, strict=True)]
    return {
        **measured,
        "ratio": Samples(tuple(ratios)),
        "alone": Samples(alone),
        "beside": Samples(beside),
        "memory": Samples(memory),
    }


def _hooks(server: Server, scale: Scale) -> Measured:
    assert isinstance(server, HookPush)
    found = added_ms(server, rounds=scale.of(15, 5), count=scale.of(300, 100))
    return {name: Samples(values) for name, values in found.items()}


def _endless_hooks(server: Server, scale: Scale) -> Measured:
    assert isinstance(server, HookPush)
    devices = 1_000
    server.loadgen.connect(server.mqtt_port, server.devices(devices))
    alone, beside = p99_beside_endless_code(server, devices, scale.of(200, 60), scale.of(3, 1))
    ratios = [after / before for before, after in zip(alone, beside, strict=True)]
    return {"ratio": Samples(tuple(ratios)), "alone": Samples(alone), "beside": Samples(beside)}


_PER_PUSH = "server CPU per delivered push"
_PER_CONNECTION = "growth of the server's PSS per connection"
_RATE = Metric("rate", "pushes/s", "pushes received a second", is_more_better=True)
PHONE_NETWORKS = ("fcm", "apns", "jpush", "webpush")
_BROKERS = (Mosquitto, Nats, Amqtt)

CASES = (
    Case(
        "fanout-rest",
        "1,000 devices on one bucket, 100 objects created over 32 HTTP connections",
        (Metric("cpu", "µs", f"{_PER_PUSH}, REST and store included", bar=3.0), _RATE),
        _fan_out(1_000, 100, bursts=5),
        (MqttPush,),
    ),
    Case(
        "ingest",
        "durable creates over 32 HTTP connections, nobody subscribed, server on one core",
        (
            Metric("rate", "creates/s", "creates a second", bar=6_000, is_more_better=True),
            Metric("cpu", "µs", "server CPU per create", bar=150.0),
            Metric("answer", "ms", "request sent to answer received"),
        ),
        _ingest,
        (MqttPush,),
    ),
    Case(
        "latency",
        "100 writes a second, 10 devices each",
        (
            Metric("accepted", "ms", "write accepted to push received", bar=10.0),
            Metric("sent", "ms", "write sent to push received"),
        ),
        _latency,
        (MqttPush,),
        _BROKERS,
    ),
    Case(
        "fanout-one",
        "one event to 5,000 devices, 200-byte payloads",
        (
            Metric(
                "cpu",
                "µs",
                _PER_PUSH,
                relative_bars=((1.3, BareC.name), (1.0, Mosquitto.name)),
            ),
            _RATE,
        ),
        _fan_out(5_000, 1, bursts=20),
        (Engine, MqttPush, BareC),
        _BROKERS,
    ),
    Case(
        "burst",
        "100 events to 1,000 devices through the engine, 200-byte payloads",
        (
            Metric(
                "cpu",
                "µs",
                _PER_PUSH,
                bar=0.6,
                relative_bars=((0.1, Mosquitto.name), (0.5, Nats.name)),
            ),
            _RATE,
        ),
        _fan_out(1_000, 100, bursts=5),
        (Engine, BareC),
        (*_BROKERS, MosquittoOwnTopics, NatsOwnTopics, AmqttOwnTopics),
    ),
    Case(
        "connects",
        "CONNECT with the device's own credentials, then SUBSCRIBE, 64 under way at once",
        (
            Metric("rate", "connects/s", "connects a second", bar=4_000, is_more_better=True),
            Metric("cpu", "µs", "server CPU per connect"),
            Metric("time", "ms", "connect() to SUBACK"),
        ),
        _connects,
        (MqttPush,),
        _BROKERS,
    ),
    Case(
        "memory-idle",
        "idle connections with 10 subscriptions each (brokers: 1)",
        (
            Metric("tcp", "KiB", f"{_PER_CONNECTION}, TCP", bar=4.0),
            Metric("ws", "KiB", f"{_PER_CONNECTION}, WebSocket", bar=16.0),
            Metric("tls", "KiB", f"{_PER_CONNECTION}, TLS"),
            Metric("wss", "KiB", f"{_PER_CONNECTION}, WebSocket over TLS"),
        ),
        _memory,
        (MqttPush,),
        _BROKERS,
    ),
    Case(
        "idle-cpu",
        "10,000 connections at keep-alive 60 s, each pinging every 54 s",
        (Metric("cpu", "% of a core", "server CPU while nothing is sent", bar=2.0),),
        _idle,
        (MqttPush,),
        _BROKERS,
    ),
    Case(
        "stalled",
        "20 events a second to 1,000 devices, of which none or one has stopped reading",
        (
            Metric("ratio", "x", "p99 with one stalled / p99 with none", bar=1.2),
            Metric("none", "ms", "write sent to push received, none stalled"),
            Metric("one", "ms", "write sent to push received, one stalled"),
        ),
        _stalled,
        (MqttPush,),
    ),
    Case(
        "phones",
        "20,000 phones of each network, simulated on the load's core; then 100,000 beside"
        " 20 events a second to 1,000 MQTT devices",
        (
            *(
                metric
                for network in PHONE_NETWORKS
                for metric in (
                    Metric(
                        f"{network}-rate",
                        "pushes/s",
                        f"pushes {network} took a second",
                        bar=2_000,
                        is_more_better=True,
                    ),
                    Metric(
                        f"{network}-cpu",
                        "µs",
                        f"server CPU per push over {network}, store included",
                        bar=400.0,
                    ),
                )
            ),
            Metric("memory", "MiB", "growth while 100,000 phones are worked off", bar=20.0),
            Metric("ratio", "x", "p99 of MQTT pushes beside that / p99 alone", bar=1.3),
            Metric("alone", "ms", "p99, write sent to push received, alone"),
            Metric("beside", "ms", "p99, write sent to push received, beside"),
        ),
        _phones,
        (PhonePush,),
    ),
    Case(
        "hooks",
        "saves of entities one after the other, with code before them and without, in turns",
        (
            Metric("python", "ms", "a plain Python function adds to a save", bar=0.2),
            Metric("async", "ms", "an async Python function adds to a save", bar=0.2),
            Metric("script", "ms", "a warm JavaScript function adds to a save", bar=2.0),
            Metric(PLAIN, "ms", "request sent to answer received without code"),
        ),
        _hooks,
        (HookPush,),
    ),
    Case(
        "endless-hooks",
        "20 events a second to 1,000 devices, while code of two apps runs until its time is up, on"
        " the server's own core",
        (
            Metric("ratio", "x", "p99 beside that / p99 alone", bar=1.2),
            Metric("alone", "ms", "p99, write sent to push received, alone"),
            Metric("beside", "ms", "p99, write sent to push received, beside"),
        ),
        _endless_hooks,
        (HookPush,),
    ),
)
