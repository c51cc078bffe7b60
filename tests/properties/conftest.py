"""Both engines, open for the whole session, each with the same two stores: without indexes and with many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from stores.protocol import Engine
from stores.schema import StoreDefinition
from tests.conftest import chosen_kinds
from tests.properties.strategies import INDEXED
from tests.support.engines import mongo_database, opened, sqlite_database

STORES = ("plain", "indexed")


@pytest.fixture(scope="session")
async def engines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Engine]]:
    """The chosen engines by kind."""
    async with AsyncExitStack() as stack:
        made: dict[str, Engine] = {}
        for kind in chosen_kinds(request.config):
            if kind == "sqlite":
                database = sqlite_database(tmp_path_factory.mktemp("properties"))
            else:
                database = mongo_database(request.getfixturevalue("mongodb"))
            stack.push_async_callback(database.drop)
            made[kind] = await stack.enter_async_context(opened(database.engine()))
            await made[kind].define(StoreDefinition("plain"))
            await made[kind].define(StoreDefinition("indexed", indexes=INDEXED))
        yield made
