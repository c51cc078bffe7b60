"""Relations between stores: what a commit checks so that every reference has its target.

A relation is a field of type Reference. What an entity newly refers to must exist, in the writer's sight, within the
commit. A deletion takes the consequences that the relations name. Both lock the target, so of two that race one sees
the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

import orjson

from stores.computing import Compute, effective
from stores.errors import DataStandsAgainst, InvalidEntity, TooManyMatches, Violation
from stores.limits import MOST_VIOLATIONS
from stores.paths import split, value_at
from stores.protocol import DeleteMany, Lock, Step, Steps, UpdateMany, Upsert, Written, do, find
from stores.query import And, Equal, Filter, In, Not
from stores.records import SYSTEM_FIELDS, Entity, now_ms
from stores.relation import Relation, Value

T = TypeVar("T")
Substeps = Generator[Step, Any, None]

PIECE: Final = 500
"""Values in one search."""
CONDITIONS: Final = 50
"""Values in one search for entities that lack one of them, which has a condition for each."""

NOTHING_WRITTEN: Final = Written(b"", 0, 0)


Sight = Callable[[str], Filter | None]
"""Returns the filter for the entities of a store that the writer sees; None if it may not read the store."""


@dataclass(slots=True)
class Wanted:
    """The values that writes refer to, with the places of the first of each in their bodies."""

    _places: dict[Relation, dict[Value, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, relation: Relation, entity: Entity, prefix: str = "") -> None:
        """Add what a new entity, or a change, refers to. `prefix` comes before the field's name in errors."""
        for place, value in relation.places(entity):
            self._places.setdefault(relation, {}).setdefault(value, prefix + place)

    def include(self, other: Wanted) -> None:
        """Add all of another one's values."""
        for relation, places in other._places.items():
            mine = self._places.setdefault(relation, {})
            for value, place in places.items():
                mine.setdefault(value, place)

    def without(self, known: Mapping[Relation, Collection[Value]]) -> Wanted:
        """Return the same without values that the entity refers to already."""
        left = {
            relation: {value: place for value, place in places.items() if value not in known.get(relation, ())}
            for relation, places in self._places.items()
        }
        return Wanted({relation: places for relation, places in left.items() if places})

    def values(self) -> Iterator[tuple[Relation, Collection[Value]]]:
        """Yield the values for each relation."""
        for relation, places in self._places.items():
            yield relation, places.keys()

    def check(self, visible: Sight) -> Substeps:
        """Raise InvalidEntity for values that no entity in sight has."""
        missing = yield from self.missing(visible)
        missing.refuse()

    def missing(self, visible: Sight) -> Generator[Step, Any, Wanted]:
        """Return the same with the values that no entity in sight has."""
        present: dict[Relation, set[Value]] = {}
        for relation, places in self._places.items():
            if (where := visible(relation.target)) is not None:
                yield Lock(keys(relation, places))
                present[relation] = yield from _present(relation, where, [*places])
        return self.without(present)

    def refuse(self) -> None:
        """Raise InvalidEntity if there are values."""
        violations = [
            Violation(place, "reference", relation.target)
            for relation, places in self._places.items()
            for place in places.values()
        ]
        if violations:
            raise InvalidEntity(violations[:MOST_VIOLATIONS])


def _present(relation: Relation, where: Filter, values: Sequence[Value]) -> Generator[Step, Any, set[Value]]:
    present: set[Value] = set()
    for piece in pieces(values):
        condition = And((where, In((relation.by,), piece)))
        for entity in (yield from find(relation.target, condition, len(piece), (relation.by,))):
            present.add(entity[relation.by])
    return present


def keys(relation: Relation, values: Iterable[Value]) -> tuple[str, ...]:
    """Return the keys that commits lock for targets."""
    return tuple(f"{relation.target}.{relation.by}:{value}" for value in values)


def check_new(wanted: Wanted, visible: Sight) -> Steps:
    """Check what new entities refer to."""
    yield from wanted.check(visible)
    return NOTHING_WRITTEN


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What a write changes in each entity that meets `where`, at most `limit` of them. With `replace` it removes all
    fields that it does not set, except system fields."""

    store: str
    where: Filter
    changes: Entity
    compute: Compute | None = None
    limit: int = 1
    replace: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The top-level fields that it may set."""
        computed = frozenset[str]() if self.compute is None else self.compute.names
        return computed | self.changes.keys()

    def on_keys_of(self, relations: Iterable[Relation]) -> list[Relation]:
        """Return those of the relations to this store whose key it may change or remove."""
        names = self.names
        return [each for each in relations if each.by in names or (self.replace and each.by not in SYSTEM_FIELDS)]

    def after(self, entity: Entity) -> Entity:
        """Return the fields that it sets in an entity, with null for those that it removes."""
        fields, removed = effective(self.changes, self.compute, entity)
        if self.replace:
            removed = frozenset(name for name in entity if name not in fields and name not in SYSTEM_FIELDS)
        return fields | dict.fromkeys(removed)

    def found(self, relations: Iterable[Relation]) -> Generator[Step, Any, list[Entity]]:
        """Find the entities, with the fields that matter for these relations."""
        computed = () if self.compute is None else self.compute.names
        fields = tuple(dict.fromkeys([*(relation.field for relation in relations), *computed]))
        return find(self.store, self.where, self.limit, fields)


