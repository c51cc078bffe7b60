"""Delta sync: an old list with the changes since then equals the new list, for every caller."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from stores.records import Entity, new_id
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of

Changes = list[dict[str, Any]]


async def start_of(client: Client, store: str, query: str = "") -> str:
    """Return the position of the current list."""
    return str((await client.get(f"/{store}?{query}")).headers["x-position"])


async def changes_since(client: Client, store: str, position: str, query: str = "") -> Changes:
    """Return all changes since a position, from all answers."""
    found: Changes = []
    more = True
    while more:
        answer = await client.get(f"/{store}?since={position}&{query}")
        body = good(answer)
        assert body.keys() == {"success", "changes", "position", "more"}
        assert answer.headers["x-position"] == body["position"]
        found += body["changes"]
        position, more = body["position"], body["more"]
    return found


def applied(state: dict[str, Entity], changes: Changes) -> dict[str, Entity]:
    """Return the state after the changes; each must fit the state before it."""
    state = dict(state)
    for change in changes:
        there = change["_id"] in state
        assert there is (change["op"] != "insert"), change
        if change["op"] == "remove":
            assert change["entity"] is None
            del state[change["_id"]]
        else:
            assert change["entity"]["_id"] == change["_id"]
            state[change["_id"]] = change["entity"]
    return state


def by_id(entities: list[Entity]) -> dict[str, Entity]:
    return {e["_id"]: e for e in entities}


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_delta_has_exactly_what_came_after_the_list(user: Client, store: str) -> None:
    """Insertions, updates and removals in order, each with its revision, time and position."""
    first = await user.make(store, n=1)
    start = await start_of(user, store)
    assert await changes_since(user, store, start) == []
    second = await user.make(store, n=2)
    changed = entity_of(await user.patch(f"/{store}/{first['_id']}", {"n": 3}))
    await user.delete(f"/{store}/{second['_id']}")
    changes = await changes_since(user, store, start)
    assert [(c["op"], c["_id"], c["entity"], c["_rev"]) for c in changes] == [
        ("insert", second["_id"], second, 1),
        ("update", first["_id"], changed, 2),
        ("remove", second["_id"], None, None),
    ]
    assert all(abs(c["time"] - second["time"]) < 10_000 for c in changes)
    assert changes[0].keys() == {"op", "_id", "entity", "_rev", "time", "position"}
    for n, change in enumerate(changes):
        assert await changes_since(user, store, change["position"]) == changes[n + 1 :]


async def test_a_removal_tells_only_the_id(user: Client, store: str) -> None:
    """It contains nothing else of the entity."""
    made = await user.make(store, treasure="gold")
    start = await start_of(user, store)
    await user.delete(f"/{store}/{made['_id']}")
    answer = await user.get(f"/{store}?since={start}")
    assert made["_id"] in answer.text
    assert "gold" not in answer.text
    assert "treasure" not in answer.text


async def test_leaving_a_filter_is_a_removal_and_entering_an_insertion(user: Client, store: str) -> None:
    """The operation is relative to the filter, not to the store."""
    inside, outside = await user.make_all(store, [{"n": 1}, {"n": 9}])
    query = "n[lt]=5"
    start = await start_of(user, store, query)
    await user.patch(f"/{store}/{inside['_id']}", {"n": 8})
    await user.patch(f"/{store}/{outside['_id']}", {"n": 2})
    await user.patch(f"/{store}/{outside['_id']}", {"m": 1})
    await user.make(store, n=7)
    changes = await changes_since(user, store, start, query)
    assert [(c["op"], c["_id"]) for c in changes] == [
        ("remove", inside["_id"]),
        ("insert", outside["_id"]),
        ("update", outside["_id"]),
    ]
    assert by_id(await user.list(f"{store}?{query}")) == applied(by_id([inside]), changes)


@pytest.mark.gate("sqlite", "mongodb")
async def test_leaving_sight_is_a_removal_and_entering_an_insertion(user: Client, other: Client, store: str) -> None:
    """Sharing inserts an entity, unsharing removes it, and later changes of it are not shown."""
    made = await user.make(store, n="before")
    path = f"/{store}/{made['_id']}"
    start = await start_of(other, store)
    await user.patch(path, {"n": "unseen"})
    await user.put(path + "/access", {"access": [other.id]})
    await user.patch(path, {"n": "seen"})
    await user.put(path + "/access", {"access": []})
    await user.patch(path, {"n": "hidden"})
    await user.delete(path)
    answer = await other.get(f"/{store}?since={start}")
    changes = good(answer)["changes"]
    assert [c["op"] for c in changes] == ["insert", "update", "remove"]
    assert [c["entity"] and c["entity"]["n"] for c in changes] == ["unseen", "seen", None]
    assert "hidden" not in answer.text
    assert "before" not in answer.text


async def test_only_hides_changes_of_what_is_not_shown(user: Client, store: str) -> None:
    """An update without a visible difference is omitted; entities are projected."""
    made = await user.make(store, a=1, b=1)
    start = await start_of(user, store)
    await user.patch(f"/{store}/{made['_id']}", {"b": 2})
    await user.patch(f"/{store}/{made['_id']}", {"a": 2})
    [change] = await changes_since(user, store, start, "only=a")
    assert (change["op"], change["entity"]) == ("update", {"_id": made["_id"], "a": 2})


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_delta_comes_in_pieces(user: Client, store: str) -> None:
    """An answer has at most `limit` changes, and `more` says whether others follow; together they are complete."""
    start = await start_of(user, store)
    made = await user.make_all(store, [{"n": n} for n in range(25)])
    body = good(await user.get(f"/{store}?since={start}&limit=10"))
    assert len(body["changes"]) == 10
    assert body["more"] is True
    changes = await changes_since(user, store, start, "limit=10")
    assert [c["entity"] for c in changes] == made
    assert good(await user.get(f"/{store}?since={start}&limit=25"))["changes"] == changes


async def test_a_delta_of_no_changes(user: Client, store: str) -> None:
    """With `limit=0` an answer has no changes and the same position; `more` says whether there are any."""
    start = await start_of(user, store)
    assert good(await user.get(f"/{store}?since={start}&limit=0")) == body_of([], start, more=False)
    await user.make_all(store, [{"n": n} for n in range(3)])
    assert good(await user.get(f"/{store}?since={start}&limit=0")) == body_of([], start, more=True)
    assert len(await changes_since(user, store, start)) == 3
    refused(await user.get(f"/{store}?since={start}0&limit=0"), 410)


def body_of(changes: list[Any], position: str, *, more: bool) -> dict[str, Any]:
    return {"success": True, "changes": changes, "position": position, "more": more}


async def test_a_long_delta_is_bounded(user: Client, store: str) -> None:
    """An answer has at most a thousand changes, even with a larger limit."""
    start = await start_of(user, store)
    made = await user.make_all(store, [{"n": n} for n in range(2_500)])
    body = good(await user.get(f"/{store}?since={start}&limit=100000"))
    assert (len(body["changes"]), body["more"]) == (1_000, True)
    assert [c["entity"] for c in await changes_since(user, store, start)] == made


async def test_other_stores_do_not_show(user: Client, store: str, hub: Hub) -> None:
    """Changes in other stores only advance the position."""
    busy = await hub.define()
    start = await start_of(user, store)
    await user.make_all(busy, [{"n": n} for n in range(30)])
    made = await user.make(store)
    [change] = await changes_since(user, store, start, "limit=5")
    assert change["entity"] == made
    assert len(await changes_since(user, busy, start)) == 30


async def test_every_kind_of_write_is_told(user: Client, store: str) -> None:
    """With arrays, upserts, replacements, sharing and bulk changes: old list + delta = new list."""
    made = await user.make_all(store, [{"n": n, "code": f"c{n}"} for n in range(6)])
    before = by_id(await user.list(store))
    start = await start_of(user, store)
    await user.make_all(store, [{"n": 10}, {"n": 11}])
    await user.post(f"/{store}", [{"code": "c0", "n": 20}, {"code": "new"}], {"upsert": "code"})
    await user.put(f"/{store}/{made[1]['_id']}", {"replaced": True})
    await user.put(f"/{store}/{made[2]['_id']}/access", {"access": [user.id]})
    await user.patch(f"/{store}", {"bulk": 1}, {"n[gt]": "2"})
    await user.delete(f"/{store}", {"n": "4"})
    changes = await changes_since(user, store, start)
    assert applied(before, changes) == by_id(await user.list(store))
    assert [c["op"] for c in changes].count("remove") == 1


@pytest.mark.parametrize("seed", [1, 2])
async def test_old_list_and_delta_make_the_new_list(hub: Hub, seed: int) -> None:
    """This holds after every step of random writes by several users, for each view of each user."""
    chance = random.Random(seed)
    group = await hub.group()
    boss = await hub.as_user(group=group)
    one, two = await hub.as_user(group=await hub.group(group)), await hub.as_user()
    store = await hub.define()
    views = [(c, q) for c in (boss, one, two, hub.admin) for q in ("", "n[lt]=5", "only=n&limit=3", "m[exists]=true")]
    made = await one.make_all(store, [{"n": chance.randrange(10)} for _ in range(5)])
    states: list[tuple[str, dict[str, Entity]]] = []
    for client, query in views:
        listed = await client.get(f"/{store}?{query.replace('&limit=3', '')}")
        states.append((listed.headers["x-position"], by_id(good(listed))))
    for _ in range(3):
        for _ in range(12):
            made = await random_write(chance, [boss, one, two], store, made)
        for n, (client, query) in enumerate(views):
            position, state = states[n]
            state = applied(state, await changes_since(client, store, position, query))
            listed = await client.get(f"/{store}?{query.replace('&limit=3', '')}")
            assert state == by_id(good(listed)), query
            states[n] = listed.headers["x-position"], state


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_list_joins_the_changes_exactly_while_others_write(user: Client, store: str) -> None:
    """Short and long lists are read during writes. Each of them with the changes since then gives the same final
    state."""
    made = await user.make_all(store, [{"n": n} for n in range(400)])
    taken: list[tuple[str, dict[str, Entity]]] = []
    shares = [made[n::4] for n in range(4)]
    while len(taken) <= 4:
        writers = asyncio.gather(*(keep_writing(user, store, share, n) for n, share in enumerate(shares)))
        while not writers.done():
            for query in ("", "n[lt]=20"):
                answer = await user.get(f"/{store}?{query}")
                taken.append((answer.headers["x-position"] + "&" + query, by_id(good(answer))))
        await writers
    final = {query: by_id(await user.list(f"{store}?{query}")) for query in ("", "n[lt]=20")}
    for text, state in taken[:: max(1, len(taken) // 20)]:
        position, _, query = text.partition("&")
        assert applied(state, await changes_since(user, store, position, query)) == final[query]


async def keep_writing(user: Client, store: str, mine: list[Entity], seed: int) -> None:
    """Do forty writes on entities that no other task writes."""
    chance = random.Random(seed)
    for _ in range(40):
        target = mine[chance.randrange(len(mine))]
        kind = chance.choice(["make", "change", "change", "delete"])
        if kind == "make":
            mine.append(await user.make(store, n=chance.randrange(40)))
        elif kind == "change":
            await user.patch(f"/{store}/{target['_id']}", {"n": chance.randrange(40)})
        else:
            await user.delete(f"/{store}/{target['_id']}")


async def random_write(chance: random.Random, people: list[Client], store: str, made: list[Entity]) -> list[Entity]:
    """Do one write by a random user, which may be refused; return the entities that may exist."""
    client, target = chance.choice(people), chance.choice(made)
    path, n = f"/{store}/{target['_id']}", chance.randrange(10)
    kind = chance.choice(["make", "change", "change", "replace", "share", "delete", "many"])
    if kind == "make":
        return [*made, await client.make(store, n=n)]
    if kind == "change":
        await client.patch(path, {chance.choice("nm"): n})
    elif kind == "replace":
        await client.put(path, {"n": n})
    elif kind == "share":
        await client.put(path + "/access", {"access": [p.id for p in people if chance.random() < 0.4]})
    elif kind == "delete":
        await client.delete(path)
    else:
        await client.patch(f"/{store}", {"n": n}, {"n[gt]": str(n)})
    return made


@pytest.mark.parametrize(
    "position", ["", "x", "0", "a.1", "é", "\0", "a.1~b", "." * 5_000, "%", "sqlite.99999999999999999999"]
)
async def test_a_position_that_is_none_asks_for_a_fresh_start(user: Client, bare: str, position: str) -> None:
    """It is answered 410 `error_resync_required`, never with an empty delta."""
    answer = await user.get(f"/{bare}", {"since": position})
    refused(answer, 410)
    assert "error_resync_required" in answer.json()["tags"]


async def test_a_forged_position_asks_for_a_fresh_start(user: Client, bare: str) -> None:
    """Forged positions are positions altered in any way."""
    good_one = await start_of(user, bare)
    assert good(await user.get(f"/{bare}", {"since": good_one}))["changes"] == []
    middle = len(good_one) // 2
    for forged in (good_one[:-1], good_one[1:], good_one + "0", good_one[:middle], "0" + good_one, good_one[::-1]):
        refused(await user.get(f"/{bare}", {"since": forged}), 410)


async def test_somebody_elses_position_asks_for_a_fresh_start(user: Client, other: Client, bare: str) -> None:
    """A position is bound to its owner's visibility."""
    refused(await other.get(f"/{bare}", {"since": await start_of(user, bare)}), 410)


