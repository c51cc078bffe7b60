"""The audit trail on MongoDB, which one hub process records for all: what is recorded, and what is not yet."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from tests.support.engines import Database
from tests.support.hub import Hub, eventually, running_hub
from tests.support.tasks import end

pytestmark = pytest.mark.engine("mongodb")

ALMOST_A_LEASE: Final = 5_900
"""Milliseconds. What is further ahead than a whole lease is not believed."""


@pytest.fixture
async def documents(database: Database) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    async with AsyncMongoClient[dict[str, Any]](database.location) as client:
        yield client.get_default_database()


async def test_what_another_program_inserts_into_a_collection_of_its_own_is_not_recorded(
    database: Database, documents: AsyncDatabase[dict[str, Any]], tmp_path: Path
) -> None:
    async with running_hub(database, tmp_path / "hub") as hub:
        store = await hub.define()
        await documents["reports"].insert_many([{"n": n} for n in range(500)])
        made = await hub.admin.make(store, n=1)
        await eventually(lambda: documents["_history"].find_one({"entity": made["_id"]}))
        assert store in await documents["_history"].distinct("store")
        assert await documents["_history"].count_documents({"store": "reports"}) == 0


@asynccontextmanager
async def silent_recorder(recorder: Hub, documents: AsyncDatabase[dict[str, Any]]) -> AsyncIterator[None]:
    """While the block runs the process that records stands still, and nobody takes its place."""
    renewed = [{"$set": {"until": {"$add": [{"$toLong": "$$NOW"}, ALMOST_A_LEASE]}}}]

    async def renew() -> None:
        while True:
            await documents["_meta"].update_one({"_id": "history"}, renewed)
            await asyncio.sleep(1)

    os.kill(recorder.process.pid, signal.SIGSTOP)
    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        await end(renewing)
        os.kill(recorder.process.pid, signal.SIGCONT)


async def test_a_trail_is_never_short_in_silence(
    database: Database, documents: AsyncDatabase[dict[str, Any]], tmp_path: Path
) -> None:
    """However far the recorder is behind, what has been answered is in the trail."""
    async with running_hub(database, tmp_path / "recorder") as recorder, running_hub(database, tmp_path / "hub") as hub:
        store = await hub.define()
        made = await hub.admin.make(store, n=0)
        await eventually(lambda: documents["_history"].find_one({"entity": made["_id"]}))
        async with silent_recorder(recorder, documents):
            await hub.admin.patch(f"/{store}/{made['_id']}", {"n": 1})
            answer = await hub.admin.get(f"/{store}/{made['_id']}/history")
            assert [entry["op"] for entry in answer.json()["history"]] == ["insert", "update"]
