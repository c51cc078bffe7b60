"""References of a store to itself by a key: they are checked by the entities as the write leaves them."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, unique


@pytest.fixture
async def nodes(hub: Hub) -> str:
    """Nodes have a code and a sku, and refer to each other by the sku."""
    name = unique("nodes")
    parent = {"type": "Reference", "store": name, "by": "sku"}
    inner = {"id": "place", "type": "Object", "fields": [{"id": "near", **parent}]}
    keys = [{"id": id, "type": "Text", "unique": True} for id in ("code", "sku")]
    fields = [*keys, {"id": "parent", **parent}, {"id": "all", "many": True, **parent}, inner]
    await hub.admin.make("stores", {"name": name, "fields": fields, "open": True})
    return name


async def change_each_way(user: Client, store: str, node: Entity, body: Entity) -> list[Any]:
    """Send the change as PATCH, PUT, bulk change, upsert, array and batch; return the answers."""
    path, code = f"/{store}/{node['_id']}", node["code"]
    request = {"method": "PATCH", "path": path, "body": body}
    ways: list[Any] = [
        lambda: user.patch(path, body),
        lambda: user.put(path, {"code": code, **body}),
        lambda: user.patch(f"/{store}", body, {"code": code}),
        lambda: user.post(f"/{store}", {"code": code, **body}, {"upsert": "code"}),
        lambda: user.post(f"/{store}", [{"code": code, **body}, {"code": unique("c")}], {"upsert": "code"}),
        lambda: user.post("/batch", {"requests": [request]}),
    ]
    return [await way() for way in ways]


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize(
    "body",
    [
        {"sku": "T", "parent": "S"},
        {"sku": "T", "all": ["T", "S"]},
        {"sku": "T", "place": {"near": "S"}},
        {"sku": None, "parent": "S"},
        {"parent": "T"},
    ],
)
async def test_an_entity_does_not_refer_to_a_key_that_it_gives_up(user: Client, nodes: str, body: Entity) -> None:
    node = await user.make(nodes, code="n", sku="S")
    statuses = [answer.status_code for answer in await change_each_way(user, nodes, node, body)]
    assert statuses == [400] * 6
    assert await user.list(nodes) == [node]


@pytest.mark.gate("sqlite", "mongodb")
async def test_an_entity_may_refer_to_the_key_that_it_gets(user: Client, nodes: str) -> None:
    """Also if it referred to itself by the one before, and when it is made."""
    node = await user.make(nodes, code="n", sku="S", parent="S")
    for sku in "TU":
        body = {"sku": sku, "parent": sku, "all": [sku], "place": {"near": sku}}
        for answer in await change_each_way(user, nodes, node, body):
            good(answer)
    left = await user.see(nodes, node["_id"])
    assert (left["sku"], left["parent"], left["all"], left["place"]) == ("U", "U", ["U"], {"near": "U"})
    refused(await user.post(f"/{nodes}", {"code": "m", "sku": "V", "parent": "W"}), 400, "parent")


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_key_stays_while_the_entity_itself_refers_to_it(user: Client, nodes: str) -> None:
    node = await user.make(nodes, code="n", sku="S", parent="S")
    path = f"/{nodes}/{node['_id']}"
    refused(await user.patch(path, {"sku": "T"}), 409, "sku")
    refused(await user.patch(path, {"$set": {"sku": "T"}}), 409, "sku")
    refused(await user.put(path, {"parent": "S"}), 409, "sku")
    refused(await user.post(f"/{nodes}", {"code": "n", "sku": "T"}, {"upsert": "code"}), 409, "sku")
    assert good(await user.put(path, {"code": "n", "sku": "T"}))["sku"] == "T"


ARRAYS: list[tuple[list[Entity], int]] = [
    ([{"code": "m", "parent": "S"}, {"code": "n", "sku": "T"}], 409),
    ([{"code": "n", "sku": "T"}, {"code": "m", "parent": "S"}], 400),
    ([{"code": "n", "$set": {"sku": "T"}}, {"code": "m", "all": ["T"]}, {"code": "m", "$push": {"all": "S"}}], 400),
    ([{"code": "m", "parent": "S"}, {"code": "m", "parent": None}, {"code": "n", "sku": "T"}], 400),
    ([{"code": "n", "sku": "T"}, {"code": "m", "parent": "T"}, {"code": "n", "sku": "U"}], 400),
    ([{"code": "n", "sku": "T"}, {"code": "m", "sku": "S"}, {"code": "k", "parent": "S"}], 409),
    ([{"code": "n", "sku": "T"}, {"code": "m", "parent": "T"}], 200),
    ([{"code": "m", "parent": "T"}, {"code": "n", "sku": "T"}], 200),
    ([{"code": "m", "sku": "M"}, {"code": "k", "parent": "M", "all": ["S", "M"]}], 200),
]


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize(("bodies", "status"), ARRAYS)
async def test_arrays_are_checked_as_a_whole(user: Client, nodes: str, bodies: list[Entity], status: int) -> None:
    """Whichever item takes a key away, and whichever refers to it, although another one may get it."""
    node = await user.make(nodes, code="n", sku="S")
    answer = await user.post(f"/{nodes}", bodies, {"upsert": "code"})
    if status == 200:
        good(answer)
        keys = {each.get("sku") for each in await user.list(nodes)}
        for each in await user.list(nodes):
            assert {each.get("parent"), *each.get("all", [])} - {None} <= keys
    else:
        assert answer.status_code in ({400, 409} if status == 409 else {status}), answer.text
        assert await user.list(nodes) == [node]


async def test_what_a_new_key_stands_for_is_in_sight(hub: Hub, user: Client, nodes: str) -> None:
    blind = await hub.with_token(user.user, scopes=[f"POST /{nodes}/*"])
    refused(await blind.post(f"/{nodes}", {"sku": "S", "parent": "S"}), 400, "parent")
    good(await user.post(f"/{nodes}", [{"sku": "a", "parent": "b"}, {"sku": "b", "parent": "b"}]))
    refused(await user.post(f"/{nodes}", [{"sku": "c", "parent": "b"}, {"sku": "d", "parent": "e"}]), 400, "1.parent")
