"""The hub is killed during uploads: no entity lacks its file, and no upload that was answered is lost."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from stores.records import Entity
from tests.faults.disk import full_disk
from tests.faults.hub import answered, mortal_hub
from tests.support.engines import Database, sqlite_database
from tests.support.hub import Client, entity_of, eventually

pytestmark = pytest.mark.faults

UPLOADERS = 4
STORE = "papers"


@dataclass
class Uploads:
    """Uploads of one client after the other. `answered` are the ids of files whose upload was answered; their content
    repeats the name of the file."""

    client: Client
    answered: dict[str, bytes] = field(default_factory=dict)
    count: int = 0

    async def run(self) -> None:
        while True:
            try:
                made = await self.client.post(f"/{STORE}", {})
                if made.status_code == 200:
                    await self._fill(made.json()["_id"])
            except httpx.TransportError:
                await asyncio.sleep(0.05)

    async def _fill(self, id: str) -> None:
        for _ in range(3):
            name = str(uuid.uuid4())
            content = name.encode() * random.randint(1, 5_000)
            path = f"/{STORE}/{id}/files/files"
            answer = await self.client.request("POST", path, files={"file": (name, content, "text/plain")})
            self.count += 1
            if answer.status_code == 200:
                self.answered[answer.headers["location"]] = content


async def test_killed_during_uploads(database: Database, tmp_path: Path, times: int) -> None:
    async with mortal_hub(database, tmp_path / "hub") as hub:
        admin = hub.client()
        fields = [{"id": "files", "type": "File", "many": True}]
        entity_of(await answered(lambda: admin.post("/stores", {"name": STORE, "fields": fields})))
        uploads = [Uploads(hub.client()) for _ in range(UPLOADERS)]
        running = [asyncio.create_task(each.run()) for each in uploads]
        for _ in range(times):
            before = sum(each.count for each in uploads)
            await eventually(lambda: reached(uploads, before + random.randint(3, 12)))  # noqa: B023
            await asyncio.sleep(random.uniform(0, 0.05))
            await hub.end()
            await hub.start()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

        stored = [value async for value in values_of(admin)]
        known = {url: content for each in uploads for url, content in each.answered.items()}
        assert known
        assert not known.keys() - {value["url"] for value in stored}
        for value in stored:
            answer = await admin.http.get(hub.url + value["url"])
            assert answer.status_code == 200, value
            assert len(answer.content) == value["size"]
            assert answer.content == value["name"].encode() * (value["size"] // 36)
        checked = (await admin.http.post(hub.url + "/media/-/check", json={}, timeout=60)).json()
        assert (checked["files"], checked["missing"]["count"]) == (len(stored), 0)


async def reached(uploads: list[Uploads], count: int) -> bool:
    return sum(each.count for each in uploads) >= count


async def values_of(admin: Client) -> AsyncIterator[Entity]:
    for entity in await admin.list(STORE):
        for value in entity.get("files") or ():
            yield value


@pytest.mark.engine("sqlite")
async def test_the_disk_is_full_of_files(tmp_path: Path) -> None:
    """Uploads that find no room get 507 and leave nothing; with room they work again."""
    async with mortal_hub(sqlite_database(tmp_path), tmp_path / "hub", media_url=f"file://{tmp_path}/media") as hub:
        admin = hub.client()
        fields = [{"id": "files", "type": "File", "many": True}]
        await admin.make("stores", {"name": STORE, "fields": fields})
        id = (await admin.make(STORE))["_id"]
        path = f"/{STORE}/{id}/files/files"
        for size in (100_000, 3_000_000):  # in memory until it is copied, and on the disk from the beginning
            with full_disk(hub, 40_000):
                answer = await admin.request("POST", path, files={"file": ("a", b"x" * size, "text/plain")})
            assert answer.status_code == 507, answer.text
        assert "files" not in await admin.see(STORE, id)
        assert not [*(tmp_path / "hub" / "incoming").iterdir()]
        answer = await admin.request("POST", path, files={"file": ("a", b"x" * 3_000_000, "text/plain")})
        assert entity_of(answer)["files"][0]["size"] == 3_000_000
