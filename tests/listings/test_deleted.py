"""Deletions for delta sync."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hub.dialects.listings.filters import INVALID_TIME
from tests.listings.answers import check
from tests.listings.support import Tenant, Tenants

NOW = datetime.now(UTC).replace(microsecond=0)


def micros(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000 + time.microsecond


async def bury(tenant: Tenant, number: int, at: datetime, **more: str) -> None:
    """Make the tombstone of a listing, as the hub does when it is deleted."""
    await tenant.platform.make("listing_tombstones", {"number": number, "at": micros(at), **more})


async def test_deletions_since_a_time(tenant: Tenant, tenants: Tenants) -> None:
    earlier = NOW - timedelta(days=1)
    base = tenant.number * 1_000
    await bury(tenant, base + 1, earlier)
    await bury(tenant, base + 2, NOW + timedelta(microseconds=5), publish_status="draft")
    await bury(await tenants(), base + 3, NOW)
    recent = {
        "id": base + 2,
        "deleted_at": f"{NOW:%Y-%m-%dT%H:%M:%S}.000005Z",
        "publish_status": "draft",
    }
    old = {"id": base + 1, "deleted_at": f"{earlier:%Y-%m-%dT%H:%M:%S}Z"}
    for parameters, expected in [
        ({}, [recent, old]),
        ({"updated_after": f"{earlier:%Y-%m-%dT%H:%M:%S}Z"}, [recent, old]),
        ({"updated_after": f"{NOW:%Y-%m-%dT%H:%M:%S}Z"}, [recent]),
        ({"updated_after": f"{NOW:%Y-%m-%dT%H:%M:%S}.000006Z"}, []),
    ]:
        answer = await tenant.reader.get("properties/deleted/", params=parameters)
        assert (answer.status_code, answer.json()["results"]) == (200, expected), answer.text


async def test_it_is_paged(tenant: Tenant) -> None:
    base = tenant.number * 1_000
    await tenant.platform.make_all(
        "listing_tombstones", [{"number": base + n, "at": micros(NOW) + n // 7} for n in range(120)]
    )
    found: list[int] = []
    address: str | None = f"properties/deleted/?updated_after={NOW:%Y-%m-%d}"
    while address is not None:
        page = (await tenant.reader.get(address)).json()
        found += [each["id"] for each in page["results"]]
        address = page["next"]
    assert found == [base + n for n in reversed(range(120))]


async def test_deletions_are_kept_for_a_time(tenant: Tenant) -> None:
    old = NOW - timedelta(days=90, seconds=1)
    text = "Deletions are kept for 90 days (HUB_TOMBSTONE_DAYS): read the whole feed instead."
    answer = await tenant.reader.get("properties/deleted/", params={"updated_after": f"{old:%Y-%m-%dT%H:%M:%S}Z"})
    check(answer, 400, {"updated_after": [text]})
    wrong = await tenant.reader.get("properties/deleted/", params={"updated_after": "then"})
    check(wrong, 400, {"updated_after": [INVALID_TIME]})
    recent = NOW - timedelta(days=89)
    answer = await tenant.reader.get("properties/deleted/", params={"updated_after": f"{recent:%Y-%m-%dT%H:%M:%S}Z"})
    assert answer.status_code == 200