async def test_a_moved_user_starts_afresh(hub: Hub, admin: Client, store: str) -> None:
    """Its visibility has changed in a way that changes alone do not describe, so the answer is 410."""
    user = await hub.as_user(group=await hub.group())
    start = await start_of(user, store)
    assert await changes_since(user, store, start) == []
    entity_of(await admin.patch(f"/users/{user.id}", {"group": await hub.group()}))
    refused(await user.get(f"/{store}?since={start}"), 410)
    [role] = await admin.list("roles", {"name": "admin"})
    start = await start_of(user, store)
    entity_of(await admin.patch(f"/users/{user.id}", {"roles": [role["_id"]]}))
    refused(await user.get(f"/{store}?since={start}"), 410)
    entity_of(await admin.patch(f"/users/{user.id}", {"roles": []}))


@pytest.mark.parametrize("params", ["offset=1", "sort=n", "after=x", "meta=true", "limit=-1", "filter={", "since=x"])
async def test_a_delta_takes_no_stretch_or_order(user: Client, bare: str, params: str) -> None:
    """Parameters that do not apply to deltas are answered 400."""
    refused(await user.get(f"/{bare}?since={await start_of(user, bare)}&{params}"), 400)


async def test_every_list_answer_has_a_position(user: Client, store: str) -> None:
    """This includes lists with filter, page, projection, search and meta; a delta from it has only the later
    changes."""
    await user.make_all(store, [{"n": n} for n in range(4)])
    positions = [await start_of(user, store, q) for q in ("", "n=1", "limit=2", "only=n", "meta=true", "search=x")]
    new = await user.make(store)
    for position in positions:
        assert [c["entity"] for c in await changes_since(user, store, position)] == [new]


