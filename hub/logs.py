"""Logging: one line per event, as text or JSON. Secrets are never logged: this module sees no bodies or headers."""

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
    """Buffers lines below WARNING that are logged on an event loop. It writes them every `BATCH_SECONDS` or
    `BATCH_LINES`: a system call for each line would cost a tenth of a small read. A warning is written at once, after
    the buffered lines."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._since = 0.0

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit a record as the base class does, with three calls less: there is one for each request."""
        if self.filters:
            return super().handle(record)
        with self.lock or nullcontext():
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record))
            if len(self._lines) == 1:
                self._since = record.created
                self._flush_later()
            if record.levelno >= logging.WARNING or len(self._lines) >= BATCH_LINES:
                self.flush()
            elif record.created - self._since > 2 * BATCH_SECONDS:
                self.flush()  # the loop that scheduled a flush has ended
        except Exception:
            self.handleError(record)

    def _flush_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()  # without an event loop, nothing would flush later
        else:
            loop.call_later(BATCH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write the buffered lines. `logging.shutdown` also calls this at the end of the process."""
        with self.lock or nullcontext():
            if self._lines:
                text = self.terminator.join([*self._lines, ""])
                self._lines.clear()
                self.stream.write(text)
            super().flush()


class TextFormatter(logging.Formatter):
    """Formats like its parent, but formats the time only once per second: that is most of the cost of a line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._second = -1
        self._text = ""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        second = self._text if int(record.created) == self._second else self._begin(record)
        return f"{second},{int(record.msecs):03} {record.levelname:7} {record.name}: {record.getMessage()}"

    def _begin(self, record: logging.LogRecord) -> str:
        """Return the time of a record in a new second, without milliseconds."""
        self._second = int(record.created)
        self._text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._second))
        return self._text

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (the parent's)
        return f"{self._begin(record)},{int(record.msecs):03}"


class JsonFormatter(logging.Formatter):
    """Formats each record as one JSON object; the items of the record's `fields` become its members."""

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
    """Configure the process's logging, to stderr."""
    handler = BatchingHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # Below INFO, libraries may log anything: MongoDB's driver logs commands with all their data.
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler], force=True)
    for package in OUR_PACKAGES:
        logging.getLogger(package).setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True  # the middleware's line has more information
    logging.getLogger("python_multipart").disabled = True  # it warns of every malformed form; the answer says so
    logging.getLogger("python_multipart.multipart").disabled = True
    # No format shows these, and Python looks them up for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
