"""The hub frees the memory of a failed request with its answer, without the garbage collector."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from auth.principal import Principal
from hub.dialects.base import Dialect, Operation
from hub.dialects.endpoint import Endpoint
from hub.http.answer import Answer
from hub.http.call import Call
from hub.http.errors import Failure
from hub.http.middleware import RequestMiddleware
from hub.http.origins import Origins
from hub.metrics import Metrics
from stores.errors import NotFound


class Held:
    """Something large."""


class Failing:
    """Work that fails with an error that one of its frames holds, as that of a future does."""

    def __init__(self) -> None:
        self.held: weakref.ref[Held] | None = None

    async def __call__(self, *arguments: Any) -> Answer:
        held = Held()
        self.held = weakref.ref(held)
        failures = [NotFound("nothing")]
        raise failures[0] from KeyError(held)


class Plain(Dialect[None]):
    async def authenticate(self, call: Call) -> Principal:
        raise NotImplementedError

    def render(self, failure: Failure, scope: Any) -> Answer:
        return Answer(status=failure.status)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("by", ["endpoint", "middleware"])
async def test_a_failed_request_is_freed_with_its_answer(by: str) -> None:
    failing, sent = Failing(), list[Any]()
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/x", "headers": []}

    async def send(message: Any) -> None:
        sent.append(message)

    if by == "endpoint":
        dialect = Plain(None, [Operation("fail", "GET", "/x", "Fail", failing, open=True)])
        await Endpoint(dialect, "/").serve("x", scope, send, send)
    else:

        def answer(error: Exception, scope: Any) -> Answer:
            return Answer(status=404)

        await RequestMiddleware(failing, Metrics(), 1, "/live", Origins((), ()), "off", answer)(scope, send, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 404
    assert failing.held is not None
    assert failing.held() is None
