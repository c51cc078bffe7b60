"""The table of the platform API's calls: routes and the OpenAPI document are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from auth.principal import Principal
from hub.http import Answer, Call

if TYPE_CHECKING:
    from hub.dialects.platform.context import PlatformDialect

Handler = Callable[["PlatformDialect", Call, Principal], Awaitable[Answer]]
OpenHandler = Callable[["PlatformDialect", Call], Awaitable[Answer]]

ParameterSet = Literal["none", "list", "filter", "projection", "upsert", "history"]
BodyKind = Literal[
    "none", "entity", "entities", "changes", "access", "credentials", "code", "login", "reset", "ending", "proof"
]  # fmt: skip
ResultKind = Literal[
    "entity", "projected", "entities", "list", "count", "history", "session", "token", "signed_out", "account",
    "document", "enrolment", "recovery", "done", "page",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. `path` is in Starlette's notation; `open` ones need no credentials. The rest describes the call for
    the OpenAPI document: which parameters and body it takes, whether it heeds If-Match or If-None-Match
    (`conditional`) and Idempotency-Key (`idempotent`), whether it changes something (`writes`), and which errors it
    can meet besides those that follow from all this. `personal`: it answers more to who sends credentials.
    `for_administrators`: nobody else can use it."""

    name: str
    method: str
    path: str
    summary: str
    handler: Handler | OpenHandler
    result: ResultKind
    open: bool = False
    parameters: ParameterSet = "none"
    body: BodyKind = "none"
    conditional: bool = False
    idempotent: bool = False
    writes: bool = False
    personal: bool = False
    for_administrators: bool = False
    errors: tuple[int, ...] = field(default=())
