"""What commits check so that references stay true: the steps of `stores.reference_checks` for the writes of a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

from auth.policy import view_of
from auth.principal import Principal
from hub.services.registry import StoreRegistry
from stores.errors import NotFound
from stores.protocol import Delete, DeleteMany, Insert, Procedure, Steps, Update, UpdateMany, Upsert, Write
from stores.query import And, Equal, Filter
from stores.records import Entity
from stores.reference_checks import (
    NOTHING_WRITTEN,
    Deletion,
    Sight,
    Wanted,
    check_change,
    check_key,
    check_new,
    check_upserts,
)
from stores.relation import Relation

Check = Callable[[], Steps]


class ReferenceKeeper:
    """Makes the checks for commits. `most`: entities that a deletion may concern in all."""

    def __init__(self, registry: StoreRegistry, most: int) -> None:
        self._registry = registry
        self._most = most

    def checks(self, principal: Principal, writes: Sequence[Write], *, indexed: bool = False) -> list[Write]:
        """Return the procedure that comes before these writes, if they need one. With `indexed`, errors contain the
        position of the write."""
        stores = {write.store for write in writes}
        if not any(self._relations(store) or self._registry.referring(store) for store in stores):
            return []
        checks = [*self._checks(principal, writes, indexed=indexed)]
        if not checks:
            return []

        def steps() -> Steps:
            for check in checks:
                yield from check()
            return NOTHING_WRITTEN

        bulk = any(isinstance(write, UpdateMany | DeleteMany) for write in writes)
        return [Procedure(writes[0].store, steps, bulk)]

    def _relations(self, store: str) -> Sequence[Relation]:
        try:
            return self._registry.get(store).relations
        except NotFound:
            return ()

    def _checks(self, principal: Principal, writes: Sequence[Write], *, indexed: bool) -> Iterator[Check]:
        sight = self._sight_of(principal)
        new = Wanted()
        for index, write in enumerate(writes):
            match write:
                case Insert():
                    for relation in self._relations(write.store):
                        new.add(relation, write.entity, f"{index}." if indexed else "")
                case Update():
                    yield from self._of_change(sight, write.store, _the_one(write), write.changes, 1)
                case UpdateMany():
                    yield from self._of_change(sight, write.store, write.where, write.changes, write.limit)
                case Delete():
                    yield from self._of_deletion(write.store, _the_one(write))
                case DeleteMany():
                    yield from self._of_deletion(write.store, write.where)
        if new:
            yield lambda: check_new(new, sight)
        numbered = [(index, write) for index, write in enumerate(writes) if isinstance(write, Upsert)]
        for (store, _), run in groupby(numbered, lambda item: (item[1].store, item[1].key)):
            yield from self._of_upserts(sight, store, [*run], indexed=indexed)

    def _of_change(self, sight: Sight, store: str, where: Filter, changes: Entity, limit: int) -> Iterator[Check]:
        relations = [relation for relation in self._relations(store) if relation.field in changes]
        wanted = Wanted()
        for relation in relations:
            wanted.add(relation, changes)
        if wanted and limit == 1:
            yield lambda: check_change(wanted, sight, store, where, relations)
        elif wanted:
            yield lambda: check_new(wanted, sight)
        named = [relation for relation in self._registry.referring(store) if relation.by in changes]
        if named:
            yield lambda: check_key(named, store, where, changes, limit)

    def _of_upserts(
        self, sight: Sight, store: str, upserts: Sequence[tuple[int, Upsert]], *, indexed: bool
    ) -> Iterator[Check]:
        relations = self._relations(store)
        wanted: list[tuple[Upsert, Wanted]] = []
        for index, upsert in upserts:
            found = Wanted()
            for relation in relations:
                found.add(relation, upsert.entity, f"{index}." if indexed else "")
            if found:
                wanted.append((upsert, found))
        if wanted:
            yield lambda: check_upserts(wanted, sight, relations)
        for _, upsert in upserts:
            others = [each for each in self._registry.referring(store) if each.by != upsert.key]
            if named := [each for each in others if each.by in upsert.changes]:
                yield partial(check_key, named, store, upsert.met, upsert.changes, 1)

    def _of_deletion(self, store: str, where: Filter) -> Iterator[Check]:
        if self._registry.referring(store):
            yield lambda: Deletion(store, self._most, self._registry.referring).consequences(where)

    def _sight_of(self, principal: Principal) -> Sight:
        def sight(store: str) -> Filter | None:
            try:
                view = view_of(principal, self._registry.get(store), "GET")
            except NotFound:
                return None
            return None if view is None else view.where

        return sight


def _the_one(write: Update | Delete) -> Filter:
    return And((write.where, Equal(("_id",), write.id)))
