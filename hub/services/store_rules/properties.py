"""The rule of listings: their region is that of their district, some fields are the administrators', and a tombstone
stands for each listing that was published and is not any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from auth.errors import ReadOnlyField
from auth.policy import reserved_to_others
from hub.services.listings.stores import PUBLISHED
from hub.services.listings.tombstones import TOMBSTONES
from hub.services.stamping import own_entity, stamp_counter
from hub.services.store_rules.base import StoreRule, Surroundings
from hub.services.store_rules.effects import Effect, names_set
from stores.computing import Compute, Computed
from stores.errors import StoreError
from stores.procedures import InsertMany, Lock, do, find, take
from stores.protocol import DeleteMany, Insert, Stamp, Update, UpdateMany, Upsert, Write
from stores.query import In
from stores.records import Entity
from stores.reference_checks import Substeps, keys, pieces
from stores.schema import StoreDefinition

DISTRICT: Final = "district"
REGION: Final = "region"
STATUS: Final = "publish_status"
NUMBER: Final = "number"

Regions = dict[object, str | None]
"""The regions of districts, as the commit finds them."""


class ReservedField(ReadOnlyField, StoreError):
    """A refusal within a commit, which only a StoreError undoes without an alarm."""


@dataclass(frozen=True, slots=True)
class InRegion:
    """The `Compute` of a change that may set the district: it sets the region, too."""

    inner: Compute
    regions: Regions

    @property
    def size(self) -> int:
        return self.inner.size

    @property
    def names(self) -> frozenset[str]:
        return self.inner.names | {DISTRICT, REGION}

    def __call__(self, entity: Entity) -> Computed:
        computed = self.inner(entity)
        fields = {name: value for name, value in computed.fields.items() if name != REGION}
        if DISTRICT in fields or DISTRICT in computed.removed:
            fields[REGION] = self.regions.get(fields.get(DISTRICT))
        return Computed(fields, computed.removed - {REGION})


@dataclass(slots=True)
class Tombs:
    """The tombstones that a commit makes and removes, by the numbers of their listings."""

    made: dict[int, Entity] = field(default_factory=dict)
    removed: dict[int, None] = field(default_factory=dict)

    def put(self, number: int, fields: Entity) -> None:
        self.made[number] = {NUMBER: number, **fields}
        self.removed[number] = None

    def lift(self, number: int) -> None:
        self.made.pop(number, None)
        self.removed[number] = None


class PropertyRule(StoreRule):
    def __init__(self, surroundings: Surroundings, definition: StoreDefinition) -> None:
        super().__init__(surroundings, definition)
        self._regions: Regions = {}
        self._tombs = Tombs()

    @property
    def fields(self) -> Sequence[str]:
        return (DISTRICT, STATUS, NUMBER, "owner", *sorted(self._reserved()))

    def own(self, write: Write) -> Write:
        match write:
            case Insert():
                return replace(write, entity=_with_own_region(write.entity))
            case Update() | UpdateMany():
                return replace(write, changes=_without_region(write.changes), compute=self._computed(write.compute))
            case Upsert():
                changes, compute = _without_region(write.changes), self._computed(write.compute)
                return replace(write, entity=_with_own_region(write.entity), changes=changes, compute=compute)
        return write

    def concerns(self, write: Write) -> bool:
        if isinstance(write, Update | UpdateMany) and not (isinstance(write, Update) and write.replace):
            return not names_set(write).isdisjoint({DISTRICT, STATUS, *self._reserved()})
        return True

    def before(self, further: Sequence[Write]) -> Substeps:
        effects = yield from self.effects(further)
        self._check_reserved(effects)
        yield from self._find_regions(effects)
        for write in self.made:
            self._fill(write)
        yield from self._find_tombs(effects)

    def after(self) -> Substeps:
        for piece in pieces(self._tombs.removed):
            yield from do(DeleteMany(TOMBSTONES.name, In((NUMBER,), piece), len(piece)))
        if self._tombs.made:
            # Of the same counter as those of the listings: a reader who has seen one misses no later tombstone.
            first = yield from take(Stamp("at", stamp_counter(self.definition)), len(self._tombs.made))
            for some in pieces(enumerate(self._tombs.made.values(), first)):
                entities = [own_entity({**each, "at": at}, each["owner"]) for at, each in some]
                yield InsertMany(TOMBSTONES.name, entities)

    # Fields of administrators.

    def _reserved(self) -> frozenset[str]:
        return reserved_to_others(self.surroundings.principal, self.definition)

    def _check_reserved(self, effects: Sequence[Effect]) -> None:
        """Raise ReservedField for another value in a field that only administrators change."""
        for name in sorted(self._reserved()):
            for effect in effects:
                if name in effect.sets and bool(effect.sets[name]) != bool((effect.before or {}).get(name)):
                    raise ReservedField(name, self.definition.name)

    # The region.

    def _computed(self, compute: Compute | None) -> Compute | None:
        is_concerned = compute is not None and not compute.names.isdisjoint({DISTRICT, REGION})
        return InRegion(compute, self._regions) if compute is not None and is_concerned else compute

    def _find_regions(self, effects: Sequence[Effect]) -> Substeps:
        self._regions.clear()
        values = {effect.sets[DISTRICT]: None for effect in effects if effect.sets.get(DISTRICT) is not None}
        for relation in self.definition.relations:
            if relation.path == (DISTRICT,) and values:
                # Who moves a district to another region has moved this listing along, or is seen here.
                yield Lock(keys(relation, values))
                for piece in pieces(values):
                    where, only = In((relation.by,), piece), (relation.by, REGION)
                    for found in (yield from find(relation.target, where, len(piece), only)):
                        self._regions[found[relation.by]] = found.get(REGION)

    def _fill(self, write: Write) -> None:
        match write:
            case Insert(entity=fields) | Update(changes=fields) | UpdateMany(changes=fields):
                self._fill_fields(fields)
            case Upsert():
                self._fill_fields(write.entity)
                self._fill_fields(write.changes)

    def _fill_fields(self, fields: Entity) -> None:
        if DISTRICT in fields:
            fields[REGION] = self._regions.get(fields[DISTRICT])

    # Tombstones.

    def _find_tombs(self, effects: Sequence[Effect]) -> Substeps:
        self._tombs = Tombs()
        passing = [*_passing(effects)]
        unsure = [number for number, effect in passing if not _is_published(effect.before)]
        known = set[int]()
        for piece in pieces(dict.fromkeys(unsure)):
            found = yield from find(TOMBSTONES.name, In((NUMBER,), piece), len(piece), (NUMBER,))
            known.update(each[NUMBER] for each in found)
        for number, effect in passing:
            if _is_published(effect.after):
                self._tombs.lift(number)
            elif _is_published(effect.before) or number in known or number in self._tombs.made:
                owner = (effect.before or effect.after or {}).get("owner")
                self._tombs.put(number, {"owner": owner, STATUS: (effect.after or {}).get(STATUS)})


def _passing(effects: Sequence[Effect]) -> Iterator[tuple[int, Effect]]:
    """Yield the numbers of the listings whose publish status an effect changes, or that go."""
    for effect in effects:
        number = (effect.before or effect.after or {}).get(NUMBER)
        if type(number) is not int:  # a new one gets its number later; another program may have stored anything
            continue
        if effect.before is None or effect.after is None or effect.before.get(STATUS) != effect.after.get(STATUS):
            yield number, effect


def _is_published(entity: Mapping[str, object] | None) -> bool:
    return entity is not None and entity.get(STATUS) == PUBLISHED


def _without_region(changes: Entity) -> Entity:
    """Return a copy of changes without the region, which nobody sends."""
    return {name: value for name, value in changes.items() if name != REGION}


def _with_own_region(entity: Entity) -> Entity:
    """Return a copy of a new entity with a place for its region."""
    copied: Entity = {}
    for name, value in entity.items():
        if name != REGION:
            copied[name] = value
        if name == DISTRICT:
            copied[REGION] = None
    return copied
