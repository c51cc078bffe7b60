"""Databases for tests: a SQLite file, or a new database on a MongoDB replica set, dropped afterwards."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect

from stores.mongo import MongoEngine
from stores.options import EngineOptions
from stores.protocol import Engine
from stores.sqlite import SQLiteEngine

KINDS: Final = ("sqlite", "mongodb")
OPTIONS: Final = EngineOptions()
ELECTIONS: Final = 5
"""Elections that may follow each other at once."""


@dataclass(frozen=True)
class Database:
    """Location of an engine's data: a path or a URL. It can be opened repeatedly."""

    kind: str
    location: str

    def engine(self, options: EngineOptions = OPTIONS) -> Engine:
        """Return a new engine on this database, not yet open."""
        if self.kind == "sqlite":
            return SQLiteEngine(Path(self.location), options)
        return MongoEngine(self.location, options)

    async def drop(self) -> None:
        """Drop the database. While the members of a replica set elect, it is asked again; the client waits for the new
        primary."""
        if self.kind == "mongodb":
            async with AsyncMongoClient[dict[str, object]](self.location) as client:
                for _ in range(ELECTIONS):
                    with suppress(AutoReconnect):
                        await client.drop_database(client.get_default_database())
                        return
                await client.drop_database(client.get_default_database())

    async def empty(self) -> None:
        """Remove what a test leaves, in half the time: `drop` waits for 0.1 s in the server."""
        if self.kind == "mongodb":
            async with AsyncMongoClient[dict[str, object]](self.location) as client:
                database = client.get_default_database()
                for name in await database.list_collection_names():
                    await database.drop_collection(name)


def sqlite_database(folder: Path) -> Database:
    return Database("sqlite", str(folder / "hub.db"))


def mongo_database(server_url: str) -> Database:
    """Return a database with a new name on that server."""
    parts = urlsplit(server_url)
    return Database("mongodb", parts._replace(path=f"/hub_test_{secrets.token_hex(6)}").geturl())


@asynccontextmanager
async def fitting_database(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Database]:
    """Yield a new database of this kind: a file in `folder`, or one on the tests' MongoDB, dropped afterwards."""
    if kind == "sqlite":
        yield sqlite_database(folder)
        return
    fresh = mongo_database(request.getfixturevalue("mongodb"))
    yield fresh
    await fresh.empty()


@asynccontextmanager
async def opened(engine: Engine) -> AsyncIterator[Engine]:
    """Keep the engine open while the block runs."""
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()
