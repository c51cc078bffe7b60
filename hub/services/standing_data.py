"""Checks the existing entities of a store before a change of its definition."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final

from stores.errors import InvalidEntity
from stores.paths import split
from stores.protocol import Engine, Expect, Write
from stores.query import EVERYTHING, And, ElemMatch, Equal, Exists, Filter, Not, Or, Query, Sort
from stores.records import SYSTEM_FIELDS, Entity
from stores.schema import Field, StoreDefinition, is_single

READ_AT_ONCE: Final = 200
"""Entities read at once; then other tasks get a turn."""


EXPECTED_OF: Final = 100_000
"""Largest number of entities that a commit may scan."""


class Standing:
    """Counts entities of one store. Conditions that the database cannot evaluate are checked page by page: changes of
    definitions are rare and may take long."""

    def __init__(self, engine: Engine, store: str) -> None:
        self._engine = engine
        self._store = store
        self._expected: list[Expect] = []

    async def having(self, name: str) -> int:
        """Return the number of entities with a value other than null."""
        return await self._count(self._none_of(has_value((name,))))

    async def lacking(self, name: str) -> int:
        """Return the number of entities that lack a value of a required field."""
        empty = And((Equal((name,), ""), Not(_lists((name,), ""))))
        return await self._count(self._none_of(Or((Not(has_value((name,))), empty))))

    async def expected(self) -> list[Write]:
        """Return expectations by which the commit repeats the counts of the database. Empty for a large store: scanning
        it takes longer than a commit may."""
        if not self._expected or await self._count(EVERYTHING) > EXPECTED_OF:
            return []
        return [*self._expected]

    def _none_of(self, where: Filter) -> Filter:
        self._expected.append(Expect(self._store, where, least=0, most=0))
        return where

    async def refused_by(self, field: Field) -> int:
        def is_refused(entity: Entity) -> bool:
            try:
                field.check(entity.get(field.id), field.id)
            except InvalidEntity:
                return True
            return False

        return await self._count_read(has_value((field.id,)), is_refused)

    async def not_single(self, path: str) -> int:
        return await self._count_read(Exists(split(path)), lambda entity: not is_single(entity, path))

    async def unknown_to(self, definition: StoreDefinition) -> Counter[str]:
        """Return, for each field that the definition does not have, the number of entities with a value of it."""
        found: Counter[str] = Counter()
        known = {*definition.by_id, *definition.hidden, *SYSTEM_FIELDS}
        async for entity in entities(self._engine, self._store, EVERYTHING):
            found.update(name for name, value in entity.items() if name not in known and value is not None)
        return found

    async def _count(self, where: Filter) -> int:
        return (await self._engine.summarize(self._store, where)).count

    async def _count_read(self, where: Filter, stands_against: Callable[[Entity], bool]) -> int:
        count = 0
        async for entity in entities(self._engine, self._store, where):
            count += stands_against(entity)
        return count


async def entities(engine: Engine, store: str, where: Filter) -> AsyncIterator[Entity]:
    """Yield all entities that match `where`, in the order of their ids."""
    query = Query(where, (Sort(("_id",)),), limit=READ_AT_ONCE)
    while True:
        page = await engine.entities(store, query)
        for entity in page:
            yield entity
        if len(page) < READ_AT_ONCE:
            return
        query = Query(where, query.sort, limit=READ_AT_ONCE, after=(page[-1]["_id"],))
        await asyncio.sleep(0)


def has_value(path: tuple[str, ...]) -> Filter:
    """Return the filter for a value other than null at the path. A list is such a value, even if it contains null."""
    return Or((Not(Equal(path, None)), _lists(path, None)))


def _lists(path: tuple[str, ...], value: str | None) -> Filter:
    """Return the filter for a list that contains the value at the path."""
    return ElemMatch(path, Equal((), value), True)
