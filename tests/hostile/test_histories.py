"""The history of a large entity that has just been changed often does not stop the event loop."""

from __future__ import annotations

from tests.support.hub import Hub
from tests.support.standstill import no_standstill


async def test_the_history_of_many_changes_that_have_just_been_made(hub: Hub) -> None:
    """They are made in one commit. All of them are in the first answer."""
    user = await hub.as_user()
    store = await hub.define(unique=["code"])
    id = (await user.make(store, {"code": "c", "many": [*range(100_000, 130_000)]}))["_id"]
    changes = [{"code": "c", "n": n} for n in range(80)]
    assert (await user.post(f"/{store}", changes, {"upsert": "code"})).status_code == 200
    async with no_standstill(hub.url):
        page = await user.get(f"/{store}/{id}/history", {"limit": "1000"})
    assert page.status_code == 200, page.text
    assert [entry["_rev"] for entry in page.json()["history"]] == [*range(1, 82)]
