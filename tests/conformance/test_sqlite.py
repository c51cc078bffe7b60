"""Tests of the SQLite engine only: its file, its disk, its threads."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from stores.errors import CannotOpen, DuplicateValue, HistoryGone, NotFound, StoreError, Unavailable
from stores.options import EngineOptions
from stores.parse import parse_filter, parse_sort
from stores.protocol import Engine, Insert, Update, UpdateMany
from stores.query import EVERYTHING, Equal, Query
from stores.records import new_id, now_ms
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine, log_keeper, readers
from tests.support.engines import Database, opened, sqlite_database
from tests.support.entities import STORE, USER, entity, insert, insert_one, numbered
from tests.support.hub import eventually
from tests.support.interruptions import interruptions
from tests.support.reading import PATIENCE, changes_since, content, find, follow, get

pytestmark = pytest.mark.engine("sqlite")
ROOT = Path(__file__).resolve().parents[2]
HOUR = 3_600_000


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return sqlite_database(tmp_path)


async def test_a_second_hub_on_one_file_is_refused(engine: Engine, database: Database) -> None:
    """CannotOpen names the process that has the file and gives advice. The first hub is not affected, and the second
    can open the file when the first has closed it."""
    second = database.engine()
    with pytest.raises(CannotOpen, match=r"another hub \(process \d+\).*stop it") as refusal:
        await second.open()
    assert str(os.getpid()) in str(refusal.value)
    await insert_one(engine)
    await engine.close()
    async with opened(database.engine()) as third:
        assert len(await find(third)) == 1


@pytest.mark.parametrize(("layout", "reason"), [(1, "before the first release"), (99, "newer hub")])
async def test_a_file_of_another_layout_is_refused(
    engine: Engine, database: Database, layout: int, reason: str
) -> None:
    """CannotOpen says which version of the hub wrote it, and gives advice."""
    await engine.close()
    with closing(apsw.Connection(database.location)) as connection:
        connection.execute("UPDATE meta SET value=? WHERE name='format'", (layout,))
    with pytest.raises(CannotOpen, match=reason):
        await database.engine().open()


async def test_a_second_process_on_one_file_is_refused(engine: Engine, database: Database) -> None:
    """The same holds for another process."""
    program = (
        "import asyncio, sys; from pathlib import Path; from stores.options import EngineOptions\n"
        "from stores.sqlite import SQLiteEngine; from stores.errors import CannotOpen\n"
        "try: asyncio.run(SQLiteEngine(Path(sys.argv[1]), EngineOptions()).open())\n"
        "except CannotOpen as error: print(error)\n"
    )
    answer = await asyncio.to_thread(run_python, program, database.location)
    assert f"process {os.getpid()}" in answer.stdout
    assert await find(engine) == []


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("kind", ["text", "folder", "missing folder", "other program"])
async def test_what_is_no_hub_database_cannot_be_opened(tmp_path: Path, kind: str) -> None:
    """It raises CannotOpen and leaves the file unchanged."""
    path = tmp_path / "hub.db"
    if kind == "text":
        path.write_text("this is no database\n" * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "missing folder":
        path = tmp_path / "nowhere" / "hub.db"
    else:
        with apsw.Connection(str(path)) as connection:
            connection.execute("PRAGMA application_id=77; CREATE TABLE theirs(x)")
        connection.close()
    before = path.read_bytes() if path.is_file() else None
    for _ in range(2):
        with pytest.raises(CannotOpen):
            await Database("sqlite", str(path)).engine().open()
    assert (path.read_bytes() if path.is_file() else None) == before


FILL = """
import asyncio, resource, signal, sys
from pathlib import Path
from stores.errors import StorageFull
from stores.options import EngineOptions
from stores.protocol import Insert
from stores.query import Query
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine
from tests.support.entities import STORE, entity, insert
from tests.support.hub import eventually
from tests.support.reading import PATIENCE, changes_since, find

