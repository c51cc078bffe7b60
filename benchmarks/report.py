"""Figures as tables and as JSON."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw
import orjson

from benchmarks.load import LoadResult

TARGETS: Final[Mapping[str, Mapping[str, float]]] = {
    "sqlite": {"read by id": 6_000, "list of 100": 2_500, "durable create, 32 clients": 3_000},
    "mongodb": {"read by id": 2_000},
}
"""Target operations per second on one core."""

COLUMNS: Final = ("per s", "target", "ratio", "hub µs", "core/s", "busy %", "db µs", "p50 ms", "p99 ms")
"""`hub µs` and `db µs` are CPU per operation. `core/s` is the number of operations for which a whole core has time, at
`hub µs` each. `busy %` is the share of a core that the hub used. If that is well below 100 under load, `per s` was
limited by other work of the machine."""


def target(engine: str, operation: str) -> float | None:
    return TARGETS[engine].get(operation)


@dataclass(frozen=True, slots=True)
class Row:
    """One operation on one engine.

    `hub_cpu` and `database_cpu` are CPU seconds during the run. Each request counts as `entities` operations.
    """

    engine: str
    operation: str
    result: LoadResult
    hub_cpu: float | None
    database_cpu: float | None
    entities: int = 1

    @property
    def per_second(self) -> float:
        return self.result.per_second * self.entities

    def micros(self, cpu: float | None) -> float | None:
        """Return CPU microseconds per operation."""
        done = len(self.result.latencies) * self.entities
        return None if cpu is None or not done else cpu / done * 1e6

    @property
    def per_core(self) -> float | None:
        """Operations per second that one core has time for."""
        micros = self.micros(self.hub_cpu)
        return 1e6 / micros if micros else None

    @property
    def busy(self) -> float | None:
        """The share of one core that the hub used; above 1 if its threads ran in parallel."""
        return None if self.hub_cpu is None or not self.result.seconds else self.hub_cpu / self.result.seconds

    def cells(self) -> list[str]:
        aim = target(self.engine, self.operation)
        return [
            number(self.per_second),
            number(aim),
            "" if aim is None else f"{self.per_second / aim:.2f}",
            number(self.micros(self.hub_cpu)),
            number(self.per_core),
            "" if self.busy is None else f"{self.busy:.0%}".rstrip("%"),
            number(self.micros(self.database_cpu)),
            f"{self.result.percentile(0.5) * 1e3:.2f}",
            f"{self.result.percentile(0.99) * 1e3:.2f}",
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "operation": self.operation,
            "per_second": self.per_second,
            "target": target(self.engine, self.operation),
            "per_core": self.per_core,
            "busy": self.busy,
            "hub_cpu_us": self.micros(self.hub_cpu),
            "database_cpu_us": self.micros(self.database_cpu),
            "p50_ms": self.result.percentile(0.5) * 1e3,
            "p99_ms": self.result.percentile(0.99) * 1e3,
            "requests": len(self.result.latencies),
            "errors": len(self.result.failures),
        }


def number(value: float | None) -> str:
    """Return the number with about three digits, and a space between thousands."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of one table: operations down, engines across."""
    engines = list(dict.fromkeys(row.engine for row in rows))
    operations = list(dict.fromkeys(row.operation for row in rows))
    found = {(row.operation, row.engine): row.cells() for row in rows}
    width = max(map(len, operations))
    yield " " * width + "".join(f" | {engine:^{8 * len(COLUMNS)}}" for engine in engines)
    yield f"{'operation':{width}}" + (" | " + "".join(f"{name:>8}" for name in COLUMNS)) * len(engines)
    for operation in operations:
        blocks = (found.get((operation, engine), [""] * len(COLUMNS)) for engine in engines)
        yield f"{operation:{width}}" + "".join(" | " + "".join(f"{cell:>8}" for cell in block) for block in blocks)


def failures(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for every row with errors."""
    for row in rows:
        if row.result.failures:
            kinds = ", ".join(dict.fromkeys(row.result.failures[:1_000]))
            yield f"{row.engine}, {row.operation}: {len(row.result.failures)} errors: {kinds[:300]}"


def machine() -> dict[str, str]:
    """Return a description of the machine."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "sqlite": apsw.sqlite_lib_version(),
    }


def parser(module: str, doc: str | None, *, mongodb: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks: where to write the figures, and a MongoDB to use."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=(doc or "").splitlines()[0])
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    if mongodb:
        made.add_argument("--mongodb", metavar="URL", help="a replica set to use; one is started otherwise")
    return made


def say(line: str) -> None:
    """Print progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def conclude(
    lines: Iterable[str],
    faults: Sequence[str],
    figures: Mapping[str, Any],
    file: Path | None,
    calm: str = "no errors",
    about: Mapping[str, str] | None = None,
) -> int:
    """Print the machine (`about` adds to it), the lines and the faults, or `calm` if there are none.

    Write the figures to `file`. Return the exit code.
    """
    machine_figures = machine() | dict(about or {})
    print(*(f"{name}: {value}" for name, value in machine_figures.items()), "", *lines, "", sep="\n")
    print(*(faults[:50] or [calm]), sep="\n")
    if file:
        everything = {"machine": machine_figures, **figures, "faults": faults}
        file.write_bytes(orjson.dumps(everything, option=orjson.OPT_INDENT_2))
    return 1 if faults else 0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
