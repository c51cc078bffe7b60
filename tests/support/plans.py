"""What a database does for a query: the indexes that it uses, what it reads, and whether it sorts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from stores.mongo import MongoEngine
from stores.protocol import Engine
from stores.query import WHOLE, Query
from stores.sqlite import SQLiteEngine
from stores.sqlite.lists import page_sql
from tests.support.entities import STORE

_STEPS: Final = 20
"""Steps of SQLite's virtual machine between two counts: about what an entity of a list takes."""


@dataclass(frozen=True)
class Plan:
    """`indexes`: names of all indexes that are used. `read`: about how many entities or entries of an index are read.
    `sorts`: whether all matches are sorted after they were read, and not only those with equal values in the index."""

    indexes: frozenset[str]
    read: int
    sorts: bool
    text: str


async def plan_of(engine: Engine, query: Query, store: str = STORE) -> Plan:
    """Run the query, and return what the database does for it."""
    if isinstance(engine, SQLiteEngine):
        return _of_sqlite(engine, query, store)
    assert isinstance(engine, MongoEngine)
    return await _of_mongodb(engine, query, store)


def _of_sqlite(engine: SQLiteEngine, query: Query, store: str) -> Plan:
    connection = engine._committer.connection
    sql, values = page_sql(connection, engine._table(store), query, query.limit)
    steps = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    used = frozenset(step.split("INDEX ", 1)[1].split(" (", 1)[0] for step in steps if " USING INDEX " in step)
    counted = 0

    def count() -> bool:
        nonlocal counted
        counted += 1
        return False

    connection.set_progress_handler(count, _STEPS)
    try:
        list(connection.execute(sql, values))
    finally:
        connection.set_progress_handler(None)
    return Plan(used, counted, any("TEMP B-TREE FOR ORDER BY" in step for step in steps), "\n".join(steps))


async def _of_mongodb(engine: MongoEngine, query: Query, store: str) -> Plan:
    find = engine._reader._selection(store, query, WHOLE).command(query.offset, query.limit)
    explained = await engine._connection.command({"explain": find, "verbosity": "executionStats"})
    stages = [*_stages(explained["executionStats"]["executionStages"])]
    used = frozenset(stage["indexName"] for stage in stages if "indexName" in stage)
    names = [stage["stage"] for stage in stages]
    statistics = explained["executionStats"]
    read = max(statistics["totalKeysExamined"], statistics["totalDocsExamined"])
    return Plan(used, read, "SORT" in names or "COLLSCAN" in names, " ".join([*names, *used]))


def _stages(stage: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [*stage.get("inputStages", ()), *([stage["inputStage"]] if "inputStage" in stage else ())]
    return [stage, *(each for child in inner for each in _stages(child))]