async def main() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    engine = SQLiteEngine(Path(sys.argv[1]), EngineOptions())
    await engine.open()
    await engine.define(StoreDefinition(STORE))
    start = await engine.feed.position()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    acknowledged, full = [], 0
    batch, size = int(sys.argv[2]), int(sys.argv[3])
    while full < 5:
        entities = [entity(text="x" * size) for _ in range(batch)]
        try:
            await insert(engine, *entities)
            acknowledged += [e["_id"] for e in entities]
        except StorageFull:
            full += 1
    assert acknowledged, "some fit"
    seen = [e["_id"] for e in await find(engine)]
    assert sorted(seen) == sorted(acknowledged), (len(seen), len(acknowledged))
    assert [c.id for c in await changes_since(engine.feed, start)] == acknowledged
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    more = [entity(text="y") for _ in range(3)]
    await insert(engine, *more)
    acknowledged += [e["_id"] for e in more]
    assert [c.id for c in await changes_since(engine.feed, start)] == acknowledged
    await engine.close()
    engine = SQLiteEngine(Path(sys.argv[1]), EngineOptions())
    await engine.open()
    assert sorted(e["_id"] for e in await find(engine)) == sorted(acknowledged)
    await engine.close()
    print("as promised")

asyncio.run(main())
"""


@pytest.mark.parametrize(("batch", "size"), [(1, 20_000), (3, 20_000), (150, 1_000)])
async def test_a_full_disk_writes_nothing_by_half(tmp_path: Path, batch: int, size: int) -> None:
    """Writes that do not fit raise StorageFull and leave nothing behind; reads still work. With free space writes work
    again."""
    answer = await asyncio.to_thread(run_python, FILL, str(tmp_path / "hub.db"), str(batch), str(size))
    assert answer.stdout == "as promised\n", answer.stderr


def run_and_kill(program: str, path: str, lines: int) -> tuple[str, list[str]]:
    """Run a program and kill it after a number of lines; return its first line and the other lines."""
    command = [sys.executable, "-c", program, path]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    told = [process.stdout.readline().strip() for _ in range(lines)]
    process.kill()
    return first, told + [line for line in process.communicate()[0].split("\n") if len(line) == 24]


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """After a kill at any moment every acknowledged entity exists, and the feed agrees."""
    program = """
import asyncio, sys
from pathlib import Path
from stores.options import EngineOptions
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine
from tests.support.entities import STORE, insert_one

async def write(engine):
    while True:
        print((await insert_one(engine))["_id"], flush=True)

async def main():
    engine = SQLiteEngine(Path(sys.argv[1]), EngineOptions())
    await engine.open()
    await engine.define(StoreDefinition(STORE))
    print(await engine.feed.position(), flush=True)
    await asyncio.gather(*(write(engine) for _ in range(8)))

asyncio.run(main())
"""
    path = tmp_path / "hub.db"
    start, told = await asyncio.to_thread(run_and_kill, program, str(path), 300)
    async with opened(Database("sqlite", str(path)).engine()) as engine:
        kept = [e["_id"] for e in await find(engine)]
        assert set(told) <= set(kept)
        assert sorted(c.id for c in await changes_since(engine.feed, start)) == sorted(kept)


async def test_a_read_that_takes_too_long_on_the_loop_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read may be interrupted at any point and is then repeated in a thread. It is answered, and so is the next
    read."""
    made = [entity(n=n, a=[n, {"b": 2}], b=n % 3, time=n) for n in range(300)]
    monkeypatch.setattr(readers, "_CHECK_EVERY", 1)
    interrupted = interruptions(monkeypatch)
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, *made)
        for step in range(100):
            monkeypatch.setattr(readers, "QUICK", step * 0.000_03)
            asked = Query(parse_filter({"a.b": 2}), parse_sort("a,-b" if step % 2 else "b,n"), limit=3)
            assert len(await find(engine, asked)) == 3
            assert await get(engine, made[step]["_id"]) == made[step]
    assert interrupted


