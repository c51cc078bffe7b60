"""Checks the existing entities of a store before a change of its definition, as they will be after the operations on
its data.

They are counted before the commit. Entities that change meanwhile are checked one by one, the last of them in the
commit, so no write in between is missed however large the store is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from hub.services.entity_count import EntityCount
from hub.services.examination import Examination
from stores.compound import ArrayCheck
from stores.data_changes import DataChange, DataOperations
from stores.errors import DataConflict, InvalidEntity, NotAsExpected, ReadTimeout
from stores.field import Field
from stores.limits import MOST_VIOLATIONS
from stores.matcher import compile_filter
from stores.paths import is_single, split
from stores.presence import has_none, has_value, lacks
from stores.protocol import UNBOUNDED, Engine, Recheck
from stores.query import EVERYTHING, And, ElemMatch, Exists, Filter, Or, Query, Size, Sort
from stores.rechecking import check_changes
from stores.records import SYSTEM_FIELDS, Change, Entity, same
from stores.schema import StoreDefinition

THIS_FIELD: Final = "this field, which would not be defined."


@dataclass(frozen=True)
class Condition:
    """Entities that match `where`, and that `refuses` if it is given, conflict with a definition. `refuses` checks what
    the database cannot evaluate, in a thread."""

    field: str
    text: str
    where: Filter
    refuses: Callable[[Entity], bool] | None = None

    async def count(self, engine: Engine, store: str) -> EntityCount:
        """Return the entities that conflict with the definition."""
        if self.refuses is None:
            count = await engine.count(store, self.where)
            return EntityCount(count, await self._first(engine, store) if count else "")
        entities, refuses = EntityCount(), self.refuses

        def counts(entity: Entity) -> bool:
            is_refused = refuses(entity)
            if is_refused:
                entities.add(entity)
            return is_refused

        await engine.count(store, self.where, counts)
        return entities

    async def _first(self, engine: Engine, store: str) -> str:
        with suppress(ReadTimeout):  # the count alone says enough
            for entity in await engine.entities(store, Query(self.where, (Sort(("_id",)),), limit=1)):
                return str(entity["_id"])
        return ""

    @cached_property
    def _matches(self) -> Callable[[Entity], bool]:
        return compile_filter(self.where)

    def is_broken_by(self, entity: Entity) -> bool:
        return self._matches(entity) and (self.refuses is None or self.refuses(entity))


def conditions(old: StoreDefinition, new: StoreDefinition, operations: DataOperations) -> Iterator[Condition]:
    """Yield the conditions of `new` that entities of `old` may break. The values that `operations` rewrite are checked
    during the rewrite. Values that a new name already has are not rewritten."""
    for field in old.fields:
        if field.id not in new.by_id and field.id not in operations.gone and (field.hidden or not new.open):
            yield Condition(field.id, "a value of it: set it to null, or keep the field.", has_value((field.id,)))
    for field in new.fields:
        known = old.by_id.get(field.id)
        if field.required and not (known and known.required) and field.id not in operations.fill:
            yield Condition(field.id, "no value of it, which would be required.", _lacking(field.id, operations))
        if field.id not in operations.rewritten and (known is None or field.accepts != known.accepts):
            yield Condition(
                field.id, "a value of it that would not be valid as it is.", has_value((field.id,)), _refuser(field)
            )
        if field.id in operations.sources:
            stray = _stray(field.id, operations, has_value((field.id,)))
            yield Condition(field.id, "a value of it that would not be valid as it is.", stray, _refuser(field))
    for path in new.scalar_paths:
        name = split(path)[0]
        if path not in old.scalar_paths and name not in operations.convert:
            exists = Exists(split(path))
            where = _stray(name, operations, exists) if name in operations.sources else exists
            yield Condition(path, "a value of it that is neither a string nor a number.", where, _multiple(path))
    for index in new.compounds:
        if index not in old.compounds and len(index.sorts) > 1:
            first, *others = index.paths
            text = f"a list at it and at one of {', '.join(others)}, of which an index takes one."
            has_list = Or(tuple(map(leads_to_list, (s.path for s in index.sorts))))
            yield Condition(first, text, has_list, ArrayCheck([index]).refuses)


class ExistingData:
    """The entities of one store, as opposed to a new definition and the `change` of their values. `most`: entities that
    may change."""

    def __init__(
        self, old: StoreDefinition, new: StoreDefinition, change: DataChange | None = None, most: int = UNBOUNDED
    ) -> None:
        change = change or DataChange(DataOperations({}), new)
        self._store = old.name
        self._conditions = tuple(conditions(old, new, change.operations))
        self._change = change if change.operations else None
        self._new = new
        self._most = most
        closes = old.open and not new.open
        gone = change.operations.gone
        self._known = {*new.by_id, *new.hidden, *SYSTEM_FIELDS, *gone} if closes else None
        self.matters = closes or bool(self._conditions) or self._change is not None

    async def check(self, engine: Engine) -> None:
        """Raises DataConflict, which gives the number of entities for each field, and the first of them."""
        found: dict[str, str] = {}
        if self._change is not None:
            found |= await Examination(self._change, self._new, self._most).run(engine)
        for condition in self._conditions:
            if (entities := await condition.count(engine, self._store)).count:
                found[condition.field] = entities.having(condition.text)
        if self._known is not None:
            unknown = await self._unknown_fields(engine)
            found |= {name: entities.having(THIS_FIELD) for name, entities in unknown.items()}
        if found:
            raise DataConflict(found)

    def recheck(self, changes: Sequence[Change]) -> None:
        """Raises NotAsExpected if an entity conflicts with the definition since one of these changes."""
        for change in changes:
            if change.store != self._store or change.op == "delete":
                continue
            entity = change.after
            if (
                entity is None
                or any(condition.is_broken_by(entity) for condition in self._conditions)
                or any(self._unknown(entity))
            ):
                raise NotAsExpected
            if self._change is not None:
                self._change(entity)

    async def _unknown_fields(self, engine: Engine) -> dict[str, EntityCount]:
        """Return the entities for each field that the definition does not have, for MOST_VIOLATIONS fields at most:
        each entity may have others."""
        found: dict[str, EntityCount] = {}

        def add(entity: Entity) -> bool:
            names = [*self._unknown(entity)]
            for name in names:
                if name in found or len(found) < MOST_VIOLATIONS:
                    found.setdefault(name, EntityCount()).add(entity)
            return bool(names)

        await engine.count(self._store, counts=add)
        return found

    def _unknown(self, entity: Entity) -> Iterator[str]:
        """Yield the fields with a value that the definition does not have."""
        if self._known is not None:
            yield from (name for name, value in entity.items() if name not in self._known and value is not None)


async def check_data(
    engine: Engine, old: StoreDefinition, new: StoreDefinition, change: DataChange, most: int
) -> list[Recheck]:
    """Refuse a definition that existing entities violate after `change`, and a change of more than `most` entities.
    Return the condition under which the commit checks those that change until then. Raises DataConflict, and
    NotAsExpected for an entity changed meanwhile."""
    existing = ExistingData(old, new, change, most)
    if not existing.matters:
        return []
    since = await engine.feed.position()
    await existing.check(engine)
    reached = await check_changes(engine.feed, since, existing.recheck)
    return [Recheck(old.name, reached, existing.recheck)]


def leads_to_list(path: tuple[str, ...]) -> Filter:
    """Return the filter for a list on the path or at its end."""
    ends = [path[: end + 1] for end in range(len(path))]
    return Or(tuple(part for p in ends for part in (Size(p, 0), ElemMatch(p, EVERYTHING, True))))


def _lacking(name: str, operations: DataOperations) -> Filter:
    """Return the filter for entities that will lack a value of a required field."""
    source = operations.source_of(name)
    return lacks((name,)) if source == name else And((lacks((source,)), lacks((name,))))


def _stray(name: str, operations: DataOperations, where: Filter) -> Filter:
    """Return the filter for entities that match `where` and have no value that is renamed to `name`."""
    return And((has_none((operations.source_of(name),)), where))


def _refuser(field: Field) -> Callable[[Entity], bool]:
    def is_refused(entity: Entity) -> bool:
        try:
            value = entity.get(field.id)
            field.check(value, field.id)
        except InvalidEntity:
            return True
        # A value in another form would be missed by filters and by uniqueness.
        return field.converts and not same(field.canonical(value), value)

    return is_refused


def _multiple(path: str) -> Callable[[Entity], bool]:
    return lambda entity: not is_single(entity, path)
