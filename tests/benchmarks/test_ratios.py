"""The ratios are measured against a real hub; figures are medians of ratios, beside their targets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks.beside import Comparison, Cost, as_json, lines_of

ROOT = Path(__file__).resolve().parents[2]

ROWS = [
    ("read by id, the hub alone", "a bare ASGI function, under uvicorn"),
    ("read by id, the hub alone", "a bare ASGI function, under the hub's own server class"),
    ("list of 100, two references expanded", "the plain list"),
    ("sum by group of 600", "the database's own statement"),
    ("sum by group of 600, administrator", "the database's own statement"),
    ("first 50 of 600, filtered and sorted", "without an index"),
    ("batch of 10 creates", "4 single creates"),
    ("batch of 10 creates", "10 single creates"),
    ("batch of 10 creates", "10 single creates at once"),
    ("64 × 2 references to one entity: each", "to an entity for each client"),
    ("64 × 2 $inc of one entity: each", "of an entity for each client"),
]


def comparison(*rounds: tuple[float, float], ratio: float | None = None, ms: float | None = None) -> Comparison:
    """Return a comparison with these times, in ms, of the operation and of the one beside it."""
    costs = [(Cost(own, 100.0), Cost(base, 50.0)) for own, base in rounds]
    return Comparison("sqlite", "expanded", "the list", ratio, ms, costs)


def test_ratios_are_medians_over_rounds() -> None:
    """Not the ratio of the medians, which would be 3."""
    assert comparison((2.0, 1.0), (6.0, 1.0), (3.0, 1.5)).ratio == 2.0


@pytest.mark.parametrize(
    ("found", "target", "miss"),
    [
        (comparison((3.5, 1.0), ratio=3.5), "≤ 3.5 ×", ""),
        (comparison((3.6, 1.0), ratio=3.5), "≤ 3.5 ×", "3.60 × the list, above 3.5"),
        (comparison((2.1, 9.0), ms=2.0), "≤ 2 ms", "2.10 ms, above 2"),
        (comparison((9.0, 1.0)), "", ""),
    ],
)
def test_a_target_is_an_upper_bound(found: Comparison, target: str, miss: str) -> None:
    figures = as_json([found])
    assert figures["misses"] == ([f"sqlite, expanded: {miss}"] if miss else [])
    line = lines_of(figures)[2]
    assert line.startswith("| sqlite | expanded | ")
    assert line.endswith(f" | {target} |")


def test_a_ratio_of_cpu_is_not_one_of_times() -> None:
    found = Comparison(
        "sqlite", "read", "a bare function", 2.4, of_cpu=True, rounds=[(Cost(9.0, 75.0), Cost(1.0, 30.0))]
    )
    figures = as_json([found])
    assert figures["misses"] == ["sqlite, read: 2.50 × the CPU of a bare function, above 2.4"]
    assert lines_of(figures)[2].endswith(" | 2.50 | ≤ 2.4 × CPU |")


def test_several_operations_cost_their_sum() -> None:
    assert Cost(1.5, 100.0).times(4) == Cost(6.0, 400.0)
    assert Cost(1.5, None).times(4) == Cost(6.0, None)


@pytest.mark.timeout(400)  # between its loads it waits until the hub is idle
@pytest.mark.engine("sqlite")
def test_every_row_is_measured_and_every_answer_is_right(tmp_path: Path) -> None:
    """Each row takes a fraction of a second: the figures mean nothing, but all of them exist. The program itself checks
    the answers: lists with and without the index, groups, counted references and sums."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.ratios", "--engine", "sqlite", "--seconds", "0.02", "--rounds", "1"]
    command += ["--entities", "600", "--writes", "2", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no errors" in done.stdout
    rows = orjson.loads(figures.read_bytes())["rows"]
    assert [(row["operation"], row["beside"]) for row in rows] == ROWS
    assert all(row["ms"] > 0 and row["beside_ms"] > 0 and row["ratio"] > 0 for row in rows)
