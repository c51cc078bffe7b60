"""Logs each request when it has been answered, in one line."""

from __future__ import annotations

import logging

from hub.logs import REQUEST_LOG, BatchingHandler, JsonFormatter, RequestLine, TextFormatter

_log = logging.getLogger(REQUEST_LOG)


def log_request(line: RequestLine) -> None:
    """Log a request: directly if the process logs by the hub's own handler alone, otherwise as a record."""
    if not _log.isEnabledFor(logging.INFO):
        return
    handlers = logging.root.handlers
    if len(handlers) == 1 and not _log.handlers:
        handler = handlers[0]
        formatter = handler.formatter
        if isinstance(handler, BatchingHandler) and isinstance(formatter, TextFormatter | JsonFormatter):
            handler.write_request(line, formatter)
            return
    _log.info("%s", line.message, extra={"fields": line.fields})