async def test_old_changes_retire_by_age(tmp_path: Path) -> None:
    """Positions before the retained changes are gone; newer ones are valid, even if no change is retained."""
    async with opened(sqlite_database(tmp_path).engine(EngineOptions(feed_retention_hours=2))) as engine:
        await engine.define(StoreDefinition(STORE))
        start = await engine.feed.position()
        await insert(engine, *numbered(10))
        now = await engine.feed.position()
        await engine.sweep(now_ms() + HOUR)
        assert len(await changes_since(engine.feed, start)) == 10
        await engine.sweep(now_ms() + 3 * HOUR)
        with pytest.raises(HistoryGone):
            await engine.feed.read(start)
        assert await engine.feed.position() == now
        assert (await engine.find(STORE, Query())).position == now
        made = await insert_one(engine)
        assert [c.id for c in await changes_since(engine.feed, now)] == [made["_id"]]


async def test_old_changes_retire_by_size(tmp_path: Path) -> None:
    """The newest changes that fit are kept, the others are dropped."""
    async with opened(sqlite_database(tmp_path).engine(EngineOptions(feed_retention_mb=1))) as engine:
        await engine.define(StoreDefinition(STORE))
        start = await engine.feed.position()
        for _ in range(4):
            await insert(engine, *numbered(100, text="x" * 10_000))
        late = await engine.feed.position()
        await insert(engine, *numbered(10))
        await engine.sweep(now_ms())
        with pytest.raises(HistoryGone):
            await engine.feed.read(start)
        assert len(await changes_since(engine.feed, late)) == 10


async def test_positions_never_repeat_after_retirement_and_restart(tmp_path: Path) -> None:
    """A position from before the retirement of all records has the same meaning afterwards."""
    database = sqlite_database(tmp_path)
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        old = await engine.feed.position()
        await insert(engine, *numbered(10))
        position = await engine.feed.position()
        await engine.sweep(now_ms() + 1_000 * HOUR)
    async with opened(database.engine()) as engine:
        assert await engine.feed.position() == position
        made = await insert_one(engine)
        assert [c.id for c in await changes_since(engine.feed, position)] == [made["_id"]]
        for read in (engine.feed.read(old), follow(engine.feed, old, 1)):
            with pytest.raises(HistoryGone):
                await read


async def test_a_restored_backup_does_not_know_later_positions(tmp_path: Path) -> None:
    """A position that this file has not reached raises HistoryGone."""
    database = sqlite_database(tmp_path)
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, *numbered(3))
    shutil.copy(database.location, tmp_path / "backup")
    async with opened(database.engine()) as engine:
        await insert(engine, *numbered(3))
        position = await engine.feed.position()
    restore(tmp_path / "backup", Path(database.location))
    async with opened(database.engine()) as engine:
        for read in (engine.feed.read(position), follow(engine.feed, position, 1)):
            with pytest.raises(HistoryGone):
                await read


