"""Reads the evidence of the secret key from a database, read-only, for `hub doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hub.cli.databases import connected_mongodb, connected_sqlite, database_file, has_table

if TYPE_CHECKING:
    from hub.key_file import Traces
    from hub.settings import Settings


async def stored_traces(settings: Settings) -> Traces:
    """Return the evidence, which is empty before the first start. Raises CannotOpen and apsw.Error."""
    if settings.engine_url.startswith("mongodb"):
        return await _of_mongodb(settings.engine_url)
    return _of_sqlite(database_file(settings))


async def _of_mongodb(url: str) -> Traces:
    from hub.key_file import CHECK, SAMPLE, Traces
    from hub.services.second_factors import STORE

    async with connected_mongodb(url) as connection:
        check = await connection.read_constant(CHECK)
        factors = await connection.collection(STORE).find({}).to_list(SAMPLE)
        return Traces(check, factors)


def _of_sqlite(path: Path) -> Traces:
    import orjson

    from hub.key_file import CHECK, SAMPLE, Traces
    from hub.services.second_factors import STORE
    from stores.sqlite.tables import table_name

    if not path.exists():
        return Traces(None)
    with connected_sqlite(path) as connection:
        known = has_table(connection, "meta")
        check = connection.execute("SELECT value FROM meta WHERE name=?", (CHECK,)).get if known else None
        if not has_table(connection, f"e_{STORE}"):
            return Traces(check)
        rows = connection.execute(f"SELECT doc FROM {table_name(STORE)} LIMIT {SAMPLE}")
        return Traces(check, [orjson.loads(doc) for (doc,) in rows])
