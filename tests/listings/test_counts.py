"""Requests are counted by key and by address, over all processes of a hub."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import httpx
import pytest

from hub.dialects.listings.context import MOST_REGISTRATIONS, MOST_REQUESTS
from tests.listings.answers import check_wait
from tests.listings.support import LISTINGS
from tests.support.engines import Database
from tests.support.hub import PATIENCE, Hub, running_hub


def client(hub: Hub, **headers: str) -> httpx.AsyncClient:
    """Return a client of the listings API."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.AsyncClient(
        base_url=hub.url + LISTINGS, headers=named, timeout=PATIENCE, trust_env=False, verify=False
    )


@pytest.mark.engine("mongodb")
async def test_a_key_is_counted_over_two_processes(database: Database, tmp_path: Path) -> None:
    async with running_hub(database, tmp_path / "one") as one, running_hub(database, tmp_path / "two") as two:
        key = (await one.admin.make("keys", {"name": "site", "kind": "listings"}))["key"]
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(client(hub, authorization=f"Bearer {key}")) for hub in (one, two)
            ]
            began = time.monotonic()
            for number in range(MOST_REQUESTS):
                assert (await clients[number % 2].get("/amenities/")).status_code == 200
            for each in clients:
                check_wait(await each.get("/amenities/"), 60, began)


BLOCKS: list[tuple[str, Callable[[int], str], Callable[[int], str]]] = [
    ("IPv4", lambda _: "198.51.100.7", lambda n: f"198.51.100.{8 + n}"),
    ("IPv6", lambda n: f"2001:db8:0:1::{n + 1:x}", lambda n: f"2001:db8:0:{n + 2:x}::1"),
]


@pytest.mark.parametrize(("own", "other"), [each[1:] for each in BLOCKS], ids=[each[0] for each in BLOCKS])
async def test_registrations_are_counted_by_address(
    database: Database, tmp_path: Path, own: Callable[[int], str], other: Callable[[int], str]
) -> None:
    """For an hour, both steps together, of all addresses of one IPv6 network; refused ones make nobody wait longer."""
    paths = ("/register/", "/register/verify/")
    async with running_hub(database, tmp_path / "hub", trusted_proxies="127.0.0.1") as hub, client(hub) as anybody:
        numbers = count()

        async def ask(address: Callable[[int], str], path: str) -> httpx.Response:
            return await anybody.post(path, json={}, headers={"X-Forwarded-For": address(next(numbers))})

        began = time.monotonic()
        for number in range(MOST_REGISTRATIONS):
            assert (await ask(own, paths[number % 2])).status_code == 400
        waits = [check_wait(await ask(own, path), 3_600, began) for path in paths * 2]
        assert waits == sorted(waits, reverse=True)
        for path in paths:
            assert (await ask(other, path)).status_code == 400
