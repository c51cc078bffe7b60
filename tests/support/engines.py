"""Databases for tests: a SQLite file, or a new database on a MongoDB replica set, dropped afterwards."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient

from stores.mongo import MongoEngine
from stores.options import EngineOptions
from stores.protocol import Engine
from stores.sqlite import SQLiteEngine

KINDS: Final = ("sqlite", "mongodb")
OPTIONS: Final = EngineOptions()


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
        if self.kind == "mongodb":
            async with AsyncMongoClient[dict[str, object]](self.location) as client:
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
