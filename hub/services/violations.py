"""Violations in callers' input, and their locations.

Fields that a caller sends back unchanged are accepted even if they are invalid: the entity may be older than its
store's definition, or another program may have written it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from auth.view import View
from stores.errors import DuplicateValue, InvalidEntity, RefusedEntity, Violation
from stores.limits import MOST_VIOLATIONS
from stores.records import Entity, same


@dataclass(frozen=True, slots=True)
class Checked:
    """The fields of a caller's body, with their violations: all, or the first MOST_VIOLATIONS. `check` returns the
    violations of a part of the body."""

    view: View
    body: Entity
    violations: Sequence[Violation]
    check: Callable[[Entity], Sequence[Violation]]

    def kept(self, before: Entity) -> Entity:
        """Return the invalid fields that the body sends back as they are in `before`, in its order. If there are more
        violations than are known, return all fields that it sends back.

        Raises InvalidEntity for other violations."""
        unchanged = self._unchanged(before)
        raise_violations(self._others(self.violations, before, unchanged))
        if len(self.violations) < MOST_VIOLATIONS:
            names = {self._field_of(violation) for violation in self.violations}
            return {name: value for name, value in self.body.items() if name in names}
        rest = {name: value for name, value in self.body.items() if name not in unchanged}
        raise_violations(self._others(self.check(rest), before, unchanged))
        return {name: value for name, value in self.body.items() if name in unchanged}

    def _unchanged(self, before: Entity) -> frozenset[str]:
        # Once for each field, however many violations it has.
        shows = self.view.shows
        return frozenset(n for n, v in self.body.items() if n in before and shows(n) and same(v, before[n]))

    def _others(
        self, violations: Sequence[Violation], before: Entity, unchanged: Container[str]
    ) -> Sequence[Violation]:
        """Return the violations, except those of unchanged fields and of shown fields that are missing as before."""

        def is_as_before(violation: Violation) -> bool:
            name = self._field_of(violation)
            if name in self.body:
                return name in unchanged
            return violation.rule == "required" and name not in before and self.view.shows(name)

        return [violation for violation in violations if not is_as_before(violation)]

    def _field_of(self, violation: Violation) -> str:
        """Return the top-level field of a violation. A name may itself, wrongly, contain a dot."""
        return violation.field if violation.field in self.body else violation.field.split(".", 1)[0]


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
            first, *others = [f"{error.index}.{field}" for field in error.fields]
            raise DuplicateValue(first, error.index, others, error.key) from error
        if self._indexed and isinstance(error, RefusedEntity):
            raise error.in_item() from error


@contextmanager
def of_item(index: int | None) -> Iterator[None]:
    """Add the position of one of several bodies to an error of its check. None: there is only one body."""
    try:
        yield
    except DuplicateValue as error:  # `indexed_errors` writes it to the fields
        raise DuplicateValue(error.field, index or 0, error.fields[1:], error.key) from error
    except InvalidEntity as error:
        if index is None:
            raise
        placed = [replace(each, field=f"{index}.{each.field}") for each in error.violations]
        raise InvalidEntity(placed).at(error.limit_name) from error
