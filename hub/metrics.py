"""The hub's Prometheus metrics, served at `/metrics`."""

from __future__ import annotations

import asyncio
from collections import Counter as CountOf
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from hub.collectors import CounterCollector, HistogramCollector
from hub.loop_watch import LoopWatch
from stores.protocol import Consumer
from stores.records import Change, now_ms

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class LiveCounts(Protocol):
    """Figures of the live connections."""

    lagging: int

    def connections_by_kind(self) -> Mapping[tuple[str, str], int]:
        """Return the number of connections by (EIO version, transport)."""

    def channels(self) -> int: ...

    def deliveries(self) -> int: ...


class Metrics:
    """One registry per application, so that two applications in a process stay separate."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = CounterCollector("hub_requests", "Requests answered", ("operation", "status"))
        self.seconds = HistogramCollector(
            "hub_request_seconds",
            "Time from a request's arrival to the end of its answer",
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            ("operation",),
        )
        self.in_progress = Gauge("hub_requests_in_progress", "Requests being answered", registry=self.registry)
        self.connections = Gauge("hub_connections", "Open connections of clients", registry=self.registry)
        tasks = Gauge("hub_tasks", "Tasks of the event loop", registry=self.registry)
        tasks.set_function(lambda: len(asyncio.all_tasks()))
        self._watch_loop()
        self.limits = Counter(
            "hub_limit_reached", "Refusals at a limit, by the name of its setting", ("limit",), registry=self.registry
        )
        self.images = Counter(
            "hub_images", "Images that were to be converted, by what became of them", ("outcome",),
            registry=self.registry,
        )  # fmt: skip
        self.changes = CounterCollector("hub_changes", "Changes seen in the feed", ("store", "op"))
        self.feed_delay = HistogramCollector(
            "hub_feed_delay_seconds",
            "Time from a change to its events being handed out",
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
        )
        for collector in (self.requests, self.seconds, self.changes, self.feed_delay):
            self.registry.register(collector)

    def _watch_loop(self) -> None:
        turns = Histogram(
            "hub_loop_turn_cpu_seconds",
            "CPU time that the event loop's thread took between two looks, which are at most one turn and 20 ms apart",
            buckets=(0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=self.registry,
        )
        self.loop_watch = LoopWatch(turns.observe)
        lag = Gauge("hub_loop_lag_seconds", "The longest turn of the loop in the last minute", registry=self.registry)
        lag.set_function(self.loop_watch.longest)

    def limit_reached(self, limit_name: str) -> None:
        """Count a refusal. An empty name, from an error without a limit, is ignored."""
        if limit_name:
            self.limits.labels(limit_name).inc()

    def image_done(self, outcome: str) -> None:
        """Count an image that was to be converted."""
        self.images.labels(outcome).inc()

    def observed(self, operation: str, status: int, seconds: float) -> None:
        self.requests.add(operation, status)
        self.seconds.observe(seconds, operation)

    def seen(self, changes: Sequence[Change]) -> None:
        """Count changes from the feed, and observe their delay."""
        now = now_ms()
        for made, count in CountOf(change.time for change in changes).items():  # changes of one commit share a time
            self.feed_delay.observe(max(0, now - made) / 1000, times=count)
        for (store, op), count in CountOf((change.store, change.op) for change in changes).items():
            self.changes.add(store, op, count=count)

    def watch(self, live: LiveCounts) -> None:
        """Add the metrics of live connections, read at each scrape."""
        self.registry.register(_LiveCollector(live))

    def watch_consumers(self, consumers: Callable[[], Sequence[Consumer]]) -> None:
        """Add the metrics of the feed's consumers, read at each scrape."""
        self.registry.register(_ConsumerCollector(consumers))

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _LiveCollector(Collector):
    def __init__(self, live: LiveCounts) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        connections = GaugeMetricFamily("hub_live_connections", "Open live connections", labels=("eio", "transport"))
        for labels, count in self._live.connections_by_kind().items():
            connections.add_metric(labels, count)
        yield connections
        yield GaugeMetricFamily("hub_live_channels", "Distinct views that are watched", self._live.channels())
        yield CounterMetricFamily("hub_live_deliveries", "Events handed to connections", self._live.deliveries())
        yield CounterMetricFamily("hub_live_lagging", "Connections cut off because they lagged", self._live.lagging)


class _ConsumerCollector(Collector):
    def __init__(self, consumers: Callable[[], Sequence[Consumer]]) -> None:
        self._consumers = consumers

    def collect(self) -> Iterator[Metric]:
        text = "Age of the oldest change that has not been handled, in the process that works or has stopped"
        lag = GaugeMetricFamily("hub_consumer_lag_seconds", text, labels=["consumer"])
        text = "1 for a consumer that has given up in this process, and why"
        stopped = GaugeMetricFamily("hub_consumer_stopped", text, labels=["consumer", "error"])
        for consumer in self._consumers():
            if (seconds := consumer.lag) is not None:
                lag.add_metric([consumer.name], seconds)
            if (error := consumer.error) is not None:
                stopped.add_metric([consumer.name, type(error).__name__], 1)
        yield lag
        yield stopped
