"""Faults of the hub itself: it is killed at any moment, stopped under load, has a full disk, or a clock that jumps."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stores.records import now_ms
from tests.faults.clock import Clock
from tests.faults.conftest import Report
from tests.faults.disk import full_disk
from tests.faults.hub import MortalHub, mortal_hub
from tests.faults.ledger import Fate
from tests.faults.workload import Workload, workload
from tests.faults.writers import SEPARATE
from tests.support.engines import Database, sqlite_database
from tests.support.hub import ADMIN_LOGIN, ADMIN_PASSWORD, eventually

pytestmark = pytest.mark.faults

LIMITS = (0, 40_000)
"""Maximum sizes of a file in bytes, which simulate a full disk."""


async def test_killed_at_any_moment(mortal: MortalHub, times: int, report: Report) -> None:
    """The hub is killed (SIGKILL) under load repeatedly: at any moment, or right after an event, and sometimes again
    while it starts."""
    async with workload(mortal) as load:
        for number in range(times):
            await load.progress(random.randint(1, 60))
            if number % 2:
                await load.hear(random.randint(1, 20))
            else:
                await asyncio.sleep(random.uniform(0, 0.02))
            await mortal.end()
            if number % 4 == 3:
                await mortal.die_at_start(random.uniform(0.1, 1))
            await mortal.start()
    report(await load.verdict("hub killed (SIGKILL)", times))


@pytest.mark.gate("sqlite")
async def test_stopped_under_load(mortal: MortalHub, times: int, report: Report) -> None:
    """SIGTERM during writes stops the hub in order."""
    stops = 1 + times // 4
    async with workload(mortal) as load:
        for _ in range(stops):
            await load.progress(random.randint(1, 60))
            assert await mortal.end(signal.SIGTERM) == 0
            await mortal.start()
    report(await load.verdict("hub stopped (SIGTERM)", stops))


COPY = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('VACUUM INTO ?', sys.argv[2:]); d.close()"


@pytest.mark.engine("sqlite")
async def test_copied_by_another_program(tmp_path: Path, times: int, report: Report) -> None:
    """Another program makes a backup of the file under load, and the hub is killed soon after."""
    database, rounds = sqlite_database(tmp_path), 1 + times // 2
    async with mortal_hub(database, tmp_path / "hub") as hub, workload(hub, crowd=SEPARATE) as load:
        for number in range(rounds):
            await load.progress(random.randint(1, 60))
            command = [sys.executable, "-c", COPY, database.location, str(tmp_path / f"copy {number}")]
            await asyncio.to_thread(subprocess.run, command, check=True)
            await load.progress(random.randint(1, 60))
            await hub.end()
            await hub.start()
        await load.end()
        report(await load.verdict("backup, then killed", rounds))


@pytest.mark.engine("sqlite")
async def test_the_disk_is_full(tmp_path: Path, times: int, report: Report) -> None:
    """Writes are refused with 507 repeatedly: none of them is stored, and with free space all writers continue. Once
    the hub is killed in between."""
    rounds = 1 + times // 2
    async with mortal_hub(sqlite_database(tmp_path), tmp_path / "hub") as hub, workload(hub) as load:
        for number in range(rounds):
            await load.progress(random.randint(10, 40))
            with full_disk(hub, random.choice(LIMITS)):
                await load.progress(20, Fate.REFUSED)
                if number == 1:
                    await hub.end()
            if number == 1:
                await hub.start()
        await load.progress(40)
        await load.end()
        report(await load.verdict("disk full", rounds))


async def test_the_clock_jumps(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    """The clock jumps by hours forward and back, under load and over restarts, with housekeeping every second. Jumps
    shorter than all retention times affect nothing but the time stamps."""
    clock = Clock(tmp_path / "clock", monkeypatch)
    jumps = (+11, -12, +5, 0)
    async with mortal_hub(database, tmp_path / "hub", sweep_interval=1) as hub:
        async with workload(hub) as load:
            for number, hours in enumerate(jumps):
                await load.progress(30)
                clock.jump(hours)
                if number % 2:
                    await hub.end()
                    await hub.start()
                await eventually(lambda: is_stamped(load, hours))  # noqa: B023
        report(await load.verdict("clock jumps by hours", len(jumps)))


async def is_stamped(load: Workload, hours: float) -> bool:
    """Return whether the hub's time stamps are so many hours off."""
    counter = await load.admin.see(load.store, load.counter)
    return bool(abs(counter["_at"] - now_ms() - hours * 3_600_000) < 600_000)


@pytest.mark.gate("sqlite")
async def test_the_clock_jumps_far(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    """The clock jumps a month ahead and back: data with a time to live end (an access token, the history on SQLite),
    but no write is lost. Idempotency keys are kept for longer, so a request repeated across the jump is still
    recognized."""
    clock = Clock(tmp_path / "clock", monkeypatch)
    # Without a sweep, or it may delete the token while the clock is ahead.
    settings = {"idempotency_hours": 24 * 60, "sweep_interval": 86_400}
    async with mortal_hub(database, tmp_path / "hub", **settings) as hub:
        login = {"login": ADMIN_LOGIN, "password": ADMIN_PASSWORD}
        async with workload(hub) as load:
            token = (await load.admin.post("/auth/token", login)).json()["token"]
            hours = (24 * 30, 0)
            for ahead in hours:
                await load.progress(40)
                clock.jump(ahead)
                bearer = {"authorization": f"Bearer {token}"}
                status = (await load.admin.get(f"/{load.store}", {"limit": "1"}, **bearer)).status_code
                assert status == (401 if ahead else 200)
                await load.progress(40)
        report(await load.verdict("clock jumps by a month", len(hours)))
