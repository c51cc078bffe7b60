"""The platform API as a dialect."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import Scope

from auth.principal import Principal
from hub.dialects.base import Dialect, Operation
from hub.dialects.platform.answers import failure_answer
from hub.dialects.platform.conditions import refuse_preconditions
from hub.dialects.platform.context import PlatformContext
from hub.dialects.platform.openapi import OPERATIONS
from hub.dialects.platform.operations import Operation as PlatformOperation
from hub.http.answer import Answer
from hub.http.call import Call
from hub.http.errors import Failure


class PlatformDialect(Dialect[PlatformContext]):
    """The hub's own API, at ``/api/v1``."""

    prefixes = ("/api/v1",)

    def __init__(self, context: PlatformContext) -> None:
        super().__init__(context, OPERATIONS)

    def authenticate(self, call: Call) -> Awaitable[Principal]:
        return self.context.authenticate(call)

    def admit(self, operation: Operation[PlatformContext], call: Call, principal: Principal) -> None:
        """Check the caller's rights before anything else, since later errors may name fields.

        Raises Forbidden or NotFound, and BadRequest for a precondition that the operation would ignore.
        """
        store = call.path.get("store")
        if store is not None:
            needed = operation.needed if isinstance(operation, PlatformOperation) else operation.method
            self.context.registry.authorized(principal, store, needed)
        if not operation.conditional:
            refuse_preconditions(call)

    def render(self, failure: Failure, scope: Scope) -> Answer:
        return failure_answer(failure)
