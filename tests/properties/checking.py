"""The comparison of an engine's answers with those of the reference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from stores.errors import InvalidQuery
from stores.projection import compile_projection
from stores.protocol import DeleteMany, Engine, Insert
from stores.query import EVERYTHING, Query
from stores.records import Entity, same
from tests.properties.reference import answer, in_order, matching
from tests.properties.strategies import Case
from tests.support.reading import content, walk

Answer = Any
Place = tuple[str, Engine, str]


async def fill(engine: Engine, store: str, entities: list[Entity]) -> None:
    """Make the store contain exactly these entities."""
    await engine.commit([DeleteMany(store, EVERYTHING, 10_000), *(Insert(store, e) for e in entities)], None)


async def check(place: Place, entities: list[Entity], case: Case) -> None:
    """Run one query on one store of one engine and compare the answers."""
    name, engine, store = place
    query = case.query
    if query.limit > 0:
        listed = await outcome(lambda: list_of(engine, store, case))
        compare(name, "list", expected_list(entities, case), listed, case)
        whole = await outcome(lambda: walk(engine, Query(query.where, query.sort), case.page_size, store))
        compare(name, "walk", expected_walk(entities, query), whole, case)
    summary = await engine.summarize(store, query.where)
    ends = [None if end is None else orjson.loads(end) for end in (summary.first, summary.last)]
    compare(name, "summary", expected_summary(entities, query), [summary.count, *ends], case)


async def list_of(engine: Engine, store: str, case: Case) -> list[Entity]:
    return await content(await engine.find(store, case.query, case.projection))


async def outcome(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the answer, or "InvalidQuery" if the query is refused."""
    try:
        return await ask()
    except InvalidQuery:
        return "InvalidQuery"


def expected_walk(entities: list[Entity], query: Query) -> Answer:
    try:
        return answer(entities, query)
    except InvalidQuery:
        return "InvalidQuery"


def expected_list(entities: list[Entity], case: Case) -> Answer:
    whole = expected_walk(entities, case.query)
    if whole == "InvalidQuery":
        return whole
    project = compile_projection(case.projection)
    return [project(e) for e in whole[case.query.offset : case.query.offset + case.query.limit]]


def expected_summary(entities: list[Entity], query: Query) -> Answer:
    found = in_order(matching(entities, query.where), Query().sort)
    return [len(found), found[0] if found else None, found[-1] if found else None]


def compare(place: str, what: str, expected: Answer, got: Answer, case: Case) -> None:
    if same(expected, got):
        return
    lines = [f"{place} gives another {what} than the reference", f"query: {case.query}", f"only: {case.projection}"]
    if isinstance(expected, list) and isinstance(got, list):
        lines += [f"expected but not given: {e}" for e in expected if not any(same(e, g) for g in got)]
        lines += [f"given but not expected: {g}" for g in got if not any(same(g, e) for e in expected)]
    pytest.fail("\n".join([*lines, f"expected: {expected}", f"got: {got}"]))
