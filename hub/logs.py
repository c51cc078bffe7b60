"""Logging: one line per event, as text or JSON. Secrets are never logged: this module sees no bodies or headers."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TextIO

import orjson

from hub.settings import Settings

BATCH_SECONDS: Final = 0.1
BATCH_LINES: Final = 1_000
OUR_PACKAGES: Final = ("stores", "auth", "realtime", "hub")
REQUEST_LOG: Final = "hub.access"


@dataclass(slots=True)
class RequestLine:
    """A request that has been answered, as the log shows it. `ms`: milliseconds."""

    method: str
    path: str
    status: int
    ms: float
    request_id: str

    @property
    def message(self) -> str:
        return f"{self.method} {self.path} {self.status} {self.ms} ms"

    @property
    def fields(self) -> dict[str, str | int | float]:
        """Members of the line as a JSON object, beside those of every line."""
        return {name: getattr(self, name) for name in self.__slots__}


class RequestFormatter(Protocol):
    """A formatter that also formats lines of requests, which are no records."""

    def format_request(self, line: RequestLine, created: float) -> str:
        """Return the text that `format` makes of a record of the same. `created` is Unix time."""


class BatchingHandler(logging.StreamHandler[TextIO]):
    """Buffers lines below WARNING that are logged on an event loop. It writes them every `BATCH_SECONDS` or
    `BATCH_LINES`: a system call for each line would cost a tenth of a small read. A warning is written at once, after
    the buffered lines."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._since = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._add(self.format(record), record.created)
            if record.levelno >= logging.WARNING:
                self.flush()
        except Exception:
            self.handleError(record)

    def write_request(self, line: RequestLine, formatter: RequestFormatter) -> None:
        """Write the line of a request without a record. To make one, and to pass it on, takes a tenth of the time of a
        small read."""
        created = time.time()
        with self.lock or nullcontext():
            self._add(formatter.format_request(line, created), created)

    def _add(self, text: str, created: float) -> None:
        lines = self._lines
        lines.append(text)
        if len(lines) == 1:
            self._since = created
            self._flush_later()
        elif len(lines) >= BATCH_LINES or created - self._since > 2 * BATCH_SECONDS:
            self.flush()  # also if the loop that scheduled a flush has ended

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
        return f"{self._time(record.created, record.msecs)} {record.levelname:7} {record.name}: {record.getMessage()}"

    def format_request(self, line: RequestLine, created: float) -> str:
        return f"{self._time(created, created % 1 * 1000)} INFO    {REQUEST_LOG}: {line.message}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (the parent's)
        return self._time(record.created, record.msecs)

    def _time(self, created: float, msecs: float) -> str:
        second = int(created)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._text},{int(msecs):03}"


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

    def format_request(self, line: RequestLine, created: float) -> str:
        time = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
        head = {"time": time, "level": "info", "logger": REQUEST_LOG, "message": line.message}
        return orjson.dumps({**head, **line.fields}).decode()


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