async def test_the_positions_of_a_store_that_is_not_there(user: Client) -> None:
    """The store is checked before the position: 404."""
    refused(await user.get(f"/store-{new_id()}?since=x"), 404)


LIMITS = ("", "limit=1", "limit=0")


@pytest.mark.parametrize("limit", LIMITS)
async def test_changes_of_an_earlier_store_of_the_name_are_gone(
    hub: Hub, user: Client, admin: Client, limit: str
) -> None:
    """The new store has no hidden field, so it would show what the old one hid. However few changes are asked for, the
    answer is 410; from the new store's first list on it is a delta."""
    fields = [{"id": "n", "type": "Number"}, {"id": "secret", "type": "Text", "hidden": True}]
    store = await hub.define(fields=fields)
    position = await start_of(user, store)
    old = await user.make(store, n=1)
    good(await admin.patch(f"/{store}/{old['_id']}", {"secret": "4711-x"}))
    between = await start_of(user, store)
    good(await user.delete(f"/{store}/{old['_id']}"))
    [definition] = await admin.list("stores", {"name": store})
    good(await admin.delete(f"/stores/{definition['_id']}"))
    await admin.make("stores", {"name": store})
    for since in (position, between, position):
        refused(await user.get(f"/{store}?since={since}&{limit}"), 410)
    new = await start_of(user, store)
    good(await user.get(f"/{store}?since={new}&{limit}"))
    made = await user.make(store, n=2)
    assert [change["_id"] for change in await changes_since(user, store, new)] == [made["_id"]]
    refused(await user.get(f"/{store}?since={between}&{limit}"), 410)


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("limit", LIMITS)
async def test_changes_from_before_a_redefinition_are_gone(hub: Hub, user: Client, admin: Client, limit: str) -> None:
    """Also if the redefinition is behind the changes that one answer holds; a new label ends nothing."""
    fields = [{"id": "n", "type": "Number"}, {"id": "m", "type": "Number", "hidden": True}]
    store = await hub.define(fields=fields)
    position = await start_of(user, store)
    await user.make_all(store, [{"n": n} for n in range(3)])
    [definition] = await admin.list("stores", {"name": store})
    path = f"/stores/{definition['_id']}"
    good(await admin.patch(path, {"label": "Another"}))
    good(await user.get(f"/{store}?since={position}&{limit}"))
    good(await admin.patch(path, {"fields": [fields[0], {"id": "m", "type": "Number"}]}))
    refused(await user.get(f"/{store}?since={position}&{limit}"), 410)
    later = await start_of(user, store)
    good(await admin.patch(path, {"label": "A third"}))
    good(await user.get(f"/{store}?since={later}&{limit}"))
    refused(await user.get(f"/{store}?since={position}&{limit}"), 410)