def check_change(change: FieldChange, visible: Sight, relations: Sequence[Relation]) -> Steps:
    """Check what a change newly refers to."""
    wanted = Wanted()
    for entity in (yield from change.found(relations)):
        after, refers = change.after(entity), Wanted()
        for relation in relations:
            refers.add(relation, after)
        wanted.include(refers.without({relation: relation.values(entity) for relation in relations}))
    yield from wanted.check(visible)
    return NOTHING_WRITTEN


def check_change_of_all(change: FieldChange, wanted: Wanted, visible: Sight) -> Steps:
    """Check what a change refers to that sets the same fields in all matches. A value to which each of them refers
    already is not new."""
    missing = yield from wanted.missing(visible)
    held: dict[Relation, set[Value]] = {}
    for relation, values in missing.values():
        held[relation] = set(values)
        for piece in pieces(values, CONDITIONS):
            lacks_one = Not(And(tuple(Equal(relation.path, value) for value in piece)))
            for entity in (yield from find(change.store, And((change.where, lacks_one)), 1, (relation.field,))):
                held[relation] -= {*piece} - relation.values(entity)
    missing.without(held).refuse()
    return NOTHING_WRITTEN


def check_upserts(upserts: Sequence[tuple[str, Upsert]], visible: Sight, relations: Sequence[Relation]) -> Steps:
    """Check what upserts of one store by one key newly refer to, each with the prefix of the fields in its errors."""
    wanted = Wanted()
    for piece in pieces(upserts):
        entities = yield from _met([upsert for _, upsert in piece], relations)
        for prefix, upsert in piece:
            entity = entities.get(value_at(upsert.entity, upsert.key))
            if entity is None:
                refers, known = upsert.entity, dict[Relation, frozenset[Value]]()
            else:
                refers = FieldChange(upsert.store, upsert.where, upsert.changes, upsert.compute).after(entity)
                known = {relation: relation.values(entity) for relation in relations}
            mine = Wanted()
            for relation in relations:
                mine.add(relation, refers, prefix)
            wanted.include(mine.without(known))
    yield from wanted.check(visible)
    return NOTHING_WRITTEN


def _met(upserts: Sequence[Upsert], relations: Iterable[Relation]) -> Generator[Step, Any, dict[Any, Entity]]:
    """Return the entities that upserts update, by the value of their key."""
    store, key, where = upserts[0].store, upserts[0].key, upserts[0].where
    values = tuple(value for upsert in upserts if (value := value_at(upsert.entity, key)) is not None)
    computed = {name for upsert in upserts if upsert.compute is not None for name in upsert.compute.names}
    fields = tuple({key.split(".")[0], *computed, *(relation.field for relation in relations)})
    found = yield from find(store, And((In(split(key), values), where)), len(upserts), fields)
    return {value_at(entity, key): entity for entity in found}


