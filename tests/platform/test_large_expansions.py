"""Large expansions take turns: only so many are in memory at a time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import orjson
import pytest

from hub.dialects.platform.expand import parse_expand
from hub.services import expansion
from hub.services.expansion import LARGE, MOST_LARGE_EXPANSIONS_EACH, ExpandedPage, Expansions, Sought
from hub.services.registry import StoreRegistry
from stores.errors import InvalidQuery
from stores.field import Field
from stores.long_lists import LongLists
from stores.protocol import Engine, Insert
from stores.query import Query
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.support.entities import entity
from tests.support.principals import ME, user
from tests.support.registries import FixedRegistry
from tests.support.tasks import end

TARGETS = StoreDefinition("targets", (Field("text", "JSON"),), open=False)
SOURCES = StoreDefinition(
    "sources",
    (
        Field("n", "Number"),
        Field("to", "Reference", store="targets"),
        Field("several", "Reference", store="targets", many=True),
    ),
    open=False,
)
ADMIN = user(admin=True)


@pytest.fixture
async def expansions(engine: Engine) -> Expansions:
    """Three sources: the first refers to a small target, the others to a large one."""
    await engine.define(TARGETS, SOURCES)
    small, large = entity(text="small"), entity(text="x" * (LARGE - 1_000))
    sources = [entity(n=n, to=(large if n else small)["_id"], time=n) for n in range(3)]
    await engine.commit(
        [Insert("targets", small), Insert("targets", large), *(Insert("sources", each) for each in sources)], None
    )
    return Expansions(engine, cast("StoreRegistry", FixedRegistry((TARGETS, SOURCES))), LongLists(1))


async def read(expansions: Expansions, store: str, limit: int, expand: str) -> ExpandedPage:
    return await expansions.find(ADMIN, store, Query(limit=limit), parse_expand(expand, None))


def entities_of(page: ExpandedPage) -> list[Entity]:
    body = page.body
    return list(map(orjson.loads, body)) if isinstance(body, list) else orjson.loads(body)


async def test_a_large_expansion_waits_for_a_place_and_a_small_one_does_not(expansions: Expansions) -> None:
    slots = expansions._large
    for _ in range(MOST_LARGE_EXPANSIONS_EACH):
        await slots._enter(ME)
    small = await read(expansions, "sources", 1, "to")
    assert entities_of(small)[0]["to"]["text"] == "small"
    waiting = [
        asyncio.create_task(read(expansions, "sources", 3, "to")),
        asyncio.create_task(read(expansions, "targets", 2, "sources(to).to")),
    ]
    try:
        done, _ = await asyncio.wait(waiting, timeout=0.2)
        assert not done
        slots._leave(ME)
        page, below = await asyncio.gather(*waiting)
    finally:
        await end(*waiting)
    assert [each["n"] for each in entities_of(page)] == [0, 1, 2]
    assert [len(each["to"]["text"]) > 5 for each in entities_of(page)] == [False, True, True]
    assert [len(each["sources(to)"]) for each in entities_of(below)] == [1, 2]
    for _ in range(MOST_LARGE_EXPANSIONS_EACH - 1):
        slots._leave(ME)
    assert not slots._occupancy._inside


@pytest.mark.parametrize(("field", "is_in_thread"), [("to", False), ("several", True)])
async def test_long_lists_of_references_are_looked_through_in_a_thread(
    expansions: Expansions, engine: Engine, monkeypatch: pytest.MonkeyPatch, field: str, is_in_thread: bool
) -> None:
    """Each of their references takes as long as an entity with one does."""
    [target] = await engine.entities("targets", Query(limit=1))
    id = target["_id"]
    sources = [entity(n=n, to=id, several=[id] * 600, time=10 + n) for n in range(6)]
    await engine.commit([Insert("sources", each) for each in sources], None)
    used: list[object] = []
    values_in = expansion.values_in

    def noted(*arguments: Any) -> list[Sought]:
        used.append(threading.current_thread())
        return values_in(*arguments)

    monkeypatch.setattr(expansion, "values_in", noted)
    page = await read(expansions, "sources", 9, field)
    assert len(entities_of(page)) == 9
    assert [each is threading.main_thread() for each in used] == [not is_in_thread]


async def test_a_refused_expansion_leaves_its_place(expansions: Expansions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "MOST_EXPANDED_BYTES", 2 * LARGE)
    assert len(entities_of(await read(expansions, "sources", 2, "to"))) == 2
    for store, expand in (("sources", "to.sources(to).to"), ("targets", "sources(to).to")):
        with pytest.raises(InvalidQuery) as refusal:
            await read(expansions, store, 3, expand)
        assert refusal.value.field == "expand"
        assert refusal.value.limit_name == "MOST_EXPANDED_BYTES"
    assert not expansions._large._occupancy._inside
