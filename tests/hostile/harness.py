"""Checks for every attack: other clients, the event loop, the memory and the log of the hub."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import orjson

from tests.docs.pages import ROOT
from tests.hostile.bystanders import Report
from tests.support.hub import Client, Hub, eventually
from tests.support.standstill import LONGEST_TURN, no_standstill

PAIRS: Final = 25
"""Pairs of well-behaved clients, one REST and one live client each."""
P99: Final = 0.25
"""Seconds within which 99% of their requests are answered and 99% of their events arrive."""
MEMORY_FACTOR: Final = 1.2
"""Resident memory that is allowed after an attack, as a multiple of that before it."""
MEMORY_PATIENCE: Final = 20.0


@asynccontextmanager
async def unharmed(
    hub: Hub, *, secrets: tuple[str, ...] = (), longest_turn: float = LONGEST_TURN, memory: float = MEMORY_FACTOR
) -> AsyncGenerator[None, None]:
    """Run an attack (the block) beside 50 well-behaved clients, and fail if it did any harm: a wrong or missing answer
    or event, a p99 above `P99`, a turn of the loop above `longest_turn` seconds of CPU time, resident memory above
    `memory` times the memory before, a traceback in the log, or one of `secrets` in the log."""
    process, token = await _start(hub)
    try:
        before = resident(hub.process.pid)
        async with no_standstill(hub.url, longest_turn):
            yield
        report = await _stop(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
    assert not report.errors, report.errors
    assert report.rest, "the well-behaved clients did nothing"
    for name, times in (("request to answer", report.rest), ("write to event", report.delivery)):
        assert percentile(times, 0.99) < P99, f"{name}: p99 {percentile(times, 0.99):.3f} s of {len(times)}"
    await eventually(lambda: _is_back(hub.process.pid, before * memory), MEMORY_PATIENCE)
    check_log(hub.process.log, (token, *secrets))


def check_log(log: str, secrets: tuple[str, ...]) -> None:
    """Fail if the log contains a traceback or one of `secrets`."""
    assert "Traceback" not in log, log[max(0, log.index("Traceback") - 500) :][:3_000]
    for secret in secrets:
        assert secret not in log, "a secret is in the log"


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


async def _is_back(pid: int, most: float) -> bool:
    return resident(pid) <= most


async def _start(hub: Hub) -> tuple[subprocess.Popen[bytes], str]:
    store = await hub.define()
    user: Client = await hub.as_user()
    token = user.http.headers["authorization"].removeprefix("Bearer ")
    command = [sys.executable, "-m", "tests.hostile.bystanders", hub.url, token, store, str(PAIRS)]
    process = launch(command)
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    assert line == b"ready\n", "the well-behaved clients did not start"
    return process, token


def launch(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a program of this project with pipes for its standard input and output."""
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def _stop(process: subprocess.Popen[bytes]) -> Report:
    # communicate() closes its standard input, which ends the clients' work.
    output, _ = await asyncio.to_thread(process.communicate)
    return Report(**orjson.loads(output))
