"""What writes make of the entities that they concern, as a commit finds these before it does the writes."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from stores.computing import Compute, effective
from stores.paths import split, value_at
from stores.procedures import Step, find
from stores.protocol import Delete, DeleteMany, Insert, Update, UpdateMany, Upsert, Write
from stores.query import And, Equal, Filter, In
from stores.records import SYSTEM_FIELDS, Entity, same
from stores.reference_checks import FieldChange, pieces


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a write on one entity. `before` is None for a new entity, `after` for a deleted one; both hold at
    least the fields that were asked for and those that the write sets. `sets` are the fields that it sets.

    `index` is the position of the write among those of its store."""

    index: int
    id: str
    before: Entity | None
    after: Entity | None
    sets: Mapping[str, Any]


Effects = Generator[Step, Any, list[Effect]]


def effects_of(writes: Sequence[tuple[int, Write]], names: Collection[str]) -> Effects:
    """Return the effects of writes to one store, each with its position, as far as these fields tell: in the order of
    the writes. Upserts meet what those before them leave; other writes meet what is stored."""
    effects: list[Effect] = []
    for key, run in groupby(writes, lambda placed: _key_of(placed[1])):
        if key is None:
            for index, write in run:
                effects += yield from _effects_of_one(index, write, names)
        else:
            upserts = [(index, write) for index, write in run if isinstance(write, Upsert)]
            effects += yield from _effects_of_upserts(upserts, key, names)
    return effects


def altered_fields(effect: Effect) -> Iterator[str]:
    """Yield the fields to which an effect gives another value, except system fields."""
    before = effect.before or {}
    for name, value in effect.sets.items():
        if name not in SYSTEM_FIELDS and not same(before.get(name), value):
            yield name


def names_set(write: Write) -> frozenset[str]:
    """Return the top-level fields that a write may set."""
    match write:
        case Insert(entity=entity):
            return frozenset(entity)
        case Update(changes=changes, compute=compute) | UpdateMany(changes=changes, compute=compute):
            return frozenset(changes) | (frozenset() if compute is None else compute.names)
        case Upsert(entity=entity, changes=changes, compute=compute):
            return frozenset(entity) | changes.keys() | (frozenset() if compute is None else compute.names)
    return frozenset()


def _key_of(write: Write) -> str | None:
    return write.key if isinstance(write, Upsert) else None


def _effects_of_one(index: int, write: Write, names: Collection[str]) -> Effects:
    match write:
        case Insert(entity=entity):
            return [Effect(index, entity["_id"], None, entity, entity)]
        case Update():
            where = And((write.where, Equal(("_id",), write.id)))
            change = FieldChange(write.store, where, write.changes, write.compute, replace=write.replace)
            # What a replacement removes is known from the whole entity.
            found = yield from find(write.store, where, 1) if write.replace else change.found([*names, *change.names])
            return [_of_change(index, entity, change) for entity in found]
        case UpdateMany():
            change = FieldChange(write.store, write.where, write.changes, write.compute, write.limit)
            found = yield from change.found([*names, *change.names])
            return [_of_change(index, entity, change) for entity in found]
        case Delete():
            where = And((write.where, Equal(("_id",), write.id)))
            found = yield from find(write.store, where, 1, tuple(names))
            return [Effect(index, entity["_id"], entity, None, {}) for entity in found]
        case DeleteMany():
            found = yield from find(write.store, write.where, write.limit, tuple(names))
            return [Effect(index, entity["_id"], entity, None, {}) for entity in found]
    return []


def _of_change(index: int, before: Entity, change: FieldChange) -> Effect:
    sets = _named(change.compute, before) | change.after(before)
    return Effect(index, before["_id"], before, {**before, **sets}, sets)


def _named(compute: Compute | None, before: Entity) -> Entity:
    """Return the fields that a change computes, with their values before: a value that stays was set, too."""
    return {} if compute is None else {name: before[name] for name in compute.names if name in before}


def _effects_of_upserts(upserts: Sequence[tuple[int, Upsert]], key: str, names: Collection[str]) -> Effects:
    path, known = split(key), dict[Any, Entity]()
    effects: list[Effect] = []
    for piece in pieces(upserts):
        values = {value_at(upsert.entity, key) for _, upsert in piece} - known.keys() - {None}
        asked = tuple(dict.fromkeys([path[0], *names, *_set_by(upsert for _, upsert in piece)]))
        for entity in (yield from _met(piece[0][1], path, values, asked)):
            known[value_at(entity, key)] = entity
        for index, upsert in piece:
            value = value_at(upsert.entity, key)
            before = None if value is None else known.get(value)
            effect = _of_upsert(index, upsert, before)
            effects.append(effect)
            if value is not None and effect.after is not None:
                known[value] = effect.after
    return effects


def _met(
    upsert: Upsert, path: Sequence[str], values: Collection[Any], names: tuple[str, ...]
) -> Generator[Step, Any, list[Entity]]:
    if not values:
        return []
    where: Filter = And((In(tuple(path), tuple(values)), upsert.where))
    return (yield from find(upsert.store, where, len(values), names))


def _of_upsert(index: int, upsert: Upsert, before: Entity | None) -> Effect:
    if before is None:
        return Effect(index, upsert.entity["_id"], None, upsert.entity, upsert.entity)
    fields, removed = effective(upsert.changes, upsert.compute, before)
    sets = {**_named(upsert.compute, before), **fields, **dict.fromkeys(removed)}
    return Effect(index, before["_id"], before, {**before, **sets}, sets)


def _set_by(upserts: Iterable[Upsert]) -> frozenset[str]:
    found = frozenset[str]()
    for upsert in upserts:
        found |= upsert.changes.keys() | (frozenset() if upsert.compute is None else upsert.compute.names)
    return found
