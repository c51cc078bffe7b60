"""Hubs with the sample stores: one per engine for the documents, and a separate one that schemathesis writes to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.openapi.sample_stores import STORES
from tests.support.engines import mongo_database, sqlite_database
from tests.support.hub import Hub, running_hub


@pytest.fixture(scope="package")
async def hub(
    engine_kind: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Hub]:
    folder = tmp_path_factory.mktemp("openapi")
    mongodb = engine_kind == "mongodb"
    database = mongo_database(request.getfixturevalue("mongodb")) if mongodb else sqlite_database(folder)
    async with running_hub(database, folder / "data") as hub:
        for definition in STORES:
            await hub.admin.make("stores", definition)
        yield hub
    await database.drop()


@pytest.fixture
async def fuzzed_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """A hub on SQLite with a low limit on arrays, so that generated arrays soon exceed it."""
    folder = tmp_path_factory.mktemp("fuzzed")
    async with running_hub(sqlite_database(folder), folder / "data", max_items=20) as hub:
        for definition in STORES:
            await hub.admin.make("stores", definition)
        yield hub
