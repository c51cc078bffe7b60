"""Transactions that a killed hub has left open in MongoDB."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from textwrap import dedent
from typing import Final

import pytest

from stores.mongo.connection import Connection
from stores.mongo.orphans import end_orphans
from stores.query import Query
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened
from tests.support.hub import eventually

pytestmark = pytest.mark.engine("mongodb")

READ_TIMEOUT: Final = 10
BUSY: Final = dedent("""
    import asyncio, sys
    from stores.mongo.connection import Connection

    async def main():
        connection = Connection(sys.argv[1], 10)
        await connection.open()
        things = connection.collection("things")
        session = connection.client.start_session()
        await session.start_transaction()
        await things.insert_one({"n": 1}, session=session)
        index = asyncio.create_task(things.create_index("n"))
        await asyncio.sleep(0)  # it takes the connection before the others do
        while not any("createIndexes" in each.get("command", {}) for each in await operations(connection)):
            await asyncio.sleep(0.01)
        print("busy", flush=True)
        await index

    async def operations(connection):
        cursor = await connection.client.admin.aggregate([{"$currentOp": {"allUsers": False}}])
        return await cursor.to_list()

    asyncio.run(main())
""")
"""A program that leaves a transaction open, and on the same connection creates an index, which waits for it."""


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[Connection]:
    connection = Connection(database.location, READ_TIMEOUT)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


async def busy_client(database: Database) -> Process:
    """Run the program `BUSY` until it waits for its own transaction."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", BUSY, database.location, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"busy\n"
    return process


async def open_transactions(connection: Connection) -> int:
    look = {"allUsers": False, "idleSessions": True}
    cursor = await connection.client.admin.aggregate([{"$currentOp": look}, {"$match": {"type": "idleSession"}}])
    return len(await cursor.to_list())


async def test_the_transaction_of_a_client_whose_connection_is_still_busy_is_ended(database: Database) -> None:
    """Otherwise an index that the next hub needs could not be created for a minute."""
    async with connected(database) as connection:
        await connection.collection("things").insert_one({"n": 0})
        killed = await busy_client(database)
        await end_orphans(connection)
        assert await open_transactions(connection) == 1  # its client lives
        killed.kill()
        await killed.wait()

        async def are_ended() -> bool:
            """A busy server takes a moment to notice that the connections of the client are closed."""
            await end_orphans(connection)
            return await open_transactions(connection) == 0

        await eventually(are_ended)
        assert await connection.collection("things").count_documents({}) == 1
        assert await connection.collection("things").create_index("m")


INDEXED: Final = StoreDefinition("things", indexes=("m",))
PLAIN: Final = StoreDefinition("things")


@pytest.mark.parametrize(("before", "after"), [(PLAIN, INDEXED), (INDEXED, PLAIN)], ids=["creates", "drops"])
async def test_a_definition_outlasts_a_client_that_is_found_dead_only_later(
    database: Database, before: StoreDefinition, after: StoreDefinition
) -> None:
    """A hub that starts right behind the end of another one may find all connections of that one still open."""
    async with opened(database.engine()) as engine:
        await engine.define(before)
        killed = await busy_client(database)
        defining = asyncio.create_task(engine.define(after))
        done, _ = await asyncio.wait([defining], timeout=1)
        assert not done  # an index waits for the client's transaction
        killed.kill()
        await killed.wait()
        await defining
        assert not await engine.entities("things", Query())