SEARCHED: list[dict[str, Any]] = [
    {"search": ["a", "b"]},
    {"fields": [{"id": "c", "type": "Text", "search": True}]},
]


@pytest.mark.parametrize("change", SEARCHED, ids=["search", "fields"])
@pytest.mark.parametrize("limit", LIMITS)
async def test_a_search_ends_where_the_searched_fields_change(
    hub: Hub, user: Client, admin: Client, limit: str, change: dict[str, Any]
) -> None:
    """A list with a search has found other entities since, which no change names; one without a search goes on."""
    fields = [{"id": "c", "type": "Text"}]
    store = await hub.define(search=["a"], fields=fields, open=True)
    await user.make(store, b="x", c="x")
    position = await start_of(user, store, "search=x")
    await user.make_all(store, [{"a": "x"} for _ in range(3)])
    [definition] = await admin.list("stores", {"name": store})
    path = f"/stores/{definition['_id']}"
    good(await admin.patch(path, {"label": "Another"}))
    good(await user.get(f"/{store}?since={position}&search=x&{limit}"))
    good(await admin.patch(path, change))
    for _ in range(2):
        good(await user.get(f"/{store}?since={position}&{limit}"))
        refused(await user.get(f"/{store}?since={position}&search=x&{limit}"), 410)
        good(await user.get(f"/{store}?since={position}&search=&{limit}"))
    later = await start_of(user, store, "search=x")
    good(await user.get(f"/{store}?since={later}&search=x&{limit}"))


