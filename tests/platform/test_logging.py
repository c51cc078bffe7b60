"""Log lines are batched, written immediately with a warning, and never lost."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hub.http.request_log import log_request
from hub.logs import BATCH_LINES, BATCH_SECONDS, BatchingHandler, JsonFormatter, RequestLine, TextFormatter

REQUEST = RequestLine("GET", "/x", 200, 1.5, "abc")


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(out: io.StringIO) -> Iterator[logging.Logger]:
    handler = BatchingHandler(out)
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(handler)
    yield logger
    handler.close()


async def test_lines_are_batched_for_a_moment(log: logging.Logger, out: io.StringIO) -> None:
    """Nothing is written immediately; everything is written, in order, after the set time."""
    log.info("one")
    log.info("two")
    assert out.getvalue() == ""
    await asyncio.sleep(2 * BATCH_SECONDS)
    assert out.getvalue() == "one\ntwo\n"
    log.info("three")
    await asyncio.sleep(2 * BATCH_SECONDS)
    assert out.getvalue() == "one\ntwo\nthree\n"


async def test_a_warning_takes_the_lines_before_it_along(log: logging.Logger, out: io.StringIO) -> None:
    log.info("before")
    log.warning("now")
    assert out.getvalue() == "before\nnow\n"


async def test_no_more_are_batched_than_the_bound(log: logging.Logger, out: io.StringIO) -> None:
    for number in range(BATCH_LINES):
        log.info("%d", number)
    assert out.getvalue().count("\n") == BATCH_LINES


def test_without_a_loop_a_line_is_written_at_once(log: logging.Logger, out: io.StringIO) -> None:
    log.info("alone")
    assert out.getvalue() == "alone\n"


def test_lines_of_a_loop_that_has_ended_are_written_with_the_next(log: logging.Logger, out: io.StringIO) -> None:
    async def say() -> None:
        log.info("last words")

    asyncio.run(say())
    assert out.getvalue() == ""
    log.warning("later")
    assert out.getvalue() == "last words\nlater\n"


def test_what_is_batched_is_written_at_the_end_of_the_process() -> None:
    """This holds even if the loop ends before the timer."""
    program = """
import asyncio, logging, sys
from hub.logs import BatchingHandler
logging.basicConfig(level="INFO", format="%(message)s", handlers=[BatchingHandler(sys.stderr)])
async def main():
    logging.info("batched")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "batched\n"


@pytest.fixture
def root(out: io.StringIO) -> Iterator[BatchingHandler]:
    """The hub's handler, as the only one of the process."""
    handler, before, level = BatchingHandler(out), logging.root.handlers[:], logging.root.level
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.INFO)
    yield handler
    logging.root.handlers[:] = before
    logging.root.setLevel(level)
    handler.close()


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_a_request_is_logged_as_a_record_would_be(
    root: BatchingHandler, out: io.StringIO, formatter: logging.Formatter
) -> None:
    """Directly, and as a record if the process has another handler as well."""
    root.setFormatter(formatter)
    log_request(REQUEST)
    logging.root.addHandler(logging.NullHandler())
    log_request(REQUEST)
    direct, by_record = map(_without_time, out.getvalue().splitlines())
    assert direct == by_record
    assert "GET /x 200 1.5 ms" in direct


def _without_time(line: str) -> str:
    return re.sub(r"\d\d:\d\d:\d\d[.,]\d\d\d", "", line)


def test_a_request_is_not_logged_above_its_level(root: BatchingHandler, out: io.StringIO) -> None:
    root.setFormatter(TextFormatter())
    logging.root.setLevel(logging.WARNING)
    log_request(REQUEST)
    assert out.getvalue() == ""


def test_times_are_those_of_the_standard_format() -> None:
    formatter, standard = TextFormatter(), logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    for _ in range(3):
        record = logging.LogRecord("hub.access", logging.INFO, "", 0, REQUEST.message, (), None)
        assert formatter.format(record) == standard.format(record)
        by_request = formatter.format_request(REQUEST, record.created)
        assert by_request == standard.format(record)
