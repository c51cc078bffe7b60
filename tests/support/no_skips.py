"""A pytest plugin (`-p tests.support.no_skips`): under CI=true a skipped test fails, with the reason of the skip."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

Reports = Generator[None, pytest.TestReport, pytest.TestReport]
CollectReports = Generator[None, pytest.CollectReport, pytest.CollectReport]


def forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure. Expected failures, which are reported as skips too, stay unchanged."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"nothing may skip in CI. {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Reports:
    report = yield
    forbid(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> CollectReports:
    report = yield
    forbid(report)
    return report
