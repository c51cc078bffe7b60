"""Checks what existing entities refer to, before a definition makes references of their values."""

from __future__ import annotations

from collections.abc import Sequence

from hub.services.standing_data import has_value, having
from hub.services.walking import each_entity
from stores.errors import DataStandsAgainst, NotAsExpected
from stores.protocol import Engine, Recheck
from stores.query import In, Query
from stores.rechecking import check_changes
from stores.records import Change, Entity
from stores.reference_checks import PIECE, pieces
from stores.relation import Relation, Value
from stores.schema import StoreDefinition


async def check_references(engine: Engine, old: StoreDefinition, new: StoreDefinition) -> list[Recheck]:
    """Refuse a definition whose new references have no target in existing entities. Return the condition under which
    the commit checks that none of them has changed meanwhile. Raises DataStandsAgainst."""
    known = {(each.path, each.target, each.by) for each in old.relations}
    relations = [each for each in new.relations if (each.path, each.target, each.by) not in known]
    if not relations:
        return []
    since = await engine.feed.position()
    changed = _ChangedMeanwhile(old.name, relations)
    found = {".".join(each.path): await _count(engine, each) for each in relations}
    if broken := {path: count for path, count in found.items() if count}:
        text = "a value of it that no entity of the other store has."
        raise DataStandsAgainst({path: f"{having(count)} {text}" for path, count in broken.items()})
    reached = await check_changes(engine.feed, since, changed.collect)
    for relation, lost in changed.lost.items():
        if await _is_referred_to(engine, relation, lost):
            raise NotAsExpected
    return [Recheck(old.name, reached, changed.recheck)]


class _ChangedMeanwhile:
    """What changes between the count and the commit. `lost`: values that entities no longer have by which they can be
    referred to, for each relation."""

    def __init__(self, store: str, relations: Sequence[Relation]) -> None:
        self._store = store
        self._relations = relations
        self.lost: dict[Relation, set[Value]] = {}

    def collect(self, changes: Sequence[Change]) -> None:
        """Note lost values. Raises NotAsExpected if entities refer to something newly."""
        for change in changes:
            if change.store == self._store and (change.op == "lost" or _refers_newly(self._relations, change)):
                raise NotAsExpected
            for relation in self._relations:
                if relation.target != change.store:
                    continue
                if change.op == "lost":
                    raise NotAsExpected
                key = (change.before or {}).get(relation.by)
                if isinstance(key, str | int) and key != (change.after or {}).get(relation.by):
                    self.lost.setdefault(relation, set()).add(key)

    def recheck(self, changes: Sequence[Change]) -> None:
        """Raises NotAsExpected after any of these changes: the commit cannot ask who refers to a lost value."""
        last = _ChangedMeanwhile(self._store, self._relations)
        last.collect(changes)
        if last.lost:
            raise NotAsExpected


async def _count(engine: Engine, relation: Relation) -> int:
    """Return how many entities refer to something that does not exist."""
    count, held, values = 0, list[Entity](), set[Value]()
    async for entity in each_entity(engine, relation.store, has_value(relation.path[:1])):
        held.append({relation.field: entity[relation.field]})
        values |= relation.values(entity)
        if len(values) >= PIECE:
            count += await _broken(engine, relation, held, values)
            held, values = [], set()
    return count + await _broken(engine, relation, held, values)


async def _broken(engine: Engine, relation: Relation, entities: Sequence[Entity], values: set[Value]) -> int:
    ordered = sorted(values, key=str)
    for start in range(0, len(ordered), PIECE):
        piece = tuple(ordered[start : start + PIECE])
        targets = await engine.entities(relation.target, Query(In((relation.by,), piece), limit=PIECE))
        values = values - {target[relation.by] for target in targets}
    return sum(not relation.values(entity).isdisjoint(values) for entity in entities)


async def _is_referred_to(engine: Engine, relation: Relation, values: set[Value]) -> bool:
    for piece in pieces(values):
        if await engine.entities(relation.store, Query(In(relation.path, piece), limit=1)):
            return True
    return False


def _refers_newly(relations: Sequence[Relation], change: Change) -> bool:
    before, after = change.before or {}, change.after or {}
    return any(relation.values(after) - relation.values(before) for relation in relations)
