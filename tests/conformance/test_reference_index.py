"""References in lists are found by an index. On SQLite it is a table that triggers keep."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from stores.aggregation import Aggregation
from stores.field import Field
from stores.matcher import matches
from stores.newest import Newest
from stores.parse import parse_filter
from stores.parse_aggregation import parse_dimensions, parse_measures
from stores.protocol import Delete, DeleteMany, Engine, Insert, Procedure, Steps, Update, Write, Written, find
from stores.query import EVERYTHING, Filter, Query
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine, narrowing
from stores.sqlite.matches import search_sql
from stores.sqlite.tables import identifier
from tests.support.engines import Database, opened, sqlite_database
from tests.support.entities import USER, entity, insert
from tests.support.plans import plan_of

ORDERS: Final = "Orders"
PATHS: Final = ("tags", "lines.product", "lines.more.others")
MORE: Final = (Field("others", "Reference", store="products", many=True),)
LINE: Final = (Field("product", "Reference", store="products"), Field("more", "Object", fields=MORE))
FIELDS: Final = (
    Field("tags", "Reference", store="tags", by="code", many=True),
    Field("customer", "Reference", store="customers"),
    Field("lines", "Object", many=True, fields=LINE),
)
DEFINITION: Final = StoreDefinition(ORDERS, FIELDS)
VALUES: Final[list[Any]] = [
    "a",
    "b",
    1,
    1.0,
    2.5,
    "1",
    None,
    True,
    [],
    ["a"],
    {"a": "b"},
    {"product": "a"},
    "é\"'\u2028",
]


@pytest.fixture
async def engine(engine: Engine) -> Engine:
    await engine.define(DEFINITION)
    return engine


def some(chance: random.Random) -> Any:
    return (
        chance.choice(VALUES) if chance.random() < 0.6 else [chance.choice(VALUES) for _ in range(chance.randrange(4))]
    )


def fields(chance: random.Random) -> Entity:
    """Return fields of an order, mostly in the form of the definition."""
    lines = [{"product": some(chance), "more": {"others": some(chance)}} for _ in range(chance.randrange(4))]
    return {"tags": some(chance), "lines": chance.choice([lines, lines, lines, *lines[:1], [lines], some(chance)])}


def entries(engine: SQLiteEngine) -> set[tuple[str, Any, str]]:
    """Return the entries of the index by the ids of their entities."""
    sql = 'SELECT path, value, id FROM "r_^orders" JOIN "e_^orders" USING(row)'
    connection = engine._committer.connection
    found = [*connection.execute(sql)]
    assert len(found) == connection.execute('SELECT count(*) FROM "r_^orders"').get
    return set(found)


async def check_all(engine: Engine, entities: dict[str, Entity]) -> None:
    """Check that filters find what they should."""
    for path in PATHS:
        for value in VALUES:
            for where in (parse_filter({path: value}), parse_filter({path: {"$in": [value, "b"]}, "n": {"$gte": 0}})):
                expected = {each["_id"] for each in entities.values() if matches(where, each)}
                found = {each["_id"] for each in await engine.entities(ORDERS, Query(where, limit=1_000))}
                assert found == expected, where
                assert (await engine.summarize(ORDERS, where)).count == len(expected)


@pytest.mark.generated(0.1)
async def test_what_the_index_finds_is_what_matches(engine: Engine) -> None:
    """After insertions, changes and deletions of any values."""
    chance = random.Random(5)
    entities: dict[str, Entity] = {}
    for _ in range(40):
        made = entity(fields(chance), n=1)
        entities[made["_id"]] = made
    await insert(engine, *entities.values(), store=ORDERS)
    writes: list[Write] = []
    for number, each in enumerate([*entities.values()]):
        if number % 3 == 0:
            changes = fields(chance)
            entities[each["_id"]] = each | changes
            writes.append(Update(ORDERS, each["_id"], changes))
        elif number % 3 == 1:
            writes.append(Update(ORDERS, each["_id"], {"n": 2}))
            entities[each["_id"]] = each | {"n": 2}
    await engine.commit(writes, USER)
    gone = [*entities][::7]
    await engine.commit([Delete(ORDERS, gone[0]), *(Delete(ORDERS, id) for id in gone[1:])], USER)
    for id in gone:
        del entities[id]
    await check_all(engine, entities)
    if isinstance(engine, SQLiteEngine):
        scalars = [value for value in VALUES if type(value) in (str, int, float)]
        assert entries(engine) >= {
            (path, value, each["_id"])
            for path in PATHS
            for value in scalars
            for each in entities.values()
            if matches(parse_filter({path: value}), each)
        }
    await engine.commit([DeleteMany(ORDERS, EVERYTHING, 1_000)], USER)
    if isinstance(engine, SQLiteEngine):
        assert entries(engine) == set()


def order(n: int, product: str = "common", **more: Any) -> Entity:
    lines = [{"product": product, "n": 1}, {"product": "also"}]
    return entity(n=n, lines=lines, time=1_700_000_000_000 + n, **more)


async def test_a_rare_value_is_looked_up(engine: Engine) -> None:
    """In a list, and in a step of a procedure; a common value does not cost the scan of its entities for one page."""
    await insert(engine, *(order(n) for n in range(3_000)), order(3_000, "rare"), order(3_001, "rare"), store=ORDERS)
    rare, common = (parse_filter({"lines.product": value}) for value in ("rare", "common"))
    for where, count in ((rare, 2), (common, 20)):
        query = Query(where, limit=20)
        assert len(await engine.entities(ORDERS, query)) == count
        if isinstance(engine, SQLiteEngine):
            assert (await plan_of(engine, query, ORDERS)).read < 400
    by_status = Aggregation(parse_measures("count"), parse_dimensions("n"))
    assert len((await engine.aggregate(ORDERS, rare, by_status)).groups) == 2
    found: list[int] = []

    def steps() -> Steps:
        some = yield from find(ORDERS, rare, 10, ("n",))
        others = yield from find(ORDERS, common, 10, ("n",))
        found[:] = len(some), len(others)
        return Written(b"", 0, 0)

    await engine.commit([Procedure(ORDERS, steps)], USER)
    assert found == [2, 10]


@pytest.mark.engine("sqlite")
async def test_a_search_for_any_of_many_reads_few(engine: Engine) -> None:
    """A deletion asks whether anything refers to a common value: neither its entities nor its entries are all read."""
    assert isinstance(engine, SQLiteEngine)
    await insert(engine, *(order(n) for n in range(3_000)), store=ORDERS)
    connection, table = engine._committer.connection, engine._table(ORDERS)
    for value, count in (("common", 1), ("none", 0)):
        sql, values = search_sql(connection, table, "id", parse_filter({"lines.product": value}), 1, order="")
        steps: list[None] = []
        connection.set_progress_handler(lambda steps=steps: bool(steps.append(None)), 20)
        assert len([*connection.execute(sql, values)]) == count
        connection.set_progress_handler(None)
        assert len(steps) < 20


@pytest.mark.engine("sqlite")
async def test_the_newest_of_rare_and_of_common_values(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rare ones are looked up, and the others scanned for until they are complete."""
    monkeypatch.setattr(narrowing, "SMALL", 10)
    monkeypatch.setattr(narrowing, "PAGE", 1)
    await insert(engine, order(-1, "rare"), *(order(n) for n in range(200)), order(500, "rare"), store=ORDERS)
    wanted = Newest(("lines", "product"), ("rare", "common", "also", "none"), 3, 1_000_000)
    texts = await engine.newest(ORDERS, wanted)
    assert {value: len(found) for value, found in texts.items()} == {"rare": 2, "common": 3, "also": 3}


