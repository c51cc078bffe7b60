"""What a change means to somebody who sees part of a store through a filter and a projection.

Delta sync over REST and live events both take it from here: there is no second idea of who sees what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from stores.errors import HistoryGone
from stores.matcher import Predicate, compile_filter
from stores.projection import compile_projection
from stores.query import Filter, Projection
from stores.records import SYSTEM_FIELDS, Change, Entity, same
from stores.steps import AT_LOOP, StepBudget

ViewOperation = Literal["insert", "update", "remove"]


@dataclass(frozen=True, slots=True)
class ViewChange:
    """`op` is relative to the view: an entity that enters it is inserted, one that leaves it removed, whatever
    happened in the store. `entity` is as shown; None when removed, so that nothing but the id gets out. `rev` is the
    entity's. `changed` names the shown top-level fields whose value differs, for an update."""

    op: ViewOperation
    change: Change
    entity: Entity | None
    rev: int | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ViewDifference:
    """What a change of visibility means to a view. The entity is whole: `before`, as the view last had it, is there for
    an update alone, `after` for all but a removal."""

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
        self._sees: Predicate = compile_filter(where, self._budget.spend)
        self._show = compile_projection(projection)

    def at_once(self, change: Change) -> ViewChange | None:
        """The change as this view has it; None when it shows nothing of it. Raises TakesLong when that is for `of` to
        say, off the event loop."""
        if change.store != self.store:
            return None
        self._budget.renew()
        return self._seen(change, self._sees)

    def of(self, change: Change) -> ViewChange | None:
        """The same however long it takes, in any thread. Raises FilterTooCostly."""
        if change.store != self.store:
            return None
        return self._seen(change, compile_filter(self._where, StepBudget().spend))

    async def off_loop(self, change: Change) -> ViewChange | None:
        """`of` in a thread."""
        return await asyncio.to_thread(self.of, change)

    def _seen(self, change: Change, sees: Predicate) -> ViewChange | None:
        before, after = change.before, change.after
        was = before is not None and sees(before)
        if after is None or not sees(after):
            return ViewChange("remove", change, None) if was else None
        entity, rev = self._show(after), after.get("_rev")
        if before is None or not was:
            return ViewChange("insert", change, entity, rev)
        changed = changed_fields(self._show(before), entity)
        return ViewChange("update", change, entity, rev, changed) if changed else None


UNSEEN: Final = frozenset({*SYSTEM_FIELDS, "label", "description", "indexes", "unique", "search"})
"""What may change in a store's definition without any view of the store being another."""

UNSEEN_OF_FIELD: Final = frozenset({"label", "required", "unique", "index", "search", "length", "options", "default"})


def redefines(change: Change) -> bool:
    """Whether a change of a store's definition may change what is shown of its entities; false when it is new."""
    if change.before is None or change.after is None:
        return change.before is not None
    return _shown(change.before) != _shown(change.after)


def _shown(definition: Entity) -> Entity:
    """The members of a definition that decide what is shown."""
    shown = {name: value for name, value in definition.items() if name not in UNSEEN}
    fields = definition.get("fields")
    if isinstance(fields, list):
        shown["fields"] = {
            str(field.get("id")): {name: value for name, value in field.items() if name not in UNSEEN_OF_FIELD}
            for field in fields
            if isinstance(field, dict)
        }
    return shown


def check_same_store(store: str, changes: Iterable[Change]) -> None:
    """Raise HistoryGone if one of the changes redefines the store, since what is shown of entities that did not change
    may differ from before and no change says so, or if not all of the store's changes are known."""
    for change in changes:
        if change.op == "lost" and change.store == store:
            raise HistoryGone(f"not every change of {store} since that position is known")
        if change.store == "stores" and redefines(change) and (change.before or {}).get("name") == store:
            raise HistoryGone(f"{store} has been redefined since that position")


def changed_fields(before: Entity, after: Entity) -> tuple[str, ...]:
    """The names of the top-level fields that differ."""
    names = dict.fromkeys([*before, *after])
    return tuple(n for n in names if n not in before or n not in after or not same(before[n], after[n]))
