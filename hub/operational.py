"""Paths for operators: health, and metrics, which reveal store names and so are restricted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from auth.errors import Forbidden
from auth.principal import Principal
from hub.dialects.base import ErrorAnswer
from hub.http.answer import Answer, json_answer
from hub.http.call import Call
from hub.http.errors import WrongMethod
from hub.http.origins import is_local
from hub.metrics import CONTENT_TYPE, Metrics
from stores.errors import StoreError

Read = Callable[[Call], Awaitable[Answer]]
Authenticate = Callable[[Call], Awaitable[Principal]]


def health_routes(
    ping: Callable[[], Awaitable[None]], is_ready: Callable[[], bool], error_answer: ErrorAnswer
) -> list[BaseRoute]:
    """Return the routes for load balancers and supervisors. Their answers contain no names of stores or users."""

    async def live(_: Call) -> Answer:
        return json_answer({"ok": True})

    async def ready(_: Call) -> Answer:
        try:
            await ping()
        except StoreError:
            return json_answer({"ok": False, "failing": ["database"]}, 503)
        return json_answer({"ok": is_ready()}, 200 if is_ready() else 503)

    return [
        Route("/health/live", ReadingEndpoint(live, error_answer)),
        Route("/health/ready", ReadingEndpoint(ready, error_answer)),
    ]


def metrics_route(metrics: Metrics, authenticate: Authenticate | None, error_answer: ErrorAnswer) -> BaseRoute:
    """Return the route of the metrics. `authenticate` returns a call's principal; if it is None, the metrics are
    public."""

    async def read(call: Call) -> Answer:
        # A page of another site in a browser on this machine is local, too, but it sends an Origin header.
        if authenticate is not None and (not is_local(call.scope) or call.header(b"origin") is not None):
            principal = await authenticate(call)
            if not (principal.admin and principal.may_administer("GET", "stores")):
                raise Forbidden("the metrics are for administrators")
        return Answer(metrics.render(), content_type=CONTENT_TYPE)

    return Route("/metrics", ReadingEndpoint(read, error_answer))


class ReadingEndpoint:
    """Answers GET and HEAD with `read`, and every error with `error_answer`."""

    def __init__(self, read: Read, error_answer: ErrorAnswer) -> None:
        self._read = read
        self._error_answer = error_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive)
        try:
            if call.method not in ("GET", "HEAD"):
                raise WrongMethod(("GET", "HEAD"))
            answer = await self._read(call)
        except Exception as error:
            answer = self._error_answer(error, scope)
        await answer.send(scope, send)
