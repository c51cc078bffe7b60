"""Logging: one line per event, as text or as JSON. Secrets are never logged: nothing here sees bodies or headers."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Final, TextIO

import orjson

from hub.settings import Settings

BATCH_SECONDS: Final = 0.1
BATCH_LINES: Final = 1_000
OUR_PACKAGES: Final = ("stores", "auth", "realtime", "hub")


class BatchingHandler(logging.StreamHandler[TextIO]):
    """Lines below WARNING that are logged on an event loop leave together, every `BATCH_SECONDS` or `BATCH_LINES`:
    a system call for each is a tenth of what a small read costs. A warning leaves at once, behind what was there."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._since = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record))
            if len(self._lines) == 1:
                self._since = record.created
                self._flush_later()
            if record.levelno >= logging.WARNING or len(self._lines) >= BATCH_LINES:
                self.flush()
            elif record.created - self._since > 2 * BATCH_SECONDS:
                self.flush()  # the loop that was to do it is gone
        except Exception:
            self.handleError(record)

    def _flush_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()  # nobody would come back
        else:
            loop.call_later(BATCH_SECONDS, self.flush)

    def flush(self) -> None:
        """Also called by `logging.shutdown` at the end of the process."""
        with self.lock or nullcontext():
            if self._lines:
                text = self.terminator.join([*self._lines, ""])
                self._lines.clear()
                self.stream.write(text)
            super().flush()


class TextFormatter(logging.Formatter):
    """Like its parent, with the second's text kept: making it is most of what a line costs."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._second = -1
        self._text = ""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        return f"{self.formatTime(record)} {record.levelname:7} {record.name}: {record.getMessage()}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (the parent's)
        second = int(record.created)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._text},{int(record.msecs):03}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line; what a record carries in `fields` becomes members of it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(settings: Settings) -> None:
    """Set up the process's logging, to stderr."""
    handler = BatchingHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # What libraries log below INFO may hold anything: MongoDB's driver logs commands with all their data.
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler], force=True)
    for package in OUR_PACKAGES:
        logging.getLogger(package).setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True  # the middleware's line says more
    logging.getLogger("python_multipart").disabled = True  # it warns of every form that is none: the answer says so
    logging.getLogger("python_multipart.multipart").disabled = True
    # No format shows these, and each is asked for at every line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
