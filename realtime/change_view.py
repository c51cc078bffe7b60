"""The effect of a change on a view of part of a store, which a filter and a projection define.

Delta sync over REST and live events both use this module, so they agree on visibility.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from stores.errors import FilterTooCostly
from stores.matcher import Predicate, compile_filter, weight_of
from stores.projection import compile_projection
from stores.query import Filter, Projection
from stores.records import Change, Entity, same
from stores.steps import AT_LOOP, StepBudget, TakesLong
from stores.threads import in_thread

_HANDLED_AT_ONCE: Final = 262_144
"""Bytes of a change that may be parsed, projected and compared on the event loop: about 5 ms each with the densest
values."""

_MOMENT: Final = 0.02
"""Seconds of a thread for a look back over changes."""

_MATCH_STEPS: Final = 15
_CONDITION_STEPS: Final = 5
"""Measured: 3 µs for a condition beside those of visibility, 45 µs for 95."""

ViewOperation = Literal["insert", "update", "remove"]


@dataclass(frozen=True, slots=True)
class ViewChange:
    """A change as a view shows it.

    `op` is relative to the view: an entity that enters it is inserted, one that leaves it is removed, whatever happened
    in the store. `entity` is as shown; it is None for a removal, so that only the id is disclosed. `rev` is the
    entity's revision. For an update, `changed` names the shown top-level fields whose values differ. `is_last`: it is
    the last change of its commit that the view shows.
    """

    op: ViewOperation
    change: Change
    entity: Entity | None
    rev: int | None = None
    changed: tuple[str, ...] = ()
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class ViewDifference:
    """The effect of changed visibility on one entity of a view.

    The entity is whole. `before`, as the view last had it, is set only for an update; `after` is set except for a
    removal.
    """

    op: ViewOperation
    id: str
    before: Entity | None
    after: Entity | None


class ChangeView:
    """The changes of one store as seen through `where` (visibility and filter) and `projection`."""

    def __init__(self, store: str, where: Filter, projection: Projection) -> None:
        self.store = store
        self._where = where
        self._budget = StepBudget(AT_LOOP, on_loop=True)
        self.least = _MATCH_STEPS + _CONDITION_STEPS * weight_of(where)
        """Steps of a match of a small entity, which the budget does not count."""
        self.spent = 0
        """Steps of the last match in a thread; those on the loop are in `spent_at_once`."""
        self.has_shown = False
        """Whether the last change was not only matched, but projected and compared too."""
        self._sees: Predicate = compile_filter(where, self._budget.spend)
        self._show = compile_projection(projection)

    def at_once(self, change: Change, most: int = AT_LOOP) -> ViewChange | None:
        """Return the change as this view shows it; None if it shows nothing of it.

        Raises TakesLong if that takes more than `most` steps or the change is large, too long for the event loop. Then
        use `of`, off the event loop.
        """
        if change.store != self.store:
            return None
        self._budget.renew(most)
        if change.size > _HANDLED_AT_ONCE:
            # Not by the budget: its size is not the filter's fault, and the budget counts for the user.
            raise TakesLong
        return self._seen(change, self._sees)

    def of(self, change: Change) -> ViewChange | None:
        """Return the same, however long it takes, in any thread. Raises FilterTooCostly."""
        if change.store != self.store:
            return None
        budget = StepBudget()
        try:
            return self._seen(change, compile_filter(self._where, budget.spend))
        finally:
            self.spent = budget.spent

    @property
    def spent_at_once(self) -> int:
        """The steps of the last call of `at_once`."""
        return self._budget.spent

    def last_before(self, changes: Sequence[Change], end: int) -> tuple[Change | None, int]:
        """Look for the last change before index `end` that shows something, back from there and for a moment, in any
        thread. Return it, if found, and the index from which the changes have been looked at. Raises
        FilterTooCostly."""
        budget = StepBudget()
        sees = compile_filter(self._where, budget.spend)
        ends = time.perf_counter() + _MOMENT
        while end and time.perf_counter() < ends:
            end -= 1
            budget.renew()
            if changes[end].store == self.store and self._seen(changes[end], sees) is not None:
                return changes[end], end
        return None, end

    async def off_loop(self, change: Change) -> ViewChange | None:
        """Run `of` in a thread."""
        return await in_thread(self.of, change)

    def _seen(self, change: Change, sees: Predicate) -> ViewChange | None:
        before, after = change.before, change.after
        self.has_shown = False
        was = before is not None and sees(before)
        if after is None or not sees(after):
            return ViewChange("remove", change, None) if was else None
        self.has_shown = True
        entity, rev = self._show(after), after.get("_rev")
        if before is None or not was:
            return ViewChange("insert", change, entity, rev)
        changed = changed_fields(self._show(before), entity)
        return ViewChange("update", change, entity, rev, changed) if changed else None


def changed_fields(before: Entity, after: Entity) -> tuple[str, ...]:
    """Return the names of the top-level fields that differ."""
    names = dict.fromkeys([*before, *after])
    return tuple(n for n in names if n not in before or n not in after or not same(before[n], after[n]))


class ThreadedMatch:
    """Computes the event of a change in a view. It is called in a thread, because that takes long."""

    def __init__(self, view: ChangeView, change: Change) -> None:
        self._view = view
        self._change = change
        self._event: ViewChange | None = None
        self._error: FilterTooCostly | None = None

    def __call__(self) -> None:
        try:
            self._event = self._view.of(self._change)
        except FilterTooCostly as error:
            self._error = error

    def result(self) -> ViewChange | None:
        if self._error is not None:
            raise self._error
        return self._event
