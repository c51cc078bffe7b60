"""Databases for tests: a SQLite file, or a database of its own on a MongoDB replica set that is dropped afterwards."""

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
from stores.protocol import Engine, EngineOptions
from stores.sqlite import SQLiteEngine

KINDS: Final = ("sqlite", "mongodb")
OPTIONS: Final = EngineOptions()


@dataclass(frozen=True)
class Database:
    """Where an engine keeps its data: a path or a URL. It may be opened again and again."""

    kind: str
    location: str

    def engine(self, options: EngineOptions = OPTIONS) -> Engine:
        """A new engine on this database, not yet open."""
        if self.kind == "sqlite":
            return SQLiteEngine(Path(self.location), options)
        return MongoEngine(self.location, options)

    async def drop(self) -> None:
        if self.kind == "mongodb":
            async with AsyncMongoClient[dict[str, object]](self.location) as client:
                await client.drop_database(client.get_default_database())


def sqlite_database(folder: Path) -> Database:
    return Database("sqlite", str(folder / "hub.db"))


def mongo_database(server_url: str) -> Database:
    """A database of a new name on that server."""
    parts = urlsplit(server_url)
    return Database("mongodb", parts._replace(path=f"/hub_test_{secrets.token_hex(6)}").geturl())


@asynccontextmanager
async def fitting_database(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Database]:
    """A new database of this kind: a file in `folder`, or one of the tests' MongoDB, dropped afterwards."""
    if kind == "sqlite":
        yield sqlite_database(folder)
        return
    fresh = mongo_database(request.getfixturevalue("mongodb"))
    yield fresh
    await fresh.drop()


@asynccontextmanager
async def opened(engine: Engine) -> AsyncIterator[Engine]:
    """The engine, open for the length of a block."""
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()
