"""Bounds of what a change of reference data changes along."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platform.answers import good, refused
from tests.support.engines import Database
from tests.support.hub import running_hub
from tests.support.listings import listing, prepare_database


@pytest.mark.parametrize(
    ("store", "key", "value", "body"),
    [("currencies", "code", "USD", {"symbol": "US$"}), ("districts", "slug", "gulu", {"region": "western"})],
)
async def test_a_row_that_too_many_listings_show_is_not_changed(
    database: Database, tmp_path: Path, store: str, key: str, value: str, body: dict[str, str]
) -> None:
    await prepare_database(database)
    async with running_hub(database, tmp_path, max_matches=3) as hub:
        shown = listing(currency="USD", district="gulu")
        made = await hub.admin.make_all("properties", [{**shown, "title": f"House {n}"} for n in range(4)])
        [row] = await hub.admin.list(store, {key: value})
        text = "With what goes with it, more than 3 entities would change (HUB_MAX_MATCHES)."
        assert refused(await hub.admin.patch(f"/{store}/{row['_id']}", body), 400) == {"body": [text]}
        assert await hub.admin.list(store, {key: value}) == [row]
        assert await hub.admin.list("properties", {"district": "gulu"}) == made
        good(await hub.admin.delete(f"/properties/{made[0]['_id']}"))
        good(await hub.admin.patch(f"/{store}/{row['_id']}", body))
        assert [each["_rev"] for each in await hub.admin.list("properties", {"district": "gulu"})] == [2, 2, 2]
