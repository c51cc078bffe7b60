"""The cost of evaluating a filter on one entity, counted in steps of about 0.1 µs. No other limit bounds it: a filter
of many conditions over an array of many elements costs their product.

Code whose work depends on input from clients counts its steps before it does them. Its caller decides what happens when
there are too many: nothing, an error, or a check of the elapsed time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.errors import FilterTooCostly

Spend = Callable[[int], None]
"""Called with a number of steps before they are done. May raise."""

MOST_STEPS: Annotated[int, Limit("change and filter", "steps", "`error_filter_too_costly`")] = 400_000
"""Steps that a filter may take on an entity before and after a change: about 40 ms. One condition needs as many only
on an array of more than 49 000 elements."""

AT_LOOP: Final = 50_000
"""Steps that a filter may take on a change on the event loop: about 5 ms. Longer evaluations run in a thread."""

AT_ONCE: Final = 2_000
"""Steps that are done without a check in between."""

# Work on a text costs `length >> shift` steps.
PARSE_SHIFT: Final = 5
"""Parsing or projecting an entity: 32 bytes per step."""
SORT_SHIFT: Final = 3
"""Parsing an entity and computing its sort key: 8 bytes per step."""
SEARCH_SHIFT: Final = 6
"""Searching a text; for ASCII text also folding its case: 64 characters per step."""
FOLD_SHIFT: Final = 1
"""Folding the case of a text that is not ASCII, and searching it: 2 characters per step."""


class TakesLong(Exception):
    """More steps than may be taken on the event loop."""


def free(steps: int) -> None:
    """Count nothing."""


class StepBudget:
    """Steps that may be taken until `renew` is called. `on_loop`: the budget is for the event loop, and work beyond it
    may go on in a thread."""

    __slots__ = ("_given", "_left", "_most", "_on_loop")

    def __init__(self, most: int = MOST_STEPS, *, on_loop: bool = False) -> None:
        self._most = self._given = self._left = most
        self._on_loop = on_loop

    def renew(self, most: int | None = None) -> None:
        """Begin again, with the usual number of steps or with `most`."""
        self._given = self._left = self._most if most is None else most

    @property
    def spent(self) -> int:
        """The steps taken since the last `renew`."""
        return self._given - self._left

    def spend(self, steps: int) -> None:
        """Take steps from the budget. Raises FilterTooCostly when it is used up, or TakesLong on the loop."""
        self._left -= steps
        if self._left < 0:
            if self._on_loop:
                raise TakesLong
            raise FilterTooCostly(self._most).at("MOST_STEPS")


def any_of(test: Callable[[Any], bool], values: list[Any], weight: int, spend: Spend) -> bool:
    """Return whether one of `values` passes `test`, which takes `weight` steps per value."""
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
