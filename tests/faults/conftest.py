"""What every fault needs: a hub that may die, the number of times that it does, and a place in the report."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.conftest import extent_of
from tests.faults.hub import MortalHub, mortal_hub
from tests.faults.report import ROWS, Row, table
from tests.support.engines import Database

Report = Callable[[Row], None]


@pytest.fixture
async def mortal(database: Database, tmp_path: Path) -> AsyncIterator[MortalHub]:
    """A hub on a database of its own, once with each engine."""
    async with mortal_hub(database, tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def times(pytestconfig: pytest.Config) -> int:
    """How often to do what takes about a second."""
    return extent_of(pytestconfig).faults


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    """Takes a row of the table at the end; it must be clean, without a subscriber that had to begin anew."""

    def add(row: Row) -> None:
        pytestconfig.stash.setdefault(ROWS, []).append(row)
        assert row.clean, row
        assert not row.resyncs, row

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("faults")
        for line in table(rows):
            terminalreporter.write_line(line)
