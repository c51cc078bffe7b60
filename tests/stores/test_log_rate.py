"""Log lines that requests can cause are rate-limited."""

from __future__ import annotations

import logging

import pytest

from stores.log_rate import SECONDS, RateLimitedLog


def test_a_kind_of_line_is_written_once_a_second_and_says_what_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = RateLimitedLog(logging.getLogger("test"), lambda: now)
    for kind in ("a", "a", "b", "a"):
        log.write(logging.WARNING, kind, "%s happened", kind)
    now += SECONDS
    log.write(logging.WARNING, "a", "%s happened", "a")
    now += SECONDS
    log.write(logging.WARNING, "a", "%s happened", "a")
    lines = [record.getMessage() for record in caplog.records if record.name == "test"]
    assert lines == ["a happened", "b happened", "a happened (and 2 more like it before)", "a happened"]
