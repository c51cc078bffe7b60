"""Interrupted reads of the SQLite engine, and its cache of compiled conditions."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

import apsw
import pytest

from stores.errors import Unavailable
from stores.parse import parse_filter
from stores.query import Equal, In, Or, Query, Sort
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine, readers
from tests.support.engines import opened
from tests.support.entities import STORE, entity, insert, numbered
from tests.support.interruptions import interruptions
from tests.support.reading import find

pytestmark = pytest.mark.engine("sqlite")

SEEN = Or((Equal(("owner",), "nobody"), In(("v",), ("a", "b"))))


@pytest.mark.parametrize("quick", [0.0, 0.00005, 0.0001, 0.0002, 0.0005])
async def test_a_read_cut_short_leaves_no_snapshot_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: float
) -> None:
    """A read may be interrupted anywhere, even in ROLLBACK. It is answered, and the next read sees later writes."""
    async with opened(SQLiteEngine(tmp_path / "hub.db")) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, *numbered(3_000, v="a"))
        monkeypatch.setattr(readers, "QUICK", quick)
        interrupted = interruptions(monkeypatch)
        for n in range(40):
            assert len(await find(engine, Query(SEEN, offset=50 * n, limit=10))) == 10
            fresh = entity(v="new")
            await insert(engine, fresh)
            assert await engine.get(STORE, fresh["_id"]) is not None
        assert interrupted or quick > 0.0001  # a quick machine may need no more


@pytest.mark.parametrize("kind", ["of a client", "of the hub"])
async def test_a_read_that_the_end_of_the_engine_cuts_short_has_not_taken_too_long(tmp_path: Path, kind: str) -> None:
    engine = SQLiteEngine(tmp_path / "hub.db")
    await engine.open()
    began = threading.Event()

    def count(connection: apsw.Connection) -> int:
        began.set()
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<1e9) SELECT count(*) FROM n"
        return int(connection.execute(numbers).get)

    own = engine._readers
    reading = asyncio.ensure_future(own.in_thread(count) if kind == "of a client" else own.run_housekeeping(count, 60))
    await asyncio.to_thread(began.wait)
    await engine.close()
    with pytest.raises(Unavailable, match="closed"):
        await reading


async def test_a_kept_condition_follows_what_an_index_holds(tmp_path: Path) -> None:
    """When an indexed path gets its first array, the same condition is compiled again and enters the array."""
    async with opened(SQLiteEngine(tmp_path / "hub.db")) as engine:
        await engine.define(StoreDefinition(STORE, indexes=("v",)))
        await insert(engine, entity(v="a"))
        assert len(await find(engine, Query(SEEN))) == 1
        await insert(engine, entity(v=["x", "b"]))
        assert len(await find(engine, Query(SEEN))) == 2
        await engine.define(StoreDefinition(STORE))
        assert len(await find(engine, Query(SEEN))) == 2


async def test_conditions_that_python_takes_for_equal_are_told_apart(tmp_path: Path) -> None:
    """1 == True holds in Python, but not in a filter."""
    async with opened(SQLiteEngine(tmp_path / "hub.db")) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, entity(v=1), entity(v=True), entity(v=True))
        for value, count in ((1, 1), (True, 2), (1, 1)):
            where = parse_filter({"$or": [{"v": value}, {"v": "x"}]})
            assert len(await find(engine, Query(where))) == count


async def test_pages_seek_past_equal_values(tmp_path: Path) -> None:
    """The statement of a page seeks to the end of the previous page, even among entities with the same first value."""
    from stores.sqlite.lists import page_sql

    async with opened(SQLiteEngine(tmp_path / "hub.db")) as engine:
        await engine.define(StoreDefinition(STORE, indexes=("v",)))
        for sort in ((Sort(("time",)), Sort(("_id",))), (Sort(("v",), True), Sort(("_id",), True))):
            query = Query(sort=sort, after=(5, "0" * 24))
            sql, values = page_sql(engine._committer.connection, engine._table(STORE), query, 10)
            rows = engine._committer.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
            plan = [str(row[3]) for row in rows]
            assert any("id>?" in step or "id<?" in step or "(time,id)>(?,?)" in step for step in plan), plan
            assert not any("TEMP B-TREE" in step for step in plan), plan


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
async def test_long_reads_have_a_lower_priority_than_the_loop(tmp_path: Path) -> None:
    def priority(_: object = None) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async with opened(SQLiteEngine(tmp_path / "hub.db")) as engine:
        assert await engine._readers.in_thread(priority) > priority()
        assert await engine._readers.run_housekeeping(priority, 60) > priority()
        assert await asyncio.to_thread(priority) == priority()
