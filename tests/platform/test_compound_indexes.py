"""Indexes over several paths through REST: definitions, refusals that name the fields, and pages."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from stores.records import Entity
from tests.platform.answers import definition_of, good, refused
from tests.support.hub import Client, Hub, entity_of, unique

OPEN: Entity = {"fields": ["number"], "unique": True, "where": {"state": {"$in": ["open", "held"]}, "a.b": None}}
TOGETHER: Entity = {"fields": ["room", "night"], "unique": True}


async def test_a_definition_is_shown_as_it_was_sent(admin: Client) -> None:
    """Operators and dotted paths are kept, in the history too, and the definition can be sent back."""
    name, indexes = unique("orders"), ["address.city", ["status", "-price"], OPEN]
    made = await admin.make("stores", name=name, indexes=indexes)
    assert made["indexes"] == indexes
    path = await definition_of(admin, name)
    assert entity_of(await admin.get(path))["indexes"] == indexes
    again = entity_of(await admin.put(path, made))
    assert again["indexes"] == indexes
    changed = [TOGETHER, {"fields": ["n"], "where": {"n": {"$gte": 5, "$lt": 9.5}, "s": {"$exists": True}}}]
    assert entity_of(await admin.patch(path, {"indexes": changed}))["indexes"] == changed
    entries = good(await admin.get(f"{path}/history"))["history"]
    changes = [entry.get("changes", {}).get("indexes") for entry in entries]
    assert {"old": indexes, "new": changed} in changes


@pytest.mark.parametrize(
    ("index", "place"),
    [
        (["a", 5], "indexes.1.1"),
        ({"fields": ["a", "b.0"]}, "indexes.1.fields.1"),
        ({"fields": ["a"], "where": {"b": {"$ne": 1}}}, "indexes.1.where.b"),
        ({"fields": ["a"], "sparse": True}, "indexes.1.sparse"),
        ({"fields": ["a", "flag"], "unique": True}, "indexes.1.fields.1"),
        ({"fields": ["a", "secret"], "unique": True}, "indexes.1.fields.1"),
        ({"fields": ["a", "b"], "unique": True, "where": {"secret": 1}}, "indexes.1.where.secret"),
        ({"fields": ["a"], "where": {"b": "\0"}}, "indexes.1.where.b"),
        ({"fields": ["a"], "where": {"": 1}}, "indexes.1.where."),
        ([f"f{n}" for n in range(9)], "indexes.1"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_a_wrong_definition_is_refused_by_its_place(admin: Client, index: Any, place: str) -> None:
    fields = [{"id": "flag", "type": "Boolean"}, {"id": "secret", "type": "Text", "hidden": True}]
    body = {"name": unique("x"), "open": True, "fields": fields, "indexes": ["ok", index]}
    assert [*refused(await admin.post("/stores", body), 400)] == [place]


async def test_a_field_of_a_unique_index_cannot_be_hidden(hub: Hub, admin: Client) -> None:
    """Refusals would tell its values."""
    fields = [{"id": name, "type": "Text"} for name in "ab"]
    path = await definition_of(admin, await hub.define(fields=fields, indexes=[{"fields": ["a", "b"], "unique": True}]))
    hidden = [fields[0], fields[1] | {"hidden": True}]
    refused(await admin.patch(path, {"fields": hidden}), 400, "indexes.0.fields.1")
    good(await admin.patch(path, {"fields": hidden, "indexes": [["a", "b"]]}))


async def test_names_of_operators_are_for_definitions_only(hub: Hub, admin: Client, user: Client) -> None:
    store = await hub.define()
    refused(await user.post(f"/{store}", {"indexes": [{"where": {"$in": 1}}]}), 400, "indexes.0.where.$in")
    refused(await admin.post("/stores", {"name": unique("x"), "fields": [{"$id": 1}]}), 400, "fields.0.$id")


def texts(answer: httpx.Response, status: int) -> dict[str, str]:
    return {name: text for name, [text] in refused(answer, status).items()}


async def test_a_duplicate_names_the_fields(hub: Hub, user: Client) -> None:
    """409 for each kind of write; in an array with the position of the item."""
    store = await hub.define(indexes=[TOGETHER, OPEN], unique=["code"])
    first = await user.make(store, room=1, night="2026-11-27", code="x")
    text = "Another entity has these values of room, night."
    same = {"room": 1, "night": "2026-11-27"}
    assert texts(await user.post(f"/{store}", same), 409) == {"room": text, "night": text}
    assert texts(await user.post(f"/{store}", [{"room": 2}, same]), 409) == {"1.room": text, "1.night": text}
    other = await user.make(store, room=1)
    assert texts(await user.patch(f"/{store}/{other['_id']}", same), 409) == {"room": text, "night": text}
    assert texts(await user.put(f"/{store}/{other['_id']}", same), 409) == {"room": text, "night": text}
    upserted = await user.request("POST", f"/{store}", params={"upsert": "code"}, json={**same, "code": "y"})
    assert texts(upserted, 409) == {"room": text, "night": text}
    assert texts(await user.patch(f"/{store}", {"night": "2026-11-27"}, {"room": "1"}), 409) == {
        "room": text,
        "night": text,
    }
    await user.make_all(store, [{"number": 1, "state": "open"}, {"number": 1, "state": "done"}])
    text = "Another entity has this value."
    assert texts(await user.post(f"/{store}", {"number": 1, "state": "held"}), 409) == {"number": text}
    good(await user.delete(f"/{store}/{first['_id']}"))
    good(await user.patch(f"/{store}/{other['_id']}", same))


async def test_fields_of_a_unique_index_take_scalars(hub: Hub, user: Client) -> None:
    store = await hub.define(indexes=[TOGETHER])
    for value in ([1], {"x": 1}, True):
        refused(await user.post(f"/{store}", {"room": value}), 400, "room")


async def test_a_condition_may_have_another_form_of_a_value(hub: Hub, user: Client) -> None:
    """It means the value as it is stored."""
    fields = [{"id": "number", "type": "Number"}, {"id": "mail", "type": "Email"}]
    index = {"fields": ["number"], "unique": True, "where": {"mail": "Ann@Example.com"}}
    store = await hub.define(fields=fields, indexes=[index])
    await user.make_all(store, [{"number": 1, "mail": "ANN@example.com"}, {"number": 1, "mail": "bob@example.com"}])
    refused(await user.post(f"/{store}", {"number": 1, "mail": "ann@example.com"}), 409, "number")


async def test_lists_at_two_fields_of_an_index_are_refused(hub: Hub, user: Client) -> None:
    """400 that names both fields, for each kind of write, and with the position in an array."""
    store = await hub.define(indexes=[["tags", "-marks"], ["lines.p", "lines.q"]], unique=["code"])
    text = "Must not be a list while tags leads to one: an index covers both."
    both: Entity = {"tags": [1], "marks": [2]}
    held = await user.make(store, tags=[1], code="x", lines=[{"p": 1, "q": 2}, {"p": 3, "q": 4}])
    path = f"/{store}/{held['_id']}"
    assert texts(await user.post(f"/{store}", both), 400) == {"marks": text}
    assert texts(await user.post(f"/{store}", [{}, {}, both]), 400) == {"2.marks": text}
    assert texts(await user.patch(path, {"marks": []}), 400) == {"marks": text}
    assert texts(await user.put(path, both), 400) == {"marks": text}
    assert texts(await user.patch(f"/{store}", {"marks": [1]}, {"code": "x"}), 400) == {"marks": text}
    upserted = await user.request("POST", f"/{store}", params={"upsert": "code"}, json=[{"code": "x", "marks": [1]}])
    assert texts(upserted, 400) == {"0.marks": text}
    deep = {"lines": [{"p": [1], "q": [2]}]}
    assert [*texts(await user.post(f"/{store}", deep), 400)] == ["lines.q"]
    assert await user.list(store) == [held]


async def test_data_stand_against_an_index(hub: Hub, admin: Client, user: Client) -> None:
    """409 with the number of entities for each field; the old definition stays, and when the data fit it is made."""
    store = await hub.define(indexes=["room"])
    path = await definition_of(admin, store)
    rooms = [{"room": n // 2, "night": 1, "number": 5, "state": "open", "n": n} for n in range(5)]
    room, *_ = await user.make_all(store, rooms)
    both, _, listed = await user.make_all(store, [{"a": [1], "b": [1]}, {"a": [1], "b": 1}, {"room": [1, 2]}])
    before = good(await admin.get(path))

    async def errors(index: Any) -> dict[str, str]:
        found = texts(await admin.patch(path, {"indexes": [index]}), 409)
        assert good(await admin.get(path)) == before
        return found

    lists = "1 entity has a value of it that is neither a string nor a number."
    assert await errors(TOGETHER) == {"room": f"{lists} The first is {listed['_id']}."}
    good(await user.delete(f"/{store}", {"filter": '{"room":{"$size":2}}'}))
    first = f"The first is {room['_id']}."
    shared = f"4 entities share values of room, night with another. {first}"
    assert await errors(TOGETHER) == {"room": shared, "night": shared}
    assert await errors(OPEN) == {"number": f"5 entities share a value of it with another. {first}"}
    parallel = "1 entity has a list at it and at one of b, of which an index takes one."
    assert await errors(["a", "b"]) == {"a": f"{parallel} The first is {both['_id']}."}
    good(await user.delete(f"/{store}", {"n[lt]": "4"}))
    good(await user.delete(f"/{store}", {"filter": '{"b":{"$size":1}}'}))
    good(await admin.patch(path, {"indexes": [TOGETHER, OPEN, ["a", "b"]]}))


async def test_pages_of_a_user_follow_the_links(hub: Hub, user: Client, other: Client) -> None:
    """A user who sees a part of the store gets it in order, page by page, with an index on the filter and the sort."""
    store = await hub.define(indexes=[["status", "-price"]])
    mine = [{"status": n % 2, "price": n % 5, "n": n} for n in range(60)]
    await user.make_all(store, mine)
    await other.make_all(store, mine)
    expected = sorted((e for e in await user.list(store) if e["status"] == 1), key=lambda e: (e["price"], e["_id"]))
    found: list[Entity] = []
    answer = await user.get(f"/{store}", {"status": "1", "sort": "-price", "limit": 7})
    while True:
        found += good(answer)
        if "next" not in answer.links:
            break
        answer = await user.get(answer.links["next"]["url"].removeprefix("/api/v1"))
    assert found == expected[::-1]
    assert len(found) == 30
