"""A pytest plugin (`-p tests.support.slowest`) that prints the ten slowest files after the tests."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

SHOWN: Final = 10

_seconds: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count set-up and tear-down too, because servers start and stop there."""
    _seconds[report.nodeid.partition("::")[0]] += report.duration  # type: ignore[assignment]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("slowest files")
    for file, seconds in _seconds.most_common(SHOWN):
        terminalreporter.write_line(f"{seconds:7.1f} s  {file}")
    terminalreporter.write_line(f"{_seconds.total():7.1f} s  in all")