async def test_a_list_read_right_after_a_commit_can_be_followed(
    engine: Engine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its position may be ahead of the feed, which gets the changes from the loop. Following it waits for them."""
    monkeypatch.setattr(readers, "QUICK", 10.0)  # it is read in the loop, however slowly
    await find(engine)
    writing = asyncio.create_task(insert_one(engine, n=1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with closing(apsw.Connection(database.location)) as connection:
        while not connection.execute("SELECT max(seq) FROM changes").get:
            pass  # the loop stands still, so the commit is not published
    listing = await engine.find(STORE, Query())
    assert listing.position != await engine.feed.position()
    async with aclosing(engine.feed.follow(listing.position)) as batches:  # type: ignore[type-var]
        following = asyncio.ensure_future(anext(batches))
        await writing
        await insert_one(engine, n=2)
        batch = await asyncio.wait_for(following, PATIENCE)
    assert [change.after["n"] for change in batch.changes if change.after] == [2]


async def test_a_position_beyond_the_last_commit_is_not_followed(engine: Engine) -> None:
    await insert_one(engine)
    epoch, _, seq = (await engine.feed.position()).partition(".")
    with pytest.raises(HistoryGone):
        await anext(engine.feed.follow(f"{epoch}.{int(seq) + 1}"))


def restore(backup: Path, path: Path) -> None:
    for leftover in path.parent.glob(f"{path.name}-*"):
        leftover.unlink()
    shutil.copy(backup, path)


async def test_a_followed_position_may_be_far_behind(engine: Engine) -> None:
    """If more changes follow than are kept in memory, all of them arrive in order, and newer ones after them."""
    start = await engine.feed.position()
    for _ in range(25):
        await insert(engine, *numbered(1_000))
    late = await insert_one(engine)
    changes = await follow(engine.feed, start, 25_001)
    assert len(changes) == 25_001
    assert changes[-1].id == late["_id"]
    assert [c.position for c in changes] == [c.position for c in await changes_since(engine.feed, start)]


async def test_an_undone_write_does_not_mislead_an_index(tmp_path: Path) -> None:
    """If an index sees its first array in a failed write, queries stay correct, even after a restart."""
    database = sqlite_database(tmp_path)
    definition = StoreDefinition(STORE, indexes=("n",), unique=("code",))
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        await insert(engine, entity(code="x", n=1), entity(n=5))
        with pytest.raises(DuplicateValue):
            await insert(engine, entity(n=[3, 4]), entity(code="x"))
        made = await insert_one(engine, n=[3, 4])
        assert [e["_id"] for e in await find(engine, Query(Equal(("n",), 4)))] == [made["_id"]]
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        assert [e["_id"] for e in await find(engine, Query(Equal(("n",), 4)))] == [made["_id"]]
        assert [e["n"] for e in await find(engine, Query(sort=parse_sort("-n")))] == [5, [3, 4], 1]


async def test_an_index_serves_while_its_values_change_kind(engine: Engine) -> None:
    """Paging that began with plain values stays correct when arrays and booleans are inserted."""
    await engine.define(StoreDefinition(STORE, indexes=("n",)))
    await insert(engine, *(entity(n=n) for n in range(20)))
    first = await engine.find(STORE, Query(sort=parse_sort("n"), limit=10))
    assert len(await content(first)) == 10
    await insert(engine, entity(n=[0, 15.5]), entity(n=[50, 15.5]), entity(n=True), entity(n={"a": 1}))
    rest = await find(engine, Query(sort=parse_sort("n"), after=first.next))
    assert [e["n"] for e in rest] == [10, 11, 12, 13, 14, 15, [50, 15.5], 16, 17, 18, 19, {"a": 1}, True]


async def test_many_long_lists_at_once_share_the_readers(engine: Engine) -> None:
    """There are more streams than reader threads, read slowly and in random order. All arrive, and writes continue."""
    await insert(engine, *numbered(2_000, text="x" * 500))

    async def read_slowly() -> int:
        listing = await engine.find(STORE, Query())
        assert not isinstance(listing.body, bytes)
        size = 0
        async for piece in listing.body:
            size += len(piece)
            await asyncio.sleep(0.001)
        return size

    async def write() -> None:
        for n in range(50):
            await engine.commit([Insert(STORE, entity(_id=new_id(), n=n))], USER)

    *sizes, _ = await asyncio.gather(*(read_slowly() for _ in range(20)), write())
    assert min(sizes) > 1_000_000


async def test_waiting_streams_do_not_hold_up_others(engine: Engine) -> None:
    """With as many unread streams as reader threads, another long list is still answered."""
    await insert(engine, *numbered(3_000, text="x" * 500))
    streams = [await engine.find(STORE, Query()) for _ in range(EngineOptions().reader_threads)]
    another = asyncio.ensure_future(find(engine))
    answered, _ = await asyncio.wait([another], timeout=10)
    for listing in streams:
        assert not isinstance(listing.body, bytes)
        await listing.body.aclose()  # type: ignore[attr-defined]
    assert len(await another) == 3_000
    assert answered


async def test_a_list_that_nobody_reads_does_not_hold_up_the_log(tmp_path: Path) -> None:
    """When the write-ahead log reaches its limit such a list is ended, and the log restarts. Later lists are
    complete."""
    log = tmp_path / "hub.db-wal"
    async with opened(SQLiteEngine(tmp_path / "hub.db", EngineOptions(sqlite_log_mb=4, read_timeout=1))) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, *numbered(1_000, text="x" * 2_000))
        unread = await engine.find(STORE, Query())
        assert not isinstance(unread.body, bytes)
        assert await anext(unread.body)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(log_keeper.LogKeeper, "_look", unseen)  # or it would end the list before the log is as long
            while log.stat().st_size < 100 * 1_048_576:
                await insert(engine, *numbered(200, text="y" * 20_000))

        async def begins_anew() -> bool:
            await insert_one(engine)
            return log.stat().st_size <= 64 * 1_048_576

        await eventually(begins_anew)
        with pytest.raises(Unavailable):
            await anext(unread.body)

        async def is_read() -> bool:
            try:
                listing = await engine.find(STORE, Query(limit=1_000))
            except Unavailable:  # until the engine notices that the log is short again
                return False
            assert not isinstance(listing.body, bytes)
            return sum([len(piece) async for piece in listing.body]) > 2_000_000

        await eventually(is_read)


async def unseen(keeper: log_keeper.LogKeeper) -> None:
    pass


READ_ON = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1])
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM changes").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


async def test_a_backup_that_holds_up_the_log_keeps_no_list_from_beginning(tmp_path: Path) -> None:
    path, log = tmp_path / "hub.db", tmp_path / "hub.db-wal"
    async with opened(SQLiteEngine(path, EngineOptions(sqlite_log_mb=4, read_timeout=1))) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, *numbered(1_000, text="x" * 2_000))
        command = (sys.executable, "-c", READ_ON, str(path))
        pipe = asyncio.subprocess.PIPE
        backup = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert backup.stdout is not None
        assert await backup.stdout.readline() == b"reading\n"
        while log.stat().st_size < 30 * 1_048_576:
            await insert(engine, *numbered(200, text="y" * 20_000))
        await asyncio.sleep(2 * log_keeper.EVERY)
        assert len(await find(engine, Query(limit=1_000))) == 1_000
        await backup.communicate(b"")


async def read_on(body: AsyncIterator[bytes]) -> None:
    async for _ in body:
        pass


async def test_closing_ends_the_lists_that_are_being_sent(tmp_path: Path) -> None:
    """Their readers get Unavailable, also in the middle of an item, and no connection stays open."""
    before = set(apsw.connections())
    engine = SQLiteEngine(tmp_path / "hub.db")
    await engine.open()
    await engine.define(StoreDefinition(STORE))
    await insert(engine, *numbered(3_000, text="x" * 500))
    bodies: list[Any] = [(await engine.find(STORE, Query())).body for _ in range(4)]
    assert await anext(bodies[0])
    given_up, asked = asyncio.ensure_future(anext(bodies[1])), asyncio.ensure_future(read_on(bodies[2]))
    await asyncio.sleep(0)
    given_up.cancel()
    await engine.close()
    outcomes = await asyncio.gather(given_up, asked, anext(bodies[0]), bodies[3].aclose(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, Unavailable, Unavailable, type(None)]
    assert set(apsw.connections()) <= before


async def test_closing_waits_for_what_was_submitted(tmp_path: Path) -> None:
    """A write in progress at the end is done or raises Unavailable, and acknowledged writes are stored."""
    database = sqlite_database(tmp_path)
    engine = database.engine()
    await engine.open()
    await engine.define(StoreDefinition(STORE))
    writes = [asyncio.ensure_future(insert_one(engine, n=n)) for n in range(200)]
    await asyncio.sleep(0)
    await engine.close()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    done = {o["_id"] for o in outcomes if isinstance(o, dict)}
    assert all(isinstance(o, dict | Unavailable) for o in outcomes)
    async with opened(database.engine()) as again:
        assert {e["_id"] for e in await find(again)} == done


@asynccontextmanager
async def busy_writer(engine: SQLiteEngine) -> AsyncIterator[None]:
    """Hold up a commit while the block runs."""
    arrived, may_go_on = threading.Event(), threading.Event()

    def hold_up() -> bool:
        arrived.set()
        may_go_on.wait(30)
        return False

    engine._committer.connection.set_commit_hook(hold_up)
    first = asyncio.create_task(insert_one(engine, first=True))
    assert await asyncio.to_thread(arrived.wait, 30)
    yield
    may_go_on.set()
    await first


async def test_a_write_whose_caller_is_cancelled_before_it_begins_is_not_done(tmp_path: Path) -> None:
    """This holds for one entity and for bulk changes. The writes behind it are done."""
    async with opened(SQLiteEngine(tmp_path / "hub.db")) as engine:
        assert isinstance(engine, SQLiteEngine)
        await engine.define(StoreDefinition(STORE))
        await insert_one(engine, n=0)
        async with busy_writer(engine):
            writes = [Insert(STORE, entity(n=1)), UpdateMany(STORE, EVERYTHING, {"changed": True}, 10)]
            given_up = [asyncio.create_task(engine.commit([write], USER)) for write in writes]
            kept = asyncio.create_task(insert_one(engine, n=2))
            await asyncio.sleep(0)
            for task in given_up:
                task.cancel()
            await asyncio.wait(given_up)
        await kept
        assert [(e.get("n"), e.get("changed")) for e in await find(engine)] == [(0, None), (None, None), (2, None)]


async def test_the_update_of_an_entity_without_a_time(engine: Engine) -> None:
    """System fields other than id and revision may be missing."""
    made = {"_id": new_id(), "_rev": 1, "n": 1}
    await insert(engine, made)
    await engine.commit([Update(STORE, made["_id"], {"n": 2})], USER)
    assert await find(engine) == [{"_id": made["_id"], "_rev": 2, "n": 2}]


async def test_a_definition_whose_commit_fails_can_be_made_later(tmp_path: Path) -> None:
    """If creating, indexing or dropping a store fails, each works later as if it had not been tried."""
    engine = SQLiteEngine(tmp_path / "hub.db")
    definitions = StoreDefinition("new"), StoreDefinition("kept", indexes=("n",))
    async with opened(engine):
        await engine.define(StoreDefinition("kept"))
        await engine.define(StoreDefinition("empty"))
        await insert_one(engine, store="kept", n=7)
        engine._committer.connection.set_commit_hook(lambda: True)  # SQLite then rolls back
        for definition in definitions:
            with pytest.raises(StoreError):
                await engine.define(definition)
        with pytest.raises(StoreError):
            await engine.drop("empty")
        engine._committer.connection.set_commit_hook(None)
        with pytest.raises(NotFound):
            await engine.entities("new", Query())
        assert len(await engine.entities("kept", Query(Equal(("n",), 7)))) == 1
        await insert_one(engine, store="empty", n=1)
        for definition in definitions:
            await engine.define(definition)
        await insert_one(engine, store="new", n=1)
        assert len(await engine.entities("kept", Query(Equal(("n",), 7)))) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("store", ["New", "old"])
async def test_reads_while_a_store_is_created_or_dropped(tmp_path: Path, store: str, when: str) -> None:
    """Before the commit takes effect, reads see the store as it was. After that, a dropped store is not found. Nobody
    who makes the same change is answered earlier, and the cancellation of a caller does not stop the change."""
    engine = SQLiteEngine(tmp_path / "hub.db")
    arrived, may_go_on = threading.Event(), threading.Event()

    def hold_up(*_: object) -> bool:
        arrived.set()
        may_go_on.wait(30)
        return False

    def change() -> asyncio.Task[object]:
        made = engine.define(StoreDefinition(store)) if store == "New" else engine.drop(store)
        return asyncio.create_task(made)

    async with opened(engine):
        await engine.define(StoreDefinition("old"))
        connection = engine._committer.connection
        (connection.set_commit_hook if when == "before" else connection.set_wal_hook)(hold_up)
        changes = [change(), change()]
        assert await asyncio.to_thread(arrived.wait, 30)
        try:
            if store == "old" and when == "before":
                assert await engine.entities(store, Query()) == []
            else:
                with pytest.raises(NotFound, match=f"no store {store}"):
                    await engine.entities(store, Query())
            changes[0].cancel()
            changes.append(change())
            await asyncio.wait(changes[1:], timeout=0.05)
            assert [each.done() for each in changes] == [True, False, False]
        finally:
            may_go_on.set()
        await asyncio.gather(*changes[1:])
        if store == "New":
            await insert_one(engine, store=store)
        else:
            with pytest.raises(NotFound):
                await insert_one(engine, store=store)
