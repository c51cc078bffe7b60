"""The web page among the examples shows the feed. Its script runs in Node."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from hub.dialects.listings.reading import PAGE
from tests.listings.support import Json, Tenant, new_key
from tests.live import node
from tests.platform.raw import token_of
from tests.support.hub import Hub

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT = Path(__file__).parent / "js" / "page.mjs"


@pytest.fixture(scope="module")
async def address() -> AsyncIterator[str]:
    """The address of the page on a web server that is started as its comment says."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(EXAMPLES)]
    server = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert server.stdout is not None
    try:
        said = (await server.stdout.readline()).decode()
        found = re.search(r"\((http://\S+/)\)", said)
        assert found, said
        yield found[1] + "listings.html"
    finally:
        server.terminate()
        await server.communicate()


async def opened(address: str, tenant: Tenant, key: str, *actions: Json) -> Any:
    """Open the page with a key; return what it asks, and what it shows at first and after each action."""
    settings = urlencode({"hub": tenant.hub.url, "user": tenant.number, "key": key})
    return json.loads(await node.run(str(SCRIPT), f"{address}#{settings}", json.dumps(actions)))


def titles(state: Json) -> list[str]:
    return [listing["title"] for listing in state["listings"]]


async def test_the_page_shows_the_feed(tenant: Tenant, address: str) -> None:
    """Page by page, with the main images, and searched."""
    made = await tenant.add_all([{"title": f"House {number}"} for number in range(PAGE + 2)])
    villa = await tenant.add(title="Villa", listing_type="sale")
    await tenant.add_image(villa, "front", alt="Front view")
    more, search = {"click": "more"}, {"submit": {"search": "villa", "listing_type": "sale"}}
    nothing = {"submit": {"search": "villa", "listing_type": "rent"}}
    found = await opened(address, tenant, token_of(tenant.reader.headers), more, search, nothing)
    assert [(each["method"], each["status"]) for each in found["requests"]] == [("OPTIONS", 200), ("GET", 200)] * 4
    feed = f"{tenant.hub.url}/v1/{tenant.number}/properties/"
    assert all(each["address"].startswith(feed) for each in found["requests"])
    first, whole, searched, empty = found["states"]
    assert titles(first) == await tenant.titles()
    assert (len(titles(first)), first["message"], first["more"]) == (PAGE, "", True)
    assert sorted(titles(whole)) == sorted(["Villa", *(each["title"] for each in made)])
    assert (whole["message"], whole["more"]) == ("", False)
    assert (titles(searched), searched["message"], searched["more"]) == (["Villa"], "", False)
    assert (titles(empty), empty["message"], empty["more"]) == ([], "No listings.", False)
    [shown] = searched["listings"]
    assert shown["facts"].startswith("USh ")
    assert shown["facts"].endswith(" · Kampala · 5 bedrooms")
    [picture] = [each["picture"] for each in whole["listings"] if each["picture"]]
    assert picture == shown["picture"]
    assert (await tenant.hub.client().http.get(picture)).headers["content-type"] == "image/webp"


async def test_a_key_of_the_page_may_be_limited_to_its_host(hub: Hub, tenant: Tenant, address: str) -> None:
    await tenant.add(title="House")
    key = await new_key(hub, tenant.platform.id, tenant.number, "R", "127.0.0.1")
    [shown] = (await opened(address, tenant, key))["states"]
    assert (titles(shown), shown["message"]) == (["House"], "")


async def test_the_page_says_what_is_wrong(hub: Hub, tenant: Tenant, address: str) -> None:
    await tenant.add(title="House")
    elsewhere = await new_key(hub, tenant.platform.id, tenant.number, "R", "example.com")
    for key, message in [("R_" + "a" * 32, "Invalid API key."), (elsewhere, "Failed to fetch")]:
        [shown] = (await opened(address, tenant, key))["states"]
        assert (titles(shown), shown["message"], shown["more"]) == ([], message, False)
