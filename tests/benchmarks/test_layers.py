"""The layers of a read are measured against a real hub; their costs add up to the whole read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks.layered_hub import STEPS
from benchmarks.layers import Found, error_of_median, in_turn, lines_of

ROOT = Path(__file__).resolve().parents[2]


def test_a_layer_costs_what_its_step_takes_more() -> None:
    """The second round is twice as slow, which changes no share."""
    steps = [10.0 * number for number in range(1, len(STEPS) + 1)]
    found = Found("sqlite", [steps, [2 * cost for cost in steps]])
    layers = list(found.layers())
    assert [layer["layer"] for layer in layers] == list(STEPS)
    assert [layer["share"] for layer in layers] == pytest.approx([1 / len(STEPS)] * len(STEPS))
    assert [layer["error"] for layer in layers] == pytest.approx([0.0] * len(STEPS))
    assert [layer["us"] for layer in layers] == pytest.approx([15.0] * len(STEPS))
    assert lines_of({"layers": layers})[-1] == f"| all | {15 * len(STEPS):g} | 100 |  |"


def test_the_error_of_a_median_grows_with_the_spread() -> None:
    assert error_of_median([1.0, 1.0, 1.0]) == 0.0
    assert error_of_median([0.0, 1.0, 2.0]) < error_of_median([-1.0, 1.0, 3.0])


def test_each_step_comes_at_each_place() -> None:
    orders = [in_turn(number) for number in range(2 * len(STEPS))]
    assert all(sorted(order) == list(range(len(STEPS))) for order in orders)
    assert {order[0] for order in orders} == set(range(len(STEPS)))


@pytest.mark.timeout(400)  # between its loads it waits until the hub is idle
@pytest.mark.engine("sqlite")
def test_every_layer_is_measured_and_every_answer_is_right(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.layers", "--engine", "sqlite", "--seconds", "0.05", "--rounds", "1"]
    command += ["--entities", "200", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    layers = orjson.loads(figures.read_bytes())["layers"]
    assert [layer["layer"] for layer in layers] == list(STEPS)
    assert sum(layer["share"] for layer in layers) == pytest.approx(1.0)
