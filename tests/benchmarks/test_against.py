"""`python -m benchmarks against COMMIT` compares this tree with another commit, row by row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks.against import Comparison, Sample, in_turns

ROOT = Path(__file__).resolve().parents[2]


def test_ratios_are_medians_over_rounds() -> None:
    other = Sample(4.0, 10.0)
    comparison = Comparison([(other, Sample(2.0, 20.0)), (other, other), (other, Sample(1.0, 90.0))])
    assert comparison.cpu == 2.0
    assert comparison.throughput == 2.0


def test_each_side_is_first_in_every_second_round() -> None:
    assert [in_turns(n)[0] for n in range(4)] == [0, 1, 0, 1]


def test_an_unknown_commit_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "benchmarks", "against", "no-such-commit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 1
    assert "no commit 'no-such-commit'" in done.stderr


@pytest.mark.full
@pytest.mark.timeout(400)  # between its loads it waits until the hub is idle
@pytest.mark.engine("sqlite")
def test_a_commit_is_measured_beside_this_tree(tmp_path: Path) -> None:
    """Each run takes a fraction of a second: the ratios mean nothing, but all rows exist and the answers are right."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "against", "HEAD", "--engine", "sqlite", "--only", "read_by_id"]
    command += ["--seconds", "0.05", "--rounds", "1", "--entities", "500", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert "no errors" in done.stdout, done.stdout + done.stderr
    rows = orjson.loads(figures.read_bytes())["rows"]
    assert [row["operation"] for row in rows] == ["read by id", "read by id, administrator"]
    assert all(row["throughput"] > 0 for row in rows)
