"""Tests of the MongoDB engine only: its server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError

from stores.errors import CannotOpen, HistoryGone, Unavailable
from stores.mongo.engine import MongoEngine
from stores.mongo.errors import translate
from stores.mongo.selection import Selection
from stores.parse import parse_filter, parse_sort
from stores.protocol import Delete, Engine, Expect, Insert, Update, UpdateMany, Upsert, Write
from stores.query import EVERYTHING, WHOLE, Equal, Query, both, total
from stores.records import Entity, now_ms
from stores.schema import StoreDefinition
from tests.support import mongod, sharing
from tests.support.engines import Database, mongo_database, opened
from tests.support.entities import STORE, USER, entity, insert_one
from tests.support.hub import eventually
from tests.support.reading import PATIENCE, changes_since, find, follow, following, get, trail
from tests.support.sharing import MINE
from tests.support.tasks import end

SOON = 10.0
"""Seconds, far below the minute for which MongoDB keeps an open transaction."""

pytestmark = [
    pytest.mark.engine("mongodb"),
    # If PyMongo is cancelled while it connects to an unreachable server, it leaves the socket to the garbage collector.
    pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def leave_no_sockets() -> Iterator[None]:
    """Collect such sockets here, where the warning is expected, and not in a later test."""
    yield
    gc.collect()


@pytest.fixture
async def database(mongodb: str) -> AsyncIterator[Database]:
    fresh = mongo_database(mongodb)
    yield fresh
    await fresh.empty()


@asynccontextmanager
async def collection_of(database: Database, store: str = STORE) -> AsyncIterator[object]:
    """Open the store's collection, as another program would."""
    async with AsyncMongoClient[dict[str, object]](database.location) as client:
        yield client.get_default_database()[store]


def with_options(url: str, options: str) -> str:
    return url + ("&" if "?" in url else "?") + options


async def test_a_standalone_server_is_refused() -> None:
    """CannotOpen says that a replica set is needed and how to create one."""
    with mongod.running("--standalone") as server, pytest.raises(CannotOpen, match=r"replica set.*--replSet"):
        await mongo_database(server.url).engine().open()


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://127.0.0.1:1/hub?serverSelectionTimeoutMS=300",
        "mongodb://no-such-host.invalid/hub?serverSelectionTimeoutMS=300",
        "mongodb://",
        "mongodb://:::/x",
        "nonsense",
        "",
        "mongodb://user:p@ss:word@127.0.0.1/hub",
    ],
)
async def test_a_wrong_url_cannot_be_opened(url: str) -> None:
    """CannotOpen gives advice and never shows a password."""
    with pytest.raises(CannotOpen) as refusal:
        await Database("mongodb", url).engine().open()
    assert len(str(refusal.value)) > 40
    assert "word" not in str(refusal.value).replace("password", "")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("repSet=hub", "that MongoDB does not have: repset; did you mean replicaset?"),
        ("zzzzzz=hub", "that MongoDB does not have: zzzzzz"),
        ("socketTimeoutMS=x", "wrong option: sockettimeoutms must be an integer or float"),
    ],
)
async def test_a_wrong_option_of_the_url_is_named(option: str, message: str) -> None:
    """PyMongo would only warn, and ignore the option."""
    with pytest.raises(CannotOpen, match=re.escape(message)):
        await Database("mongodb", f"mongodb://127.0.0.1:1/hub?{option}").engine().open()


@pytest.mark.parametrize("password", ["se#cret", "se[cret", "se]cret", "se%2Fcret"])
async def test_a_password_may_contain_what_ends_the_address_of_other_urls(password: str) -> None:
    """The host after it is tried, for the time in the options."""
    url = f"mongodb://ada:{password}@127.0.0.1:1/hub?serverSelectionTimeoutMS=300"
    with pytest.raises(CannotOpen, match=r"answered at 127\.0\.0\.1:1 within 0\.3 s"):
        await Database("mongodb", url).engine().open()


async def test_another_sets_name_cannot_be_opened(mongodb: str) -> None:
    """The name of the replica set is checked, and the message names it."""
    url = f"mongodb://{mongodb.split('//')[1].split('/')[0]}/hub?replicaSet=other&serverSelectionTimeoutMS=500"
    with pytest.raises(CannotOpen, match="replicaSet"):
        await Database("mongodb", url).engine().open()


@pytest.fixture
def private_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[mongod.Mongod]]:
    """A server that a test may stop and start; the last of the list is the running one."""
    monkeypatch.delenv("HUB_TEST_MONGODB_URL", raising=False)
    servers = [mongod.start("--data", str(tmp_path / "data"))]
    yield servers
    servers[-1].stop()


def start_again(servers: list[mongod.Mongod], folder: Path) -> None:
    servers.append(mongod.start("--data", str(folder / "data"), ports=servers[0].ports))


