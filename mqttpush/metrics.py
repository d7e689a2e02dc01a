"""Metrics: name, unit and meaning of every counter, in one place.

Knows nobody who counts. A metric is one line in `Metrics.__init__`; README's table is checked
against it. The one idea: whoever counts adds to a plain integer, and prometheus_client only meets
the numbers when somebody scrapes, because a locked increment per push would cost more than a push.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

# 0.1 ms to 10 s: a push is expected under 10 ms, a stalled loop shows in seconds.
LATENCY_BUCKETS_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 10)


class Counter:
    """A number that only grows: add to `value`."""

    __slots__ = ("help", "name", "value")

    def __init__(self, name: str, help: str) -> None:  # noqa: A002 the format's own word
        self.name = name
        self.help = help
        self.value = 0

    def collect(self) -> Metric:
        return CounterMetricFamily(self.name, self.help, value=self.value)


class LabelledCounter:
    """Counters told apart by a closed set of label values; never label with a stranger's text."""

    __slots__ = ("help", "labels", "name", "values")

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:  # noqa: A002
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self.values: dict[tuple[str, ...], int] = {}

    def add(self, *label_values: str, count: int = 1) -> None:
        self.values[label_values] = self.values.get(label_values, 0) + count

    def collect(self) -> Metric:
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for label_values, value in self.values.items():
            family.add_metric(label_values, value)
        return family


class Gauge:
    """A number read when scraped: its owner sets `read`."""

    __slots__ = ("help", "name", "read")

    def __init__(self, name: str, help: str) -> None:  # noqa: A002
        self.name = name
        self.help = help
        self.read: Callable[[], float] = lambda: 0.0

    def collect(self) -> Metric:
        return GaugeMetricFamily(self.name, self.help, value=self.read())


class Histogram:
    """Latencies in seconds, one observation an event (not one a push)."""

    __slots__ = ("counts", "help", "name", "sum_s")

    def __init__(self, name: str, help: str) -> None:  # noqa: A002
        self.name = name
        self.help = help
        self.counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float, *, count: int = 1) -> None:
        self.counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += count
        self.sum_s += seconds * count

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, observations up to it)."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*LATENCY_BUCKETS_S, "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((str(bound), total))
        return buckets

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help)
        family.add_metric([], buckets=self.buckets(), sum_value=self.sum_s)
        return family


class LabelledGauge:
    """Numbers of a closed set, read when scraped: its owner sets `read`."""

    __slots__ = ("help", "label", "name", "read")

    def __init__(self, name: str, help: str, label: str) -> None:  # noqa: A002
        self.name = name
        self.help = help
        self.label = label
        self.read: Callable[[], Mapping[str, float]] = dict

    def collect(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.help, labels=(self.label,))
        for value_of_label, value in self.read().items():
            family.add_metric((value_of_label,), value)
        return family


class LabelledHistogram:
    """Histograms told apart by one label of a closed set."""

    __slots__ = ("help", "histograms", "label", "name")

    def __init__(self, name: str, help: str, label: str) -> None:  # noqa: A002
        self.name = name
        self.help = help
        self.label = label
        self.histograms: dict[str, Histogram] = {}

    def observe(self, value_of_label: str, seconds: float) -> None:
        histogram = self.histograms.get(value_of_label)
        if histogram is None:
            histogram = self.histograms[value_of_label] = Histogram(self.name, self.help)
        histogram.observe(seconds)

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help, labels=(self.label,))
        for value_of_label, histogram in self.histograms.items():
            family.add_metric(
                (value_of_label,), buckets=histogram.buckets(), sum_value=histogram.sum_s
            )
        return family


_Metric = Counter | LabelledCounter | Gauge | LabelledGauge | Histogram | LabelledHistogram


