"""The middleware around every request: request id, log line, metrics, and an answer even after unexpected errors."""

from __future__ import annotations

import random
import re
import time
from typing import NoReturn

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.dialects.base import ErrorAnswer
from hub.http.active import ACTIVE, ActiveRequest, ActiveRequests
from hub.http.compression import POLICY, Policy
from hub.http.errors import AnswerBroken, ClientGone, NoSuchPath, is_expected
from hub.http.failures import FailureLog, sent_path
from hub.http.headers import first_headers
from hub.http.origins import Headers, Origins
from hub.http.request_log import log_request
from hub.http.scope import BODY, CACHING, FOR_PAGES, LIMIT_REACHED, MADE, PEER, WHOLE_ANSWER
from hub.http.unread import NOT_MUCH
from hub.logs import RequestLine
from hub.metrics import Metrics
from stores.bounds import Limited
from stores.tracebacks import drop_tracebacks

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,100}\Z")


FOR_THE_CALLER_ALONE = b"private, no-cache"
"""No shared cache may store an answer. The caller's own cache may, and must revalidate it by ETag."""

NO_SNIFFING = (b"x-content-type-options", b"nosniff")

OPERATIONAL = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Paths that are answered under any load: a supervisor must not mistake a busy hub for a dead one."""


class RequestMiddleware:
    """Pure ASGI middleware.

    It keeps a caller's `X-Request-Id` if that is one word of at most 100 ASCII characters. Beyond `most` concurrent
    requests it refuses new ones, and beyond a share of them those of one address or user; requests that wait for their
    client to send a body or to read an answer are not counted. Paths that begin with `apart` bypass it: a poll that
    waits for events takes no work. `error_answer` renders the errors that reach this layer.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        most: int,
        apart: str,
        origins: Origins,
        compression: Policy,
        error_answer: ErrorAnswer,
    ) -> None:
        self.app = app
        self.error_answer = error_answer
        self.origins = origins
        self.compression = compression
        self.metrics = metrics
        self.active = ActiveRequests(most)
        self.apart = apart
        self.failures = FailureLog()
        metrics.in_progress.set_function(lambda: len(self.active.running))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self.apart):
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope["hub.request_id"] = request_id
        scope[POLICY] = self.compression
        active = scope[ACTIVE] = ActiveRequest(self.active, scope.get(PEER))
        exchange = _Exchange(scope, receive, send, active, request_id)
        try:
            exchange.for_pages = self.origins.admit(scope)
            if "\n" in scope["path"]:  # a route's pattern could match the part before the line break
                raise NoSuchPath(scope["path"])
            if len(self.active.running) > self.active.each:
                exchange.check()
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            await self._answer_error(error, exchange)
        finally:
            active.end()
            self._record(scope, exchange.status, time.perf_counter() - started, request_id)

    async def _answer_error(self, error: Exception, exchange: _Exchange) -> None:
        scope = exchange.scope
        if exchange.status or isinstance(error, ClientGone):
            self._break_off(error, scope)
        self.failures.note(scope, error)
        if isinstance(error, Limited):
            scope[LIMIT_REACHED] = error.limit_name
        answer = self.error_answer(error, scope)
        drop_tracebacks(error)
        await answer.send(scope, exchange.send)

    def _break_off(self, error: Exception, scope: Scope) -> NoReturn:
        """Abort an answer that has begun or has no receiver. Raises AnswerBroken, or the error itself if it is a
        defect."""
        self.metrics.limit_reached(error.limit_name if isinstance(error, Limited) else "")
        if not is_expected(error):
            raise error
        self.failures.note(scope, error)
        raise AnswerBroken(str(error)) from error

    def _record(self, scope: Scope, status: int, seconds: float, request_id: bytes) -> None:
        self.metrics.observed(scope.get("hub.operation", "other"), status, seconds)
        if status >= 400 or LIMIT_REACHED in scope:
            self.metrics.limit_reached(scope.get(LIMIT_REACHED, ""))
        # The path only: query strings may contain confidential values.
        line = RequestLine(scope["method"], sent_path(scope), status, round(seconds * 1000, 2), request_id.decode())
        log_request(line)


class _Exchange:
    """The messages of one request. `status` is that of its answer, 0 before. `for_pages`: headers of the answer
    for pages of other origins."""

    __slots__ = ("_active", "_arrived", "_receive", "_request_id", "_send", "for_pages", "scope", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, active: ActiveRequest, request_id: bytes) -> None:
        self.scope = scope
        self.status = 0
        self.for_pages: Headers | None = None
        self._receive = receive
        self._send = send
        self._active = active
        self._request_id = request_id
        self._arrived = BODY in scope

    def check(self) -> None:
        """Raise Overloaded if there are too many active requests for this one."""
        if self.scope["path"] not in OPERATIONAL:
            self._active.check()

    async def send(self, message: Message) -> None:
        whole = message["type"] == WHOLE_ANSWER
        if whole and len(message["body"]) > NOT_MUCH and MADE not in self.scope:
            self._active.check_unread(len(message["body"]))
        if not self.status:  # first message: the head, or a whole answer
            self.status = message["status"]
            is_cached = CACHING in self.scope and self.status < 400
            caching = self.scope[CACHING] if is_cached else FOR_THE_CALLER_ALONE
            message["headers"] += [(b"x-request-id", self._request_id), (b"cache-control", caching), NO_SNIFFING]
            for_pages = self.scope.get(FOR_PAGES, self.for_pages)
            if for_pages:
                message["headers"] += for_pages
        if whole:
            await self._send(message)
            return
        self._active.pause()
        try:
            await self._send(message)
        finally:
            self._active.resume()

    async def receive(self) -> Message:
        if self._arrived or self._active.is_at_work:  # it waits for the client to leave, beside its work
            return await self._receive()
        self._active.pause()
        try:
            message = await self._receive()
        finally:
            self._active.resume()
        self._arrived = not message.get("more_body")
        if self._arrived:
            self.check()
        return message


def _request_id(scope: Scope) -> bytes:
    if b"x-request-id" in first_headers(scope):
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.match(value):
                return bytes(value)
    return b"%016x" % random.getrandbits(64)  # an identifier, not a secret
