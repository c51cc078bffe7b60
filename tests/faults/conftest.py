"""Fixtures of all fault tests: a hub that can be killed, the number of repetitions, and the report."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.conftest import extent_of
from tests.faults.hub import MortalHub, mortal_hub
from tests.faults.report import ROWS, Row, table
from tests.support.engines import Database


class Report(Protocol):
    """Adds a row to the final table. The row must be clean, and no follower may have begun anew, unless the
    documentation says so of the fault (`anew`)."""

    def __call__(self, row: Row, *, anew: bool = False) -> None: ...


@pytest.fixture
async def mortal(database: Database, tmp_path: Path) -> AsyncIterator[MortalHub]:
    """A hub that can be killed, on its own database, once with each engine."""
    async with mortal_hub(database, tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def times(pytestconfig: pytest.Config) -> int:
    """Number of repetitions for faults that take about a second."""
    return extent_of(pytestconfig).faults


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    """The function that adds a row to the final table."""

    def add(row: Row, *, anew: bool = False) -> None:
        pytestconfig.stash.setdefault(ROWS, []).append(row)
        assert row.clean, row
        assert anew or not row.resyncs, row

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("faults")
        for line in table(rows):
            terminalreporter.write_line(line)
