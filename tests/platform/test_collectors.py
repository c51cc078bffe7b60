"""The hub's own counters and histograms produce the same Prometheus text as those of prometheus-client."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from hub.collectors import CounterCollector, HistogramCollector

BOUNDS = (0.001, 0.01, 1, 2.5)
TIMES = (0.0005, 0.001, 0.0011, 0.5, 1.0, 2.5, 2.6, 100.0)


def shown(registry: CollectorRegistry) -> list[str]:
    """Return the lines of a registry, except the creation times of series."""
    return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)


def test_they_show_what_the_librarys_would() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts, durations, plain = (
        CounterCollector("a", "A", ("x", "y")),
        HistogramCollector("b", "B", BOUNDS, ("x",)),
        HistogramCollector("c", "C", BOUNDS),
    )
    for collector in (counts, durations, plain):
        ours.register(collector)
    counter = Counter("a", "A", ("x", "y"), registry=theirs)
    histogram = Histogram("b", "B", ("x",), buckets=BOUNDS, registry=theirs)
    unlabelled = Histogram("c", "C", buckets=BOUNDS, registry=theirs)
    assert shown(ours) == shown(theirs)
    for seconds in TIMES:
        counts.add("get", 200)
        counter.labels("get", "200").inc()
        durations.observe(seconds, "get")
        histogram.labels("get").observe(seconds)
        plain.observe(seconds)
        unlabelled.observe(seconds)
    counts.add("get", 404, count=5)
    counter.labels("get", "404").inc(5)
    assert shown(ours) == shown(theirs)
