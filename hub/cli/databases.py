"""Access to the database of the settings: read-only inspection, or opened while no hub runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hub.cli.output import Failure

if TYPE_CHECKING:
    import apsw

    from hub.settings import Settings
    from stores.mongo.connection import Connection
    from stores.protocol import Engine
    from stores.records import Entity
    from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class MongoServer:
    """`time` is the server's clock in Unix seconds. `used`: a hub has used the database."""

    version: str
    set_name: str
    members: int
    time: float
    used: bool


@asynccontextmanager
async def connected_mongodb(url: str) -> AsyncIterator[Connection]:
    """Open a connection that creates nothing. Raises CannotOpen, whose text gives advice."""
    from stores.mongo.connection import Connection
    from stores.options import EngineOptions
    from stores.starting import when_available

    connection = Connection(url, EngineOptions().read_timeout)
    await when_available(partial(connection.open, make=False))
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Engine]:
    """Open the database of a stopped hub. Raises Failure if it does not exist, and CannotOpen."""
    from hub.engines import make_engine

    await require_database(settings)
    engine = make_engine(settings)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


@contextmanager
def connected_sqlite(path: Path) -> Iterator[apsw.Connection]:
    """Open an existing file read-only; a hub may be running on it. Raises apsw.Error."""
    import apsw

    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.pragma("query_only", True)
        connection.set_busy_timeout(5_000)
        yield connection
    finally:
        connection.close()


def has_table(connection: apsw.Connection, name: str) -> bool:
    return bool(connection.execute("SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name=?)", (name,)).get)


async def look_at_mongodb(url: str) -> MongoServer:
    """Return information about a MongoDB server. Raises CannotOpen, whose text gives advice."""
    async with connected_mongodb(url) as connection:
        hello = await connection.client.admin.command("hello")
        version = (await connection.client.server_info())["version"]
        time = hello["localTime"].replace(tzinfo=UTC).timestamp()
        used = "stores" in await connection.database.list_collection_names()
        return MongoServer(version, hello.get("setName", "behind mongos"), len(hello.get("hosts", ())), time, used)


async def faults_of_mongodb(url: str) -> tuple[list[str], list[str]]:
    """Return descriptions of damaged definitions of stores, and of missing parts of the stores' collections. Another
    program may have changed both. Raises CannotOpen."""
    from auth.system_stores import SYSTEM_STORES
    from stores.mongo.codec import entity_of
    from stores.mongo.structure import faults

    async with connected_mongodb(url) as connection:
        defined = [entity_of(document) async for document in connection.collection("stores").find({})]
        definitions, damaged = parse_definitions(defined)
        definitions += SYSTEM_STORES.values()
        return damaged, [fault for definition in definitions for fault in await faults(connection, definition)]


def parse_definitions(entities: Iterable[Entity]) -> tuple[list[StoreDefinition], list[str]]:
    """Return the definitions in entities of the store `stores`, and descriptions of the damaged ones."""
    from stores.definitions import parse_definition
    from stores.errors import InvalidEntity

    definitions, damaged = [], []
    for entity in entities:
        try:
            definitions.append(parse_definition(entity))
        except InvalidEntity as error:
            damaged.append(f"the definition of {entity.get('name')!r} is damaged ({error})")
    return definitions, damaged


def database_file(settings: Settings) -> Path:
    """Return the path of a SQLite database."""
    return Path(settings.engine_url.removeprefix("sqlite:///"))


async def require_database(settings: Settings) -> None:
    """Raise Failure unless the database exists. A client never creates one: it could be in the wrong folder."""
    if settings.engine_url.startswith("mongodb"):
        # This raises CannotOpen if the server does not answer. Otherwise it shows whether a hub has used the database.
        made, where = (await look_at_mongodb(settings.engine_url)).used, "in this MongoDB database"
    else:
        file = database_file(settings).absolute()
        made, where = file.exists() or not settings.engine_url.startswith("sqlite:///"), f"at {file}"
    if not made:
        raise Failure(f"there is no hub {where}: start one with `hub serve`, or name another by --data-dir or --url")
