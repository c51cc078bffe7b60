"""Checks what existing entities refer to, before a definition makes references of their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hub.services.entity_count import EntityCount
from hub.services.walking import each_entity
from stores.data_changes import DataChange, DataOperations
from stores.errors import DataConflict, NotAsExpected
from stores.presence import has_none, has_value
from stores.protocol import Engine, Recheck
from stores.query import EVERYTHING, And, Filter, In, Or, Query
from stores.rechecking import check_changes
from stores.records import Change, Entity
from stores.reference_checks import PIECE, pieces
from stores.relation import Relation, Value
from stores.schema import StoreDefinition
from stores.turns import Turn

LOOKED_UP_AT_ONCE: Final = 5_000
"""Entities, and values in them, that are looked up together."""


@dataclass(frozen=True, slots=True)
class _Unverified:
    """A relation of the new definition whose values, in entities that meet `where`, may have no target."""

    relation: Relation
    where: Filter


async def check_references(
    engine: Engine, old: StoreDefinition, new: StoreDefinition, change: DataChange
) -> list[Recheck]:
    """Refuse a definition whose new references have no target in existing entities after `change`. Return the condition
    under which the commit checks that none of them has changed meanwhile. Raises DataConflict, and NotAsExpected
    for an entity changed meanwhile."""
    unverified = [*_unverified(old, new, change.operations)]
    if not unverified:
        return []
    since = await engine.feed.position()
    relations = [each.relation for each in unverified]
    changed = _ChangedMeanwhile(old.name, relations, change)
    found: dict[str, EntityCount] = {}
    for each in unverified:
        await _count(engine, each, change, found.setdefault(".".join(each.relation.path), EntityCount()))
    if broken := {path: entities for path, entities in found.items() if entities.count}:
        text = "a value of it that no entity of the other store has."
        raise DataConflict({path: entities.having(text) for path, entities in broken.items()})
    reached = await check_changes(engine.feed, since, changed.collect)
    for relation, lost in changed.lost.items():
        if await _may_be_referred_to(engine, relation, lost, change.operations):
            raise NotAsExpected
    return [Recheck(old.name, reached, changed.recheck)]


class _ChangedMeanwhile:
    """Collects changes between the count and the commit. `lost`: values that entities no longer have by which they can
    be referred to, for each relation."""

    def __init__(self, store: str, relations: Sequence[Relation], data: DataChange) -> None:
        self._store = store
        self._relations = relations
        self._data = data
        self.lost: dict[Relation, set[Value]] = {}

    def collect(self, changes: Sequence[Change]) -> None:
        """Note lost values. Raises NotAsExpected if entities refer to something newly."""
        for change in changes:
            if change.store == self._store and (change.op == "lost" or self._refers_newly(change)):
                raise NotAsExpected
            for relation in self._relations:
                if relation.target != change.store:
                    continue
                if change.op == "lost":
                    raise NotAsExpected
                before, after = self._images(change)
                key = before.get(relation.by)
                if isinstance(key, str | int) and key != after.get(relation.by):
                    self.lost.setdefault(relation, set()).add(key)

    def _refers_newly(self, change: Change) -> bool:
        before, after = self._images(change)
        return any(relation.values(after) - relation.values(before) for relation in self._relations)

    def _images(self, change: Change) -> tuple[Entity, Entity]:
        """Return the entity before and after a change, as the data will be."""
        images = change.before or {}, change.after or {}
        if change.store != self._store:
            return images
        before, after = (self._data.applied(image) if image else image for image in images)
        return before, after

    def recheck(self, changes: Sequence[Change]) -> None:
        """Raises NotAsExpected after any of these changes: the commit cannot ask who refers to a lost value."""
        last = _ChangedMeanwhile(self._store, self._relations, self._data)
        last.collect(changes)
        if last.lost:
            raise NotAsExpected


def _unverified(old: StoreDefinition, new: StoreDefinition, operations: DataOperations) -> Iterator[_Unverified]:
    known = {(each.path, each.target, each.by) for each in old.relations}
    for each in new.relations:
        name = each.field
        source = operations.source_of(name)
        is_known = ((source, *each.path[1:]), each.target, current_key_field(each, operations)) in known
        if name in operations.fill:
            yield _Unverified(each, has_none((name,)) if is_known else EVERYTHING)
        elif name in operations.convert or not is_known:
            yield _Unverified(each, has_value((source,)))
        if source != name:  # entities of an open store may have values at the new name
            yield _Unverified(each, And((has_none((source,)), has_value((name,)))))


def current_key_field(relation: Relation, operations: DataOperations) -> str:
    """Return the field of the target that holds the key now: the change may rename it in the store itself."""
    return operations.source_of(relation.by) if relation.target == relation.store else relation.by


async def _count(engine: Engine, unverified: _Unverified, change: DataChange, entities: EntityCount) -> None:
    """Add the entities that will refer to something that does not exist."""
    relation, by = unverified.relation, current_key_field(unverified.relation, change.operations)
    referring, size, turn = dict[str, frozenset[Value]](), 0, Turn()
    async for entity in each_entity(engine, relation.store, unverified.where):
        referring[entity["_id"]] = values = relation.values(change.applied(entity))
        size += 1 + len(values)
        if size >= LOOKED_UP_AT_ONCE:
            await _add_broken(engine, relation.target, by, referring, entities)
            referring, size = {}, 0
        if turn.is_over:
            await turn.pass_on()
    await _add_broken(engine, relation.target, by, referring, entities)


async def _add_broken(
    engine: Engine, target: str, by: str, referring: Mapping[str, frozenset[Value]], entities: EntityCount
) -> None:
    """Add the entities, of which the values are given, that refer to something that does not exist."""
    values = frozenset[Value]().union(*referring.values())
    ordered = sorted(values, key=str)
    for start in range(0, len(ordered), PIECE):
        piece = tuple(ordered[start : start + PIECE])
        targets = await engine.entities(target, Query(In((by,), piece), limit=PIECE))
        values = values - {each[by] for each in targets}
    for id, referred in referring.items():
        if not referred.isdisjoint(values):
            entities.add({"_id": id})


async def _may_be_referred_to(
    engine: Engine, relation: Relation, values: set[Value], operations: DataOperations
) -> bool:
    if relation.field in (*operations.convert, *operations.fill):
        return True  # its values are not stored yet
    names = {operations.source_of(relation.field), relation.field}
    paths = [(name, *relation.path[1:]) for name in names]
    for piece in pieces(values):
        where = Or(tuple(In(path, piece) for path in paths))
        if await engine.entities(relation.store, Query(where, limit=1)):
            return True
    return False
