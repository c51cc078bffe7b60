"""The layout of a SQLite file: the cost of its triggers, and files of earlier versions."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import orjson
import pytest

from stores.definitions import parse_definition
from stores.errors import DuplicateValue, NotFound, StoreError
from stores.field import Field
from stores.parse import parse_filter, parse_sort
from stores.protocol import DeleteMany, Engine, IdempotencyKey, Insert, Update, UpdateMany, Write, Written
from stores.query import EVERYTHING, Query
from stores.records import now_ms
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine
from stores.sqlite.idempotency import PART_BYTES
from stores.sqlite.tables import encoded, identifier, json_path, quoted
from tests.properties.reference import answer
from tests.support.engines import Database, opened, sqlite_database
from tests.support.entities import GROUP, OTHER_USER, STORE, USER, entity, insert, insert_one
from tests.support.reading import changes_since, find, usable

pytestmark = pytest.mark.engine("sqlite")
MANY = 40_000
HOME = "5f00000000000000000000b2"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return sqlite_database(tmp_path)


def statements(connection: apsw.Connection) -> list[tuple[str, str]]:
    """Return each statement of a trigger in a form that can be explained: the row's values become variables."""
    found = []
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_schema WHERE type='trigger'"):
        body = sql.split(" BEGIN", 1)[1].rsplit("END", 1)[0]
        free = re.sub(r'\b(NEW|OLD)\."?(\w+)"?', r":\1_\2", body)
        found += [(name, part.strip()) for part in free.split(";") if part.strip()]
    return found


async def test_no_statement_of_a_trigger_scans_a_table(engine: Engine, database: Database) -> None:
    """Rows of tables are found by an index; only arrays within the row are scanned, and their differences."""
    inner = (Field("to", "Reference", store=STORE),)
    fields = (Field("many", "Reference", store=STORE, many=True), Field("rows", "Object", many=True, fields=inner))
    await engine.define(StoreDefinition("referring", fields))
    await engine.close()
    with closing(apsw.Connection(database.location)) as connection:
        for function in ("hub_by", "hub_time", "hub_commit"):
            connection.create_scalar_function(function, lambda: None, 0)
        planned = statements(connection)
        assert len(planned) >= 22
        for name, sql in planned:
            values = dict.fromkeys(re.findall(r":(\w+)", sql))
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            walks = [
                step
                for step in plan
                if step.startswith("SCAN") and not re.search(r"json_each|CONSTANT ROW|VIRTUAL TABLE|\(subquery", step)
            ]
            assert not walks, (name, sql, plan)