@dataclass
class Deletion:
    """The consequences of a deletion in `store`, for at most `most` entities in all.

    A commit collects them before the write that deletes, and takes them after it: if they came first, an entity that
    they change could come to match the filter of the write. Each attempt of the commit collects anew.
    `referring` returns the relations whose target is a store.
    """

    store: str
    most: int
    referring: Callable[[str], Sequence[Relation]]

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._targets: frozenset[str] = frozenset()
        self._gone: dict[str, dict[str, None]] = {}
        self._cleared: dict[str, dict[str, Entity]] = {}
        self._left: dict[Relation, set[Value]] = {}
        self._refusing: list[tuple[Relation, list[Value]]] = []
        self._count = 0

    def collect(self, where: Filter) -> Steps:
        """Find the consequences of the deletion of all matches. Raises DataStandsAgainst, and TooManyMatches."""
        self._begin()
        targets = yield from find(self.store, where, self.most + 1, self._keys_of(self.store))
        self._targets = frozenset(entity["_id"] for entity in targets)
        self._add(self.store, targets)
        pending = [(self.store, targets)]
        while pending:
            store, entities = pending.pop()
            for relation in self.referring(store):
                followed = yield from self._follow(relation, entities)
                if followed:
                    pending.append((relation.store, followed))
        yield from self._check_refusals()
        return NOTHING_WRITTEN

    def take(self) -> Steps:
        """Clear and delete what has been collected, except the matches themselves."""
        yield from self._clear()
        yield from self._cascade()
        return NOTHING_WRITTEN

    def _keys_of(self, store: str) -> tuple[str, ...]:
        """Return the fields by which other stores refer to a store."""
        return tuple({relation.by for relation in self.referring(store)} - {"_id"})

    def _add(self, store: str, entities: Sequence[Entity]) -> None:
        self._gone.setdefault(store, {}).update((entity["_id"], None) for entity in entities)
        self._count_more(len(entities))

    def _count_more(self, count: int) -> None:
        self._count += count
        if self._count > self.most:
            raise TooManyMatches(self.most)

    def _follow(self, relation: Relation, targets: Sequence[Entity]) -> Generator[Step, Any, list[Entity]]:
        """Find what refers to the targets; return what a cascade deletes newly."""
        values = [value for entity in targets if (value := entity.get(relation.by)) is not None]
        new: list[Entity] = []
        yield Lock(keys(relation, values), exclusive=True)
        if relation.on_delete == "refuse":
            self._refusing.append((relation, values))  # when it is known what goes with the targets
            return new
        held = () if relation.on_delete == "cascade" else (relation.field,)
        own = (*held, *self._keys_of(relation.store))
        for piece in pieces(values):
            # It may find entities that are known, and counted, already.
            found = yield from find(relation.store, In(relation.path, piece), self.most + 1, own)
            gone = self._gone.get(relation.store, {})
            fresh = [entity for entity in found if entity["_id"] not in gone]
            if relation.on_delete == "cascade":
                self._add(relation.store, fresh)
                new += fresh
            else:
                self._left.setdefault(relation, set()).update(piece)
                self._add_cleared(relation.store, fresh)
        return new

    def _add_cleared(self, store: str, entities: Sequence[Entity]) -> None:
        known = self._cleared.setdefault(store, {})
        self._count_more(sum(entity["_id"] not in known for entity in entities))
        for entity in entities:
            known[entity["_id"]] = known.get(entity["_id"], {}) | entity

    def _check_refusals(self) -> Substeps:
        for relation, values in self._refusing:
            gone = self._gone.get(relation.store, {})
            for piece in pieces(values):
                found = yield from find(relation.store, In(relation.path, piece), len(gone) + 1, ())
                if any(entity["_id"] not in gone for entity in found):
                    raise DataStandsAgainst({"_id": f"Entities of {relation.store} refer to it."})

    def _clear(self) -> Substeps:
        for store, entities in self._cleared.items():
            gone = self._gone.get(store, {})
            same: dict[bytes, list[str]] = {}  # ids by changes: most entities get the same
            for id, entity in entities.items():
                if id not in gone:
                    same.setdefault(orjson.dumps(self._changes(store, entity)), []).append(id)
            for changes, ids in same.items():
                fields = {**orjson.loads(changes), "_at": now_ms()}
                for piece in pieces(ids):
                    yield from do(UpdateMany(store, In(("_id",), piece), fields, len(piece)))

    def _changes(self, store: str, entity: Entity) -> Entity:
        """Return the changes that clear all references of an entity to what goes."""
        changes: Entity = {}
        for relation, values in self._left.items():
            if relation.store == store and relation.field in entity:
                changes[relation.field] = relation.cleared(entity | changes, values)
        return changes

    def _cascade(self) -> Substeps:
        for store, ids in self._gone.items():
            others = [id for id in ids if store != self.store or id not in self._targets]
            for piece in pieces(others):
                yield from do(DeleteMany(store, In(("_id",), piece), len(piece)))


def check_key(change: FieldChange, relations: Sequence[Relation]) -> Steps:
    """Check that a change leaves the values by which others refer to the matches. Raises DataStandsAgainst."""
    keys_of = [relation.by for relation in relations]
    computed = () if change.compute is None else change.compute.names
    fields = tuple(dict.fromkeys([*keys_of, *computed]))
    for entity in (yield from find(change.store, change.where, change.limit, fields)):
        after = change.after(entity)
        for relation in relations:
            before = entity.get(relation.by)
            if before is None or relation.by not in after or before == after[relation.by]:
                continue
            yield Lock(keys(relation, [before]), exclusive=True)
            if (yield from find(relation.store, Equal(relation.path, before), 1, ())):
                raise DataStandsAgainst({relation.by: f"Entities of {relation.store} refer to this value."})
    return NOTHING_WRITTEN


def pieces(values: Iterable[T], size: int = PIECE) -> Iterator[tuple[T, ...]]:
    """Yield the values in pieces of `size`."""
    rest = iter(values)
    while piece := tuple(islice(rest, size)):
        yield piece
