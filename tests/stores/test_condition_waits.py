"""Requests to MongoDB that are cancelled while they wait for a server. Nothing listens at the address."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pymongo.lock
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ServerSelectionTimeoutError

from stores.mongo.codec import Document
from stores.mongo.connection import Connection
from tests.support.ports import free_port

# PyMongo does not close a socket that it opens while the client is closed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning"
)
SOME = 50
WAIT = 0.5
"""Seconds after which PyMongo ends a wait for a server, and begins another."""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """No later test is told of such a socket, which the clients of a test refer to as long as it runs."""
    yield
    gc.collect()


@asynccontextmanager
async def unreachable() -> AsyncIterator[AsyncDatabase[Document]]:
    connection = Connection(f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=2000", read_timeout=5)
    client = connection._make_client()
    yield client.get_database("hub")
    closing = asyncio.create_task(client.close())
    assert not (await asyncio.wait([closing], timeout=10))[1]


async def ask(database: AsyncDatabase[Document]) -> None:
    with suppress(ServerSelectionTimeoutError):
        await database.command("ping")


async def check_that_requests_end(database: AsyncDatabase[Document], cancelled: list[asyncio.Task[None]]) -> None:
    """Check that the cancelled ones end as cancelled, and that a new one is told that there is no server."""
    ended, running = await asyncio.wait(cancelled, timeout=10)
    assert not running
    assert all(task.cancelled() for task in ended)
    with pytest.raises(ServerSelectionTimeoutError):
        await asyncio.wait_for(database.command("ping"), 10)


async def begin(database: AsyncDatabase[Document]) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(ask(database)) for _ in range(SOME)]
    await asyncio.sleep(WAIT / 2)
    return tasks


async def test_requests_cancelled_twice() -> None:
    async with unreachable() as database:
        tasks = await begin(database)
        for _ in range(2):
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
        await check_that_requests_end(database, tasks)


async def test_requests_cancelled_while_their_wait_ends() -> None:
    async with unreachable() as database:
        tasks = await begin(database)
        lock, end = database.client._topology._lock, time.monotonic() + WAIT
        while not lock.locked() and time.monotonic() < end:  # noqa: ASYNC110 (a lock has no event)
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await check_that_requests_end(database, tasks)


def test_the_name_that_is_replaced_exists() -> None:
    """Otherwise a new PyMongo waits in another way, and `stores.mongo.condition_waits` has no effect."""
    assert callable(getattr(pymongo.lock, "wait_for", None))
