"""What the hub counts, in Prometheus' terms. Served at `/metrics`."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry per application, so that two in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        names = ("operation", "status")
        self.requests = Counter("hub_requests", "Requests answered", names, registry=self.registry)
        self.seconds = Histogram(
            "hub_request_seconds",
            "Time from a request's arrival to the end of its answer",
            ("operation",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )
        self.in_progress = Gauge("hub_requests_in_progress", "Requests being answered", registry=self.registry)
        self.changes = Counter("hub_changes", "Changes seen in the feed", ("store", "op"), registry=self.registry)

        # Found once: `labels` takes a lock and makes a tuple of strings each time.
        self._of_operation = lru_cache(maxsize=1_000)(self._find)

    def observed(self, operation: str, status: int, seconds: float) -> None:
        requests, durations = self._of_operation(operation, status)
        requests.inc()
        durations.observe(seconds)

    def _find(self, operation: str, status: int) -> tuple[Counter, Histogram]:
        return self.requests.labels(operation, str(status)), self.seconds.labels(operation)

    def render(self) -> bytes:
        return generate_latest(self.registry)
