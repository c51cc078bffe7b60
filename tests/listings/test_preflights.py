"""Preflight requests to reference data, on a hub all of whose keys name hosts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stores.records import now_ms
from tests.listings.support import Tenants
from tests.support.engines import Database
from tests.support.hub import Hub, eventually, running_hub

ALLOWED = "access-control-allow-origin"
ASKS = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
async def hub(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(database, tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
async def tenants(hub: Hub) -> AsyncIterator[Tenants]:
    tenants = Tenants(hub)
    yield tenants
    await tenants.aclose()


async def asked(tenants: Tenants, host: str, path: str = "/amenities/") -> str | None:
    """Send a preflight request of a page of this host; return the origin that is allowed."""
    answer = await tenants.client().options(path, headers=ASKS | {"Origin": f"https://{host}"})
    assert answer.status_code == 200
    allowed: str | None = answer.headers.get(ALLOWED)
    return allowed


async def becomes(tenants: Tenants, host: str, expected: str | None) -> None:
    """Wait until the feed has told what has changed."""

    async def is_so() -> bool:
        return await asked(tenants, host) == expected

    await eventually(is_so)


async def named(hub: Hub, host: str, **fields: Any) -> str:
    """Create a key for the pages of a host; return its id."""
    body = {"name": host, "kind": "listings", "allowed_origins": [host]}
    return str((await hub.admin.make("keys", body | fields))["_id"])


async def test_a_page_must_be_named_by_an_active_key(hub: Hub, tenants: Tenants) -> None:
    user = (await hub.admin.make("users", {"login": "ann", "name": "Ann"}))["_id"]
    switched, used = await named(hub, "switched.example"), await named(hub, "used.example", user=user)
    await named(hub, "writes.example", scope="RW")
    await named(hub, "ends.example", expires=now_ms() + 3_000)
    for host in ("switched.example", "used.example", "ends.example"):
        await becomes(tenants, host, f"https://{host}")
    assert await asked(tenants, "SWITCHED.example") == "https://SWITCHED.example"
    for host in ("writes.example", "other.example", "sub.used.example"):
        assert await asked(tenants, host) is None
    assert await asked(tenants, "used.example", "/register/") is None
    await hub.admin.patch(f"/keys/{switched}", {"active": False})
    await becomes(tenants, "switched.example", None)
    await hub.admin.patch(f"/users/{user}", {"disabled": True})
    await becomes(tenants, "used.example", None)
    await becomes(tenants, "ends.example", None)
    await hub.admin.delete(f"/keys/{used}")
    await hub.admin.make("keys", {"name": "all", "kind": "listings"})
    await becomes(tenants, "other.example", "*")
