"""Paging by cursor: forwards, backwards, and while others write."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from hub.dialects.listings.cursors import Cursor
from hub.dialects.listings.errors import InvalidCursor
from tests.listings.answers import INVALID_CURSOR, check
from tests.listings.support import Tenant
from tests.support.hub import Hub

pytestmark = pytest.mark.gate("sqlite", "mongodb")

Json = dict[str, Any]


async def page(client: httpx.AsyncClient, address: str) -> Json:
    answer = await client.get(address)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def ids(page: Json) -> list[int]:
    return [listing["id"] for listing in page["results"]]


async def walk(client: httpx.AsyncClient, address: str, link: str = "next") -> list[Json]:
    """Return the pages that follow from an address."""
    pages = [await page(client, address)]
    while pages[-1][link] is not None:
        pages.append(await page(client, pages[-1][link]))
    return pages


async def test_forwards_and_back(tenant: Tenant) -> None:
    made = [entity["number"] for entity in await tenant.add_all([{"title": str(n)} for n in range(120)])]
    forwards = await walk(tenant.reader, "properties/")
    assert [len(each["results"]) for each in forwards] == [50, 50, 20]
    assert [id for each in forwards for id in ids(each)] == sorted(made, reverse=True)
    assert forwards[0]["previous"] is None
    backwards = await walk(tenant.reader, forwards[-1]["previous"], "previous")
    assert list(map(ids, backwards)) == [ids(forwards[1]), ids(forwards[0])]
    assert ids(await page(tenant.reader, backwards[-1]["next"])) == ids(forwards[1])


async def test_a_page_that_is_just_full_is_the_last_one(tenant: Tenant) -> None:
    await tenant.add_all([{"title": str(n)} for n in range(50)])
    [only] = await walk(tenant.reader, "properties/")
    assert (only["next"], only["previous"], len(only["results"])) == (None, None, 50)


async def test_no_listings(tenant: Tenant) -> None:
    assert await page(tenant.reader, "properties/") == {"next": None, "previous": None, "results": []}


async def test_links_keep_the_other_parameters(hub: Hub, tenant: Tenant) -> None:
    await tenant.add_all([{"title": f"a&b={n}"} for n in range(60)] + [{"listing_type": "sale"}])
    first = await page(tenant.reader, "properties/?search=a%26b+garden&min_price=&x=1&x=2&listing_type=rent")
    address = urlsplit(first["next"])
    assert f"{address.scheme}://{address.netloc}" == hub.url
    assert address.path == f"/v1/{tenant.number}/properties/"
    found = parse_qs(address.query, keep_blank_values=True)
    assert b64decode(found.pop("cursor")[0]).startswith(b"p=")
    assert found == {"search": ["a&b garden"], "min_price": [""], "x": ["1", "2"], "listing_type": ["rent"]}
    second = await page(tenant.reader, first["next"])
    assert len(second["results"]) == 10
    assert ids(await page(tenant.reader, second["previous"])) == ids(first)


async def test_a_cursor_is_stable_while_others_write(tenant: Tenant) -> None:
    """A walk returns each listing that was there all along exactly once."""
    made = [entity for n in range(5) for entity in await tenant.add_all([{"title": str(n)} for _ in range(80)])]
    going, staying = made[::4], {entity["number"] for n, entity in enumerate(made) if n % 4}
    seen: list[int] = []

    async def write() -> None:
        for number, entity in enumerate(going):
            assert (await tenant.platform.delete(f"/properties/{entity['_id']}")).status_code == 200
            if number % 3 == 0:
                await tenant.add(title="new")

    writing = asyncio.create_task(write())
    address: str | None = "properties/"
    while address is not None:
        found = await page(tenant.reader, address)
        seen += ids(found)
        address = found["next"]
        await asyncio.sleep(0.02)
    await writing
    assert len(seen) == len(set(seen))
    assert staying <= set(seen)


async def test_the_listing_of_a_cursor_is_deleted(tenant: Tenant) -> None:
    made = await tenant.add_all([{"title": str(n)} for n in range(60)])
    first = await page(tenant.reader, "properties/")
    last = made[10]
    assert last["number"] == ids(first)[-1]
    await tenant.platform.delete(f"/properties/{last['_id']}")
    second = await page(tenant.reader, first["next"])
    assert ids(second) == [entity["number"] for entity in reversed(made[:10])]


async def test_everything_on_one_side_is_deleted(tenant: Tenant) -> None:
    """From an empty page one comes back to what is left, without a gap."""
    made = await tenant.add_all([{"title": str(n)} for n in range(60)])
    first = await page(tenant.reader, "properties/")
    second = await page(tenant.reader, first["next"])
    for entity in made[:10]:
        await tenant.platform.delete(f"/properties/{entity['_id']}")
    empty = await page(tenant.reader, first["next"])
    assert (empty["results"], empty["next"]) == ([], None)
    assert ids(await page(tenant.reader, empty["previous"])) == ids(first)
    for entity in made[10:]:
        await tenant.platform.delete(f"/properties/{entity['_id']}")
    [again] = await tenant.add_all([{"title": "new"}])
    before = await page(tenant.reader, second["previous"])
    assert ids(before) == [again["number"]]
    await tenant.platform.delete(f"/properties/{again['_id']}")
    nothing = await page(tenant.reader, second["previous"])
    assert (nothing["results"], nothing["previous"]) == ([], None)
    assert ids(await page(tenant.reader, nothing["next"])) == []


@pytest.mark.parametrize(
    "cursor",
    ["x", "cD0xLjE", "p=1.1", "é", "cD0x\nLjE=", "A" * 200, "cD0xLjE==", "%00",
     *(b64encode(text).decode() for text in (b"p=1", b"p=1.1&r=1", b"r=1", b"p=-1.5", b"p=1.1.1",
                                             b"p=01.1", b"p=1.1&u=", b"u=1&p=1.1"))],
)  # fmt: skip
async def test_an_invalid_cursor(tenant: Tenant, cursor: str) -> None:
    check(await tenant.reader.get("properties/", params={"cursor": cursor}), 404, INVALID_CURSOR)


@pytest.mark.parametrize(
    ("cursor", "is_behind"),
    [
        (Cursor(0, 0), True),
        (Cursor(0, 0, True), False),
        (Cursor(10**16, 10**16), False),
        (Cursor(10**16, 1, True), True),
    ],
)
async def test_a_cursor_of_nothing(tenant: Tenant, cursor: Cursor, is_behind: bool) -> None:
    """A position need not be that of a listing."""
    made = await tenant.add()
    found = await page(tenant.reader, f"properties/?cursor={cursor.encode()}")
    assert ids(found) == ([] if is_behind else [made["number"]])


@pytest.mark.parametrize(
    "cursor", [Cursor(1, 2), Cursor(1_780_272_000_000, 987, True), Cursor(10**16, 10**16), Cursor(1, 2, True, 10**16)]
)
def test_a_cursor_and_its_text(cursor: Cursor) -> None:
    assert Cursor.decode(cursor.encode()) == cursor


def test_a_text_that_is_no_cursor() -> None:
    for text in ("", "=", "cD0xLjE", "*" * 8):
        with pytest.raises(InvalidCursor):
            Cursor.decode(text)
