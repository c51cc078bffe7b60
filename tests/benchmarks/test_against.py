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


def memory(*rounds: tuple[float, float]) -> Comparison:
    """Return a comparison of memory per connection, KiB, of the other commit and of this tree."""
    return Comparison([(Sample(memory=other), Sample(memory=here)) for other, here in rounds])


def test_memory_is_larger_only_beyond_the_noise_of_one_program() -> None:
    """This tree takes 4 % more in each case. The rounds of a program lie 1 %, and then 10 %, around their median."""
    larger, uncertain = memory((10.0, 10.4), (10.2, 10.6)), memory((10.0, 10.4), (12.0, 12.5))
    assert larger.memory == pytest.approx(0.96, abs=0.005)
    assert (larger.noise, larger.is_worse) == (pytest.approx(0.01, abs=0.001), True)
    assert (uncertain.noise, uncertain.is_worse) == (pytest.approx(0.09, abs=0.01), False)


def test_one_round_shows_no_noise_and_decides_nothing() -> None:
    assert not memory((10.0, 20.0)).is_worse


def test_less_memory_is_never_worse() -> None:
    assert not memory((20.0, 10.0), (20.0, 10.0)).is_worse


def test_each_side_is_first_in_every_second_round() -> None:
    assert [in_turns(n)[0] for n in range(4)] == [0, 1, 0, 1]


def test_an_unknown_commit_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "benchmarks", "against", "no-such-commit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 1
    assert "no commit 'no-such-commit'" in done.stderr


@pytest.mark.full
@pytest.mark.timeout(400)
@pytest.mark.engine("sqlite")
def test_the_memory_of_connections_is_compared(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "against", "HEAD", "--engine", "sqlite", "--only", "memory"]
    command += ["--rounds", "1", "--connections", "100", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert "no errors" in done.stdout, done.stdout + done.stderr
    (row,) = orjson.loads(figures.read_bytes())["rows"]
    assert row["operation"] == "memory per connection, of 100"
    assert row["memory"] > 0


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
