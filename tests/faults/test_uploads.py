"""The hub is killed during uploads: no entity lacks its file, and no upload that was answered is lost."""

from __future__ import annotations

import asyncio
import io
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from PIL import Image

from hub.media.records import PENDING, FileRecord, FileRecords
from stores.records import Entity
from tests.faults.clock import Clock
from tests.faults.disk import full_disk
from tests.faults.hub import MortalHub, answered, mortal_hub
from tests.media.uploading import png
from tests.support.engines import Database, opened, sqlite_database
from tests.support.hub import Client, entity_of, eventually
from tests.support.listings import listing
from tests.support.standstill import read_metrics

pytestmark = pytest.mark.faults

UPLOADERS = 4
STORE = "papers"
IMAGES = "property_images"
IMAGES_EACH = 20
"""Of one listing, and with one key, which may ask 120 times a minute."""
MORE_KILLS = 50
"""After those that are asked for, until one leaves a file without its image."""


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
            await progress(uploads)
            await hub.end()
            await hub.start()
        await cancel(running)
        await eventually(lambda: is_idle(hub))

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


@dataclass
class NewImages:
    """Images that one client creates with their files, one after the other, by the listings API. `answered` are the
    addresses of those whose creation was answered; `number` is that of the client's user."""

    client: Client
    number: int
    answered: set[str] = field(default_factory=set)
    count: int = 0

    async def run(self) -> None:
        while True:
            try:
                place = await self.client.post("/properties", listing())
                key = await self.client.post("/keys", {"name": "faults", "kind": "listings", "scope": "RW"})
                if place.status_code == key.status_code == 200:
                    await self._fill(place.json()["number"], key.json()["key"])
            except httpx.TransportError:
                await asyncio.sleep(0.05)

    async def _fill(self, place: int, key: str) -> None:
        address = f"{self.client.url}/v1/{self.number}/properties/{place}/images/"
        headers = {"Authorization": f"Bearer {key}"}
        for _ in range(IMAGES_EACH):
            content = png(random.randint(10, 300), random.randint(10, 300))
            form = {"files": {"image": ("a.png", content)}, "data": {"is_main": random.choice(["true", "false"])}}
            answer = await self.client.http.post(address, headers=headers, **form)
            self.count += 1
            if answer.status_code == 201:
                self.answered.add(answer.json()["url"])


async def test_killed_while_images_are_created(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """By the listings API: no image is without its file, and each listing with images has one main image. Files whose
    image was not created are swept after an hour."""
    folder = tmp_path / "hub"
    async with mortal_hub(database, folder) as hub:
        admin = hub.client()
        entity_of(await answered(lambda: admin.post("/keys", {"name": "first", "kind": "listings"})))
        me = entity_of(await admin.get("/auth"))["_id"]
        number = (await admin.see("users", me))["number"]
        uploads = [NewImages(hub.client(), number) for _ in range(UPLOADERS)]
        running = [asyncio.create_task(each.run()) for each in uploads]
        for kills in range(1, times + MORE_KILLS):
            await progress(uploads)
            await hub.end()
            orphans = await unfinished(database)
            if kills >= times and orphans:
                break
            await hub.start()
        await cancel(running)
        assert orphans
        Clock(tmp_path / "clock", monkeypatch).jump(2)
        await hub.start()

        images = await admin.list(IMAGES)
        values = [image["image"] for image in images]
        known = {address.removeprefix(hub.url) for each in uploads for address in each.answered}
        assert known
        assert not known - {value["url"] for value in values}
        for value in values:
            content = (await admin.http.get(hub.url + value["url"])).content
            assert len(content) == value["size"]
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
                assert (picture.format, *picture.size) == ("WEBP", value["width"], value["height"])
        mains = Counter(image["property"] for image in images if image["is_main"])
        assert mains == Counter({image["property"] for image in images})
        await eventually(lambda: are_swept(folder, {value["id"] for value in values}))
        await check_files(hub, admin, len(values))
    assert await unfinished(database) == []


async def are_swept(folder: Path, files: set[str]) -> bool:
    """Return whether the hub's data folder has these files alone, beside the one that names the owner of the files."""
    stored = {path.name for path in (folder / "media").rglob("*") if path.is_file()}
    return stored == {"owner", *files} and not [*(folder / "incoming").iterdir()]


async def check_files(hub: MortalHub, admin: Client, count: int) -> None:
    """Check that the hub finds so many files, and nothing that is missing or too much."""
    checked = (await admin.http.post(hub.url + "/media/-/check", json={}, timeout=60)).json()
    assert checked["files"] == count
    assert [checked[kind]["count"] for kind in ("missing", "unreferenced", "unknown")] == [0, 0, 0]


async def unfinished(database: Database) -> list[FileRecord]:
    """Return the records of files without an entity, while no hub runs."""
    async with opened(database.engine()) as engine:
        records = FileRecords(engine)
        await records.define()
        return await records.page(states=(PENDING,))


async def progress(uploads: Sequence[Uploads] | Sequence[NewImages]) -> None:
    """Wait until some more uploads have been answered, and until the next ones are on their way."""
    before = sum(each.count for each in uploads)
    await eventually(lambda: reached(uploads, before + random.randint(3, 12)))
    await asyncio.sleep(random.uniform(0, 0.05))


async def is_idle(hub: MortalHub) -> bool:
    """Return whether the hub has ended all uploads, also those whose client has gone."""
    return (await read_metrics(hub.url)).value("hub_requests_in_progress") <= 1


async def cancel(running: list[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def reached(uploads: Sequence[Uploads] | Sequence[NewImages], count: int) -> bool:
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