def test_a_member_that_steps_down_is_unavailable_not_a_defect() -> None:
    """While a member steps down, PyMongo takes it for a server without sessions."""
    error = ConfigurationError("Sessions are not supported by this MongoDB deployment")
    assert isinstance(translate(error), Unavailable)
    assert translate(ConfigurationError("another mistake")) is None


async def test_a_lost_server_is_unavailable_and_comes_back(private_server: list[mongod.Mongod], tmp_path: Path) -> None:
    """Calls raise Unavailable while the server is down. Afterwards everything works, and a follower has missed
    nothing."""
    url = with_options(private_server[0].url, "serverSelectionTimeoutMS=700")
    async with opened(mongo_database(url).engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        position = await engine.feed.position()
        before = await insert_one(engine, n=1)
        seen: list[str] = []
        watcher = asyncio.ensure_future(watch(engine, position, seen, until=2))
        await asyncio.to_thread(private_server[0].stop)
        feed = engine.feed
        for call in (engine.ping, lambda: find(engine), lambda: insert_one(engine), lambda: feed.read(position)):
            with pytest.raises(Unavailable):
                await call()
        await asyncio.to_thread(start_again, private_server, tmp_path)
        async with asyncio.timeout(PATIENCE):
            after = await until_available(engine)
            await watcher
        assert seen == [before["_id"], after["_id"]]
        assert {e["_id"] for e in await find(engine)} == {before["_id"], after["_id"]}
        assert [c.id for c in await changes_since(engine.feed, position)] == seen


async def watch(engine: Engine, position: str, seen: list[str], until: int) -> None:
    async with following(engine.feed, position) as stream:
        while len(seen) < until:
            seen += [change.id for change in await anext(stream)]


async def until_available(engine: Engine) -> dict[str, object]:
    """Insert one entity as soon as the database accepts it."""
    while True:
        try:
            return await insert_one(engine, n=2)
        except Unavailable:
            await asyncio.sleep(0.1)


async def test_what_another_program_writes_is_in_the_feed(engine: Engine, database: Database) -> None:
    """Its inserts, updates and deletions have both images and no writer."""
    position = await engine.feed.position()
    made = ObjectId()
    async with collection_of(database) as things:
        await things.insert_one({"_id": made, "n": 1})  # type: ignore[attr-defined]
        await things.update_one({"_id": made}, {"$set": {"n": 2}})  # type: ignore[attr-defined]
        await things.delete_one({"_id": made})  # type: ignore[attr-defined]
    changes = await changes_since(engine.feed, position)
    assert [(c.op, c.id, c.by) for c in changes] == [(op, str(made), None) for op in ("insert", "update", "delete")]
    assert [(c.before or {}).get("n") for c in changes] == [None, 1, 2]
    assert [(c.after or {}).get("n") for c in changes] == [1, 2, None]


async def test_what_another_program_wrote_can_be_read_and_found(engine: Engine, database: Database) -> None:
    """An entity may lack system fields."""
    made = ObjectId()
    async with collection_of(database) as things:
        await things.insert_one({"_id": made, "n": 1})  # type: ignore[attr-defined]
    read = await get(engine, str(made)) or {}
    assert (read["_id"], read["n"]) == (str(made), 1)
    assert [e["_id"] for e in await find(engine, Query(Equal(("n",), 1)))] == [str(made)]


async def test_a_dropped_database_ends_the_history(engine: Engine, database: Database) -> None:
    """Following across it raises HistoryGone, never a silent gap."""
    position = await engine.feed.position()
    await insert_one(engine)
    await database.drop()
    with pytest.raises(HistoryGone):
        await changes_since(engine.feed, position)
    with pytest.raises(HistoryGone):
        await follow(engine.feed, position, 1_000)


async def test_the_last_increment_of_a_second_is_no_position(engine: Engine) -> None:
    """No cluster time of that second follows it, so nothing could be read from it."""
    epoch = (await engine.feed.position()).partition(".")[0]
    position = f"{epoch}.t1700000000.{2**32 - 1}"
    with pytest.raises(HistoryGone):
        await engine.feed.read(position)
    with pytest.raises(HistoryGone):
        await follow(engine.feed, position, 1)


async def test_two_engines_share_one_database(engine: Engine, database: Database) -> None:
    """Two hubs see each other's writes in the same order."""
    async with opened(database.engine()) as other:
        await other.define(StoreDefinition(STORE, unique=("code",)))
        position = await engine.feed.position()
        work = [insert_one(e, n=n) for n in range(50) for e in (engine, other)]
        await asyncio.gather(*work)
        ours, theirs = await changes_since(engine.feed, position), await changes_since(other.feed, position)
        assert [c.position for c in ours] == [c.position for c in theirs]
        assert len(ours) == 100
        assert await find(engine) == await find(other)


async def test_a_hundred_upserts_from_two_hubs_make_one_entity(engine: Engine, database: Database) -> None:
    """The database ensures uniqueness, not the process."""
    async with opened(database.engine()) as other:
        await other.define(StoreDefinition(STORE, unique=("code",)))
        writes = [Upsert(STORE, "code", entity(code="x", n=n), {"n": n}) for n in range(100)]
        await asyncio.gather(*((engine, other)[n % 2].commit([write], None) for n, write in enumerate(writes)))
    [read] = await find(engine)
    assert read["_rev"] == 100


HOLDER = """
import sys
from bson import ObjectId
from pymongo import MongoClient
client = MongoClient(sys.argv[1], appname="hub")
session = client.start_session()
session.start_transaction()
things = client.get_default_database()[sys.argv[2]]
things.update_one({"_id": ObjectId(sys.argv[3])}, {"$set": {"n": -1}}, session=session)
print("held", flush=True)
sys.stdin.read()
session.commit_transaction()
print("committed", flush=True)
"""


@contextmanager
def held(database: Database, id: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that identifies itself as a hub and has changed an entity in a transaction. It commits when its
    standard input ends."""
    command = [sys.executable, "-c", HOLDER, database.location, STORE, id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.kill()


@pytest.mark.parametrize("write", ["one that opens", "update", "upsert", "delete", "update many"])
async def test_what_a_killed_hub_left_open_holds_nobody_up(database: Database, write: str) -> None:
    """MongoDB would keep its transactions for a minute. A hub that opens the database, or waits for such a transaction,
    ends it."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE, unique=("n",)))
        made = await insert_one(engine, n=0)
        writes: dict[str, Write] = {
            "upsert": Upsert(STORE, "n", {**made, "n": 0}, {"n": 1}),
            "delete": Delete(STORE, made["_id"]),
            "update many": UpdateMany(STORE, EVERYTHING, {"n": 1}, 10),
        }
        with held(database, made["_id"]) as holder:
            holder.kill()
            holder.wait()
            async with asyncio.timeout(SOON), contextlib.AsyncExitStack() as stack:
                if write == "one that opens":
                    await stack.enter_async_context(opened(database.engine()))
                await engine.commit([writes.get(write, Update(STORE, made["_id"], {"n": 1}))], USER)
        left = await get(engine, made["_id"])
        assert left is None if write == "delete" else (left or {})["n"] == 1


async def test_an_open_transaction_of_a_hub_that_lives_is_left_alone(database: Database) -> None:
    """Another hub that opens the database does not abort it."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        made = await insert_one(engine, n=0)
        with held(database, made["_id"]) as holder:
            async with opened(database.engine()):
                out, _ = await asyncio.to_thread(holder.communicate)
        assert out == b"committed\n"
        assert (await get(engine, made["_id"]) or {})["n"] == -1


async def test_a_lease_of_a_wrong_clock_holds_nobody_up(database: Database) -> None:
    """The recorder of history had a clock of another year and was killed: the next recorder takes over immediately."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
    year = 31_536_000_000
    for until in (now_ms() + year, now_ms() - year):
        async with collection_of(database, "_meta") as meta:
            await meta.update_one({"_id": "history"}, {"$set": {"holder": "gone", "until": until}})  # type: ignore[attr-defined]
        async with opened(database.engine()) as engine:
            made = await insert_one(engine, n=0)
            entries, _ = await trail(engine, STORE, made["_id"])
            assert [entry.op for entry in entries] == ["insert"]


@pytest.mark.parametrize("sort", ["time,_id", "-n"])
@pytest.mark.parametrize("filter", [{}, {"kind": "k0"}, {"text": {"$ne": "x"}}])
async def test_what_is_little_is_looked_up(engine: Engine, database: Database, sort: str, filter: Entity) -> None:
    """For a principal that sees little of a large store the server examines few other entities, for any filter and
    sort."""
    await sharing.fill(engine)
    query = Query(both(MINE, parse_filter(filter)), total(parse_sort(sort)))
    async with AsyncMongoClient[Entity](database.location) as client:
        command = Selection.of(STORE, query, WHOLE).command(0, 101)
        plan = await client.get_default_database().command({"explain": command, "verbosity": "executionStats"})
    assert plan["executionStats"]["totalKeysExamined"] < 20, plan
    assert plan["executionStats"]["totalDocsExamined"] < 20, plan


async def test_a_large_transaction_that_waits_for_room_holds_no_guard(engine: Engine) -> None:
    """Others with the same guard commit meanwhile, and do not collide with it."""
    assert isinstance(engine, MongoEngine)
    room = engine._committer._large
    expectation = Expect(STORE, EVERYTHING, least=0)
    await engine.commit([Insert(STORE, entity()), expectation], USER)
    async with room:
        large = [Insert(STORE, entity(text="x" * 1_500_000)) for _ in range(2)]
        waiting = asyncio.create_task(engine.commit([*large, expectation], USER))
        try:
            await eventually(lambda: is_awaited(room))
            await engine.commit([Insert(STORE, entity()), expectation], USER)
        except BaseException:
            await end(waiting)
            raise
    await waiting
    assert len(await find(engine)) == 4


async def is_awaited(lock: asyncio.Lock) -> bool:
    return bool(lock._waiters)  # type: ignore[attr-defined]
