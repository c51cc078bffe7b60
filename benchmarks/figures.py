"""Figures taken several times on two servers: medians, spreads, targets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.report import number

HEAD: Final = ("figure", "unit", "hub", "spread", "target", "ratio", "node", "spread", "hub/node")


@dataclass(slots=True)
class Figure:
    """One figure, with a value per round and server.

    `target` is the upper target of the hub; `ratio` is the hub's value divided by it.
    """

    label: str
    unit: str
    target: float | None = None
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, server: str) -> float | None:
        return statistics.median(self.values[server]) if self.values.get(server) else None

    def spread(self, server: str) -> str:
        """Return the lowest and the highest value; nothing for a single value."""
        values = self.values.get(server, [])
        return f"{number(min(values))}–{number(max(values))}" if len(values) > 1 else ""

    @property
    def ratio(self) -> float | None:
        hub = self.median("hub")
        return hub / self.target if hub is not None and self.target else None

    @property
    def of_node(self) -> float | None:
        hub, node = self.median("hub"), self.median("node")
        return hub / node if hub is not None and node else None

    def cells(self) -> tuple[str, ...]:
        return (
            self.label,
            self.unit,
            number(self.median("hub")),
            self.spread("hub"),
            number(self.target),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            number(self.median("node")),
            self.spread("node"),
            "" if self.of_node is None else f"{self.of_node:.2f}",
        )

    def as_json(self) -> dict[str, Any]:
        medians = {server: self.median(server) for server in self.values}
        return {
            "figure": self.label,
            "unit": self.unit,
            "target": self.target,
            "ratio": self.ratio,
            "median": medians,
            "values": self.values,
        }


class Figures:
    """All figures of a run, in the order in which they were first added."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}

    def add(self, server: str, label: str, unit: str, value: float | None, target: float | None = None) -> None:
        """Add a value. None, if the system does not report one, leaves the figure out."""
        if value is not None:
            figure = self._figures.setdefault(label, Figure(label, unit, target))
            figure.values.setdefault(server, []).append(value)

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures.values())

    def table(self) -> Iterator[str]:
        """Yield the lines of a table."""
        rows = [HEAD, *(figure.cells() for figure in self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for label, unit, *cells in rows:
            numbers = (f"{cell:>{width}}" for cell, width in zip(cells, widths[2:], strict=True))
            yield "  ".join((f"{label:{widths[0]}}", f"{unit:{widths[1]}}", *numbers)).rstrip()
