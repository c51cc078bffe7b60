"""Checks what existing entities refer to, before a definition makes references of their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hub.services.standing_data import has_value, having
from hub.services.walking import each_entity
from stores.errors import DataStandsAgainst, NotAsExpected
from stores.protocol import Engine, Recheck
from stores.query import In, Query
from stores.records import Change
from stores.reference_checks import PIECE
from stores.relation import Relation, Value
from stores.schema import StoreDefinition
from stores.turns import Turn

HELD_AT_ONCE: Final = 5_000
"""Entities, and values in them, that are looked up together."""


async def check_references(engine: Engine, old: StoreDefinition, new: StoreDefinition) -> list[Recheck]:
    """Refuse a definition whose new references have no target in existing entities. Return the condition under which
    the commit checks that none of them has changed meanwhile. Raises DataStandsAgainst."""
    known = {(each.path, each.target, each.by) for each in old.relations}
    relations = [each for each in new.relations if (each.path, each.target, each.by) not in known]
    if not relations:
        return []
    since = await engine.feed.position()
    found = {".".join(each.path): await _count(engine, each) for each in relations}
    if broken := {path: count for path, count in found.items() if count}:
        text = "a value of it that no entity of the other store has."
        raise DataStandsAgainst({path: f"{having(count)} {text}" for path, count in broken.items()})

    def recheck(changes: Sequence[Change]) -> None:
        for change in changes:
            if change.store == old.name and _refers_newly(relations, change):
                raise NotAsExpected

    return [Recheck(old.name, since, recheck)]


async def _count(engine: Engine, relation: Relation) -> int:
    """Return how many entities refer to something that does not exist."""
    count, held, size, turn = 0, list[frozenset[Value]](), 0, Turn()
    async for entity in each_entity(engine, relation.store, has_value(relation.path[:1])):
        held.append(relation.values(entity))
        size += 1 + len(held[-1])
        if size >= HELD_AT_ONCE:
            count += await _broken(engine, relation, held)
            held, size = [], 0
        if turn.is_over:
            await turn.pass_on()
    return count + await _broken(engine, relation, held)


async def _broken(engine: Engine, relation: Relation, referring: Sequence[frozenset[Value]]) -> int:
    """Return how many entities, of each of which the values are given, refer to something that does not exist."""
    values = frozenset[Value]().union(*referring)
    ordered = sorted(values, key=str)
    for start in range(0, len(ordered), PIECE):
        piece = tuple(ordered[start : start + PIECE])
        targets = await engine.entities(relation.target, Query(In((relation.by,), piece), limit=PIECE))
        values = values - {target[relation.by] for target in targets}
    return sum(not each.isdisjoint(values) for each in referring)


def _refers_newly(relations: Sequence[Relation], change: Change) -> bool:
    before, after = change.before or {}, change.after or {}
    return any(relation.values(after) - relation.values(before) for relation in relations)
