"""One entity: creation, reading, change, replacement, deletion, and the fields that the hub assigns."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from stores.records import new_id
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of

SYSTEM = {"_id", "owner", "group", "access", "branch", "time", "_at", "_rev"}


async def test_a_new_entity_comes_back_with_its_system_fields(hub: Hub, store: str) -> None:
    """The answer is 200, not 201, with ``success``, the fields of the request, and the eight fields that the hub
    assigns."""
    top = await hub.group()
    below = await hub.group(top)
    user = await hub.as_user(group=below)
    before = time.time_ns() // 1_000_000
    answer = await user.post(f"/{store}", {"some_field": "SOME_VALUE", "n": 1})
    body = good(answer)
    assert body.pop("success") is True
    assert body.keys() == SYSTEM | {"some_field", "n"}
    assert re.fullmatch("[0-9a-f]{24}", body["_id"])
    assert (body["some_field"], body["n"]) == ("SOME_VALUE", 1)
    assert (body["owner"], body["group"], body["access"], body["branch"]) == (user.id, below, [], [below, top])
    assert before <= body["time"] <= time.time_ns() // 1_000_000
    assert (body["_at"], body["_rev"]) == (body["time"], 1)
    assert answer.headers["etag"] == '"1"'
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_the_first_key_of_an_entity_answer_is_success(user: Client, store: str) -> None:
    """Every single-entity answer has ``success`` beside the entity's fields."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    for answer in (
        await user.get(path),
        await user.patch(path, {"n": 2}),
        await user.put(path, {"n": 3}),
        await user.put(path + "/access", {"access": []}),
        await user.delete(path),
    ):
        assert good(answer)["success"] is True
        assert answer.text.startswith('{"success":true,')


@pytest.mark.parametrize("id", ["58238a935baa56173b24f0e4", "", None, 5])
async def test_a_client_cannot_choose_an_id(user: Client, store: str, id: Any) -> None:
    """An `_id` in a new entity is refused with the field."""
    refused(await user.post(f"/{store}", {"_id": id, "n": 1}), 400, "_id")
    assert await user.list(store) == []


async def test_system_fields_of_a_new_entity_are_the_hubs(user: Client, other: Client, store: str) -> None:
    """Values from the client are dropped: a user cannot create an entity in another user's name."""
    forged = {"owner": other.id, "group": new_id(), "access": [other.id], "branch": [new_id()]}
    made = await user.make(store, forged, time=1, _at=2, _rev=99, n=1)
    assert (made["owner"], made["group"], made["access"], made["branch"]) == (user.id, None, [], [])
    assert made["_rev"] == 1
    assert made["time"] > 1_600_000_000_000 < made["_at"]


async def test_an_entity_is_got_as_it_was_made(user: Client, store: str) -> None:
    """Every JSON value survives, to the last digit and character."""
    value = {
        "text": 'Grüße, 世界 😀 \u2028 "quoted" \\ \n',
        "numbers": [0, -1, 2**63 - 1, -(2**63), 1.5, 0.1, 1e300, -0.0625],
        "nested": {"a": {"b": [{"c": None}, [], {}, True, False]}},
        "empty": "",
    }
    made = await user.make(store, value)
    assert {n: made[n] for n in value} == value
    assert await user.see(store, made["_id"]) == made
    assert await user.list(store) == [made]


async def test_a_change_merges_at_the_top(user: Client, store: str) -> None:
    """PATCH replaces the given fields as a whole, keeps the others, stores null as null, and increases the revision."""
    made = await user.make(store, kept=1, changed={"a": 1, "b": 2}, cleared="x")
    answer = await user.patch(f"/{store}/{made['_id']}", {"changed": {"c": 3}, "cleared": None, "new": []})
    changed = entity_of(answer)
    assert changed == made | {"changed": {"c": 3}, "cleared": None, "new": [], "_rev": 2, "_at": changed["_at"]}
    assert changed["_at"] >= made["_at"]
    assert answer.headers["etag"] == '"2"'
    assert await user.see(store, made["_id"]) == changed


async def test_a_change_cannot_touch_system_fields(user: Client, other: Client, store: str) -> None:
    """`owner`, `group`, `access`, `branch`, `time`, `_at` and `_rev` are silently dropped from a PATCH."""
    made = await user.make(store, n=1)
    forged = {"owner": other.id, "group": new_id(), "access": [other.id], "branch": [new_id()], "time": 1, "_rev": 9}
    changed = entity_of(await user.patch(f"/{store}/{made['_id']}", forged | {"_at": 5, "n": 2}))
    assert changed == made | {"n": 2, "_rev": 2, "_at": changed["_at"]}
    assert changed["_at"] >= made["_at"]
    refused(await other.get(f"/{store}/{made['_id']}"), 404)


async def test_an_entity_can_be_sent_back_as_it_came(user: Client, store: str) -> None:
    """The whole answer, including ``success`` and `_id`, is a valid body for PATCH and PUT."""
    made = await user.make(store, n=1)
    answer = (await user.get(f"/{store}/{made['_id']}")).json()
    assert entity_of(await user.patch(f"/{store}/{made['_id']}", answer | {"n": 2}))["n"] == 2
    replaced = entity_of(await user.put(f"/{store}/{made['_id']}", answer | {"n": 3}))
    assert replaced.keys() == made.keys()
    assert replaced["n"] == 3


async def test_an_id_does_not_change(user: Client, store: str) -> None:
    """Another `_id` in a PATCH or PUT is refused, and nothing is written."""
    made = await user.make(store, n=1)
    for call in (user.patch, user.put):
        refused(await call(f"/{store}/{made['_id']}", {"_id": new_id(), "n": 2}), 400, "_id")
    assert await user.see(store, made["_id"]) == made


