"""A tree of groups has 64 levels and no more, and within them nobody misses anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from stores.protocol import Insert
from stores.records import Entity
from tests.platform.answers import refused
from tests.support.engines import Database, opened
from tests.support.entities import USER, entity
from tests.support.hub import Client, Hub, running_hub, unique
from tests.support.standstill import no_standstill, read_metrics

MOST = 64
TOO_DEEP = [f"A tree of groups may have {MOST} levels: this one would have {MOST + 1}."]
LIMIT = "MOST_GROUP_LEVELS"


async def test_a_group_on_a_further_level_is_refused(hub: Hub, admin: Client, store: str) -> None:
    """When it is created, alone and in an array, and when it moves, alone and with what is below it."""
    groups = await hub.groups(MOST)
    before = (await read_metrics(hub.url)).value("hub_limit_reached_total", limit=LIMIT)
    pair = await hub.groups(2)
    body = {"name": unique("group"), "parent": groups[-1]}
    answers = [
        await admin.post("/groups", body),
        await admin.post("/groups", [{"name": "fits", "parent": groups[-2]}, body]),
        await admin.patch(f"/groups/{pair[1]}", {"parent": groups[-1]}),
        await admin.patch(f"/groups/{pair[0]}", {"parent": groups[-2]}),
        await admin.put(f"/groups/{pair[0]}", {"name": "pair", "parent": groups[-2]}),
    ]
    for place, answer in enumerate(answers):
        assert refused(answer, 400) == {"1.parent" if place == 1 else "parent": TOO_DEEP}
    after = (await read_metrics(hub.url)).value("hub_limit_reached_total", limit=LIMIT)
    assert after == before + len(answers)
    assert await admin.list("groups", {"name": "fits"}) == []
    assert (await admin.patch(f"/groups/{pair[0]}", {"parent": groups[-3]})).status_code == 200
    top, bottom = await hub.as_user(group=groups[0]), await hub.as_user(group=pair[1])
    made = await bottom.make(store, {"n": 1})
    assert made["branch"] == [pair[1], pair[0], *groups[-3::-1]]
    assert await top.see(store, made["_id"]) == made


@pytest.mark.engine("sqlite")
async def test_an_array_of_groups_below_many_others_blocks_nobody(hub: Hub, admin: Client) -> None:
    """Each of them is checked with all groups above it, on the event loop."""
    groups = await hub.groups(MOST - 1)
    async with no_standstill(hub.url):
        made = await admin.make_all("groups", [{"name": unique("group"), "parent": groups[-1]} for _ in range(500)])
    assert len(made) == 500


@pytest.mark.engine("mongodb")
@pytest.mark.parametrize(
    ("store", "field"), [pytest.param("groups", "parent", marks=pytest.mark.full), ("users", "group")]
)
async def test_the_groups_above_an_array_are_read_once(hub: Hub, admin: Client, store: str, field: str) -> None:
    """Not once for each of its entities."""
    groups = await hub.groups(MOST - 1)
    before = await lookups(hub.database)
    bodies = [{"name": unique("group"), "login": unique("login"), "password": "zebra-crossing-9"} for _ in range(20)]
    names = {"groups": ("name",), "users": ("login", "password")}[store]
    made = await admin.make_all(store, [{field: groups[-1], **{n: body[n] for n in names}} for body in bodies])
    assert await lookups(hub.database) < before + 10 * MOST
    assert {each[field] for each in made} == {groups[-1]}


async def lookups(database: Database) -> int:
    """Return how often groups have been looked up by id."""
    async with AsyncMongoClient[Entity](database.location) as client:
        cursor = await client.get_default_database()["groups"].aggregate([{"$indexStats": {}}])
        return sum([int(row["accesses"]["ops"]) async for row in cursor if row["name"] == "_id_"])


async def test_a_deep_tree_moves_with_all_that_is_in_it(hub: Hub, admin: Client, store: str) -> None:
    """What its lowest group holds is stamped with its new place."""
    above, groups = await hub.group(), await hub.groups(MOST - 1)
    top, bottom = await hub.as_user(group=above), await hub.as_user(group=groups[-1])
    made = await bottom.make(store, {"n": 1})
    refused(await top.get(f"/{store}/{made['_id']}"), 404)
    assert (await admin.patch(f"/groups/{groups[0]}", {"parent": above})).status_code == 200
    assert (await top.see(store, made["_id"]))["branch"] == [*reversed(groups), above]


@pytest.fixture
async def deep(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Hub, list[str]]]:
    """A hub with a tree of too many levels, which another program has made."""
    async with running_hub(database, tmp_path / "hub"):
        pass
    tree = [entity(name=str(n), parent=None) for n in range(MOST + 6)]
    for each, parent in zip(tree[1:], tree, strict=False):
        each["parent"] = parent["_id"]
    async with opened(database.engine()) as engine:
        await engine.commit([Insert("groups", each) for each in tree], USER)
    async with running_hub(database, tmp_path / "hub") as hub:
        yield hub, [each["_id"] for each in tree]


async def test_a_tree_that_is_too_deep_already_is_whole(deep: tuple[Hub, list[str]]) -> None:
    """Its top sees its bottom; it grows no further, and it can be moved apart from any place."""
    hub, groups = deep
    admin, store = hub.admin, await hub.define()
    top, bottom = await hub.as_user(group=groups[0]), await hub.as_user(group=groups[-1])
    made = await bottom.make(store, {"n": 1})
    assert made["branch"] == groups[::-1]
    assert await top.see(store, made["_id"]) == made
    refused(await admin.post("/groups", {"name": "more", "parent": groups[-1]}), 400, "parent")
    other = await hub.group()
    refused(await admin.patch(f"/groups/{groups[0]}", {"parent": other}), 400, "parent")
    assert (await admin.patch(f"/groups/{groups[1]}", {"parent": other})).status_code == 200
    assert (await bottom.see(store, made["_id"]))["branch"] == [*groups[:0:-1], other]
    assert (await admin.patch(f"/groups/{groups[1]}", {"parent": None})).status_code == 200
    assert (await admin.patch(f"/groups/{groups[10]}", {"parent": None})).status_code == 200
    assert (await bottom.see(store, made["_id"]))["branch"] == groups[:9:-1]


@pytest.mark.engine("mongodb")
async def test_an_array_names_no_parent(hub: Hub, admin: Client) -> None:
    """A group to whose `parent` another program gave an array is below none of its elements: these can be moved and
    deleted."""
    top, parent = await hub.group(), await hub.group()
    odd = await hub.group()
    async with AsyncMongoClient[Entity](hub.database.location) as client:
        groups = client.get_default_database()["groups"]
        await groups.update_one({"_id": ObjectId(odd)}, {"$set": {"parent": [parent]}, "$inc": {"_rev": 1}})
    assert (await admin.patch(f"/groups/{parent}", {"parent": top})).status_code == 200
    assert (await admin.delete(f"/groups/{parent}")).status_code == 200
