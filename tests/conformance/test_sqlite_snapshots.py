"""A read leaves no snapshot open on its connection, however it ends: later reads see what has been written since."""

from __future__ import annotations

import queue

import apsw
import pytest

from stores.protocol import Engine
from stores.query import Query
from stores.sqlite import readers
from stores.sqlite.engine import SQLiteEngine
from stores.sqlite.lists import LONGEST_PAGE, LongPage, _bounded
from tests.support.entities import STORE, entity, insert
from tests.support.reading import walk

pytestmark = pytest.mark.engine("sqlite")

LARGE = "y" * (LONGEST_PAGE // 10)


def connections(engine: Engine) -> list[apsw.Connection]:
    """Return the connections that wait for reads."""
    assert isinstance(engine, SQLiteEngine)
    found: list[apsw.Connection] = []
    for waiting in (engine._readers._idle, engine._readers._idle_moments, engine._readers._idle_for_streams):
        taken: list[apsw.Connection] = []
        while True:
            try:
                taken.append(waiting.get_nowait())
            except queue.Empty:
                break
        for each in taken:
            waiting.put(each)
        found += taken
    return [*found, engine._readers._own]


async def test_a_long_list_leaves_no_snapshot(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found to be too long in the midst of its rows, in a thread."""
    monkeypatch.setattr(readers, "QUICK", 0)
    for count in range(1, 4):
        await insert(engine, *(entity(text=LARGE) for _ in range(30)))
        assert len(await walk(engine, Query(), 1_000)) == 30 * count
        assert [each.txn_state() for each in connections(engine)] == [apsw.SQLITE_TXN_NONE] * len(connections(engine))
        assert await engine.count(STORE) == 30 * count


async def test_a_failed_read_leaves_no_snapshot_while_its_error_lives(engine: Engine) -> None:
    assert isinstance(engine, SQLiteEngine)
    await insert(engine, *(entity(text=LARGE) for _ in range(30)))
    table = engine._table(STORE)

    def read(connection: apsw.Connection) -> list[bytes]:
        with readers.snapshot(connection):
            return _bounded(connection.execute(f"SELECT CAST(doc AS BLOB) FROM {table.table}"))

    with pytest.raises(LongPage) as kept:
        await engine._readers.in_thread(read)
    assert [each.txn_state() for each in connections(engine)] == [apsw.SQLITE_TXN_NONE] * len(connections(engine))
    assert kept.value


async def test_a_connection_that_is_not_idle_is_replaced(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(engine, SQLiteEngine)
    await insert(engine, *(entity(n=n) for n in range(3)))
    table, kept = engine._table(STORE), list[object]()

    def read(connection: apsw.Connection) -> None:
        rows = connection.execute(f"SELECT id FROM {table.table}")
        kept.append((rows, next(rows)))

    await engine._readers.in_thread(read)
    assert "has left its statement open" in caplog.text
    assert [each.txn_state() for each in connections(engine)] == [apsw.SQLITE_TXN_NONE] * len(connections(engine))
    assert await engine.count(STORE) == 3
