"""Retries writes that depend on data read before, after concurrent changes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import update_wrapper
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from hub.services.registry import StoreRegistry
from stores.errors import DefinitionChanged, NotAsExpected, NotFound, StaleRevision, Unavailable
from stores.protocol import Engine, Revisions
from stores.query import And, Equal, Filter, Query
from stores.records import Entity

T = TypeVar("T")
P = ParamSpec("P")

RETRIES: Final = 20
"""Attempts after the first one."""

LONGEST_PAUSE: Final = 0.2
"""The most seconds between two attempts; the first pauses are a few milliseconds. On MongoDB a commit is checked
against changes that a majority has yet to confirm, and reads do not show those: attempts without a pause would be used
up before."""


async def retry_on_current(
    engine: Engine,
    store: str,
    id: str,
    where: Filter,
    revs: Revisions | None,
    attempt: Callable[[Entity], Awaitable[T]],
) -> T:
    """Run `attempt` on the current entity; retry if a concurrent write wins. Raises NotFound, StaleRevision if its
    revision is not in `revs`, and Unavailable if other writes always win."""
    for retries in range(RETRIES + 1):
        found = await engine.entities(store, Query(And((Equal(("_id",), id), where)), limit=1))
        if not found:
            raise NotFound(f"no {store}/{id}")
        if revs is not None and found[0]["_rev"] not in revs:
            raise StaleRevision(found[0]["_rev"])
        try:
            return await attempt(found[0])
        except StaleRevision as error:
            if retries == RETRIES:
                if revs is None or error.current in revs:
                    raise Unavailable("the entity is being changed all the time") from error
                raise
        except NotAsExpected:
            if retries == RETRIES:
                raise
        await _pause(retries)
    raise AssertionError("unreachable")


async def retry_stale(revs: Revisions | None, attempt: Callable[[], Awaitable[T]]) -> T:
    """Run `attempt`, which may bind its write to the revision of the entity that it has read; retry if a concurrent
    write wins. Raises StaleRevision if the entity's revision is not in `revs`, and Unavailable if other writes always
    win."""
    for retries in range(RETRIES + 1):
        try:
            return await attempt()
        except StaleRevision as error:
            if revs is not None and error.current not in revs:
                raise
            if retries == RETRIES:
                raise Unavailable("the entity is being changed all the time") from error
        await _pause(retries)
    raise AssertionError("unreachable")


async def retry_unexpected(attempt: Callable[[], Awaitable[T]]) -> T:
    """Run `attempt`; retry if its expectations no longer hold at its commit."""
    for retries in range(RETRIES + 1):
        try:
            return await attempt()
        except NotAsExpected:
            if retries == RETRIES:
                raise
        await _pause(retries)
    raise AssertionError("unreachable")


class _HasRegistry(Protocol):
    registry: StoreRegistry


S = TypeVar("S", bound=_HasRegistry)


def against_current_definition(
    method: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Decorate a method that checks values against a definition and commits them: it runs again if the definition has
    changed by the commit."""

    async def repeated(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(RETRIES):
            try:
                return await method(self, *args, **kwargs)
            except DefinitionChanged:
                await self.registry.refresh()
        return await method(self, *args, **kwargs)

    update_wrapper(repeated, method)
    return repeated


async def _pause(retries: int) -> None:
    """Wait longer after each attempt, up to LONGEST_PAUSE, and at random: others repeat their attempts too."""
    await asyncio.sleep(random.uniform(0.5, 1) * min(0.002 * 2**retries, LONGEST_PAUSE))
