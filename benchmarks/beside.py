"""An operation beside another one: what both cost, round by round, and the ratio of their times."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.report import Row, number

HEAD: Final = ("engine", "operation", "ms", "CPU µs", "beside", "ms", "CPU µs", "ratio", "target")


@dataclass(frozen=True, slots=True)
class Cost:
    """The time of one operation in a run, in ms, and its CPU time in µs, of the hub and its database together."""

    ms: float
    cpu: float | None

    @classmethod
    def of(cls, row: Row, clients: int) -> Cost:
        """Return the median time for one client. For several it is the time between two answers."""
        result = row.result
        ms = result.percentile(0.5) * 1e3 if clients == 1 else 1e3 / (result.per_second or 1.0)
        hub, database = row.micros(row.hub_cpu), row.micros(row.database_cpu)
        return cls(ms, None if hub is None else hub + (database or 0.0))

    def times(self, number: int) -> Cost:
        """Return the cost of so many operations, one after the other."""
        return Cost(self.ms * number, None if self.cpu is None else self.cpu * number)


@dataclass(slots=True)
class Comparison:
    """The costs of an operation, and of the one beside it, in each round.

    The ratio is that of times, or with `of_cpu` that of CPU. Targets are upper bounds: `most_ratio` of the ratio,
    `most_ms` of the time.
    """

    engine: str
    operation: str
    beside: str
    most_ratio: float | None = None
    most_ms: float | None = None
    rounds: list[tuple[Cost, Cost]] = field(default_factory=list)
    of_cpu: bool = field(default=False, kw_only=True)

    @property
    def ratio(self) -> float:
        """The median of the ratios within a round, because both had the same machine there."""
        return statistics.median(self._ratio(own, base) for own, base in self.rounds)

    def _ratio(self, own: Cost, base: Cost) -> float:
        """Return the ratio in one round; 0 where CPU time cannot be read."""
        over, under = (own.cpu, base.cpu) if self.of_cpu else (own.ms, base.ms)
        return over / under if over and under else 0.0

    @property
    def ms(self) -> float:
        return statistics.median(own.ms for own, _ in self.rounds)

    def misses(self) -> Iterator[str]:
        """Yield a line for each target that is missed."""
        label = f"{self.engine}, {self.operation}"
        if self.most_ratio is not None and self.ratio > self.most_ratio:
            cost = "the CPU of " if self.of_cpu else ""
            yield f"{label}: {self.ratio:.2f} × {cost}{self.beside}, above {self.most_ratio:g}"
        if self.most_ms is not None and self.ms > self.most_ms:
            yield f"{label}: {self.ms:.2f} ms, above {self.most_ms:g}"

    def as_json(self) -> dict[str, Any]:
        own, base = zip(*self.rounds, strict=True)
        return {
            "engine": self.engine,
            "operation": self.operation,
            "ms": self.ms,
            "cpu_us": _median_cpu(own),
            "beside": self.beside,
            "beside_ms": statistics.median(cost.ms for cost in base),
            "beside_cpu_us": _median_cpu(base),
            "ratio": self.ratio,
            "of_cpu": self.of_cpu,
            "most_ratio": self.most_ratio,
            "most_ms": self.most_ms,
        }


def _median_cpu(costs: Sequence[Cost]) -> float | None:
    known = [cost.cpu for cost in costs if cost.cpu is not None]
    return statistics.median(known) if known else None


def as_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    return {
        "rows": [comparison.as_json() for comparison in comparisons],
        "misses": [miss for comparison in comparisons for miss in comparison.misses()],
    }


def lines_of(figures: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table, then the misses of targets."""
    lines = [f"| {' | '.join(HEAD)} |", "| --- " * len(HEAD) + "|"]
    for row in figures["rows"]:
        own = (row["engine"], row["operation"], number(row["ms"]), number(row["cpu_us"]))
        base = (row["beside"], number(row["beside_ms"]), number(row["beside_cpu_us"]), f"{row['ratio']:.2f}")
        lines.append(f"| {' | '.join((*own, *base, _target(row)))} |")
    return [*lines, "", *(f"- {miss}" for miss in figures["misses"])]


def _target(row: dict[str, Any]) -> str:
    if row["most_ms"] is not None:
        return f"≤ {row['most_ms']:g} ms"
    return "" if row["most_ratio"] is None else f"≤ {row['most_ratio']:g} ×{' CPU' if row['of_cpu'] else ''}"
