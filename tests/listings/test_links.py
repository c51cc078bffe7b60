"""Absolute addresses in answers: HUB_PUBLIC_URL, or what the request was sent to."""

from __future__ import annotations

import re
from contextlib import aclosing
from urllib.parse import urlsplit

import httpx
import pytest

from tests.listings.support import LISTINGS, Tenant, Tenants, new_key
from tests.listings.written import PNG, image_path
from tests.support.hub import Hub, StartHub

PUBLIC = "https://hub.example.com"
CALLED = {"host": "listings.example:8443", "x_forwarded_proto": "https", "x_forwarded_prefix": "/hub"}


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub) -> Hub:
    return await sqlite_hub(public_url=f"{PUBLIC}/")


async def caller(tenants: Tenants, tenant: Tenant, **headers: str) -> httpx.AsyncClient:
    """Return a client of the tenant that sends these headers."""
    key = await new_key(tenant.hub, tenant.platform.id, tenant.number, "RW")
    return tenants.client(key, f"/{tenant.number}", **headers)


async def answers(client: httpx.AsyncClient, tenant: Tenant) -> dict[str, httpx.Response]:
    """Return the answers of all calls that have addresses in them, with one listing more than a page has."""
    listing = {"id": (await tenant.add_all([{} for _ in range(51)]))[-1]["number"]}
    added = await client.post(image_path(listing), files={"image": ("front.png", PNG)})
    first = await client.get("properties/")
    following = urlsplit(first.json()["next"])
    return {
        "root": await client.get(f"{LISTINGS}/"),
        "first page": first,
        "second page": await client.get(f"{tenant.hub.url}{following.path}?{following.query}"),
        "listing": await client.get(f"properties/{listing['id']}/"),
        "images": await client.get(image_path(listing)),
        "new image": added,
        "changed image": await client.patch(image_path(listing, added.json()), json={"alt": "Front view"}),
    }


def addresses(answer: httpx.Response) -> list[str]:
    assert answer.is_success, answer.text
    return re.findall(r'"(https?://[^"]*)"', answer.text)


async def check(client: httpx.AsyncClient, tenant: Tenant, base: str) -> None:
    """Check that all addresses begin with this one, and that the links of pages and images are among them."""
    found = {name: addresses(answer) for name, answer in (await answers(client, tenant)).items()}
    assert {name: len(each) for name, each in found.items()} == {
        "root": len((await client.get(f"{LISTINGS}/")).json()["endpoints"]),
        "first page": 2,  # the next page, and an image
        "second page": 1,  # the previous page
        "listing": 1,
        "images": 1,
        "new image": 1,
        "changed image": 1,
    }
    for each in found.values():
        for address in each:
            assert address.startswith((f"{base}{LISTINGS}/", f"{base}/media/"))


async def test_they_begin_with_the_public_url(tenants: Tenants) -> None:
    """Whatever the request was sent to."""
    for headers in ({}, CALLED):
        tenant = await tenants()
        await check(await caller(tenants, tenant, **headers), tenant, PUBLIC)


async def test_without_it_they_begin_with_what_the_request_was_sent_to(sqlite_hub: StartHub) -> None:
    """The scheme and the host, and the prefix of a proxy."""
    hub = await sqlite_hub()
    async with aclosing(Tenants(hub)) as tenants:
        tenant = await tenants()
        await check(tenant.writer, tenant, hub.url)
        other = await tenants()
        await check(await caller(tenants, other, **CALLED), other, "https://listings.example:8443/hub")