async def test_a_replacement_leaves_only_the_system_fields(user: Client, store: str) -> None:
    """PUT removes all other fields, except owner, group, access, branch, time and id."""
    made = await user.make(store, a=1, b=2)
    replaced = entity_of(await user.put(f"/{store}/{made['_id']}", {"c": 3, "owner": new_id()}))
    kept = {name: made[name] for name in SYSTEM}
    assert replaced == kept | {"c": 3, "_rev": 2, "_at": replaced["_at"]}
    assert await user.see(store, made["_id"]) == replaced


async def test_a_deleted_entity_is_answered_and_gone(user: Client, store: str) -> None:
    """DELETE needs neither headers nor a body, answers the deleted entity, and works once."""
    made = await user.make(store, n=1)
    assert entity_of(await user.delete(f"/{store}/{made['_id']}")) == made
    refused(await user.get(f"/{store}/{made['_id']}"), 404)
    refused(await user.delete(f"/{store}/{made['_id']}"), 404)
    assert await user.list(store) == []


async def test_an_entity_without_fields_is_one(user: Client, store: str) -> None:
    """``{}`` is a valid new entity. As a PATCH it changes nothing, not even the revision."""
    made = await user.make(store)
    assert made.keys() == SYSTEM
    assert entity_of(await user.patch(f"/{store}/{made['_id']}", {})) == made


async def test_only_shows_part_of_one_entity(user: Client, store: str) -> None:
    """`only` works for a single entity too; the id is always included, and the ETag is that of the whole entity."""
    made = await user.make(store, title="a", place={"city": "Oslo", "zip": "1"}, n=1)
    answer = await user.get(f"/{store}/{made['_id']}", {"only": "title,place.city"})
    assert good(answer) == {"success": True, "_id": made["_id"], "title": "a", "place": {"city": "Oslo"}}
    assert answer.headers["etag"] == '"1"'


async def test_head_answers_as_get_without_a_body(user: Client, store: str) -> None:
    """Status and headers are the same for an entity, a list and an unknown entity."""
    made = await user.make(store, n=1)
    for path in (f"/{store}/{made['_id']}", f"/{store}", f"/{store}/{new_id()}", "/auth"):
        got, head = await user.get(path), await user.request("HEAD", path)
        assert head.status_code == got.status_code
        assert head.content == b""
        for name in ("etag", "content-type", "content-length"):
            assert head.headers.get(name) == got.headers.get(name)
        # Its value may differ: on MongoDB a position moves with every write to the server.
        assert ("x-position" in head.headers) == ("x-position" in got.headers)


async def test_the_history_tells_time_who_what_and_both_values(user: Client, other: Client, hub: Hub) -> None:
    """It has one entry per change, oldest first, with the old and new value of each changed field."""
    store = await hub.define()
    made = await user.make(store, n=1, kept="x")
    path = f"/{store}/{made['_id']}"
    await user.put(path + "/access", {"access": [other.id]})
    await other.patch(path, {"n": 2, "kept": "x"})
    last = entity_of(await user.patch(path, {"n": None, "more": [1]}))
    history = good(await user.get(path + "/history"))
    assert history["success"] is True
    assert good(await other.get(path + "/history"))["history"] == history["history"][1:], "from when it was shared on"
    entries = history["history"]
    assert [e["op"] for e in entries] == ["insert", "update", "update", "update"]
    assert [e["by"] for e in entries] == [user.id, user.id, other.id, user.id]
    assert [e["_rev"] for e in entries] == [1, 2, 3, 4]
    assert all(made["time"] <= e["time"] <= last["_at"] + 1_000 for e in entries)
    values = [{n: c for n, c in e["changes"].items() if n not in ("_at", "_rev")} for e in entries]
    assert values[0].items() >= {"n": {"old": None, "new": 1}, "kept": {"old": None, "new": "x"}}.items()
    assert values[1] == {"access": {"old": [], "new": [other.id]}}
    assert values[2] == {"n": {"old": 1, "new": 2}}
    assert values[3] == {"n": {"old": 2, "new": None}, "more": {"old": None, "new": [1]}}


async def test_the_history_of_a_deleted_entity_is_for_those_who_saw_it(
    user: Client, other: Client, admin: Client, store: str
) -> None:
    """It ends with the deletion; for other users the entity never existed."""
    made = await user.make(store, n=1)
    await user.delete(f"/{store}/{made['_id']}")
    for reader in (user, admin):
        entries = good(await reader.get(f"/{store}/{made['_id']}/history"))["history"]
        assert [e["op"] for e in entries] == ["insert", "delete"]
    refused(await other.get(f"/{store}/{made['_id']}/history"), 404)
    refused(await user.get(f"/{store}/{new_id()}/history"), 404)


async def test_the_history_comes_in_pages(user: Client, store: str) -> None:
    """Pages have `limit` entries and a link to the next page; invalid parameters are refused."""
    made = await user.make(store, {"n": 0})
    path = f"/{store}/{made['_id']}"
    for n in range(1, 6):
        await user.patch(path, {"n": n})
    whole = (await user.get(f"{path}/history")).json()["history"]
    answer = await user.get(f"{path}/history", {"limit": 4})
    assert answer.json()["history"] == whole[:4]
    rest = await user.http.get(user.url + answer.links["next"]["url"])
    assert rest.json()["history"] == whole[4:]
    assert "link" not in rest.headers
    for name, value in (("limit", "x"), ("after", "'"), ("sort", "n")):
        errors = (await user.get(f"{path}/history", {name: value})).json()
        assert (errors["code"], list(errors["errors"])) == ("400", [name])
