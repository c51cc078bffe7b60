"""The platform API as routes: finds the operation, the principal, and an answer, whatever happens."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, cast

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from auth.errors import Unauthenticated
from auth.principal import Principal
from auth.resolver import Resolver
from hub.dialects.platform.handlers import check_browser
from hub.dialects.platform.operations import Handler, OpenHandler, Operation
from hub.dialects.platform.render import error_answer
from hub.dialects.platform.table import OPERATIONS
from hub.errors import ClientGone, NoSuchPath, WrongMethod, describe
from hub.http import Answer, Call
from hub.services.accounts import Accounts
from hub.services.delta import DeltaService
from hub.services.entities import EntityService
from hub.services.registry import StoreRegistry
from hub.settings import Settings
from stores.parse import Limits

log = logging.getLogger(__name__)

PREFIX = "/api/v1"


@dataclass(slots=True)
class PlatformDialect:
    """What the handlers work with."""

    settings: Settings
    registry: StoreRegistry
    resolver: Resolver
    accounts: Accounts
    entities: EntityService
    delta: DeltaService
    filter_limits: Limits
    trusted_origins: frozenset[str]
    operations: ClassVar = OPERATIONS

    def routes(self) -> list[BaseRoute]:
        """One route per path, most specific first, and the one that catches the rest."""
        by_path = groupby(sorted(self.operations, key=_specific_first), key=lambda o: o.path)
        routes: list[BaseRoute] = [Route(path, Endpoint(self, tuple(operations))) for path, operations in by_path]
        return [*routes, Route(PREFIX + "{rest:path}", Endpoint(self, ()))]

    async def principal(self, call: Call) -> Principal:
        """Who is calling: by Bearer token, or by cookie if the request comes from a page of ours."""
        token = call.bearer()
        if token is not None:
            principal = await self.resolver.resolve(token)
            await self.accounts.note_use(principal)
            return principal
        cookie = call.cookie("sid")
        if cookie is None:
            raise Unauthenticated("no credentials")
        check_browser(self, call)
        return await self.resolver.resolve(cookie)

    async def read(self, call: Call) -> bytes:
        """The request's body, within its bounds."""
        s = self.settings
        return await call.body(s.max_body_bytes, max(s.max_body_bytes, s.max_bulk_body_bytes), s.body_timeout)


class Endpoint:
    """All operations on one path, as an ASGI application."""

    def __init__(self, dialect: PlatformDialect, operations: tuple[Operation, ...]) -> None:
        self._dialect = dialect
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, scope["path_params"])
        try:
            answer = await self._answer(call)
        except ClientGone:
            return
        except Exception as error:
            if describe(error).status.value >= 500:
                log.error("%s %s failed", call.method, scope["path"], exc_info=error)
            answer = error_answer(error)
        await answer.send(scope, send)

    async def _answer(self, call: Call) -> Answer:
        operation = self._operations.get(call.method)
        if operation is None:
            raise WrongMethod(tuple(self._operations)) if self._operations else NoSuchPath(call.scope["path"])
        call.scope["hub.operation"] = operation.name
        if operation.open:
            return await cast(OpenHandler, operation.handler)(self._dialect, call)
        principal = await self._dialect.principal(call)
        return await cast(Handler, operation.handler)(self._dialect, call, principal)


def _specific_first(operation: Operation) -> tuple[int, str]:
    return operation.path.count("{"), operation.path
