"""An entity that grows by many small changes has a size limit, the same for every kind of write on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.support.engines import Database, fitting_database
from tests.support.hub import Client, Hub, running_hub
from tests.support.standstill import no_standstill, read_metrics

MOST = 20_000


@pytest.fixture(scope="module")
async def small(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hub]:
    """A hub whose entities are small. Each test has a user and a store of its own."""
    folder = tmp_path_factory.mktemp("small")
    async with (
        fitting_database(engine_kind, request, folder) as database,
        running_hub(database, folder / "hub", max_entity_bytes=MOST) as hub,
    ):
        yield hub


def is_refused(answer: httpx.Response, place: str = "entity", most: int = MOST) -> bool:
    if answer.status_code == 200:
        return False
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"] == {place: [f"Must not be larger than {most} bytes."]}
    return True


async def length(user: Client, store: str, id: str) -> int:
    """Return the size in bytes of the entity's JSON."""
    entity = await user.see(store, id)
    return len(orjson.dumps(entity))


@pytest.mark.parametrize("value", ["x" * 300, "\x01" * 60, [None] * 70, [1.0000000000000002] * 15, {"é": "é" * 140}])
async def test_patches_up_to_the_bound_and_not_beyond(small: Hub, value: Any) -> None:
    """A change that would exceed the limit is refused, whatever the values are; a smaller change is accepted."""
    user = await small.as_user()
    store = await small.define()
    id = (await user.make(store, {"n": 0}))["_id"]
    number = 0
    while not is_refused(await user.patch(f"/{store}/{id}", {f"f{number}": value})):
        number += 1
        assert number < 100
    assert MOST - 450 < await length(user, store, id) <= MOST
    assert (await user.patch(f"/{store}/{id}", {"n": 1})).status_code == 200
    assert (await user.patch(f"/{store}/{id}", {"f0": None})).status_code == 200
    limits = await read_metrics(small.url)
    assert limits.value("hub_limit_reached_total", limit="max_entity_bytes") >= 1


async def test_every_kind_of_write_has_the_bound(small: Hub) -> None:
    """Creation, PUT, PATCH, upsert, arrays and bulk changes are refused as a whole; the error names the array item."""
    user = await small.as_user()
    store = await small.define(unique=["code"])
    half, whole = "x" * (MOST // 2), "y" * MOST
    one = await user.make(store, {"code": 1, "text": half})
    two = await user.make(store, {"code": 2})
    assert is_refused(await user.post(f"/{store}", {"text": whole}))
    assert is_refused(await user.post(f"/{store}", [{"n": 1}, {"text": whole}]), "1")
    assert is_refused(await user.put(f"/{store}/{one['_id']}", {"text": whole}))
    assert is_refused(await user.patch(f"/{store}/{two['_id']}", {"text": whole}))
    assert is_refused(await user.post(f"/{store}", {"code": 1, "more": half}, {"upsert": "code"}))
    assert is_refused(await user.post(f"/{store}", {"code": 3, "more": whole}, {"upsert": "code"}))
    several = [{"code": 2, "more": "x"}, {"code": 1, "more": half}]
    assert is_refused(await user.post(f"/{store}", several, {"upsert": "code"}), "1")
    assert is_refused(await user.patch(f"/{store}", {"more": half}, {"all": "true"}))
    assert await user.list(store) == [one, two]
    answer = await user.patch(f"/{store}", {"more": half}, {"filter": '{"code":2}'})
    assert answer.status_code == 200
    assert (await user.put(f"/{store}/{one['_id']}", {"code": 1, "more": half})).status_code == 200
    assert len((await user.see(store, two["_id"]))["more"]) == len(half)


async def test_an_entity_that_is_larger_already_is_read_shared_moved_and_deleted(
    database: Database, tmp_path: Path
) -> None:
    async with running_hub(database, tmp_path / "one") as hub:
        upper, lower = await hub.group(), await hub.group()
        user, other = await hub.as_user(group=lower), await hub.as_user()
        store = await hub.define()
        id = (await user.make(store, {"text": "x" * MOST}))["_id"]
        token = user.http.headers["authorization"].removeprefix("Bearer ")
    async with running_hub(database, tmp_path / "two", max_entity_bytes=MOST) as hub:
        again = hub.client(token, user.user)
        assert is_refused(await again.patch(f"/{store}/{id}", {"n": 1}))
        shared = await again.put(f"/{store}/{id}/access", {"access": [other.id]})
        assert shared.status_code == 200, shared.text
        moved = await hub.admin.patch(f"/groups/{lower}", {"parent": upper})
        assert moved.status_code == 200, moved.text
        assert len((await again.see(store, id))["text"]) == MOST
        assert (await again.patch(f"/{store}/{id}", {"text": "x"})).status_code == 200
        assert (await again.patch(f"/{store}/{id}", {"n": 1})).status_code == 200
        assert (await again.delete(f"/{store}/{id}")).status_code == 200


async def test_growth_with_the_default_bound_stops_nobody(hub: Hub) -> None:
    """Megabytes of text, then numbers, which take many times more space in MongoDB than in JSON. The answer is 400 with
    the limit, never 500."""
    user = await hub.as_user()
    store = await hub.define()
    text, numbers = [e["_id"] for e in await user.make_all(store, [{"n": 0}, {"n": 1}])]
    async with no_standstill(hub.url):
        for number in range(8):
            answer = await user.patch(f"/{store}/{text}", {f"f{number}": "x" * 900_000})
            assert is_refused(answer, most=3_500_000) == (number >= 3)
    refused = 0
    for number in range(30):
        answer = await user.patch(f"/{store}/{numbers}", {f"f{number}": [1] * 90_000})
        refused += answer.status_code != 200
        if refused:
            assert is_refused(answer, most=3_500_000 if hub.database.kind == "sqlite" else 16_777_216)
            break
    assert refused
    assert (await user.get(f"/{store}/{numbers}")).status_code == 200
    assert (await user.delete(f"/{store}/{numbers}")).status_code == 200


async def test_a_small_array_of_upserts_does_not_hold_one_large_entity_often(hub: Hub) -> None:
    """A kilobyte of body, each item of which meets the same entity, is refused by the bytes of what it meets."""
    user = await hub.as_user()
    store = await hub.define(unique=["code"])
    made = await user.make(store, {"code": "c", "text": "x" * 900_000})
    answer = await user.post(f"/{store}", [{"code": "c"}] * 100, {"upsert": "code"})
    assert answer.status_code == 400, answer.text[:300]
    [text] = answer.json()["errors"]["upsert"]
    assert "67108864 bytes" in text
    assert "MOST_UPSERT_BYTES" in text
    limits = await read_metrics(hub.url)
    assert limits.value("hub_limit_reached_total", limit="MOST_UPSERT_BYTES") == 1
    answer = await user.post(f"/{store}", [{"code": "c"}] * 10, {"upsert": "code"})
    assert [e["_rev"] for e in answer.json()["entities"]] == [made["_rev"]] * 10
