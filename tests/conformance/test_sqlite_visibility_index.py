"""How SQLite finds the entities of a large store for a principal that sees few of them, and those of a group."""

from __future__ import annotations

import json
import random
import secrets
from contextlib import closing
from pathlib import Path

import pytest

from stores.parse import parse_filter, parse_sort
from stores.protocol import Delete, Engine, Update
from stores.query import Equal, Filter, Query, both, total
from stores.records import Entity
from stores.sqlite import lists
from stores.sqlite.connection import connect
from stores.sqlite.tables import load_tables
from tests.support import sharing
from tests.support.engines import Database, sqlite_database
from tests.support.entities import STORE, entity, insert
from tests.support.sharing import COMPANY, INDEXED, MINE, OTHER, TEAM, others, seen_by

pytestmark = pytest.mark.engine("sqlite")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return sqlite_database(tmp_path)


@pytest.fixture
async def large(engine: Engine) -> Engine:
    await sharing.fill(engine)
    return engine


@pytest.mark.parametrize("sort", ["time,_id", "-n"])
@pytest.mark.parametrize("filter", [{}, {"kind": "k0"}, {"text": {"$ne": "x"}}])
@pytest.mark.parametrize("seen", [MINE, Equal(("group",), TEAM)], ids=["principal", "group"])
async def test_what_is_little_is_looked_up(
    large: Engine, database: Database, seen: Filter, sort: str, filter: Entity
) -> None:
    """SQLite scans no table and no index completely, for any filter and sort."""
    query = Query(both(seen, parse_filter(filter)), total(parse_sort(sort)))
    with closing(connect(Path(database.location))) as connection:
        sql, values = lists.page_sql(connection, load_tables(connection)[STORE], query, 100)
        steps = [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert any("rowid=?" in step for step in steps), steps
    assert not any(step.startswith("SCAN e_things") for step in steps), steps


@pytest.mark.parametrize("seen", [seen_by(OTHER), Equal(("group",), COMPANY)], ids=["principal", "group"])
async def test_what_is_much_is_looked_for(large: Engine, database: Database, seen: Filter) -> None:
    """Of a principal that sees most of a store, and of a group with most entities, the sort's index gives a page."""
    with closing(connect(Path(database.location))) as connection:
        sql, _ = lists.page_sql(connection, load_tables(connection)[STORE], Query(seen), 100)
    assert "NOT INDEXED" not in sql


async def test_the_acl_says_what_the_entities_say(engine: Engine, database: Database) -> None:
    """The ACL agrees with the entities after many random writes and deletions of entities shared in every way."""
    await engine.define(INDEXED)
    ids = [f"5f0000000000000000000{n:03x}" for n in range(6)]
    made = [entity(e) for e in others(50)]
    await insert(engine, *made)
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    for _ in range(300):
        id = chance.choice(made)["_id"]
        changes: Entity = {
            "group": chance.choice([None, *ids]),
            "branch": chance.sample(ids, chance.randint(0, 3)),
            "access": chance.sample(ids, chance.randint(0, 3)),
        }
        if chance.random() < 0.1:
            await engine.commit([Delete(STORE, id)], None)
            await insert(engine, entity(changes, _id=id))
        else:
            some = {name: changes[name] for name in chance.sample([*changes], 2)}
            await engine.commit([Update(STORE, id, some)], None)
    with closing(connect(Path(database.location))) as connection:
        table = load_tables(connection)[STORE]
        told = set(connection.execute(f"SELECT viewer, row FROM {table.acl}"))
        rows = connection.execute(f"SELECT row, doc FROM {table.table}")
        assert told == {(viewer, row) for row, doc in rows for viewer in viewers(json.loads(doc))}, seed


def viewers(entity: Entity) -> set[str]:
    return {*entity["access"], *entity["branch"], *([entity["group"]] if entity["group"] else [])}
