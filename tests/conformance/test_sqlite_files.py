"""Other programs and the files of a SQLite database that is in use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stores.errors import CannotOpen, Unavailable
from stores.protocol import Engine
from stores.query import Query
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened, sqlite_database
from tests.support.entities import STORE, insert, insert_one, numbered
from tests.support.hub import eventually
from tests.support.reading import find

pytestmark = pytest.mark.engine("sqlite")

READING = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('SELECT * FROM meta').fetchall(); d.close()"


def read_elsewhere(database: Database) -> None:
    """Open, read and close the database in another process, as a backup does."""
    subprocess.run([sys.executable, "-c", READING, database.location], check=True)


def number_of_log(database: Database) -> int:
    return Path(database.location + "-wal").stat().st_ino


async def test_another_program_that_closes_the_database_leaves_its_log(engine: Engine, database: Database) -> None:
    """The last program that closes a database deletes its log; the engine never counts as gone, however many
    connections it has opened meanwhile."""
    for number in range(1, 4):
        await insert(engine, *numbered(1_000, text="x" * 2_000))
        assert len(await find(engine, Query(limit=10_000))) == number * 1_000  # a long list has its own connection
        before = number_of_log(database)
        read_elsewhere(database)
        assert number_of_log(database) == before


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_link_to_the_database(tmp_path: Path, is_there: bool) -> None:
    """The database, its log and its lock are where the link leads to, whether or not there is a database yet."""
    folder = tmp_path / "there"
    folder.mkdir()
    there = sqlite_database(folder)
    if is_there:
        async with opened(there.engine()):
            pass
    link = tmp_path / "hub.db"
    link.symlink_to(there.location)
    linked = Database("sqlite", str(link))
    async with opened(linked.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert_one(engine)
        with pytest.raises(CannotOpen, match="another hub"):
            await there.engine().open()
    async with opened(there.engine()) as engine:
        assert len(await find(engine)) == 1
    assert set(os.listdir(tmp_path)) == {"there", "hub.db"}


def remove_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def replace_file(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize("harm", [remove_log, Path.unlink, replace_file, rename_folder])
async def test_no_write_is_taken_that_would_be_lost(
    engine: Engine, database: Database, harm: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """The files that the engine writes to have no place in the file system any more."""
    await insert_one(engine)
    harm(Path(database.location))

    async def noticed() -> bool:
        try:
            await engine.ping()
        except Unavailable:
            return True
        return False

    await eventually(noticed)
    with pytest.raises(Unavailable, match="removed or replaced"):
        await insert_one(engine)
    assert "Stop the hub by SIGTERM" in caplog.text
    assert len(await find(engine)) == 1
