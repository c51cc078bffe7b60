"""Deletions for delta sync."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hub.dialects.listings.filters import INVALID_TIME
from tests.listings.answers import check
from tests.listings.support import Tenant, Tenants

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


async def test_deletions_are_kept_for_a_time(tenant: Tenant) -> None:
    now = datetime.now(UTC)
    text = "Deletions are kept for 90 days (HUB_TOMBSTONE_DAYS): read the whole feed instead."
    old = now - timedelta(days=90, seconds=1)
    answer = await tenant.reader.get("properties/deleted/", params={"updated_after": f"{old:%Y-%m-%dT%H:%M:%S}Z"})
    check(answer, 400, {"updated_after": [text]})
    wrong = await tenant.reader.get("properties/deleted/", params={"updated_after": "then"})
    check(wrong, 400, {"updated_after": [INVALID_TIME]})
    recent = now - timedelta(days=89)
    assert await deleted(tenant, updated_after=f"{recent:%Y-%m-%dT%H:%M:%S}Z") == []
