"""Failed requests in the log: a defect with its traceback, a failure that is expected as a line now and then."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from starlette.types import Scope

from hub.errors import describe
from stores.bounds import Limited
from stores.log_rate import RateLimitedLog

log = logging.getLogger(__name__)


class FailureLog:
    """Logs server errors: defects with a traceback, and an unavailable or full database or an overload as one line."""

    def __init__(self) -> None:
        self._expected = RateLimitedLog(log)

    def note(self, scope: Scope, error: Exception) -> None:
        """Log why a request failed, if that is an error of the server."""
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
    """The path as it was sent, percent-encoded: decoded, a caller could write lines of its own into the log."""
    return str(scope.get("raw_path", b"").decode("ascii", "backslashreplace"))


def _request_id(scope: Scope) -> str:
    return str(scope.get("hub.request_id", b"-").decode())