def objects(path: str) -> set[str]:
    with closing(apsw.Connection(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


def as_before_the_index(path: str) -> None:
    """Give the file the layout of versions without the index, in which a path in lists had those of any path."""
    with closing(apsw.Connection(path)) as connection:
        for purpose in ("listed", "relisted", "unlisted"):
            connection.execute(f"DROP TRIGGER {identifier(f'{purpose}_^orders')}")
        connection.execute('DROP TABLE "r_^orders"; DROP TABLE listed; UPDATE paths SET is_unique=0')


@pytest.mark.engine("sqlite")
async def test_a_file_of_a_version_without_the_index_gets_it_once(tmp_path: Path) -> None:
    database: Database = sqlite_database(tmp_path)
    where: Filter = parse_filter({"lines.product": "rare"})
    async with opened(database.engine()) as engine:
        await engine.define(DEFINITION)
        await insert(engine, *(order(n) for n in range(20)), order(20, "rare"), store=ORDERS)
        assert isinstance(engine, SQLiteEngine)
        expected = entries(engine)
        assert len(expected) == 42
    wanted = objects(database.location)
    as_before_the_index(database.location)
    for _ in range(2):
        async with opened(database.engine()) as engine:
            await engine.define(DEFINITION)
            assert isinstance(engine, SQLiteEngine)
            assert entries(engine) == expected
            assert [each["n"] for each in await engine.entities(ORDERS, Query(where))] == [20]
            assert engine._structure.differing([DEFINITION]) == {}
        assert objects(database.location) == wanted


@pytest.mark.engine("sqlite")
async def test_the_index_follows_the_definition(database: Database) -> None:
    """A path comes and goes, the store is renamed and dropped."""
    where: Filter = parse_filter({"lines.product": "common"})
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(ORDERS))
        before = objects(database.location)
        await insert(engine, order(1), entity(tags=["x"]), store=ORDERS)
        for some_fields, count in ((FIELDS, 3), (FIELDS[:1], 1), (FIELDS[1:], 2), (FIELDS, 3)):
            await engine.define(StoreDefinition(ORDERS, some_fields))
            assert isinstance(engine, SQLiteEngine)
            assert len(entries(engine)) == count
        assert isinstance(engine, SQLiteEngine)
        await engine.rename(ORDERS, "bills", [])
        await engine.commit([Insert("bills", order(2))], USER)
        assert len(await engine.entities("bills", Query(where))) == 2
        assert engine._committer.connection.execute("SELECT count(*) FROM r_bills").get == 5
        await engine.rename("bills", ORDERS, [])
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(ORDERS))
        assert objects(database.location) == before
        await engine.define(DEFINITION)
        await engine.commit([DeleteMany(ORDERS, EVERYTHING, 10)], USER)
        await engine.drop(ORDERS)
    assert not [name for name in objects(database.location) if "rders" in name]