async def test_deleting_and_moving_many_takes_as_long_as_creating_them(engine: Engine) -> None:
    """They take at most three times as much CPU time of this process."""
    shared = {"access": [OTHER_USER, HOME], "branch": [GROUP, HOME]}
    started = time.process_time()
    for _ in range(MANY // 10_000):
        await engine.commit([Insert(STORE, entity(shared)) for _ in range(10_000)], USER)
    created = time.process_time()
    [moved] = await engine.commit([UpdateMany(STORE, EVERYTHING, {"branch": [GROUP, USER]}, MANY)], USER)
    then = time.process_time()
    [deleted] = await engine.commit([DeleteMany(STORE, EVERYTHING, MANY)], USER)
    assert (moved.count, deleted.count) == (MANY, MANY)
    assert then - created < 3 * (created - started)
    assert time.process_time() - then < 3 * (created - started)


# Views as created by the first release.
OLD_VIEWERS = """SELECT value, {of}.row FROM json_each({of}.doc, '$.access') WHERE type='text'
  UNION ALL SELECT value, {of}.row FROM json_each({of}.doc, '$.branch') WHERE type='text'
  UNION ALL SELECT {of}."group", {of}.row WHERE {of}."group" IS NOT NULL"""
OLD_MOVED = """NEW."group" IS NOT OLD."group" OR NEW.doc->'$.access' IS NOT OLD.doc->'$.access'
  OR NEW.doc->'$.branch' IS NOT OLD.doc->'$.branch'"""
OLD_TRIGGERS = """
CREATE TRIGGER {inserted} AFTER INSERT ON {table} BEGIN
  INSERT INTO changes(op, store, id, before, after, by, time)
  VALUES('insert', {name}, NEW.id, NULL, NEW.doc, hub_by(), hub_time());
  INSERT OR IGNORE INTO {viewers} {new_viewers}; END;
CREATE TRIGGER {updated} AFTER UPDATE ON {table} BEGIN
  INSERT INTO changes(op, store, id, before, after, by, time)
  VALUES('update', {name}, NEW.id, OLD.doc, NEW.doc, hub_by(), hub_time()); END;
CREATE TRIGGER {shared} AFTER UPDATE ON {table} WHEN {moved} BEGIN
  DELETE FROM {viewers} WHERE (viewer, row) IN ({old_viewers});
  INSERT OR IGNORE INTO {viewers} {new_viewers}; END;
CREATE TRIGGER {deleted} AFTER DELETE ON {table} BEGIN
  INSERT INTO changes(op, store, id, before, after, by, time)
  VALUES('delete', {name}, OLD.id, OLD.doc, NULL, hub_by(), hub_time());
  DELETE FROM {viewers} WHERE (viewer, row) IN ({old_viewers}); END;
"""
PURPOSES = ("inserted", "updated", "shared", "deleted")


def as_the_first_release_made_it(path: str, stores: dict[str, str]) -> None:
    """Change the file back to that layout; `stores` maps each store's name to its name in identifiers."""
    with closing(apsw.Connection(path)) as connection:
        for store, encoded in stores.items():
            names = {purpose: identifier(f"{purpose}_{encoded}") for purpose in PURPOSES}
            for name in names.values():
                connection.execute(f"DROP TRIGGER {name}")
            tables = {"table": identifier(f"e_{encoded}"), "viewers": identifier(f"v_{encoded}")}
            new, old = (OLD_VIEWERS.format(of=of) for of in ("NEW", "OLD"))
            parts = {"new_viewers": new, "old_viewers": old, "moved": OLD_MOVED, "name": quoted(store)}
            connection.execute(OLD_TRIGGERS.format(**names, **tables, **parts))
        connection.execute("ALTER TABLE changes DROP COLUMN commit_number")


def trigger_texts(path: str) -> dict[str, str]:
    with closing(apsw.Connection(path)) as connection:
        return dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type='trigger'"))


async def test_a_file_of_the_first_release_is_brought_up_to_date(database: Database) -> None:
    """Its triggers are replaced once by the current ones; entities, feed and visibility stay the same."""
    stores = {STORE: STORE, "Odd-Name_1": "^odd-^name_1"}
    async with opened(database.engine()) as engine:
        for store in stores:
            await engine.define(StoreDefinition(store))
        start = await engine.feed.position()
        made = [entity(n=n, access=[OTHER_USER]) for n in range(3)]
        await insert(engine, *made)
        await insert(engine, entity(n=9), store="Odd-Name_1")
    wanted = trigger_texts(database.location)
    as_the_first_release_made_it(database.location, stores)
    assert trigger_texts(database.location) != wanted
    async with opened(database.engine()) as engine:
        assert trigger_texts(database.location) == wanted
        await engine.commit([UpdateMany(STORE, EVERYTHING, {"access": [HOME]}, 10)], USER)
        await engine.commit([DeleteMany("Odd-Name_1", EVERYTHING, 10)], USER)
        assert [e["access"] for e in await find(engine, Query())] == [[HOME]] * 3
        changes = await changes_since(engine.feed, start)
        assert [c.op for c in changes] == ["insert"] * 4 + ["update"] * 3 + ["delete"]
        assert [c.commit is not None for c in changes] == [False] * 4 + [True] * 3 + [False]
    with closing(apsw.Connection(database.location)) as connection:
        viewers = {viewer for (viewer,) in connection.execute("SELECT viewer FROM v_things")}
        assert viewers == {HOME, GROUP}
        version = connection.pragma("schema_version")
    async with opened(database.engine()):
        pass
    with closing(apsw.Connection(database.location)) as connection:
        assert connection.pragma("schema_version") == version


def index_texts(connection: apsw.Connection) -> dict[str, str]:
    sql = "SELECT name, sql FROM sqlite_schema WHERE type='index' AND name GLOB 'x[uscmn]_*'"
    return dict(connection.execute(sql))


def with_earlier_names(connection: apsw.Connection, store: str, path: str) -> None:
    """Give the indexes of a path the names that earlier versions gave them: with the path as it is."""
    for name, sql in index_texts(connection).items():
        purpose, _, of = name.partition(":")
        if of == encoded(path) and f"json_extract(doc,{json_path(path)})" in sql:
            connection.execute(f"DROP INDEX {identifier(name)}")
            earlier = identifier(f"{purpose}:{path}")
            connection.execute(sql.replace(identifier(name), earlier))
            assert purpose.endswith(f"_{store}")


def schema_version(path: str) -> int:
    with closing(apsw.Connection(path)) as connection:
        version: int = connection.pragma("schema_version")
        return version


async def test_indexes_with_names_of_earlier_versions_are_renewed_once(database: Database) -> None:
    definition = StoreDefinition(STORE, unique=("Code", "a^b"), indexes=("Name", "plain"))
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        await insert(engine, entity({"Code": 1, "a^b": 1, "Name": "x"}))
    with closing(apsw.Connection(database.location)) as connection:
        wanted = index_texts(connection)
        for path in ("Code", "a^b", "Name", "plain"):
            with_earlier_names(connection, STORE, path)
        assert index_texts(connection) != wanted
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        for path in ("Code", "a^b"):
            with pytest.raises(DuplicateValue) as raised:
                await insert(engine, entity({"Code": 2, "a^b": 2, path: 1}))
            assert raised.value.field == path
    with closing(apsw.Connection(database.location)) as connection:
        assert index_texts(connection) == wanted
    version = schema_version(database.location)
    async with opened(database.engine()):
        pass
    assert schema_version(database.location) == version


@pytest.mark.parametrize("repeated", [False, True], ids=["no value repeats", "a value repeats"])
async def test_a_unique_index_that_an_earlier_version_has_lost(
    database: Database, caplog: pytest.LogCaptureFixture, repeated: bool
) -> None:
    """It is made again. If values repeat by now, the log says so at each start, until they are changed."""
    definition = StoreDefinition(STORE, unique=("code",))
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        await insert_one(engine, code=1)
    with closing(apsw.Connection(database.location)) as connection:
        connection.execute(f"DROP INDEX {identifier(f'xu_{STORE}:code')}")
    async with opened(database.engine()) as engine:
        if repeated:
            engine._committer.connection.execute(f"DROP INDEX {identifier(f'xu_{STORE}:code')}")  # type: ignore[attr-defined]
            double = await insert_one(engine, code=1)
        else:
            with pytest.raises(DuplicateValue):
                await insert_one(engine, code=1)
    if not repeated:
        return
    for _ in range(2):
        caplog.clear()
        async with opened(database.engine()) as engine:
            assert "'code' of store 'things'" in caplog.text
            await engine.define(definition)
            assert len(await find(engine)) == 2
    async with opened(database.engine()) as engine:
        await engine.commit([Update(STORE, double["_id"], {"code": 2})], USER)
    async with opened(database.engine()) as engine:
        with pytest.raises(DuplicateValue):
            await insert_one(engine, code=2)


INDEXES = parse_definition(
    {
        "name": STORE,
        "indexes": [["a", "-b"], {"fields": ["Code"], "unique": True, "where": {"s": {"$in": ["x", None]}}}],
    }
)


async def test_a_file_of_a_version_without_compound_indexes_gets_them(database: Database) -> None:
    """Such a file lacks the table that lists them."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE, indexes=("a",)))
        held = [await insert_one(engine, a=1, b=b) for b in (3, [5, 0], True)]
    with closing(apsw.Connection(database.location)) as connection:
        connection.execute("DROP TABLE compounds")
    async with opened(database.engine()) as engine:
        await engine.define(INDEXES)
        query = Query(parse_filter({"a": 1}), parse_sort("-b"))
        assert await find(engine, query) == answer(held, query)


async def test_a_compound_index_that_is_lost_or_made_in_another_way_is_made_again(database: Database) -> None:
    """Once; a start with the right indexes changes nothing."""
    async with opened(database.engine()) as engine:
        await engine.define(INDEXES)
        await insert_one(engine, Code=1)
    names = [f"{p}_{STORE}:{encoded(i.name)}" for p, i in zip(("xm", "xn"), INDEXES.compounds, strict=True)]
    with closing(apsw.Connection(database.location)) as connection:
        wanted = index_texts(connection)
        assert {*names} == wanted.keys()
        for name in names:
            connection.execute(f"DROP INDEX {identifier(name)}")
        connection.execute(f"CREATE INDEX {identifier(names[0])} ON e_things(time)")
    async with opened(database.engine()) as engine:
        with pytest.raises(DuplicateValue) as refusal:
            await insert_one(engine, Code=1)
        assert refusal.value.fields == ("Code",)
    version = schema_version(database.location)
    with closing(apsw.Connection(database.location)) as connection:
        assert index_texts(connection) == wanted
    async with opened(database.engine()) as engine:
        await engine.define(INDEXES)
    assert schema_version(database.location) == version


async def test_a_store_leaves_no_compound_index_behind(database: Database) -> None:
    async with opened(database.engine()) as engine:
        await engine.define(INDEXES)
        await engine.define(StoreDefinition(STORE, indexes=("a",)))
        await engine.define(INDEXES)
        await engine.drop(STORE)
        await engine.define(StoreDefinition(STORE))
        made = await insert_one(engine, Code=1, a=[1], b=[1])
        assert await insert_one(engine, Code=1) != made
    with closing(apsw.Connection(database.location)) as connection:
        assert index_texts(connection) == {}
        assert connection.execute("SELECT count(*) FROM compounds").get == 0
        assert connection.execute("SELECT count(*) FROM paths").get == 0


async def test_other_programs_can_read_the_file(database: Database) -> None:
    """They lack the functions of the hub that the conditions of indexes use."""
    async with opened(database.engine()) as engine:
        await engine.define(INDEXES)
        await insert_one(engine, Code=1, a=1)
    with closing(sqlite3.connect(database.location)) as connection:
        assert connection.execute("SELECT count(*) FROM e_things WHERE json_extract(doc,'$.a')=1").fetchone() == (1,)
        assert len([*connection.iterdump()]) > 10


async def test_outcomes_are_kept_in_rows_that_a_search_passes_by(engine: Engine, database: Database) -> None:
    """A search in a table without row numbers reads each row that it passes as a whole."""
    await engine.close()
    with closing(apsw.Connection(database.location)) as connection:
        assert connection.execute("SELECT wr FROM pragma_table_list WHERE name='idempotency'").get == 0


LARGE = ["é" * 700_000, "x" * PART_BYTES, ""]
"""Texts of entities whose outcome has several parts, of which some end within a character."""


def lengths_of_outcomes(connection: apsw.Connection) -> list[int]:
    """Return the bytes of each piece of a stored outcome."""
    sql = "SELECT octet_length(outcome) FROM idempotency UNION ALL SELECT octet_length(outcome) FROM idempotency_parts"
    return [length for (length,) in connection.execute(sql)]


async def test_a_long_outcome_is_stored_in_parts(engine: Engine, database: Database) -> None:
    """Each value that is bound or read stops the interpreter."""
    key = IdempotencyKey("k", "f", now_ms() + 60_000)
    writes: list[Write] = [Insert(STORE, entity(text=text)) for text in LARGE]
    written = await engine.commit(writes, USER, key)
    assert await engine.outcome(key) == written
    assert await engine.commit(writes, USER, key) == written
    with closing(apsw.Connection(database.location)) as connection:
        lengths = lengths_of_outcomes(connection)
        assert len(lengths) == 3
        assert max(lengths) <= PART_BYTES
        assert sum(lengths) < sum(len(each.entity) for each in written) + 1_000


async def test_an_outcome_that_has_expired_leaves_no_part(engine: Engine, database: Database) -> None:
    """Neither the sweep nor a new request under its key leaves one, whether its own outcome is longer or shorter."""
    past, key = IdempotencyKey("k", "f", now_ms() - 1), IdempotencyKey("k", "g", now_ms() + 60_000)
    large: list[Write] = [Insert(STORE, entity(text=text)) for text in LARGE]
    await engine.commit(large, USER, past)
    await engine.commit([Insert(STORE, entity())], USER, past)
    with closing(apsw.Connection(database.location)) as connection:
        assert len(lengths_of_outcomes(connection)) == 1
        written = await engine.commit([Insert(STORE, entity(text=text)) for text in LARGE], USER, key)
        await engine.commit([Insert(STORE, entity(text=text)) for text in LARGE], USER, replace(past, key="another"))
        assert len(lengths_of_outcomes(connection)) == 6
        await engine.sweep(now_ms())
        assert len(lengths_of_outcomes(connection)) == 3
        assert await engine.outcome(key) == written
        await engine.sweep(key.expires)
        assert lengths_of_outcomes(connection) == []


async def test_an_outcome_of_an_earlier_version_is_read(database: Database) -> None:
    """It is one text, an array of JSON with one write per line, in a file without a table of parts."""
    key = IdempotencyKey("k", "f", now_ms() + 60_000)
    bodies = [*(entity(text=text) for text in LARGE), {"a": '"],\n['}]
    written = [Written(orjson.dumps(body), 1) for body in bodies] + [Written(b"", 0, 7)]
    lines = ",\n".join(orjson.dumps((w.entity.decode(), w.rev, w.count)).decode() for w in written)
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
    with closing(apsw.Connection(database.location)) as connection:
        connection.execute("DROP TABLE idempotency_parts")
        row = (key.key, key.fingerprint, key.expires, f"[{lines}]")
        connection.execute("INSERT INTO idempotency VALUES(?,?,?,?)", row)
    async with opened(database.engine()) as engine:
        assert await engine.outcome(key) == written
        assert await engine.commit([Insert(STORE, entity())], USER, key) == written


async def test_the_keys_of_an_earlier_version_are_kept(database: Database) -> None:
    """Its table, in which each search read long outcomes, is replaced once."""
    key = IdempotencyKey("k", "f", now_ms() + 60_000)
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        first = await engine.commit([Insert(STORE, entity(n=1))], USER, key)
    with closing(apsw.Connection(database.location)) as connection:
        table = "key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, expires INTEGER NOT NULL, outcome TEXT NOT NULL"
        connection.execute(f"""CREATE TABLE kept({table}) WITHOUT ROWID; INSERT INTO kept SELECT * FROM idempotency;
            DROP TABLE idempotency; ALTER TABLE kept RENAME TO idempotency;
            CREATE INDEX idempotency_expires ON idempotency(expires)""")
    async with opened(database.engine()) as engine:
        assert await engine.commit([Insert(STORE, entity(n=1))], USER, key) == first
        assert len(await find(engine)) == 1
    version = schema_version(database.location)
    async with opened(database.engine()) as engine:
        assert await engine.commit([Insert(STORE, entity(n=1))], USER, key) == first
    assert schema_version(database.location) == version


CHANGES: dict[str, Callable[[Engine, list[Write]], Awaitable[object]]] = {
    "create": lambda engine, writes: engine.define(StoreDefinition("new"), writes=writes),
    "index": lambda engine, writes: engine.define(StoreDefinition("other", indexes=("n",)), writes=writes),
    "drop": lambda engine, writes: engine.drop("other", writes),
    "rename": lambda engine, writes: engine.rename("other", "another", writes),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_commit_that_fails_leaves_the_stores_as_they_were(
    database: Database, change: Callable[[Engine, list[Write]], Awaitable[object]]
) -> None:
    """This holds for the file and the engine's state: everything works immediately, and after a restart."""
    async with opened(database.engine()) as engine:
        assert isinstance(engine, SQLiteEngine)
        await engine.define(StoreDefinition(STORE, unique=("code",)), StoreDefinition("other", unique=("code",)))
        connection = engine._committer.connection
        connection.set_commit_hook(lambda: True)  # SQLite then rolls the transaction back
        with pytest.raises(StoreError):
            await change(engine, [Insert(STORE, entity())])
        connection.set_commit_hook(None)
        assert await find(engine) == []
        await usable(engine, "other")
        for name in ("new", "another"):
            with pytest.raises(NotFound):
                await find(engine, store=name)
    async with opened(database.engine()) as again:
        await usable(again, "other")
