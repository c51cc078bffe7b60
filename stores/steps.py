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

AT_LOOP: Final = 50_000
"""Steps that a filter may take over a change on the event loop: some 5 ms. What needs more is done in a thread."""

AT_ONCE: Final = 2_000
"""Steps that are taken without looking whether there are too many by now."""

# What is done with a text costs its length, shifted by so many bits, in steps.
PARSE_SHIFT: Final = 5
"""Parsing an entity, or showing some of it: 32 bytes in a step."""
SORT_SHIFT: Final = 3
"""Parsing an entity and finding what it sorts by: 8 bytes in a step."""
SEARCH_SHIFT: Final = 6
"""Searching a text, which ASCII ones are also folded for: 64 characters in a step."""
FOLD_SHIFT: Final = 1
"""Folding the case of a text that is not ASCII, and searching it: 2 characters in a step."""


class TakesLong(Exception):
    """More steps than may be taken on the event loop."""


def free(steps: int) -> None:
    """Counts nothing."""


class StepBudget:
    """Steps that may be taken until `renew` is called; `on_loop`: of those on the event loop, beyond which more may
    still be taken elsewhere."""

    __slots__ = ("_left", "_most", "_on_loop")

    def __init__(self, most: int = MOST_STEPS, *, on_loop: bool = False) -> None:
        self._most = self._left = most
        self._on_loop = on_loop

    def renew(self) -> None:
        self._left = self._most

    def spend(self, steps: int) -> None:
        """Raises FilterTooCostly, or TakesLong on the loop."""
        self._left -= steps
        if self._left < 0:
            if self._on_loop:
                raise TakesLong
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
