"""The ASGI endpoint of a dialect: it finds the operation and the principal, and answers whatever happens."""

from __future__ import annotations

from typing import Generic, cast

from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from hub.active import ACTIVE, ActiveRequest
from hub.dialects.base import C, CallerChanged, Dialect, Dialects, Handler, OpenHandler, Operation
from hub.dialects.path_tree import PathNode, PrefixRoute
from hub.errors import ClientGone, NotModified
from hub.failures import FailureLog
from hub.http import LIMIT_REACHED, Answer, Call
from stores.bounds import Limited
from stores.read_turns import READER


def routes_of(dialects: Dialects) -> list[BaseRoute]:
    """Return one route per prefix, in the order in which they are tried. Raises ValueError for an operation whose path
    has none of its dialect's prefixes."""
    for dialect in {id(dialect): dialect for _, dialect in dialects.by_prefix}.values():
        for operation in dialect.operations:
            if dialects.at(operation.path) is not dialect:
                raise ValueError(f"{operation.path} is not below {' or '.join(dialect.prefixes)}")
    return [PrefixRoute(prefix, Endpoint(dialect, prefix)) for prefix, dialect in dialects.by_prefix]


def tree_of(dialect: Dialect[C], prefix: str) -> PathNode[C]:
    """Return the tree of the dialect's operations below a prefix."""
    tree: PathNode[C] = PathNode()
    for operation in dialect.operations:
        if operation.path.startswith(prefix):
            tree.add(operation, operation.path.removeprefix(prefix).split("/"))
    return tree


class Endpoint(Generic[C]):
    """ASGI application for the operations of a dialect below one prefix. The route has put the rest of the path into
    the scope."""

    def __init__(self, dialect: Dialect[C], prefix: str) -> None:
        self._dialect = dialect
        self._context = dialect.context
        self._tree = tree_of(dialect, prefix)
        self._failures = FailureLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive)
        operations = self._tree.find(scope["path_params"]["rest"].split("/"), call.path)
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
        await answer.send(scope, send)

    async def _answer(self, call: Call, operations: dict[str, Operation[C]]) -> Answer:
        operation = operations.get(call.method)
        if operation is None:
            return await self._dialect.unmatched(call, operations)
        call.scope["hub.operation"] = operation.name
        if operation.open:
            return await cast("OpenHandler[C]", operation.handler)(self._context, call)
        while True:
            principal = await self._dialect.authenticate(call)
            READER.set(principal.user_id)
            active: ActiveRequest | None = call.scope.get(ACTIVE)
            if active is not None:
                active.authenticated(principal.user_id)
            self._dialect.admit(operation, call, principal)
            try:
                return await cast("Handler[C]", operation.handler)(self._context, call, principal)
            except CallerChanged:
                continue  # authorise again with the current principal; the body has already arrived
