"""A hub that is killed while files arrive: every entity has its files, and what no entity has is swept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from hub.media import sweeping
from stores.query import Query
from stores.records import Entity
from tests.conftest import extent_of
from tests.faults.hub import MortalHub, mortal_hub
from tests.media.test_removal import running
from tests.media.uploading import PDF, png, read, upload
from tests.support.engines import Database
from tests.support.hub import Client, unique

pytestmark = [pytest.mark.faults, pytest.mark.gate("sqlite", "mongodb")]

FIELDS = [
    {"id": "photo", "type": "Image"},
    {"id": "papers", "type": "File", "many": True, "max_items": 5},
]
SENDERS = 6


def files_of(entity: Entity) -> list[Entity]:
    return [*filter(None, [entity.get("photo")]), *entity["papers"]]


async def send(client: Client, store: str, ids: Sequence[str]) -> None:
    """Upload and remove files again and again, whatever happens to the hub."""
    while True:
        try:
            await _send_one(client, store, random.choice(ids))
        except httpx.TransportError:
            await asyncio.sleep(0.02)


async def _send_one(client: Client, store: str, id: str) -> None:
    choice = random.random()
    if choice < 0.4:
        answer = await upload(client, store, id, "photo", png(random.randint(10, 400)))
    elif choice < 0.8:
        answer = await upload(client, store, id, "papers", PDF, "lease.pdf", "application/pdf")
    else:
        answer = await client.get(f"/{store}/{id}")
        if answer.status_code == 200 and (papers := answer.json()["papers"]):
            answer = await client.delete(f"/{store}/{id}/files/papers/{random.choice(papers)['id']}")
    assert answer.status_code in (200, 400, 404, 503), answer.text


async def whole_files(hub: MortalHub, store: str) -> set[str]:
    """Read every file that an entity has, and still has afterwards; return their ids."""
    client, found = hub.client(), set[str]()
    for entity in await client.list(store):
        for file in files_of(entity):
            answer = await read(client, file["url"])
            if answer.status_code == 404 and file not in files_of(await client.see(store, entity["_id"])):
                continue  # a sender has removed it meanwhile
            assert (answer.status_code, len(answer.content)) == (200, file["size"])
            found.add(file["id"])
    return found


async def test_killed_during_uploads(
    database: Database,
    tmp_path: Path,
    storage_kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"file://{tmp_path}/storage"
    if storage_kind == "bucket":
        url = request.getfixturevalue("bucket_url").format(unique("kills"))
    async with mortal_hub(database, tmp_path / "hub", media_url=url) as hub:
        client = hub.client()
        store = (await client.make("stores", {"name": unique("albums"), "fields": FIELDS}))["name"]
        ids = [each["_id"] for each in await client.make_all(store, [{"papers": []} for _ in range(4)])]
        senders = [asyncio.create_task(send(hub.client(), store, ids)) for _ in range(SENDERS)]
        for _ in range(extent_of(request.config).faults):
            await asyncio.sleep(random.uniform(0.05, 0.5))
            await hub.end()
            await hub.start()
            await whole_files(hub, store)
        for sender in senders:
            sender.cancel()
        ends = await asyncio.gather(*senders, return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}, ends
        assert "never retrieved" not in hub.log
    monkeypatch.setattr(sweeping, "HOUR", -60_000)  # everything is older than an hour
    async with running(database, tmp_path / "hub", url) as bench:
        media = bench.hub.media
        known = {file["id"] for each in await bench.hub.engine.entities(store, Query()) for file in files_of(each)}
        await media.keeper.remove_lost()
        report = await media.keeper.check(remove=True)
        assert (report.files, report.missing.count) == (len(known), 0)
        stored = [each.key async for page in media.storage.files() for each in page]
        assert {key.rpartition("/")[2] for key in stored} == known
