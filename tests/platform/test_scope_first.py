"""Scopes are checked before all else in a request, and limit the answers to writers."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity, new_id
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub

LEAKS: list[tuple[str, str, Any]] = [
    ("GET", "?wings=1", None),
    ("GET", "?floor=abc", None),
    ("GET", "?sort=secret", None),
    ("GET", "?only=wings", None),
    ("GET", "?search=x", None),
    ("GET", "?meta=true&offset=1", None),
    ("GET", "?since=x&wings=1", None),
    ("GET", "/{id}?only=wings", None),
    ("GET", "/{id}/history?x=1", None),
    ("PATCH", "?wings=1", {"wings": 1}),
    ("PATCH", "", {}),
    ("DELETE", "?floor=abc", None),
    ("POST", "", {"wings": 1}),
    ("POST", "", [1]),
    ("POST", "?upsert=wings", {}),
    ("PATCH", "/{id}?x=1", {"wings": 1}),
    ("PUT", "/{id}", {"wings": 1}),
    ("PUT", "/{id}/access", {"access": 5}),
    ("DELETE", "/{id}?x=1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), LEAKS)
async def test_nothing_of_a_store_outside_the_scopes_is_told(
    hub: Hub, user: Client, typed: str, method: str, path: str, body: Any
) -> None:
    """The answer is 403 and names no fields."""
    narrow = await hub.with_token(user.user, scopes=["GET /elsewhere/*"])
    target = f"/{typed}{path.replace('{id}', new_id())}"
    assert refused(await narrow.request(method, target, json=body), 403) == {}


async def test_an_upsert_outside_the_scopes_says_nothing_of_fields(hub: Hub, user: Client, typed: str) -> None:
    creator = await hub.with_token(user.user, scopes=[f"POST /{typed}/*"])
    for path in ("code", "secret", "wings"):
        assert refused(await creator.post(f"/{typed}?upsert={path}", {"wings": 1}), 403) == {}


async def test_a_misspelt_store_is_named_to_those_who_may_list_stores(
    hub: Hub, admin: Client, user: Client, store: str
) -> None:
    for method, end in (("GET", ""), ("GET", "?a=1"), ("POST", ""), ("PATCH", f"/{new_id()}"), ("DELETE", "?a=1")):
        answer = await admin.request(method, f"/{store}s{end}", json={} if method[0] == "P" else None)
        assert refused(answer, 404, "store")["store"] == [f"There is no store '{store}s'."]
    assert refused(await user.get(f"/{store}s"), 404) == {}
    keeper = await hub.as_user(roles=[await hub.role("GET /stores/*", "* /*")])
    refused(await keeper.get(f"/{store}s"), 404, "store")
    there, misspelt = ({"method": "POST", "path": f"/{name}", "body": {}} for name in (store, f"{store}s"))
    for client in (admin, keeper):
        for requests, place in (([misspelt], "requests.0.store"), ([there, misspelt], "requests.1.store")):
            found = refused(await client.post("/batch", {"requests": requests}), 404, place)
            assert found[place] == [f"There is no store '{store}s'."]
    refused(await user.post("/batch", {"requests": [misspelt]}), 404, "requests.0")


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_writer_that_may_not_read_is_told_ids_and_revisions_only(hub: Hub, user: Client, typed: str) -> None:
    """This holds for creation, change, replacement, sharing, deletion and upserts, of one entity and several."""
    scopes = [f"{method} /{typed}/*" for method in ("POST", "PATCH", "PUT", "DELETE")]
    writer = await hub.with_token(user.user, scopes=scopes)
    made = await user.make(typed, name="a", code="c", price=5)
    path = f"/{typed}/{made['_id']}"

    def marks(rev: int) -> Entity:
        return {"success": True, "_id": made["_id"], "_rev": rev}

    changed = await writer.patch(path, {"floor": 1})
    assert (good(changed), changed.headers["etag"]) == (marks(2), '"2"')
    assert good(await writer.put(path, {"name": "b", "code": "c"})) == marks(3)
    assert good(await writer.put(path + "/access", {"access": [user.id]})) == marks(4)
    assert good(await writer.post(f"/{typed}?upsert=code", {"name": "e", "code": "c"})) == marks(5)
    several = good(await writer.post(f"/{typed}?upsert=code", [{"name": "a", "code": "c"}, {"name": "x"}]))
    assert [set(entity) for entity in several["entities"]] == [{"_id", "_rev"}] * 2
    new = good(await writer.post(f"/{typed}", {"name": "a"}, idempotency_key="k"))
    assert set(new) == {"success", "_id", "_rev"}
    assert good(await writer.post(f"/{typed}", {"name": "a"}, idempotency_key="k")) == new
    assert good(await writer.patch(f"/{typed}?name=x", {"floor": 2})) == {"success": True}
    assert good(await writer.delete(f"/{typed}?name=x")) == {"success": True}
    assert good(await writer.delete(path)) == marks(6)
    assert "name" not in (await writer.delete(f"/{typed}/{new['_id']}")).json()


async def test_a_maker_of_tokens_that_may_not_read_them_gets_the_secret(hub: Hub, user: Client) -> None:
    maker = await hub.with_token(user.user, scopes=["POST /tokens/*"])
    made = good(await maker.post("/tokens", {"name": "x"}))
    assert set(made) == {"success", "_id", "_rev", "token"}
