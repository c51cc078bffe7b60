"""What commits check so that references stay true: the steps of `stores.reference_checks` for the writes of a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Final

from auth.policy import view_of
from auth.principal import Principal
from hub.services.registry import StoreRegistry
from stores.errors import NotFound
from stores.limits import nodes_of
from stores.protocol import Delete, DeleteMany, Insert, Procedure, Steps, Update, UpdateMany, Upsert, Write
from stores.query import And, Equal, Filter
from stores.reference_checks import (
    NOTHING_WRITTEN,
    Deletion,
    FieldChange,
    Sight,
    Wanted,
    check_change,
    check_key,
    check_new,
    check_upserts,
)
from stores.relation import Relation
from stores.threads import in_thread

COLLECTED_AT_ONCE: Final = 5_000
"""Values in fields with references up to which references are collected on the event loop."""

LIGHT_VALUES: Final = 1_000
"""Values in fields with references up to which a procedure is a light one."""

Check = Callable[[], Steps]


class ReferenceKeeper:
    """Makes the procedures for commits. `most`: entities that a deletion may concern in all."""

    def __init__(self, registry: StoreRegistry, most: int) -> None:
        self._registry = registry
        self._most = most

    def preceding(self, principal: Principal, writes: Sequence[Write], *, indexed: bool = False) -> list[Procedure]:
        """Return the procedure that comes before these writes, if they need one. With `indexed`, errors contain the
        position of the write."""
        stores = {write.store for write in writes}
        if not any(self._relations(store) or self._registry.referring(store) for store in stores):
            return []
        found = [*self._checks(principal, writes, indexed=indexed)]
        if not found:
            return []

        def steps() -> Steps:
            for check in found:
                yield from check()
            return NOTHING_WRITTEN

        bulk = any(isinstance(write, UpdateMany | DeleteMany) for write in writes)
        return [Procedure(writes[0].store, steps, bulk or self._holds_more(writes, LIGHT_VALUES))]

    async def collected(self, principal: Principal, writes: Sequence[Write], *, indexed: bool) -> list[Procedure]:
        """Return what `preceding` does, from a thread if the writes hold so many values that it may take long."""
        preceding = partial(self.preceding, principal, writes, indexed=indexed)
        return await in_thread(preceding) if self._holds_more(writes, COLLECTED_AT_ONCE) else preceding()

    def _holds_more(self, writes: Sequence[Write], most: int) -> bool:
        """Return whether fields with references hold more than `most` values in these writes."""
        values = 0
        fields = {store: {each.field for each in self._relations(store)} for store in {w.store for w in writes}}
        for write in writes:
            match write:
                case Insert(entity=body) | Upsert(entity=body) | Update(changes=body) | UpdateMany(changes=body):
                    values += sum(nodes_of(body[field]) for field in fields[write.store] if field in body)
            if values > most:
                return True
        return False

    def _relations(self, store: str) -> Sequence[Relation]:
        try:
            return self._registry.get(store).relations
        except NotFound:
            return ()

    def _checks(self, principal: Principal, writes: Sequence[Write], *, indexed: bool) -> Iterator[Check]:
        visible = self._visible_to(principal)
        new = Wanted()
        for index, write in enumerate(writes):
            match write:
                case Insert():
                    for relation in self._relations(write.store):
                        new.add(relation, write.entity, f"{index}." if indexed else "")
                case Update():
                    yield from self._of_change(
                        visible, FieldChange(write.store, _the_one(write), write.changes, write.compute)
                    )
                case UpdateMany():
                    yield from self._of_change(
                        visible, FieldChange(write.store, write.where, write.changes, write.compute, write.limit)
                    )
                case Delete():
                    yield from self._of_deletion(write.store, _the_one(write))
                case DeleteMany():
                    yield from self._of_deletion(write.store, write.where)
        if new:
            yield lambda: check_new(new, visible)
        numbered = [(index, write) for index, write in enumerate(writes) if isinstance(write, Upsert)]
        for (store, _), run in groupby(numbered, lambda item: (item[1].store, item[1].key)):
            yield from self._of_upserts(visible, store, [*run], indexed=indexed)

    def _of_change(self, visible: Sight, change: FieldChange) -> Iterator[Check]:
        names = change.names
        relations = [relation for relation in self._relations(change.store) if relation.field in names]
        wanted = Wanted()
        for relation in relations:
            wanted.add(relation, change.changes)
        if relations and (change.limit == 1 or change.compute is not None):
            yield lambda: check_change(change, visible, relations)
        elif wanted:
            yield lambda: check_new(wanted, visible)
        if named := [relation for relation in self._registry.referring(change.store) if relation.by in names]:
            yield lambda: check_key(change, named)

    def _of_upserts(
        self, visible: Sight, store: str, upserts: Sequence[tuple[int, Upsert]], *, indexed: bool
    ) -> Iterator[Check]:
        relations = self._relations(store)
        if relations:
            placed = [(f"{index}." if indexed else "", upsert) for index, upsert in upserts]
            yield lambda: check_upserts(placed, visible, relations)
        for _, upsert in upserts:
            others = [each for each in self._registry.referring(store) if each.by != upsert.key]
            change = FieldChange(store, upsert.met, upsert.changes, upsert.compute)
            if named := [each for each in others if each.by in change.names]:
                yield partial(check_key, change, named)

    def _of_deletion(self, store: str, where: Filter) -> Iterator[Check]:
        if self._registry.referring(store):
            yield lambda: Deletion(store, self._most, self._registry.referring).consequences(where)

    def _visible_to(self, principal: Principal) -> Sight:
        def visible(store: str) -> Filter | None:
            try:
                view = view_of(principal, self._registry.get(store), "GET")
            except NotFound:
                return None
            return None if view is None else view.where

        return visible


def _the_one(write: Update | Delete) -> Filter:
    return And((write.where, Equal(("_id",), write.id)))
