"""Around every request: an id, a line in the log, the metrics, and an answer even when everything else fails."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.metrics import Metrics

access_log = logging.getLogger("hub.access")
log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,100}\Z")


class Envelope:
    """Pure ASGI. A caller's own `X-Request-Id` is kept when it is one word of at most 100 ASCII characters."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope["hub.request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id))
            await send(message)

        self.metrics.in_progress.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed", request_id.decode())
            if status:
                raise  # the answer has begun: all that is left is to break it off
            await _internal_error(send_with_id)
        finally:
            self.metrics.in_progress.dec()
            self._record(scope, status, time.perf_counter() - started, request_id)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: bytes) -> None:
        self.metrics.observed(scope.get("hub.operation", "other"), status, seconds)
        if access_log.isEnabledFor(logging.INFO):
            # The path only: query strings may hold what a log should not.
            fields = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(seconds * 1000, 2),
                "request_id": request_id.decode(),
            }
            access_log.info("%(method)s %(path)s %(status)s %(ms)s ms", fields, extra={"fields": fields})


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return bytes(value)
    return secrets.token_hex(8).encode()


async def _internal_error(send: Send) -> None:
    body = b'{"success":false,"code":"500","message":"Internal Server Error","tags":["error_internal_server_error"]}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