def marks_of(changes: Changes) -> list[tuple[Any, int | None, bool]]:
    """Return for each change the entity's number, the number of its commit, counted from 1, and whether it is the last
    one of it."""
    known: dict[str, int] = {}
    found = []
    for change in changes:
        commit = known.setdefault(change["commit"], len(known) + 1) if "commit" in change else None
        found.append(((change["entity"] or {}).get("n"), commit, change.get("last", False)))
    return found


async def test_changes_of_one_commit_say_so(user: Client, store: str) -> None:
    """The last one of them that this view shows is marked; a change of one entity alone has no commit."""
    start = await start_of(user, store)
    await user.make_all(store, [{"n": n, "even": n % 2 == 0} for n in range(3)])
    await user.make(store, n=3, even=False)
    await user.make_all(store, [{"n": n, "even": n == 4} for n in range(4, 7)])
    changes = await changes_since(user, store, start)
    expected = [
        (0, 1, False),
        (1, 1, False),
        (2, 1, True),
        (3, None, False),
        (4, 2, False),
        (5, 2, False),
        (6, 2, True),
    ]
    assert marks_of(changes) == expected
    start = await start_of(user, store, "even=true")
    await user.make_all(store, [{"n": n, "even": n in (1, 2)} for n in range(5)])
    await user.make_all(store, [{"n": n, "even": False} for n in range(2)])
    await user.make_all(store, [{"n": n, "even": n == 9} for n in range(9, 11)])
    changes = await changes_since(user, store, start, "even=true")
    assert marks_of(changes) == [(1, 1, False), (2, 1, True), (9, 2, True)]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_an_answer_that_ends_within_a_commit_marks_its_last_change_only_if_it_is(
    user: Client, store: str, limit: int
) -> None:
    """Read in pieces the marks are the same, although the rest of the commit is in the next answer."""
    start = await start_of(user, store, "even=true")
    await user.make_all(store, [{"n": n, "even": n % 2 == 0} for n in range(6)])
    await user.make_all(store, [{"n": n, "even": n == 7} for n in range(6, 9)])
    whole = await changes_since(user, store, start, "even=true")
    assert marks_of(whole) == [(0, 1, False), (2, 1, False), (4, 1, True), (7, 2, True)]
    assert await changes_since(user, store, start, f"even=true&limit={limit}") == whole
    for number, change in enumerate(whole):
        assert await changes_since(user, store, change["position"], "even=true") == whole[number + 1 :]
