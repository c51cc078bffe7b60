"""Deletions for delta sync."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from hub.dialects.listings.filters import INVALID_TIME
from tests.listings.answers import check
from tests.listings.support import Tenant, Tenants
from tests.support.hub import StartHub

pytestmark = pytest.mark.gate("sqlite", "mongodb")


async def deleted(tenant: Tenant, **parameters: str) -> list[dict[str, object]]:
    answer = await tenant.reader.get("properties/deleted/", params=parameters)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, object]] = answer.json()["results"]
    return results


async def test_what_left_the_feed_is_listed(tenant: Tenant, tenants: Tenants) -> None:
    gone, hidden, draft, kept = await tenant.add_all([{}, {}, {"publish_status": "draft"}, {}])
    assert await deleted(await tenants()) == await deleted(tenant) == []
    for entity in (gone, draft):
        assert (await tenant.platform.delete(f"/properties/{entity['_id']}")).status_code == 200
    [first] = await deleted(tenant)
    assert first.keys() == {"id", "deleted_at"}
    assert first["id"] == gone["number"]
    await tenant.platform.patch(f"/properties/{hidden['_id']}", {"publish_status": "trash"})
    second, again = await deleted(tenant)
    assert (second["id"], second["publish_status"], again) == (hidden["number"], "trash", first)
    assert await deleted(tenant, updated_after=str(second["deleted_at"])) == [second]
    await tenant.platform.patch(f"/properties/{hidden['_id']}", {"publish_status": "published"})
    assert await deleted(tenant) == [first]
    assert {found["id"] for found in await tenant.feed()} == {hidden["number"], kept["number"]}


async def test_it_is_paged(tenant: Tenant) -> None:
    made = await tenant.add_all([{} for _ in range(70)])
    assert (await tenant.platform.delete("/properties", {"all": "true"})).status_code == 200
    found: list[int] = []
    address: str | None = f"properties/deleted/?updated_after={datetime.now(UTC):%Y-%m-%d}"
    while address is not None:
        page = (await tenant.reader.get(address)).json()
        found += [each["id"] for each in page["results"]]
        address = page["next"]
    assert sorted(found) == [entity["number"] for entity in made]


async def check_limit(tenant: Tenant, days: int) -> None:
    """Check that readers may ask for the deletions of so many days, and not of a second more."""
    limit = datetime.now(UTC) - timedelta(days=days)
    text = f"Deletions are kept for {days} days (HUB_TOMBSTONE_DAYS): read the whole feed instead."
    old, recent = (f"{time:%Y-%m-%dT%H:%M:%S}Z" for time in (limit - timedelta(seconds=1), limit + timedelta(hours=1)))
    answer = await tenant.reader.get("properties/deleted/", params={"updated_after": old})
    check(answer, 400, {"updated_after": [text]})
    assert await deleted(tenant, updated_after=recent) == []


async def test_deletions_are_kept_for_a_time(tenant: Tenant) -> None:
    await check_limit(tenant, 90)
    wrong = await tenant.reader.get("properties/deleted/", params={"updated_after": "then"})
    check(wrong, 400, {"updated_after": [INVALID_TIME]})


async def test_the_time_is_a_setting(sqlite_hub: StartHub) -> None:
    async with aclosing(Tenants(await sqlite_hub(tombstone_days=7))) as tenants:
        await check_limit(await tenants(), 7)