class Metrics(Collector):
    """All metrics of one server. Names end in their unit, as Prometheus asks."""

    def __init__(self) -> None:
        # REST
        self.http_requests = LabelledCounter(
            "mqttpush_http_requests", "API requests answered", ("method", "status")
        )
        self.http_connections = Gauge("mqttpush_http_connections", "open HTTP connections")
        self.password_hashes = Gauge(
            "mqttpush_password_hashes", "password hashes being computed or waiting for that"
        )
        # MQTT
        self.mqtt_connections = Gauge("mqttpush_mqtt_connections", "live MQTT connections")
        self.mqtt_connects = LabelledCounter(
            "mqttpush_mqtt_connects", "CONNECT packets answered, by result", ("result",)
        )
        self.mqtt_disconnects = LabelledCounter(
            "mqttpush_mqtt_disconnects", "MQTT connections ended, by reason", ("reason",)
        )
        self.pushes_sent = Counter(
            "mqttpush_pushes_sent", "PUBLISH packets handed to a client's socket"
        )
        self.pushes_dropped = LabelledCounter(
            "mqttpush_pushes_dropped", "PUBLISH packets not sent, by reason", ("reason", "app")
        )
        self.outbox_packets = Gauge(
            "mqttpush_outbox_packets", "PUBLISH packets waiting for slow readers"
        )
        self.outbox_bytes = Gauge("mqttpush_outbox_bytes", "bytes waiting for slow readers")
        self.mqtt_unauthenticated = Gauge(
            "mqttpush_mqtt_unauthenticated", "MQTT connections not authenticated yet"
        )
        self.mqtt_requests = Counter(
            "mqttpush_mqtt_requests", "PUBLISH packets received on request topics"
        )
        self.push_encodings = Counter(
            "mqttpush_push_encodings", "times a push was encoded, once per variant of a fan-out"
        )
        self.socket_writes = Counter(
            "mqttpush_mqtt_socket_writes", "writes of joined packets to MQTT sockets"
        )
        # Router
        self.events_routed = LabelledCounter(
            "mqttpush_events_routed", "events and messages routed, by kind", ("kind",)
        )
        self.fan_out_latency = Histogram(
            "mqttpush_fan_out_latency_seconds",
            "from a committed event to the last write to a socket of its tick",
        )
        self.live_subscriptions = Gauge(
            "mqttpush_live_subscriptions", "subscriptions of connected clients in the index"
        )
        # Live Service
        self.live_clients = Gauge(
            "mqttpush_live_clients", "connected clients of the Live Service, on all transports"
        )
        self.live_frames = Counter(
            "mqttpush_live_frames", "entities handed to clients of the Live Service"
        )
        self.live_frames_dropped = Counter(
            "mqttpush_live_frames_dropped", "of those, dropped because the client reads too slowly"
        )
        self.live_queued_bytes = Gauge(
            "mqttpush_live_queued_bytes", "bytes waiting for clients of the Live Service"
        )
        self.routing_failures = Counter(
            "mqttpush_routing_failures",
            "committed batches whose routing failed (a bug: see the log)",
        )
        # Phones
        self.phone_pushes = LabelledCounter(
            "mqttpush_phone_pushes", "pushes to phones that ended, by ending", ("network", "ending")
        )
        self.phone_retries = LabelledCounter(
            "mqttpush_phone_retries", "pushes to be tried again, by reason", ("network", "reason")
        )
        self.phone_send_latency = LabelledHistogram(
            "mqttpush_phone_send_latency_seconds", "requests to a push network", "network"
        )
        self.phone_in_flight = LabelledGauge(
            "mqttpush_phone_in_flight", "pushes under way, or not yet written down", "network"
        )
        self.phone_queue_jobs = LabelledGauge(
            "mqttpush_phone_queue_jobs", "pushes whose devices are not all looked up", "network"
        )
        self.phone_queue_deliveries = LabelledGauge(
            "mqttpush_phone_queue_deliveries", "devices waiting for a push", "network"
        )
        self.phone_queue_age = LabelledGauge(
            "mqttpush_phone_queue_age_seconds", "age of the oldest push that waits", "network"
        )
        self.phone_networks_paused = LabelledGauge(
            "mqttpush_phone_network_paused",
            "1 while a network that only fails for an app is left alone by it",
            "network",
        )
        # Server code
        self.hook_runs = LabelledCounter(
            "mqttpush_hook_runs",
            "runs of server code, by language and how they ended",
            ("language", "outcome"),
        )
        self.hook_latency = Histogram(
            "mqttpush_hook_latency_seconds", "runs of server code, with the wait for their turn"
        )
        self.hook_runs_under_way = Gauge(
            "mqttpush_hook_runs_under_way", "runs that react to data or are by the clock, now"
        )
        # Store
        self.store_commits = Counter("mqttpush_store_commits", "transactions committed")
        self.store_writes = Counter("mqttpush_store_writes", "writes inside those transactions")
        self.store_queued_writes = Gauge(
            "mqttpush_store_queued_writes", "writes waiting for a commit"
        )
        # Process
        self.loop_lag = Gauge("mqttpush_loop_lag_seconds", "how late the event loop runs")
        self.limits_reached = LabelledCounter(
            "mqttpush_limits_reached", "times a bound was met, by setting", ("limit",)
        )
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def catalogue(self) -> Iterator[tuple[str, str]]:
        """(name, meaning) of every metric, for documents and their test."""
        for metric in self._all():
            yield metric.name, metric.help

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at a scrape."""
        for metric in self._all():
            yield metric.collect()

    def render(self) -> bytes:
        """The Prometheus text exposition of everything."""
        return generate_latest(self._registry)

    def _all(self) -> Iterator[_Metric]:
        for value in vars(self).values():
            if isinstance(value, _Metric):
                yield value
