"""The listings API as a dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.types import Scope

from auth.principal import Principal
from hub.dialects import base
from hub.dialects.base import Dialect
from hub.dialects.forms import MULTIPART, URLENCODED
from hub.dialects.listings.access import check_access, check_path, check_registrations
from hub.dialects.listings.context import PREFIX, ListingsContext
from hub.dialects.listings.cross_origin import (
    ANY,
    allow_any_page,
    allow_reading,
    allowed_origin,
    is_preflight,
    refuse_pages,
)
from hub.dialects.listings.errors import error_answer
from hub.dialects.listings.openapi import OPERATIONS
from hub.dialects.listings.operations import Operation
from hub.http.answer import Answer, json_answer
from hub.http.call import Call
from hub.http.errors import Failure, NoSuchPath, WrongMethod
from hub.openapi.schemas import JSON

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
"""The order of methods in `Allow`, as in Django REST framework."""

Operations = Mapping[str, base.Operation[ListingsContext]]
"""The operations of a path by method."""


class ListingsDialect(Dialect[ListingsContext]):
    """The listings API, at ``/v1``."""

    prefixes = (PREFIX,)

    def __init__(self, context: ListingsContext, operations: Sequence[Operation] = OPERATIONS) -> None:
        super().__init__(context, operations)

    async def authenticate(self, call: Call) -> Principal:
        return (await check_access(self.context, call)).principal

    async def unmatched(self, call: Call, operations: Operations) -> Answer:
        """Answer OPTIONS, and raise WrongMethod and NoSuchPath after the checks that come before."""
        allow_any_page(call)
        if not operations:
            raise NoSuchPath(call.scope["path"])
        check_path(call)
        if call.method == "OPTIONS" and is_preflight(call):
            await self._answer_preflight(call, operations)
        elif all(operation.open for operation in operations.values()):
            await self._check_open(call, operations)
        else:
            await check_access(self.context, call)
        allowed = tuple(method for method in METHODS if method in operations or method == "OPTIONS")
        if call.method != "OPTIONS":
            raise WrongMethod(allowed)
        return options_answer(operations, allowed)

    async def _answer_preflight(self, call: Call, operations: Operations) -> None:
        """Allow the page to send its request, or do not."""
        refuse_pages(call)
        is_open = all(operation.open for operation in operations.values())
        if is_open and not _registers(operations):
            allow_reading(call, ANY)
        elif not is_open:
            origin = await allowed_origin(self.context, call)
            if origin is not None:
                allow_reading(call, origin)

    async def _check_open(self, call: Call, operations: Operations) -> None:
        if _registers(operations):
            refuse_pages(call)
            await check_registrations(self.context, call)

    def render(self, failure: Failure, scope: Scope) -> Answer:
        return error_answer(failure, scope.get("method", ""))


def _registers(operations: Operations) -> bool:
    return any(isinstance(operation, Operation) and operation.registers for operation in operations.values())


def options_answer(operations: Operations, allowed: Sequence[str]) -> Answer:
    """Return what the framework's metadata say of an endpoint."""
    first = next(iter(operations.values()))
    metadata = {
        "name": first.summary,
        "description": "",
        "renders": [JSON],
        "parses": [JSON, URLENCODED, MULTIPART],
    }
    return json_answer(metadata, headers=[(b"allow", ", ".join(allowed).encode())])
