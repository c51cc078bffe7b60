"""Arrays of upserts do not stop the event loop."""

from __future__ import annotations

import pytest

from tests.platform.answers import refused
from tests.support.hub import Hub
from tests.support.standstill import no_standstill


async def test_ten_thousand_upserts_of_existing_entities(hub: Hub) -> None:
    user = await hub.as_user()
    store = await hub.define(unique=["code"])
    made = [{"code": f"c{n}", "text": "x" * 2_000} for n in range(10_000)]
    assert (await user.post(f"/{store}", made)).status_code == 200
    for again in ({}, {"n": 1}):
        body = [{"code": f"c{n}", **again} for n in range(10_000)]
        async with no_standstill(hub.url):
            answer = await user.post(f"/{store}", body, {"upsert": "code"})
            assert answer.status_code == 200, answer.text[:500]


async def test_upserts_that_meet_one_large_entity_again_and_again(hub: Hub) -> None:
    user = await hub.as_user()
    store = await hub.define(unique=["code"])
    await user.make(store, {"code": "c", "text": "x" * 1_000_000})
    async with no_standstill(hub.url):
        refused(await user.post(f"/{store}", [{"code": "c"}] * 100, {"upsert": "code"}), 400, "upsert")


@pytest.mark.parametrize(
    ("count", "keys"),
    [
        (10_000, 10_000),
        pytest.param(10_000, 1, marks=pytest.mark.engine("sqlite")),
        pytest.param(1_000, 1, marks=pytest.mark.engine("mongodb")),
    ],
)
async def test_upserts_with_references(hub: Hub, count: int, keys: int) -> None:
    """Of as many entities, and all of one: each is checked against what those before it leave. MongoDB writes those of
    one entity one by one."""
    user = await hub.as_user()
    customers = await hub.define(fields=[{"id": "n", "type": "Number"}])
    to = {"type": "Reference", "store": customers}
    store = await hub.define(
        fields=[{"id": "code", "type": "Text", "unique": True}, {"id": "to", **to}, {"id": "seen", "many": True, **to}],
        open=True,
    )
    first, second = [each["_id"] for each in await user.make_all(customers, [{}, {}])]
    for _ in range(2):
        change = {"$inc": {"n": 1}, "$addToSet": {"seen": second}, "to": first}
        body = [{"code": f"c{n % keys}", **change} for n in range(count)]
        async with no_standstill(hub.url):
            answer = await user.post(f"/{store}", body, {"upsert": "code"})
            assert answer.status_code == 200, answer.text[:500]
    body[-1] = {"code": "c0", "to": "f" * 24}
    async with no_standstill(hub.url):
        refused(await user.post(f"/{store}", body, {"upsert": "code"}), 400, f"{count - 1}.to")
