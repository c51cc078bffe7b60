"""What looking at one entity may cost, counted in steps of about 0.1 µs: a filter of many conditions over an array of
many elements is a product that no other limit bounds.

Code whose work depends on what clients send counts its steps before it takes them. Who runs it decides what happens
when they become too many: nothing, an error, or a look at the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.errors import FilterTooCostly

Spend = Callable[[int], None]
"""Takes in steps that are about to be taken. May raise."""

MOST_STEPS: Annotated[int, Limit("change and filter", "steps", "`error_filter_too_costly`")] = 400_000
"""For which a filter may look at an entity before and after a change: some 40 ms. One condition never needs as many,
whatever the entity."""

AT_ONCE: Final = 2_000
"""Steps that are taken without looking whether there are too many by now."""


def free(steps: int) -> None:
    """Counts nothing."""


class StepBudget:
    """Steps that may be taken until `renew` is called."""

    __slots__ = ("_left", "_most")

    def __init__(self, most: int = MOST_STEPS) -> None:
        self._most = self._left = most

    def renew(self) -> None:
        self._left = self._most

    def spend(self, steps: int) -> None:
        """Raises FilterTooCostly."""
        self._left -= steps
        if self._left < 0:
            raise FilterTooCostly(self._most).at("MOST_STEPS")


def any_of(test: Callable[[Any], bool], values: list[Any], weight: int, spend: Spend) -> bool:
    """Whether one of `values` passes `test`, which takes `weight` steps."""
    count = len(values)
    if count * weight <= AT_ONCE:
        spend(count * weight)
        return any(map(test, values))
    piece = max(1, AT_ONCE // weight)
    for start in range(0, count, piece):
        part = values[start : start + piece]
        spend(len(part) * weight)
        if any(map(test, part)):
            return True
    return False
