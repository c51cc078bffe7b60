"""The platform API as routes: finds the operation, the principal, and an answer, whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.errors import Unauthenticated
from auth.principal import Principal
from auth.resolver import Resolver
from auth.secret_key import SecretKey
from hub.bodies import BodyBounds
from hub.dialects.platform.answers import error_answer
from hub.dialects.platform.conditions import refuse_preconditions
from hub.dialects.platform.entities import check_browser
from hub.dialects.platform.operations import Handler, OpenHandler, Operation
from hub.dialects.platform.table import OPERATIONS
from hub.errors import ClientGone, NoSuchPath, NotModified, WrongMethod
from hub.failures import FailureLog
from hub.http import BODY, LIMIT_REACHED, Answer, BodyLimit, Call
from hub.origins import Origins, preflight
from hub.services.accounts import Accounts
from hub.services.delta import DeltaService
from hub.services.entities import EntityService
from hub.services.password_reset import PasswordReset
from hub.services.registry import StoreRegistry
from hub.services.second_factors import SecondFactors
from hub.settings import Settings
from stores.bounds import Limited
from stores.parse import Limits
from stores.read_turns import READER

PREFIX = "/api/v1"


class CallerChanged(Exception):
    """The caller's rights have changed since the request began."""


@dataclass(slots=True)
class PlatformDialect:
    """What the handlers work with."""

    settings: Settings
    key: SecretKey
    registry: StoreRegistry
    resolver: Resolver
    accounts: Accounts
    second_factors: SecondFactors
    resets: PasswordReset
    entities: EntityService
    delta: DeltaService
    filter_limits: Limits
    body_bounds: BodyBounds
    origins: Origins
    public_document: tuple[str, bytes] = ("", b"")
    """The OpenAPI document for callers without credentials, and the path prefix that it was made for."""
    auth_limit: BodyLimit = field(init=False)
    body_limit: BodyLimit = field(init=False)
    bulk_limit: BodyLimit = field(init=False)
    operations: ClassVar = OPERATIONS

    def __post_init__(self) -> None:
        s = self.settings
        self.auth_limit = BodyLimit(s.max_auth_body_bytes, name="max_auth_body_bytes")
        self.body_limit = BodyLimit(s.max_body_bytes)
        self.bulk_limit = BodyLimit(s.max_body_bytes, s.max_bulk_body_bytes)

    def routes(self) -> list[BaseRoute]:
        """One route for all paths: the operation is looked up in a tree rather than tried path by path."""
        tree = Branch()
        for operation in OPERATIONS:
            tree.add(operation, operation.path.removeprefix(PREFIX).split("/"))
        return [Below(PREFIX, Endpoint(self, tree))]

    async def principal(self, call: Call) -> Principal:
        """Who is calling: by Bearer token, or by cookie if the request comes from a page of ours."""
        credential = call.bearer()
        if credential is None:
            credential = call.session()
            if credential is None:
                raise Unauthenticated("no credentials")
            check_browser(self, call)
        principal = await self.resolver.resolve(credential)
        self.accounts.note_use(principal, call)
        call.caller = credential, principal
        return principal

    async def read(self, call: Call) -> bytes:
        """The request's body, within its limit."""
        return await self._read(call, self.body_limit)

    async def read_small(self, call: Call) -> bytes:
        """The body of a request that signs in, or concerns one's own account."""
        return await self._read(call, self.auth_limit)

    async def read_several(self, call: Call) -> bytes:
        """The body of a request that may bring many entities."""
        return await self._read(call, self.bulk_limit)

    async def _read(self, call: Call, limit: BodyLimit) -> bytes:
        """A body can take its time, in which the caller may lose what the head of the request was let in with. Raises
        CallerChanged, and Unauthenticated."""
        body = call.kept_body
        if body is None:
            had_to_wait = BODY not in call.scope
            body = await call.body(limit, self.settings.body_timeout)
            if not had_to_wait:
                return body
        if call.caller is not None:
            credential, before = call.caller
            now = await self.resolver.resolve(credential)
            if now is not before and now != before:
                call.kept_body = body
                raise CallerChanged
        return body


class Below(BaseRoute):
    """Whatever begins with a path, by any method. Starlette's `Route` would match a pattern at each request, and look
    at the methods."""

    def __init__(self, prefix: str, app: ASGIApp) -> None:
        self.prefix = prefix
        self.app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or not path.startswith(self.prefix):
            return Match.NONE, {}
        return Match.FULL, {"path_params": {"rest": path[len(self.prefix) :]}}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@dataclass(slots=True)
class Branch:
    """What begins with the same segments: the operations that end here, by method, and the branches that go on with
    a literal segment or, by its name, a parameter."""

    operations: dict[str, Operation] = field(default_factory=dict)
    literals: dict[str, Branch] = field(default_factory=dict)
    parameters: dict[str, Branch] = field(default_factory=dict)

    def add(self, operation: Operation, segments: Sequence[str]) -> None:
        if not segments:
            self.operations[operation.method] = operation
            if operation.method == "GET":
                self.operations["HEAD"] = operation
            return
        name = segments[0].strip("{}")
        branches = self.literals if name == segments[0] else self.parameters
        branches.setdefault(name, Branch()).add(operation, segments[1:])

    def find(self, segments: Sequence[str], path: dict[str, str]) -> dict[str, Operation]:
        """The operations on a path, none if it is nobody's. Puts the parameters' values into `path`."""
        if not segments:
            return self.operations
        first, rest = segments[0], segments[1:]
        literal = self.literals.get(first)
        found = literal.find(rest, path) if literal else {}
        if found or not first:
            return found
        for name, branch in self.parameters.items():
            found = branch.find(rest, path)
            if found:
                path[name] = first
                return found
        return {}


class Endpoint:
    """All operations of the tree, as an ASGI application."""

    def __init__(self, dialect: PlatformDialect, tree: Branch) -> None:
        self._dialect = dialect
        self._tree = tree
        self._failures = FailureLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive)
        operations = self._tree.find(scope["path_params"]["rest"].split("/"), call.path)
        try:
            answer = await self._answer(call, operations)
        except ClientGone:
            return
        except NotModified as unchanged:
            answer = error_answer(unchanged)
        except Exception as error:
            self._failures.note(scope, error)
            if isinstance(error, Limited):
                scope[LIMIT_REACHED] = error.limit_name
            answer = error_answer(error)
        await answer.send(scope, send)

    async def _answer(self, call: Call, operations: dict[str, Operation]) -> Answer:
        operation = operations.get(call.method)
        if operation is None:
            asked = preflight(call.scope) if call.method == "OPTIONS" else None
            if asked is not None:
                return asked
            raise WrongMethod(tuple(operations)) if operations else NoSuchPath(call.scope["path"])
        call.scope["hub.operation"] = operation.name
        if operation.open:
            return await cast(OpenHandler, operation.handler)(self._dialect, call)
        while True:
            principal = await self._dialect.principal(call)
            READER.set(principal.user_id)
            store = call.path.get("store")
            if store is not None:  # before anything else of the request is looked at: errors name fields
                self._dialect.registry.authorized(principal, store, operation.method)
            if not operation.conditional:
                refuse_preconditions(call)
            try:
                return await cast(Handler, operation.handler)(self._dialect, call, principal)
            except CallerChanged:
                continue  # judged anew, by who the caller is now; the body is there
