"""Violations in callers' input, and their places.

Fields that a caller sends back unchanged are accepted even if they are invalid: the entity may be older than its
store's definition, or another program may have written it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from auth.view import View
from stores.bounds import Limit
from stores.errors import DuplicateValue, EntityTooLarge, InvalidEntity, Violation
from stores.records import Entity, same

MOST_VIOLATIONS: Final[Annotated[int, Limit("request", "errors", "the rest is not listed")]] = 1_000


def without_unchanged(view: View, violations: Sequence[Violation], body: Entity, before: Entity) -> list[Violation]:
    """Return the violations, except those of shown fields that `body` leaves as they are in `before`."""
    return [v for v in violations if not _is_unchanged(view, v, body, before)]


def field_of(violation: Violation, body: Entity) -> str:
    """Return the top-level field of a violation. A name may itself, wrongly, contain a dot."""
    return violation.field if violation.field in body else violation.field.split(".", 1)[0]


def _is_unchanged(view: View, violation: Violation, body: Entity, before: Entity) -> bool:
    name = field_of(violation, body)
    if not view.shows(name):
        return False
    if name not in body:
        return violation.rule == "required" and name not in before
    return name in before and same(body[name], before[name])


def raise_violations(violations: Sequence[Violation]) -> None:
    if violations:
        raise InvalidEntity(violations[:MOST_VIOLATIONS])


class indexed_errors:  # noqa: N801 (used like a function)
    """Context manager that adds the position of the body to errors of the commit (duplicate value, entity too large) if
    there are several bodies."""

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
