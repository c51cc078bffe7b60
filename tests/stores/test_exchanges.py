"""Exchanges with MongoDB: how they end when the server does not answer, and that they need no tasks of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import AutoReconnect, NetworkTimeout

from stores.mongo.connection import Connection
from stores.mongo.exchanges import VERSIONS
from tests.support.mongod import Restartable, restartable

PING = {"ping": 1}
LONG_WAIT = 20
"""Seconds after which a test gives up."""


@asynccontextmanager
async def connected(url: str, options: str = "") -> AsyncIterator[Connection]:
    connection = Connection(f"{url}&{options}", read_timeout=60)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def frozen(server: Restartable) -> AsyncIterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


async def ping_on(connection: Connection) -> None:
    """Send commands one after the other: a process that is frozen may still answer some."""
    while True:
        await connection.command(PING)


def test_the_installed_version_is_known() -> None:
    """Otherwise the exchanges of a new PyMongo are made as it makes them. Compare its `network_layer` with
    `stores.mongo.exchanges`, and add its version there."""
    assert pymongo.version_tuple[:2] in VERSIONS


async def test_an_exchange_takes_no_task_of_its_own(mongodb: str) -> None:
    made: list[object] = []

    def make(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=loop, **options)

    async with connected(mongodb, "heartbeatFrequencyMS=60000") as connection:
        await connection.command(PING)
        asyncio.get_running_loop().set_task_factory(make)
        try:
            for _ in range(10):
                await connection.command(PING)
        finally:
            asyncio.get_running_loop().set_task_factory(None)
    # The monitor may have begun an exchange, or ended one.
    assert len(made) < 10


async def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    async with restartable(tmp_path) as server:
        await check_time_limits(server)
        await check_that_the_monitor_ends_requests(server)
        await check_cancelled_requests(server)


async def check_time_limits(server: Restartable) -> None:
    async with connected(server.url, "socketTimeoutMS=700&heartbeatFrequencyMS=60000") as connection:
        async with frozen(server):
            with pytest.raises(NetworkTimeout, match="timed out"):
                await asyncio.wait_for(ping_on(connection), LONG_WAIT)
        assert (await connection.command(PING))["ok"] == 1
        async with frozen(server):
            with pytest.raises(NetworkTimeout), pymongo.timeout(0.2):
                await asyncio.wait_for(ping_on(connection), LONG_WAIT)
        assert (await connection.command(PING))["ok"] == 1


async def check_that_the_monitor_ends_requests(server: Restartable) -> None:
    """Such a request has a minute for its answer, and ends when the server does not answer the monitor either."""
    async with connected(server.url, "heartbeatFrequencyMS=500&connectTimeoutMS=500") as connection:
        async with frozen(server):
            with pytest.raises(AutoReconnect, match="operation cancelled"):
                await asyncio.wait_for(ping_on(connection), LONG_WAIT)
        assert (await connection.command(PING))["ok"] == 1


async def check_cancelled_requests(server: Restartable) -> None:
    async with connected(server.url, "heartbeatFrequencyMS=60000") as connection:
        async with frozen(server):
            waiting = [asyncio.create_task(ping_on(connection)) for _ in range(5)]
            await asyncio.sleep(0.3)
            for task in waiting:
                task.cancel()
            ended, running = await asyncio.wait(waiting, timeout=LONG_WAIT)
        assert not running
        assert all(task.cancelled() for task in ended)
        assert (await connection.command(PING))["ok"] == 1
