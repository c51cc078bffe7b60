"""Logging: one line per event, as text or as JSON. Secrets are never logged: nothing here sees bodies or headers."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson

from hub.settings import Settings


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
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else text)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True  # the middleware's line says more
    # No format shows these, and each is asked for at every line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
