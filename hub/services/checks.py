"""What several operations on entities ask of their arguments, and make of their answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import orjson

from auth.view import View
from hub.services.store_hooks import Prepared
from stores.bounds import Limit
from stores.errors import DuplicateValue, EntityTooLarge, InvalidEntity, NotFound, Violation
from stores.records import is_id

MOST_VIOLATIONS: Final[Annotated[int, Limit("request", "errors", "the rest is not listed")]] = 1_000

ASSIGNED = frozenset({"user", "prefix", "digest", "last_used", "address", "agent"})
"""Fields of system stores that the hub fills in: a replacement leaves them."""


def is_forced(reader: View | None, fields: Iterable[str]) -> bool:
    """Whether a write of these fields is made even if it alters nothing: a revision that stays would confirm a guess
    to a writer who may not see the value. `reader` is the writer's view of the store, None if it may not read it."""
    return reader is None or not reader.hidden.isdisjoint(fields)


def checked_id(id: str) -> str:
    """A malformed id is the id of nothing: NotFound."""
    if not is_id(id):
        raise NotFound(f"{id!r} is not an id")
    return id


class indexed_errors:  # noqa: N801 (used like a function)
    """Context manager: names the position of the body at fault (its value is taken, or it is too large), when there are
    several bodies."""

    __slots__ = ("_indexed",)

    def __init__(self, indexed: bool) -> None:
        self._indexed = indexed

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._indexed and isinstance(error, DuplicateValue):
            raise DuplicateValue(f"{error.index}.{error.field}", error.index) from error
        if self._indexed and isinstance(error, EntityTooLarge):
            raise error.in_item() from error


def raise_violations(violations: Sequence[Violation]) -> None:
    if violations:
        raise InvalidEntity(violations[:MOST_VIOLATIONS])


def revealed(text: bytes, prepared: Prepared) -> bytes:
    """The entity with what only the one who made it is told, once."""
    return orjson.dumps(orjson.loads(text) | prepared.reveal) if prepared.reveal else text
