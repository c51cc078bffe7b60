"""The base of every REST dialect: operations, authentication and the rendering of errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from starlette.types import Scope

from auth.principal import Principal
from hub.http.answer import Answer
from hub.http.body import BodyLimit
from hub.http.call import Call
from hub.http.errors import Failure, NoSuchPath, NotModified, WrongMethod, describe
from hub.http.origins import preflight
from hub.http.scope import BODY

C = TypeVar("C")

Handler = Callable[[C, Call, Principal], Awaitable[Answer]]
OpenHandler = Callable[[C, Call], Awaitable[Answer]]
ErrorAnswer = Callable[[Exception, Scope], Answer]
"""Returns the answer to an error of a request. The scope always has `type`, `path` and `headers`."""

Resolve = Callable[[str], Awaitable[Principal]]
"""Returns the current principal of a credential. Raises Unauthenticated."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[C]):
    """One call of a dialect. Its handler gets a context of type `C`.

    `path` is absolute, with parameters in braces: ``/api/v1/{store}/{id}``. An `open` operation needs no credentials,
    and its handler gets no principal. A `conditional` operation supports If-Match and If-None-Match. Dialects add in a
    subclass what their OpenAPI part needs.
    """

    name: str
    method: str
    path: str
    summary: str
    handler: Handler[C] | OpenHandler[C]
    open: bool = field(default=False, kw_only=True)
    conditional: bool = field(default=False, kw_only=True)


class Dialect(ABC, Generic[C]):
    """One API over the hub's services. It parses requests and renders answers, and makes no other decisions.

    `prefixes`: its paths begin with one of these, such as ``/api/v1``. If two dialects match, the longer prefix wins.
    """

    prefixes: ClassVar[tuple[str, ...]]

    def __init__(self, context: C, operations: Sequence[Operation[C]]) -> None:
        self.context = context
        self.operations = operations

    @abstractmethod
    def authenticate(self, call: Call) -> Awaitable[Principal]:
        """Return the principal of the call, using this dialect's kind of credentials. Raises Unauthenticated."""

    @abstractmethod
    def render(self, failure: Failure, scope: Scope) -> Answer:
        """Return the answer to an error, in this dialect's format."""

    def admit(self, operation: Operation[C], call: Call, principal: Principal) -> None:
        """Raise an error to refuse the call before its handler runs."""

    async def unmatched(self, call: Call, operations: Mapping[str, Operation[C]]) -> Answer:
        """Return the answer to a call without an operation. `operations` are those of its path, by method. Raises
        WrongMethod and NoSuchPath."""
        asked = preflight(call.scope) if call.method == "OPTIONS" else None
        if asked is not None:
            return asked
        raise WrongMethod(tuple(operations)) if operations else NoSuchPath(call.scope["path"])

    def error_answer(self, error: Exception, scope: Scope) -> Answer:
        """Return the answer to an error. NotModified has the same answer in every dialect."""
        if isinstance(error, NotModified):
            return Answer(status=304, headers=[(b"etag", error.etag.encode())])
        return self.render(describe(error), scope)


class Dialects:
    """All dialects of a hub, by path. Errors at paths outside all prefixes have the format of the `main` dialect.
    Raises ValueError if two dialects have the same prefix."""

    def __init__(self, main: Dialect[Any], others: Iterable[Dialect[Any]] = ()) -> None:
        self.main = main
        found = [(prefix, dialect) for dialect in (main, *others) for prefix in dialect.prefixes]
        prefixes = [prefix for prefix, _ in found]
        if len(set(prefixes)) < len(prefixes):
            raise ValueError(f"two dialects have one prefix: {', '.join(prefixes)}")
        self.by_prefix = sorted(found, key=lambda each: -sum(map(each[0].startswith, prefixes)))
        """(prefix, dialect) pairs in the order in which they are tried: the main dialect's first, but a longer prefix
        before a shorter one that it begins with."""

    def at(self, path: str) -> Dialect[Any]:
        """Return the dialect that renders the errors of a path."""
        return next((dialect for prefix, dialect in self.by_prefix if path.startswith(prefix)), self.main)

    def error_answer(self, error: Exception, scope: Scope) -> Answer:
        """Return the answer to an error outside a dialect's endpoint, in the format of the path's dialect."""
        return self.at(scope["path"]).error_answer(error, scope)


class CallerChanged(Exception):
    """The caller's rights have changed since the request began: the endpoint authorises the request again."""


async def read_body(call: Call, limit: BodyLimit, seconds: float, resolve: Resolve) -> bytes:
    """Return the request's body, within `limit` and `seconds`.

    A slow body leaves time for the caller to lose the rights that the request was admitted with, so `resolve` looks up
    the credential again. Raises CallerChanged, Unauthenticated, and the errors of `Call.body`.
    """
    body = call.kept_body
    if body is None:
        had_to_wait = BODY not in call.scope
        body = await call.body(limit, seconds)
        if not had_to_wait:
            return body
    if await has_changed(call, resolve):
        call.kept_body = body
        raise CallerChanged
    return body


async def has_changed(call: Call, resolve: Resolve) -> bool:
    """Return whether the caller's rights have changed since the call was admitted. Raises Unauthenticated if the
    credential is no longer valid."""
    if call.caller is None:
        return False
    credential, before = call.caller
    now = await resolve(credential)
    return now is not before and now != before
