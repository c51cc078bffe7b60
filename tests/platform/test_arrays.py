"""Several entities in one call: arrays are all or nothing, and upserts find their entity by a unique field."""

from __future__ import annotations

import asyncio

import pytest

from stores.records import Entity
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of


async def test_an_array_creates_all(user: Client, store: str) -> None:
    """The answer contains the new entities in the order of the request."""
    body = good(await user.post(f"/{store}", [{"n": n} for n in range(3)]))
    assert body.keys() == {"success", "entities"}
    assert body["success"] is True
    assert [e["n"] for e in body["entities"]] == [0, 1, 2]
    assert await user.list(store) == body["entities"]


async def test_a_bad_entity_stops_the_whole_array(user: Client, typed: str) -> None:
    """Nothing is created, and every error names the item's index."""
    bodies = [{"name": "good"}, {"price": "dear"}, {"name": "good too"}, {"name": "x", "floor": 1.5, "_id": "1"}]
    errors = refused(await user.post(f"/{typed}", bodies), 400, "1.name", "1.price", "3.floor", "3._id")
    assert not [name for name in errors if name.startswith(("0.", "2."))]
    assert await user.list(typed) == []


async def test_a_duplicate_stops_the_whole_array(user: Client, store: str) -> None:
    """A duplicate of an existing entity or within the array is answered 409, and nothing is created."""
    await user.make(store, code="a")
    for codes in (["b", "a"], ["b", "c", "b"]):
        errors = refused(await user.post(f"/{store}", [{"code": c} for c in codes]), 409)
        assert any("code" in name for name in errors)
    assert [e["code"] for e in await user.list(store)] == ["a"]


@pytest.mark.gate("sqlite", "mongodb")
async def test_arrays_of_one_at_once_name_their_own_item(user: Client, store: str) -> None:
    """However many of them share a request to the database."""
    await user.make(store, code="a")
    calls = [user.post(f"/{store}", [{"code": "a"}]) for _ in range(50)]
    assert [[*refused(answer, 409)] for answer in await asyncio.gather(*calls)] == [["0.code"]] * 50


async def test_an_array_names_what_is_no_entity(user: Client, store: str) -> None:
    """Items that are not objects are refused with their index; an empty array is refused as a whole."""
    refused(await user.post(f"/{store}", [{"n": 1}, 5]), 400, "1")
    refused(await user.post(f"/{store}", [[]]), 400, "0")
    refused(await user.post(f"/{store}", []), 400, "body")
    assert await user.list(store) == []


async def test_an_array_has_a_longest(user: Client, store: str) -> None:
    """An array of 10 000 entities is accepted, one of 10 001 is refused."""
    refused(await user.post(f"/{store}", [{}] * 10_001), 400, "body")
    assert await user.list(store, {"limit": "1"}) == []
    assert len(await user.make_all(store, [{"n": n} for n in range(10_000)])) == 10_000


async def test_an_upsert_inserts_or_updates(user: Client, store: str) -> None:
    """The first call creates the entity; the second finds it by its unique field, merges the fields, and keeps its
    id."""
    first = entity_of(await user.post(f"/{store}", {"code": "a", "n": 1, "kept": True}, {"upsert": "code"}))
    assert first["_rev"] == 1
    answer = await user.post(f"/{store}", {"code": "a", "n": 2}, {"upsert": "code"})
    second = entity_of(answer)
    assert second == first | {"n": 2, "_rev": 2, "_at": second["_at"]}
    assert answer.headers["etag"] == '"2"'
    assert await user.list(store) == [second]


async def test_an_upsert_takes_an_array(user: Client, store: str) -> None:
    """Some items insert, some update, one entity even twice; the answer has the order of the request."""
    old = await user.make(store, code="old", n=0)
    bodies: list[Entity] = [{"code": "new", "n": 1}, {"code": "old", "n": 2}, {"code": "new", "m": 3}]
    entities = good(await user.post(f"/{store}", bodies, {"upsert": "code"}))["entities"]
    assert [(e["code"], e["_rev"]) for e in entities] == [("new", 1), ("old", 2), ("new", 2)]
    assert entities[1]["_id"] == old["_id"]
    assert entities[2]["_id"] == entities[0]["_id"]
    assert {e["code"]: (e["n"], e.get("m")) for e in await user.list(store)} == {"old": (2, None), "new": (1, 3)}


async def test_a_bad_upsert_stops_the_whole_array(user: Client, typed: str) -> None:
    """Neither the insertions nor the updates are done."""
    await user.make(typed, name="old", code="old", floor=0)
    bodies = [{"name": "x", "code": "old", "floor": 1}, {"name": "x", "code": "new"}, {"name": "x", "floor": "high"}]
    refused(await user.post(f"/{typed}", bodies, {"upsert": "code"}), 400, "2.floor")
    assert [(e["name"], e["floor"]) for e in await user.list(typed)] == [("old", 0)]


async def test_an_upsert_needs_a_unique_field(user: Client, store: str) -> None:
    """Other fields, unknown fields, and values that are arrays or objects are refused with the field."""
    for name in ("title", "nothing", "_id", "$where", ""):
        refused(await user.post(f"/{store}", {"title": "a"}, {"upsert": name}), 400, "upsert")
    refused(await user.post(f"/{store}", {"code": ["a"]}, {"upsert": "code"}), 400, "code")


async def test_an_upsert_does_not_reach_out_of_view(user: Client, other: Client, store: str) -> None:
    """An invisible entity with the same value causes a conflict and is not updated."""
    mine = await user.make(store, code="a", n=1)
    refused(await other.post(f"/{store}", {"code": "a", "n": 2}, {"upsert": "code"}), 409)
    assert await user.see(store, mine["_id"]) == mine


async def test_an_upsert_that_updates_leaves_defaults_alone(hub: Hub, user: Client) -> None:
    """Only the fields in the request are changed; defaults apply only to new entities."""
    fields = [
        {"id": "code", "type": "Text", "unique": True},
        {"id": "state", "type": "Text", "default": "new"},
    ]
    store = await hub.define(fields=fields)
    assert (await user.make(store, code="a"))["state"] == "new"
    entity_of(await user.post(f"/{store}", {"code": "a", "state": "old"}, {"upsert": "code"}))
    assert entity_of(await user.post(f"/{store}", {"code": "a"}, {"upsert": "code"}))["state"] == "old"


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_hundred_upserts_at_once_make_one_entity(user: Client, store: str) -> None:
    """All succeed on the same entity, which gets one revision for each."""
    calls = [user.post(f"/{store}", {"code": "a", f"f{n}": n}, {"upsert": "code"}) for n in range(100)]
    entities = [entity_of(answer) for answer in await asyncio.gather(*calls)]
    assert {e["_id"] for e in entities} == {entities[0]["_id"]}
    assert sorted(e["_rev"] for e in entities) == list(range(1, 101))
    [left] = await user.list(store)
    assert left["_rev"] == 100
    assert all(left[f"f{n}"] == n for n in range(100))


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_unique_value_is_held_once_under_concurrency(user: Client, store: str) -> None:
    """Of fifty concurrent creations one succeeds and the others conflict."""
    answers = await asyncio.gather(*(user.post(f"/{store}", {"code": "a", "n": n}) for n in range(50)))
    assert sorted(a.status_code for a in answers) == [200] + [409] * 49
    for answer in answers:
        if answer.status_code == 409:
            refused(answer, 409, "code")
    assert len(await user.list(store)) == 1
