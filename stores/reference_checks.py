"""Relations between stores: what a commit checks so that every reference has its target.

A relation is a field of type Reference. What an entity newly refers to must be visible to the writer when it
commits. A deletion takes the consequences that the relations name. Both lock the target, so of two that race one sees
the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

import orjson

from stores.computing import Compute, effective
from stores.consequences import bounded, clearing
from stores.errors import DataConflict, InvalidEntity, TooManyConsequences, TooManyMatches, Violation
from stores.limits import MOST_VIOLATIONS
from stores.protocol import DeleteMany, Lock, Stamp, Step, Steps, UpdateMany, Written, do, find
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


Visibility = Callable[[str], Filter | None]
"""Returns the filter for the entities of a store that the writer sees; None if it may not read the store."""


@dataclass(slots=True)
class Wanted:
    """The values that writes refer to, with the locations of the first of each in their bodies."""

    _locations: dict[Relation, dict[Value, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._locations)

    def add(self, relation: Relation, entity: Entity, prefix: str = "") -> None:
        """Add what a new entity, or a change, refers to. `prefix` comes before the field's name in errors."""
        for location, value in relation.locations(entity):
            self._locations.setdefault(relation, {}).setdefault(value, prefix + location)

    def include(self, other: Wanted) -> None:
        """Add all of another one's values."""
        for relation, locations in other._locations.items():
            mine = self._locations.setdefault(relation, {})
            for value, location in locations.items():
                mine.setdefault(value, location)

    def without(self, known: Mapping[Relation, Collection[Value]]) -> Wanted:
        """Return the same without values that the entity refers to already."""
        left = {
            relation: {value: location for value, location in locations.items() if value not in known.get(relation, ())}
            for relation, locations in self._locations.items()
        }
        return Wanted({relation: locations for relation, locations in left.items() if locations})

    def values(self) -> Iterator[tuple[Relation, Collection[Value]]]:
        """Yield the values for each relation."""
        for relation, locations in self._locations.items():
            yield relation, locations.keys()

    def check(self, visible: Visibility) -> Substeps:
        """Raise InvalidEntity for values that no visible entity has."""
        missing = yield from self.missing(visible)
        missing.refuse()

    def missing(self, visible: Visibility) -> Generator[Step, Any, Wanted]:
        """Return the same with the values that no visible entity has."""
        present: dict[Relation, set[Value]] = {}
        for relation, locations in self._locations.items():
            if (where := visible(relation.target)) is not None:
                yield Lock(keys(relation, locations))
                present[relation] = yield from _present(relation, where, [*locations])
        return self.without(present)

    def refuse(self) -> None:
        """Raise InvalidEntity if there are values."""
        violations = [
            Violation(location, "reference_default" if value in relation.defaults else "reference", relation.target)
            for relation, locations in self._locations.items()
            for value, location in locations.items()
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


@dataclass(frozen=True, slots=True)
class FieldChange:
    """The changes that a write makes to each entity that meets `where`, at most `limit` of them. With `replace` it
    removes all fields that it does not set, except system fields."""

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

    def may_change_key(self, relation: Relation) -> bool:
        """Return whether it may change or remove the key of a relation to this store."""
        return relation.by in self.names or (self.replace and relation.by not in SYSTEM_FIELDS)

    def after(self, entity: Entity) -> Entity:
        """Return the fields that it sets in an entity, with null for those that it removes."""
        fields, removed = effective(self.changes, self.compute, entity)
        if self.replace:
            removed = frozenset(name for name in entity if name not in fields and name not in SYSTEM_FIELDS)
        return fields | dict.fromkeys(removed)

    def found(self, names: Iterable[str]) -> Generator[Step, Any, list[Entity]]:
        """Find the entities, with these fields and those of which it is computed."""
        computed = () if self.compute is None else self.compute.names
        return find(self.store, self.where, self.limit, tuple(dict.fromkeys([*names, *computed])))


@dataclass
class LeftKeys:
    """Values by which others refer to entities, and which writes take away from these."""

    _values: dict[Relation, dict[Value, None]] = field(default_factory=dict)

    def add(self, relation: Relation, before: Entity, after: Entity) -> None:
        """Add the value that an entity loses by a change. `after` are the fields that it sets, null where it removes
        one."""
        value = before.get(relation.by)
        if value is not None and relation.by in after and after[relation.by] != value:
            self._values.setdefault(relation, {})[value] = None

    def check(self) -> Substeps:
        """Raise DataConflict if something refers to one of them."""
        for relation, values in self._values.items():
            yield Lock(keys(relation, values), exclusive=True)
            for piece in pieces(values):
                if (yield from find(relation.store, In(relation.path, piece), 1, ())):
                    raise DataConflict({relation.by: f"Entities of {relation.store} refer to this value."})


@dataclass
class ReferenceChecks:
    """The checks of what writes to one store newly refer to, and of the values that they take away from entities to
    which others refer.

    `relations` are those of the store to others and to itself, `referring` those of others, and its own, to it. Those
    in `late` are checked after the writes, by the entities as they are then: a reference of the store to itself by a
    key that the same writes may set. All others are checked before.
    """

    visible: Visibility
    relations: Sequence[Relation]
    referring: Sequence[Relation] = ()
    late: frozenset[Relation] = frozenset()

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin with another attempt of the commit."""
        self._wanted, self._late_wanted = Wanted(), Wanted()
        self._left, self._late_left = LeftKeys(), LeftKeys()

    def add_new(self, entity: Entity, prefix: str = "") -> None:
        """Add a new entity. `prefix` comes before the fields in errors."""
        for relation in self.relations:
            (self._late_wanted if relation in self.late else self._wanted).add(relation, entity, prefix)

    def add(self, before: Entity, after: Entity, prefix: str = "") -> None:
        """Add a change of an entity. `after` are the fields that it sets, null where it removes one."""
        for relation in self.relations:
            if relation.field in after:
                new = Wanted()
                new.add(relation, after, prefix)
                wanted = self._late_wanted if relation in self.late else self._wanted
                wanted.include(new.without({relation: relation.values(before)}))
        for relation in self.referring:
            (self._late_left if relation in self.late else self._left).add(relation, before, after)

    def check(self) -> Steps:
        """Check what is checked before the writes. Raises InvalidEntity and DataConflict."""
        yield from self._wanted.check(self.visible)
        yield from self._left.check()
        return NOTHING_WRITTEN

    def check_late(self) -> Steps:
        """Check what is checked after them."""
        yield from self._late_wanted.check(self.visible)
        yield from self._late_left.check()
        return NOTHING_WRITTEN


def to_itself(relations: Iterable[Relation], may_set: Callable[[Relation], bool]) -> frozenset[Relation]:
    """Return the relations of a store to itself by a key that writes may set."""
    own = (each for each in relations if each.store == each.target and each.by not in SYSTEM_FIELDS)
    return frozenset(each for each in own if may_set(each))


def check_change(change: FieldChange, references: ReferenceChecks) -> Steps:
    """Check a change, as far as that is done before it."""
    references.begin()
    names = [relation.field for relation in references.relations] + [relation.by for relation in references.referring]
    for entity in (yield from change.found(names)):
        references.add(entity, change.after(entity))
    return (yield from references.check())


def check_keys(change: FieldChange, relations: Sequence[Relation]) -> Steps:
    """Check that a change leaves the values by which others refer to the matches. Raises DataConflict."""
    return (yield from check_change(change, ReferenceChecks(lambda store: None, (), relations)))


def check_change_of_all(change: FieldChange, wanted: Wanted, visible: Visibility) -> Steps:
    """Check what a change refers to that sets the same fields in all matches. A value to which each of them refers
    already is not new."""
    missing = yield from wanted.missing(visible)
    known: dict[Relation, set[Value]] = {}
    for relation, values in missing.values():
        known[relation] = set(values)
        for piece in pieces(values, CONDITIONS):
            lacks_one = Not(And(tuple(Equal(relation.path, value) for value in piece)))
            for entity in (yield from find(change.store, And((change.where, lacks_one)), 1, (relation.field,))):
                known[relation] -= {*piece} - relation.values(entity)
    missing.without(known).refuse()
    return NOTHING_WRITTEN


@dataclass
class Deletion:
    """The consequences of a deletion in `store`, for at most `most` entities in all.

    A commit collects them before the write that deletes, and takes them after it: if they came first, an entity that
    they change could come to match the filter of the write. Each attempt of the commit collects them again.
    `referring` returns the relations whose target is a store, `stamps` the stamps of a store's entities.
    """

    store: str
    most: int
    referring: Callable[[str], Sequence[Relation]]
    stamps: Callable[[str], tuple[Stamp, ...]]

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
        """Find the consequences of the deletion of all matches. Raises DataConflict, TooManyMatches, and
        TooManyConsequences."""
        self._begin()
        targets = yield from find(self.store, where, self.most + 1, self._keys_of(self.store))
        if len(targets) > self.most:
            raise TooManyMatches(self.most)
        with bounded():
            yield from self._collect(targets)
        return NOTHING_WRITTEN

    def consequences(self) -> Iterator[UpdateMany | DeleteMany]:
        """Yield the writes that clear and delete what has been collected, except the matches themselves."""
        yield from self._clearings()
        yield from self._cascades()

    def take(self) -> Steps:
        """Do these writes. Raises DataConflict, and TooManyConsequences."""
        with bounded():
            for clear in self._clearings():
                with clearing(clear.store):
                    yield from do(clear)
            for cascade in self._cascades():
                yield from do(cascade)
        return NOTHING_WRITTEN

    def _collect(self, targets: Sequence[Entity]) -> Substeps:
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

    def _keys_of(self, store: str) -> tuple[str, ...]:
        """Return the fields by which other stores refer to a store."""
        return tuple({relation.by for relation in self.referring(store)} - {"_id"})

    def _add(self, store: str, entities: Sequence[Entity]) -> None:
        self._gone.setdefault(store, {}).update((entity["_id"], None) for entity in entities)
        self._count_more(len(entities))

    def _count_more(self, count: int) -> None:
        self._count += count
        if self._count > self.most:
            raise TooManyConsequences(f"{self.most} entities").at("max_matches")

    def _follow(self, relation: Relation, targets: Sequence[Entity]) -> Generator[Step, Any, list[Entity]]:
        """Find what refers to the targets; return what a cascade deletes newly."""
        values = [value for entity in targets if (value := entity.get(relation.by)) is not None]
        new: list[Entity] = []
        yield Lock(keys(relation, values), exclusive=True)
        if relation.on_delete == "refuse":
            self._refusing.append((relation, values))  # when it is known what goes with the targets
            return new
        field = () if relation.on_delete == "cascade" else (relation.field,)
        own = (*field, *self._keys_of(relation.store))
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
                    raise DataConflict({"_id": f"Entities of {relation.store} refer to it."})

    def _clearings(self) -> Iterator[UpdateMany]:
        for store, entities in self._cleared.items():
            gone = self._gone.get(store, {})
            same: dict[bytes, list[str]] = {}  # ids by changes: most entities get the same
            for id, entity in entities.items():
                if id not in gone:
                    same.setdefault(orjson.dumps(self._changes(store, entity)), []).append(id)
            for changes, ids in same.items():
                fields, stamps = {**orjson.loads(changes), "_at": now_ms()}, self.stamps(store)
                for piece in pieces(ids):
                    yield UpdateMany(store, In(("_id",), piece), fields, len(piece), stamps=stamps)

    def _changes(self, store: str, entity: Entity) -> Entity:
        """Return the changes that clear all references of an entity to what goes."""
        changes: Entity = {}
        for relation, values in self._left.items():
            if relation.store == store and relation.field in entity:
                changes[relation.field] = relation.cleared(entity | changes, values)
        return changes

    def _cascades(self) -> Iterator[DeleteMany]:
        for store, ids in self._gone.items():
            others = [id for id in ids if store != self.store or id not in self._targets]
            for piece in pieces(others):
                yield DeleteMany(store, In(("_id",), piece), len(piece))


def pieces(values: Iterable[T], size: int = PIECE) -> Iterator[tuple[T, ...]]:
    """Yield the values in pieces of `size`."""
    rest = iter(values)
    while piece := tuple(islice(rest, size)):
        yield piece
