"""Logs failed requests: defects with their traceback, expected failures as occasional single lines."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from starlette.types import Scope

from hub.http.errors import describe
from stores.bounds import Limited
from stores.log_rate import RateLimitedLog

log = logging.getLogger("hub.failures")


class FailureLog:
    """Logs server errors: a defect with its traceback; an unavailable or full database or an overload as one line."""

    def __init__(self) -> None:
        self._expected = RateLimitedLog(log)

    def note(self, scope: Scope, error: Exception) -> None:
        """Log why a request failed, if it is a server error."""
        status = describe(error).status
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return
        request: tuple[Any, ...] = (_request_id(scope), scope["method"], sent_path(scope))
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request %s failed: %s %s", *request, exc_info=error)
            return
        kind = (type(error), error.limit_name if isinstance(error, Limited) else "")
        line = "request %s failed: %s %s: %d: %s"
        self._expected.write(logging.WARNING, kind, line, *request, status, str(error) or type(error).__name__)


def sent_path(scope: Scope) -> str:
    """Return the path as sent, percent-encoded: a decoded path could add lines to the log."""
    return str(scope.get("raw_path", b"").decode("ascii", "backslashreplace"))


def _request_id(scope: Scope) -> str:
    return str(scope.get("hub.request_id", b"-").decode())
