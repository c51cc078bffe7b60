"""The database that the settings name, looked at without making anything in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from hub.cli.output import Failure

if TYPE_CHECKING:
    from hub.settings import Settings


@dataclass(frozen=True, slots=True)
class MongoServer:
    """`time` is the server's clock, in Unix seconds; `used` says whether a hub has been in the database."""

    version: str
    set_name: str
    members: int
    time: float
    used: bool


async def look_at_mongodb(url: str) -> MongoServer:
    """Raises CannotOpen, which says what to do."""
    from stores.mongo.connection import Connection
    from stores.protocol import EngineOptions

    connection = Connection(url, EngineOptions().read_timeout)
    await connection.open(make=False)
    try:
        hello = await connection.client.admin.command("hello")
        version = (await connection.client.server_info())["version"]
        time = hello["localTime"].replace(tzinfo=UTC).timestamp()
        used = "stores" in await connection.database.list_collection_names()
        return MongoServer(version, hello.get("setName", "behind mongos"), len(hello.get("hosts", ())), time, used)
    finally:
        await connection.close()


async def faults_of_mongodb(url: str) -> list[str]:
    """What the collections of a hub's stores lack, in words: another program may have changed them. Raises
    CannotOpen."""
    from auth.standard import STANDARD
    from stores.definitions import parse_definition
    from stores.mongo.codec import entity_of
    from stores.mongo.connection import Connection
    from stores.mongo.structure import faults
    from stores.protocol import EngineOptions

    connection = Connection(url, EngineOptions().read_timeout)
    await connection.open(make=False)
    try:
        defined = [entity_of(document) async for document in connection.collection("stores").find({})]
        definitions = [*STANDARD.values(), *map(parse_definition, defined)]
        return [fault for definition in definitions for fault in await faults(connection, definition)]
    finally:
        await connection.close()


def database_file(settings: Settings) -> Path:
    """The file of a SQLite database."""
    return Path(settings.engine_url.removeprefix("sqlite:///"))


async def require_database(settings: Settings) -> None:
    """Raise Failure unless the database has been made: a client makes none, as it might be in the wrong folder."""
    if settings.engine_url.startswith("mongodb"):
        # The server's explanation when it does not answer; otherwise whether a hub has been there.
        made, place = (await look_at_mongodb(settings.engine_url)).used, "in this MongoDB database"
    else:
        file = database_file(settings).absolute()
        made, place = file.exists() or not settings.engine_url.startswith("sqlite:///"), f"at {file}"
    if not made:
        raise Failure(f"there is no hub {place}: start one with `hub serve`, or name another by --data-dir or --url")
