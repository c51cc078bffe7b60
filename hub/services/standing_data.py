"""Checks the existing entities of a store before a change of its definition.

They are counted before the commit. Entities that change meanwhile are checked one by one, the last of them in the
commit, so no write in between is missed however large the store is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

from stores.compound import ArrayCheck
from stores.errors import DataStandsAgainst, InvalidEntity, NotAsExpected
from stores.limits import MOST_VIOLATIONS
from stores.matcher import compile_filter
from stores.paths import split
from stores.protocol import Engine, Recheck
from stores.query import EVERYTHING, And, ElemMatch, Equal, Exists, Filter, Not, Or, Size
from stores.rechecking import check_changes
from stores.records import SYSTEM_FIELDS, Change, Entity, same
from stores.schema import Field, StoreDefinition, is_single

THIS_FIELD: Final = "this field, which would not be defined."


@dataclass(frozen=True)
class Condition:
    """Entities that match `where`, and that `refuses` if it is given, stand against a definition. `refuses` checks what
    the database cannot evaluate, in a thread."""

    field: str
    text: str
    where: Filter
    refuses: Callable[[Entity], bool] | None = None

    async def count(self, engine: Engine, store: str) -> int:
        return await engine.count(store, self.where, self.refuses)

    @cached_property
    def _matches(self) -> Callable[[Entity], bool]:
        return compile_filter(self.where)

    def is_broken_by(self, entity: Entity) -> bool:
        return self._matches(entity) and (self.refuses is None or self.refuses(entity))


def conditions(old: StoreDefinition, new: StoreDefinition) -> Iterator[Condition]:
    """Yield the conditions of `new` that entities of `old` may break."""
    for field in old.fields:
        if field.id not in new.by_id and (field.hidden or not new.open):
            yield Condition(field.id, "a value of it: set it to null, or keep the field.", has_value((field.id,)))
    for field in new.fields:
        known = old.by_id.get(field.id)
        if field.required and not (known and known.required):
            yield Condition(field.id, "no value of it, which would be required.", lacks((field.id,)))
        if known is None or field.accepts != known.accepts:
            yield Condition(
                field.id, "a value of it that would not be valid as it is.", has_value((field.id,)), _refuser(field)
            )
    for path in new.scalar_paths:
        if path not in old.scalar_paths:
            yield Condition(
                path, "a value of it that is neither a string nor a number.", Exists(split(path)), _multiple(path)
            )

    for index in new.compounds:
        if index not in old.compounds and len(index.sorts) > 1:
            first, *others = index.paths
            text = f"a list at it and at one of {', '.join(others)}, of which an index takes one."
            has_list = Or(tuple(map(leads_to_list, (s.path for s in index.sorts))))
            yield Condition(first, text, has_list, ArrayCheck([index]).refuses)


class Standing:
    """The entities of one store, as opposed to a new definition."""

    def __init__(self, old: StoreDefinition, new: StoreDefinition) -> None:
        self._store = old.name
        self._conditions = tuple(conditions(old, new))
        closes = old.open and not new.open
        self._known = {*new.by_id, *new.hidden, *SYSTEM_FIELDS} if closes else None
        self.matters = closes or bool(self._conditions)

    async def check(self, engine: Engine) -> None:
        """Raises DataStandsAgainst, which gives the number of entities for each field."""
        found: dict[str, str] = {}
        for condition in self._conditions:
            if count := await condition.count(engine, self._store):
                found[condition.field] = f"{having(count)} {condition.text}"
        if self._known is not None:
            unknown = await self._unknown_fields(engine)
            found |= {name: f"{having(count)} {THIS_FIELD}" for name, count in unknown.items()}
        if found:
            raise DataStandsAgainst(found)

    def recheck(self, changes: Sequence[Change]) -> None:
        """Raises NotAsExpected if an entity stands against the definition since one of these changes."""
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

    async def _unknown_fields(self, engine: Engine) -> Counter[str]:
        """Return the number of entities for each field that the definition does not have, for MOST_VIOLATIONS fields at
        most: each entity may have others."""
        found: Counter[str] = Counter()

        def add(entity: Entity) -> bool:
            names = [*self._unknown(entity)]
            is_full = len(found) >= MOST_VIOLATIONS
            found.update(name for name in names if name in found) if is_full else found.update(names)
            return bool(names)

        await engine.count(self._store, counts=add)
        return Counter(dict(islice(found.items(), MOST_VIOLATIONS)))

    def _unknown(self, entity: Entity) -> Iterator[str]:
        """Yield the fields with a value that the definition does not have."""
        if self._known is not None:
            yield from (name for name, value in entity.items() if name not in self._known and value is not None)


async def check_data(engine: Engine, old: StoreDefinition, new: StoreDefinition) -> list[Recheck]:
    """Refuse a definition that existing entities violate. Return the condition under which the commit checks those that
    change until then. Raises DataStandsAgainst, and NotAsExpected for an entity changed meanwhile."""
    standing = Standing(old, new)
    if not standing.matters:
        return []
    since = await engine.feed.position()
    await standing.check(engine)
    reached = await check_changes(engine.feed, since, standing.recheck)
    return [Recheck(old.name, reached, standing.recheck)]


def having(count: int) -> str:
    return "1 entity has" if count == 1 else f"{count} entities have"


def has_value(path: tuple[str, ...]) -> Filter:
    """Return the filter for a value other than null at the path. A list is such a value, even if it contains null."""
    return Or((Not(Equal(path, None)), _lists(path, None)))


def leads_to_list(path: tuple[str, ...]) -> Filter:
    """Return the filter for a list on the path or at its end."""
    ends = [path[: end + 1] for end in range(len(path))]
    return Or(tuple(part for p in ends for part in (Size(p, 0), ElemMatch(p, EVERYTHING, True))))


def lacks(path: tuple[str, ...]) -> Filter:
    """Return the filter for the lack of a value that is required at the path: the empty string is none either."""
    return Or((Not(has_value(path)), And((Equal(path, ""), Not(_lists(path, ""))))))


def _lists(path: tuple[str, ...], value: str | None) -> Filter:
    """Return the filter for a list that contains the value at the path."""
    return ElemMatch(path, Equal((), value), True)


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
