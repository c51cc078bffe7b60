"""Preparations: what a write checks, reads and makes of a caller's body before it is committed.

A preparation is a generator that yields what it needs. A single write gets it before its commit, from the database and
from threads; a batch gets it within its commit, where the writes before it are already done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from stores.errors import StoreError, Violation
from stores.limits import nodes_of
from stores.protocol import Engine, Find, Step
from stores.query import Query
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.threads import in_thread

T = TypeVar("T")

Check = Callable[[Entity], tuple[Entity, list[Violation]]]
"""Returns the values in canonical form, and the violations: `StoreDefinition.check_new` and others."""


@dataclass(frozen=True, slots=True)
class BodyCheck:
    """A check of values by their definition."""

    definition: StoreDefinition
    check: Check
    values: Entity

    def result(self) -> tuple[Entity, list[Violation]]:
        """Return the values in canonical form, and the violations."""
        return self.check(self.values)

    @property
    def is_quick(self) -> bool:
        """Whether the check may hold the event loop: the values are few."""
        most = self.definition.checked_at_once
        return most == inf or nodes_of(self.values) <= most


Preparation = Generator[BodyCheck | Find, Any, T]
"""For a BodyCheck it gets the result, for a Find the entities."""


async def prepare(preparation: Preparation[T], engine: Engine | None = None) -> T:
    """Carry out a preparation before the commit. `engine` is needed if it reads."""
    answer: Any = None
    while True:
        try:
            need = preparation.send(answer)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        if isinstance(need, BodyCheck):
            answer = need.result() if need.is_quick else await in_thread(need.result)
        else:
            assert engine is not None, "a preparation that only checks"
            answer = await engine.entities(need.store, Query(need.where, limit=need.limit))


class TooMuchForLoop(StoreError):
    """A commit on the event loop has found that its own code takes long. It has changed nothing: do it in threads."""


def is_on_loop() -> bool:
    """Return whether this thread runs an event loop now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class LoopShare:
    """The work that the code of one commit may do on the event loop: one unit in all. It has no bound in threads."""

    def __init__(self, *, bounded: bool) -> None:
        self._left = 1.0 if bounded else inf

    def spend(self, amount: float, at_once: float) -> None:
        """Count work of which `at_once` may be done on the loop. Raises TooMuchForLoop."""
        self._left -= amount / at_once
        if self._left < 0:
            raise TooMuchForLoop


def within_commit(preparation: Preparation[T], share: LoopShare) -> Generator[Step, Any, T]:
    """Carry out a preparation as a part of a procedure. Raises TooMuchForLoop."""
    answer: Any = None
    while True:
        try:
            need = preparation.send(answer)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        if isinstance(need, BodyCheck):
            share.spend(nodes_of(need.values), need.definition.checked_at_once)
            answer = need.result()
        else:
            answer = yield need


async def checked(check: BodyCheck) -> tuple[Entity, list[Violation]]:
    """Return the result of a check: from a thread if the values are so many that it may take long."""
    return check.result() if check.is_quick else await in_thread(check.result)
