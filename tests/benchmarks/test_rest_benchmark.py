"""The REST benchmark runs against a real hub and shows every row without an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]

OPERATIONS = [
    "read by id",
    "read by id, administrator",
    "list of 100",
    "list of 100, administrator",
    "100 of one station (indexed)",
    "100 from a serial on (indexed)",
    "durable create, 32 clients",
    "durable change, 32 clients",
    "bulk create, arrays of 1000: entities",
    "list of 2000, streamed: entities",
    "small reads, one each 5 ms",
    "the same beside a streamed list",
    "page of 100 at 0%, one client",
    "page of 100 at 10%, one client",
    "page of 100 at 50%, one client",
    "page of 100 at 99%, one client",
    "count of all, with first and last",
    "count of one station",
]


@pytest.mark.timeout(400)  # between its loads it waits until the hub is idle
@pytest.mark.engine("sqlite")
def test_every_row_is_measured_without_errors(tmp_path: Path) -> None:
    """Each row takes a fraction of a second: the figures mean nothing, but all of them exist."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.rest", "--engine", "sqlite", "--seconds", "0.05"]
    command += ["--entities", "2000", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no errors" in done.stdout
    lines = done.stdout.splitlines()
    for operation in OPERATIONS:
        assert any(line.startswith(f"{operation} ") for line in lines), operation
    rows = orjson.loads(figures.read_bytes())["rows"]
    assert [row["operation"] for row in rows] == OPERATIONS
    assert all(row["requests"] > 0 and row["errors"] == 0 for row in rows)
