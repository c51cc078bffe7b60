"""A principal that sees little of a large store: its results equal those of a full scan."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from stores.matcher import matches
from stores.parse import parse_filter, parse_sort
from stores.protocol import DeleteMany, Engine, Update, UpdateMany
from stores.query import CREATION_ORDER, EVERYTHING, Filter, Query, both, total
from stores.records import Entity
from tests.support import sharing
from tests.support.engines import fitting_database, opened
from tests.support.entities import STORE, entity, insert
from tests.support.reading import find, text
from tests.support.sharing import COMPANY, ME, MINE, SHOWN, TEAM, seen_by


@pytest.fixture
async def large(engine: Engine) -> Engine:
    await sharing.fill(engine)
    return engine


@pytest.fixture(scope="module")
async def standing(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    """The same for all tests that only read."""
    folder = tmp_path_factory.mktemp("standing")
    async with fitting_database(engine_kind, request, folder) as database, opened(database.engine()) as engine:
        await sharing.fill(engine)
        yield engine


async def all_of(engine: Engine, where: Filter = EVERYTHING) -> list[Entity]:
    return [e for e in await find(engine, Query(limit=10_000)) if matches(where, e)]


@pytest.mark.parametrize("sort", ["", "-n", "kind,-n", "-kind"])
@pytest.mark.parametrize("filter", [{}, {"kind": "k0"}, {"n": {"$gt": 1_000}}, {"text": None}])
async def test_lists_of_what_one_sees(standing: Engine, sort: str, filter: Entity) -> None:
    """Filters, sorts, pages and counts have the same results as a full scan."""
    where = both(MINE, parse_filter(filter))
    order = total(parse_sort(sort)) if sort else CREATION_ORDER
    expected = {e["_id"] for e in await all_of(standing, where)}
    query = Query(where, order, limit=1)
    pages: list[Entity] = []
    while True:
        listing = await standing.find(STORE, query)
        pages += json.loads(await text(listing))
        if listing.next is None:
            break
        query = replace(query, after=listing.next)
    assert {e["_id"] for e in pages} == expected
    assert len(pages) == len(expected)
    assert pages == await find(standing, Query(where, order))
    assert (await standing.summarize(STORE, where)).count == len(expected)


async def test_what_is_shared_and_taken_back_is_seen_at_once(large: Engine) -> None:
    """For each rule of visibility, an entity appears with the write that shows it and disappears with the one that
    hides it."""
    for way, shown in SHOWN.items():
        [hidden] = [e for e in await all_of(large) if e["n"] == 77]
        back = {name: hidden[name] for name in shown}
        for changes in (shown, back):
            await large.commit([Update(STORE, hidden["_id"], changes)], None)
            assert await find(large, Query(MINE)) == await all_of(large, MINE), way
        assert len(await find(large, Query(MINE))) == len(SHOWN)


async def test_who_is_in_many_groups_sees_each_entity_once(large: Engine) -> None:
    """This includes an entity that is visible by several rules."""
    await insert(large, entity(owner=ME, group=TEAM, branch=[TEAM, COMPANY], access=[ME]))
    everywhere = seen_by(ME, TEAM, "5f00000000000000000000d9", "5f00000000000000000000d8")
    assert await find(large, Query(everywhere)) == await all_of(large, everywhere)


async def test_bulk_changes_reach_what_one_sees(large: Engine) -> None:
    """A bulk update and a bulk deletion affect exactly the visible entities."""
    await large.commit([UpdateMany(STORE, MINE, {"mark": 1}, 100)], None)
    marked = [e for e in await all_of(large) if e.get("mark")]
    assert marked == await find(large, Query(MINE))
    assert len(marked) == len(SHOWN)
    await large.commit([DeleteMany(STORE, MINE, 100)], None)
    assert await find(large, Query(MINE)) == []
    assert len(await all_of(large)) == 2_000 - len(SHOWN)
