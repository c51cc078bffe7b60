"""Walks of the feed, and copies that delta sync keeps, while others write."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from stores.records import Entity
from tests.listings.support import Json, Tenant, Tenants, new_key
from tests.support.hub import unique

pytestmark = pytest.mark.gate("sqlite", "mongodb")

WRITERS = 20
PAGES = 6
"""Full pages of listings that are there all along."""


@asynccontextmanager
async def writing(write: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Call `write` again and again, as twenty writers, while the block runs."""

    async def go_on() -> None:
        while True:
            await write()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(go_on()) for _ in range(WRITERS)]
        yield
        for task in tasks:
            task.cancel()


async def walk(client: httpx.AsyncClient, address: str | None, link: str = "next") -> list[Json]:
    """Return the results of all pages from an address on."""
    results: list[Json] = []
    while address is not None:
        answer = await client.get(address)
        assert answer.status_code == 200, answer.text
        results += answer.json()["results"]
        address = answer.json()[link]
    return results


@pytest.mark.parametrize("query", ["", "?updated_after=2026-01-01&search=kampala"], ids=["all", "filtered"])
async def test_a_walk_beside_writers(tenant: Tenant, tenants: Tenants, query: str) -> None:
    """Each listing that is there all along is met once, and none twice: forwards, and back."""
    staying = [entity for _ in range(PAGES) for entity in await tenant.add_all([{"title": "stays"}] * 50)]
    others = [entity["_id"] for entity in await tenant.add_all([{"title": "goes"}] * 50)]
    kept = {entity["number"] for entity in staying}

    async def write() -> None:
        match random.randrange(4):
            case 0:
                others.append((await tenant.add(title="new"))["_id"])
            case 1 if others:
                await tenant.platform.delete(f"/properties/{others.pop(random.randrange(len(others)))}")
            case _:
                await tenant.platform.patch(
                    f"/properties/{random.choice(staying)['_id']}", {"title": f"stays {random.random()}"}
                )

    async with writing(write):
        for _ in range(2):
            reader = tenants.client(await new_key(tenant.hub, tenant.platform.id, tenant.number), f"/{tenant.number}")
            last = await last_page(reader, f"properties/{query}")
            for found in (last.met, [*reversed(await walk(reader, last.address, "previous"))]):
                ids = [listing["id"] for listing in found]
                assert len(ids) == len(set(ids))
                assert kept <= set(ids)
            forwards = [listing["id"] for listing in last.met]
            assert forwards == sorted(forwards, reverse=True)


@dataclass
class LastPage:
    """The address of the last page of a walk, and what all pages had."""

    address: str
    met: list[Json]


async def last_page(client: httpx.AsyncClient, address: str) -> LastPage:
    met: list[Json] = []
    while True:
        answer = await client.get(address)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        met += page["results"]
        if page["next"] is None:
            return LastPage(address, met)
        address = page["next"]


@dataclass
class Copy:
    """What a reader keeps of a tenant's published listings, by the three steps of the documentation."""

    tenant: Tenant
    tenants: Tenants
    listings: dict[int, Json] = field(default_factory=dict)
    mark: str = ""

    async def update(self) -> None:
        """Read what has changed since the last time. Each time with a new key, since a key may ask only so often."""
        body = {"name": "copy", "kind": "listings", "user": self.tenant.platform.id}
        key = await self.tenant.hub.admin.make("keys", body)
        async with self.tenants.client(key["key"], f"/{self.tenant.number}") as reader:
            await self._update(reader)
        await self.tenant.hub.admin.delete(f"/keys/{key['_id']}")

    async def _update(self, reader: httpx.AsyncClient) -> None:
        since = f"?updated_after={self.mark}" if self.mark else ""
        changed = await walk(reader, f"properties/{since}")
        gone = await walk(reader, f"properties/deleted/{since}")
        self.listings |= {listing["id"]: listing for listing in changed}
        for each in gone:
            self.listings.pop(each["id"], None)
        self.mark = max([self.mark, *(listing["updated_at"] for listing in changed)], key=moment)


def moment(text: str) -> str:
    """Return a time as a text that is sorted like the time: `.5` comes after no fraction."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<6}"


@dataclass
class Changes:
    """Random changes of a tenant's listings: of their fields, status and images, of names that they show."""

    tenant: Tenant
    left: int
    amenity: Entity
    listings: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    async def make(self) -> None:
        while self.left > 0:
            self.left -= 1
            await self._change()

    async def _change(self) -> None:
        client, choice = self.tenant.platform, random.random()
        if not self.listings or choice < 0.25:
            amenities = random.choice([[], [self.amenity["slug"]]])
            status = random.choice(["published", "published", "draft"])
            made = await self.tenant.add(publish_status=status, amenities=amenities)
            self.listings.append(made["_id"])
            return
        listing = random.choice(self.listings)
        path = f"/properties/{listing}"
        if choice < 0.4:
            self.listings.remove(listing)
            answer = await client.delete(path)
        elif choice < 0.65:
            answer = await client.patch(path, {"publish_status": random.choice(["published", "draft", "trash"])})
        elif choice < 0.8:
            answer = await client.patch(path, {"title": unique("title"), "price": random.randrange(10**9)})
        elif choice < 0.99:
            answer = await client.post("/property_images", {"property": listing, "is_main": random.random() < 0.5})
        else:
            answer = await self.tenant.hub.admin.patch(f"/amenities/{self.amenity['_id']}", {"name": unique("name")})
        # Another writer may have deleted the listing, or filled it with images.
        assert answer.status_code in (200, 400, 404), answer.text


@pytest.mark.parametrize("changes", [600, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
async def test_delta_sync_misses_nothing(tenant: Tenant, tenants: Tenants, changes: int) -> None:
    """A copy that is kept up to date while others write is at last what the feed shows, although each walk takes
    several pages."""
    await tenant.add_all([{"title": "there before"}] * 120)
    slug = unique("gym")
    amenity = await tenant.hub.admin.make("amenities", {"name": "Gym", "slug": slug, "icon": ""})
    work, copy = Changes(tenant, changes, amenity), Copy(tenant, tenants)
    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(work.make()) for _ in range(WRITERS)]
        updates = 0
        while not all(writer.done() for writer in writers):
            await copy.update()
            updates += 1
    await copy.update()
    assert updates > 1
    fresh = Copy(tenant, tenants)
    await fresh.update()
    assert copy.listings == fresh.listings


async def test_a_walk_shows_no_later_change_than_its_beginning(tenant: Tenant) -> None:
    """What changes while a walk goes on has changed after all that the walk shows, so it belongs to the next sync."""
    made = [entity for _ in range(3) for entity in await tenant.add_all([{"title": "a"}] * 40)]
    first = (await tenant.reader.get("properties/")).json()
    newest, oldest = made[-1], made[0]
    await tenant.platform.patch(f"/properties/{newest['_id']}", {"title": "read before"})
    await tenant.platform.patch(f"/properties/{oldest['_id']}", {"title": "read afterwards"})
    met: list[Any] = [*first["results"], *await walk(tenant.reader, first["next"])]
    assert met[-1]["title"] == "read afterwards"
    mark = max((listing["updated_at"] for listing in met), key=moment)
    answer = (await tenant.reader.get("properties/", params={"updated_after": mark})).json()
    assert {"read before", "read afterwards"} <= {listing["title"] for listing in answer["results"]}
