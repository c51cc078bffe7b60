"""The fan-out benchmark runs against a real hub and a real Node Socket.IO server, and no client misses an event."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--clients", "6", "--connections", "30", "--subscriptions", "300", "--seconds", "0.1", "--rounds", "1"]

FIGURES = [
    "broadcast to 6 at 100/s: CPU per delivery, net",
    "memory per idle client, of 24",
    "change among 100 subscriptions: CPU",
    "change among 300 subscriptions: CPU",
    "write to client, 500 writes/s, each to one of 6: p50",
    "write to client, 500 writes/s, each to one of 6: p99",
    "broadcast to 6, highest rate: deliveries",
    "30 connections: write to last delivery",
]


@pytest.mark.full
@pytest.mark.engine("sqlite")
@pytest.mark.timeout(400)  # the first time Node's packages are installed
def test_every_row_is_measured_and_every_event_arrives(tmp_path: Path) -> None:
    """Runs take a tenth of a second: the figures mean nothing, but all of them exist, for both targets."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.fanout", *SMALL, "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no errors" in done.stdout
    figures = {figure["figure"]: figure for figure in orjson.loads(file.read_bytes())["figures"]}
    for name in FIGURES:
        assert any(line.startswith(f"{name} ") for line in done.stdout.splitlines()), name
        assert set(figures[name]["values"]) == ({"hub"} if name.startswith("change") else {"hub", "node"}), name
