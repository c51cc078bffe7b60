"""Changes of the values of entities with their definition: top-level fields are renamed, dropped, filled and
converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from stores.compound import ArrayCheck
from stores.computing import Computed
from stores.errors import NotAsExpected
from stores.field import SERIAL, STAMP, Field
from stores.fields import Rejected
from stores.fields.conversion import converter_of
from stores.paths import is_single
from stores.presence import has_none, has_value, is_lacking, lacks
from stores.query import Exists, Filter, Or
from stores.records import Entity, Json, same
from stores.schema import StoreDefinition

_COMPUTING: Final = 1_024
"""Bytes that stand for the work on one entity, beside its own."""


@dataclass(frozen=True)
class DataOperations:
    """`rename`: former name → new name. The other fields are named as in the new definition, dropped ones as in the
    former. No name is in two of them."""

    rename: Mapping[str, str]
    drop: tuple[str, ...] = ()
    fill: tuple[str, ...] = ()
    convert: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rename or self.drop or self.fill or self.convert)

    @cached_property
    def gone(self) -> frozenset[str]:
        """The fields that no entity has afterwards."""
        return frozenset({*self.drop, *self.rename})

    @cached_property
    def rewritten(self) -> frozenset[str]:
        """The fields whose values are checked one by one when they are written."""
        return frozenset({*self.rename.values(), *self.convert})

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """New name → former name of renamed fields."""
        return {target: source for source, target in self.rename.items()}

    def source_of(self, name: str) -> str:
        """Return the field that holds the values of a field of the new definition now."""
        return self.sources.get(name, name)

    def to_json(self) -> Entity:
        lists = {"drop": [*self.drop], "fill": [*self.fill], "convert": [*self.convert]}
        return {"rename": dict(self.rename), **lists}

    @classmethod
    def from_json(cls, made: Entity) -> DataOperations:
        """Return what `to_json` has made an entity of."""
        return cls(made["rename"], *(tuple(made[name]) for name in ("drop", "fill", "convert")))


NOTHING_TO_DO: Final = DataOperations({})


class Obstacle(StrEnum):
    """Why the change of an entity would not lead to what its new definition allows."""

    UNCONVERTIBLE = "unconvertible"
    INVALID = "invalid"
    MISSING = "missing"
    TAKEN = "taken"
    MULTIPLE = "multiple"
    PARALLEL = "parallel"


class Obstructed(Exception):
    """An entity that cannot be changed: the obstacle in each field."""

    def __init__(self, found: Mapping[str, Obstacle]) -> None:
        super().__init__(", ".join(f"{name}: {obstacle}" for name, obstacle in found.items()))
        self.found = found


class DataChange:
    """The `stores.computing.Compute` of data operations.

    `numbers`: the serial numbers that fill fields, by the field and the entity's id. Without them any number stands
    for those to come.
    """

    size = _COMPUTING

    def __init__(
        self,
        operations: DataOperations,
        definition: StoreDefinition,
        numbers: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self.operations = operations
        self._definition = definition
        self._numbers = numbers
        o, fields = operations, definition.by_id
        self._converters = {name: converter_of(fields[name]) for name in o.convert}
        self._filled = [fields[name] for name in o.fill]
        changed = frozenset({*o.rewritten, *o.fill})
        self.names: frozenset[str] = changed | o.gone
        self._required = [name for name in definition.required if name in changed]
        self._scalars = [path for path in definition.scalar_paths if path.split(".")[0] in changed]
        self._arrays = [
            (index.paths[0], ArrayCheck([index]))
            for index in definition.compounds
            if not changed.isdisjoint(path.split(".")[0] for path in index.paths)
        ]

    @property
    def concerned(self) -> Filter:
        """The filter for the entities that it may change."""
        o = self.operations
        return Or(
            (
                *(Exists((name,)) for name in (*o.rename, *o.drop)),
                *(_to_fill(field) for field in self._filled),
                *(has_value((name,)) for name in o.convert),
            )
        )

    def __call__(self, entity: Entity) -> Computed:
        """Raises NotAsExpected for an entity that cannot be changed. The entities were checked before, so somebody has
        written it since."""
        try:
            return self.of(entity)
        except Obstructed:
            raise NotAsExpected from None

    def applied(self, entity: Entity) -> Entity:
        """Return the entity as it will be. Raises NotAsExpected."""
        return _changed(entity, self(entity)) if self.operations else entity

    def alters(self, entity: Entity) -> bool:
        """Return whether there is something to change in an entity."""
        try:
            change = self.of(entity)
        except Obstructed:
            return True
        return bool(change.fields or change.removed)

    def of(self, entity: Entity) -> Computed:
        """Return the change of an entity. Raises Obstructed."""
        found: dict[str, Obstacle] = {}
        fields = self._moved(entity, found) | self._converted(entity, found) | self._fill(entity)
        gone = frozenset(name for name in self.operations.gone if name in entity)
        made = Computed({n: v for n, v in fields.items() if n not in entity or not same(v, entity[n])}, gone)
        if self._required or self._scalars or self._arrays:
            self._check(_changed(entity, made), found)
        if found:
            raise Obstructed(found)
        return made

    def _moved(self, entity: Entity, found: dict[str, Obstacle]) -> Entity:
        moved: Entity = {}
        for source, target in self.operations.rename.items():
            value = entity.get(source)
            if source not in entity or (value is None and target in entity):
                continue
            if entity.get(target) is not None:
                found[target] = Obstacle.TAKEN
            elif not _fits(self._definition.by_id.get(target), value):
                found[target] = Obstacle.INVALID
            else:
                moved[target] = value
        return moved

    def _converted(self, entity: Entity, found: dict[str, Obstacle]) -> Entity:
        converted: Entity = {}
        for name, convert in self._converters.items():
            if (value := entity.get(name)) is not None:
                try:
                    converted[name] = convert(value)
                except Rejected:
                    found[name] = Obstacle.UNCONVERTIBLE
        return converted

    def _fill(self, entity: Entity) -> Entity:
        return {
            field.id: self._filling(field, entity)
            for field in self._filled
            if is_lacking(entity.get(field.id), required=field.required)
        }

    def _filling(self, field: Field, entity: Entity) -> Json:
        if field.type == STAMP:
            return 0  # that it changes the entity: the engine sets the stamp
        if field.type != SERIAL:
            return field.default
        if self._numbers is None:
            return field.start or 1
        number = self._numbers[field.id].get(entity["_id"])
        if number is None:
            raise NotAsExpected
        return number

    def _check(self, after: Entity, found: dict[str, Obstacle]) -> None:
        """Add what the definition does not allow in the fields that have changed."""
        for name in self._required:
            if is_lacking(after.get(name), required=True):
                found.setdefault(name, Obstacle.MISSING)
        for path in self._scalars:
            if not is_single(after, path):
                found.setdefault(path, Obstacle.MULTIPLE)
        for path, check in self._arrays:
            if check.refuses(after):
                found.setdefault(path, Obstacle.PARALLEL)


def _to_fill(field: Field) -> Filter:
    return lacks((field.id,)) if field.required else has_none((field.id,))


def _fits(field: Field | None, value: Any) -> bool:
    """Return whether a field accepts the value unchanged."""
    if field is None or value is None:
        return True
    try:
        return same(field.checker(value), value)
    except Rejected:
        return False


def _changed(entity: Entity, change: Computed) -> Entity:
    after = {**entity, **change.fields}
    for name in change.removed:
        del after[name]
    return after
