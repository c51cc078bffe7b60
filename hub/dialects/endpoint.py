"""The ASGI endpoint of a dialect: it finds the operation and the principal, and answers whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

from starlette.types import ASGIApp, Receive, Scope, Send

from hub.dialects.base import C, CallerChanged, Dialect, Dialects, Handler, OpenHandler, Operation
from hub.dialects.path_tree import PathNode
from hub.http.active import ACTIVE, ActiveRequest
from hub.http.answer import Answer
from hub.http.call import Call
from hub.http.errors import ClientGone, NotModified
from hub.http.failures import FailureLog
from hub.http.scope import LIMIT_REACHED
from stores.bounds import Limited
from stores.read_turns import READER
from stores.tracebacks import drop_tracebacks


def endpoints_of(dialects: Dialects) -> list[tuple[str, Endpoint[Any]]]:
    """Return each prefix with its endpoint, in the order in which they are tried. Raises ValueError for an operation
    whose path has none of its dialect's prefixes."""
    for dialect in {id(dialect): dialect for _, dialect in dialects.by_prefix}.values():
        for operation in dialect.operations:
            if dialects.at(operation.path) is not dialect:
                raise ValueError(f"{operation.path} is not below {' or '.join(dialect.prefixes)}")
    return [(prefix, Endpoint(dialect, prefix)) for prefix, dialect in dialects.by_prefix]


class PrefixDispatch:
    """ASGI application that hands requests below the prefixes of dialects to their endpoints, and all others to `app`.
    Starlette's router would ask route by route, and compare methods (docs/decisions.md has the measurement)."""

    def __init__(self, app: ASGIApp, endpoints: Sequence[tuple[str, Endpoint[Any]]]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            for prefix, endpoint in self._endpoints:
                if path.startswith(prefix):
                    await endpoint.serve(path[len(prefix) :], scope, receive, send)
                    return
        await self._app(scope, receive, send)


def tree_of(dialect: Dialect[C], prefix: str) -> PathNode[C]:
    """Return the tree of the dialect's operations below a prefix."""
    tree: PathNode[C] = PathNode()
    for operation in dialect.operations:
        if operation.path.startswith(prefix):
            tree.add(operation, operation.path.removeprefix(prefix).split("/"))
    return tree


class Endpoint(Generic[C]):
    """The operations of a dialect below one prefix."""

    def __init__(self, dialect: Dialect[C], prefix: str) -> None:
        self._dialect = dialect
        self._context = dialect.context
        self._tree = tree_of(dialect, prefix)
        self._failures = FailureLog()

    async def serve(self, rest: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. `rest` is its path behind the prefix."""
        call = Call(scope, receive)
        operations = self._tree.find(rest.split("/"), call.path)
        try:
            answer = await self._answer(call, operations)
        except ClientGone:
            return
        except NotModified as unchanged:
            answer = self._dialect.error_answer(unchanged, scope)
        except Exception as error:
            self._failures.note(scope, error)
            if isinstance(error, Limited):
                scope[LIMIT_REACHED] = error.limit_name
            answer = self._dialect.error_answer(error, scope)
            drop_tracebacks(error)
        await answer.send(scope, send)

    async def _answer(self, call: Call, operations: dict[str, Operation[C]]) -> Answer:
        operation = operations.get(call.scope["method"])
        if operation is None:
            return await self._dialect.unmatched(call, operations)
        call.scope["hub.operation"] = operation.name
        if operation.open:
            answer_anyone: OpenHandler[C] = operation.handler  # type: ignore[assignment]
            return await answer_anyone(self._context, call)
        handler: Handler[C] = operation.handler  # type: ignore[assignment]
        while True:
            principal = await self._dialect.authenticate(call)
            READER.set(principal.user_id)
            active: ActiveRequest | None = call.scope.get(ACTIVE)
            if active is not None:
                active.authenticated(principal.user_id)
            self._dialect.admit(operation, call, principal)
            try:
                return await handler(self._context, call, principal)
            except CallerChanged:
                continue  # authorise again with the current principal; the body has already arrived
