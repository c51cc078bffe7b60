"""Procedures: writes of a commit that depend on what it finds, step by step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from stores.query import Filter
from stores.records import Entity
from stores.writes import Delete, DeleteMany, Expect, Insert, Recheck, Serial, Update, UpdateMany, Upsert, Written


@dataclass(frozen=True, slots=True)
class Find:
    """A step of a Procedure that reads: at most `limit` matches, any of them in any order, as they are within the
    commit. With `only` the entities have only these top-level fields, beside `_id`. `in_order`: the first ones in the
    order of their creation."""

    store: str
    where: Filter
    limit: int
    only: tuple[str, ...] | None = None
    in_order: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """A step of a Procedure that orders it with others: of two commits that lock the same key, at least one of them as
    `exclusive`, one sees the result of the other. Lock before reading what the key protects."""

    keys: tuple[str, ...]
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class InsertMany:
    """A step of a Procedure that inserts complete entities, which get no serial numbers, by few statements."""

    store: str
    entities: Sequence[Entity]


@dataclass(frozen=True, slots=True)
class Take:
    """A step of a Procedure that takes the next `count` numbers of a counter, and gets the first of them. With 0 it
    takes none: the counter then goes on from that number, which is `serial.start` or greater."""

    serial: Serial
    count: int


EntityKey = tuple[str, str, Any]
"""A store, a path and a value that one entity has there."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """Writes that depend on what the commit finds, or on the outcome of writes before them.

    `steps` begins the procedure, once for each attempt of the commit. The generator yields its steps: for a write it
    gets the Written, for a Find the list of entities, for a Take the number, for a Lock and an InsertMany None. A
    StoreError of a step is raised in it, and fails the commit, as any error does; the procedure may raise another one
    that explains it. It returns the Written that is its outcome in the commit.

    `store`: the store that it mainly writes to. `bulk`: it may write or search for long. What is known of it before:
    `keys` of entities that it changes, and about how many bytes it writes (`size`)."""

    store: str
    steps: Callable[[], Steps]
    bulk: bool = False
    keys: tuple[EntityKey, ...] = ()
    size: int = 0


Write = Insert | Update | Delete | Upsert | UpdateMany | DeleteMany | Expect | Recheck | Procedure
Step = Insert | Update | Delete | Upsert | UpdateMany | DeleteMany | InsertMany | Find | Take | Lock
Steps = Generator[Step, Any, Written]
StepOutcome = Written | list[Entity] | int | None
"""The result of a step, which the procedure receives."""


def do(write: Insert | Update | Delete | Upsert | UpdateMany | DeleteMany) -> Generator[Step, Any, Written]:
    """Do a write in a procedure: ``written = yield from do(Insert(…))``."""
    written: Written = yield write
    return written


def find(
    store: str, where: Filter, limit: int, only: tuple[str, ...] | None = None, *, in_order: bool = False
) -> Generator[Step, Any, list[Entity]]:
    """Read in a procedure: ``entities = yield from find(…)``."""
    entities: list[Entity] = yield Find(store, where, limit, only, in_order)
    return entities


def take(serial: Serial, count: int) -> Generator[Step, Any, int]:
    """Take numbers in a procedure: ``first = yield from take(…)``."""
    first: int = yield Take(serial, count)
    return first
