"""Conditional and repeated requests: ETag, If-Match, If-None-Match, Idempotency-Key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stores.records import new_id
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of, unique


async def test_the_etag_is_the_revision(user: Client, other: Client, store: str) -> None:
    """Every single-entity answer has it, and every change increases it by one."""
    created = await user.post(f"/{store}", {"n": 1})
    path = f"/{store}/{entity_of(created)['_id']}"
    answers = [
        created,
        await user.get(path),
        await user.patch(path, {"n": 2}),
        await user.put(path, {"n": 3}),
        await user.put(path + "/access", {"access": [other.id]}),
        await user.get(path),
        await user.delete(path),
    ]
    assert [a.headers["etag"] for a in answers] == ['"1"', '"1"', '"2"', '"3"', '"4"', '"4"', '"4"']
    assert [a.json()["_rev"] for a in answers] == [1, 1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("header", ['"2"', '"1", "2"', 'W/"2"', "*", '"x","2"'])
async def test_a_current_copy_is_not_sent_again(user: Client, store: str, header: str) -> None:
    """With If-None-Match GET and HEAD are answered 304 with the ETag and without a body."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    await user.patch(path, {"n": 2})
    for method in ("GET", "HEAD"):
        answer = await user.request(method, path, headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == '"2"'
        assert answer.headers["x-request-id"]
        assert "content-length" not in answer.headers  # it would have to be that of a 200 answer (RFC 9110, 8.6)


@pytest.mark.parametrize("header", ['"1"', '"3"', '"22"', "nonsense", '""'])
async def test_another_copy_is_sent(user: Client, store: str, header: str) -> None:
    """With any other tag in If-None-Match the answer is 200 with the entity."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    await user.patch(path, {"n": 2})
    assert entity_of(await user.get(path, if_none_match=header))["n"] == 2


async def test_a_stale_revision_is_refused(user: Client, store: str) -> None:
    """With a stale If-Match PATCH, PUT and DELETE are answered 412. The current tag, alone or in a list, and `*`
    pass."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    changed = entity_of(await user.patch(path, {"n": 2}, if_match='"1"'))
    for stale in ('"1"', '"3"', '"0"', '"02"', '"-1"', '"x"', '"1", "3"', '"' + "9" * 40 + '"'):
        refused(await user.patch(path, {"n": 5}, if_match=stale), 412)
        refused(await user.put(path, {"n": 5}, if_match=stale), 412)
        refused(await user.delete(path, if_match=stale), 412)
    assert await user.see(store, made["_id"]) == changed
    assert entity_of(await user.patch(path, {"n": 3}, if_match="*"))["_rev"] == 3
    assert entity_of(await user.put(path, {"n": 4}, if_match='"2", "3"'))["_rev"] == 4
    assert entity_of(await user.delete(path, if_match='"4"'))["n"] == 4


async def test_a_condition_that_is_none_is_refused(user: Client, store: str) -> None:
    """The answer is 400; the write is not done without the condition."""
    made = await user.make(store)
    for header in ("3", "", "x", "'1'"):
        refused(await user.patch(f"/{store}/{made['_id']}", {"n": 1}, if_match=header), 400, "If-Match")
    assert await user.see(store, made["_id"]) == made


async def test_a_condition_on_what_is_not_there(user: Client, store: str) -> None:
    """The answer is 404, as without the condition."""
    for call in (user.patch, user.put):
        refused(await call(f"/{store}/{new_id()}", {}, if_match='"1"'), 404)
    refused(await user.delete(f"/{store}/{new_id()}", if_match="*"), 404)


@pytest.mark.gate("sqlite", "mongodb")
async def test_of_a_hundred_changes_of_one_revision_one_succeeds(user: Client, store: str) -> None:
    """Exactly one is answered 200, and its value is stored."""
    made = await user.make(store)
    path = f"/{store}/{made['_id']}"
    answers = await asyncio.gather(*(user.patch(path, {"n": n}, if_match='"1"') for n in range(100)))
    assert sorted(a.status_code for a in answers) == [200] + [412] * 99
    [winner] = [entity_of(a) for a in answers if a.status_code == 200]
    assert await user.see(store, made["_id"]) == winner
    assert winner["_rev"] == 2


async def test_a_hundred_changes_without_a_condition_all_count(user: Client, store: str) -> None:
    """None is lost, and each has its own revision."""
    made = await user.make(store)
    path = f"/{store}/{made['_id']}"
    answers = await asyncio.gather(*(user.patch(path, {f"f{n}": n}) for n in range(100)))
    assert sorted(entity_of(a)["_rev"] for a in answers) == list(range(2, 102))
    last = await user.see(store, made["_id"])
    assert last["_rev"] == 101
    assert all(last[f"f{n}"] == n for n in range(100))


async def test_of_deletions_at_once_one_succeeds(user: Client, store: str) -> None:
    """The others are answered 404."""
    made = await user.make(store)
    answers = await asyncio.gather(*(user.delete(f"/{store}/{made['_id']}") for _ in range(20)))
    assert sorted(a.status_code for a in answers) == [200] + [404] * 19


@pytest.mark.parametrize("body", [{"n": 1}, [{"n": 1}, {"n": 2}]], ids=["one", "several"])
async def test_a_repeated_request_gets_the_first_answer(user: Client, store: str, body: Any) -> None:
    """The answer is equal byte for byte, even after the entity was changed and deleted; nothing is written again."""
    key = unique("key")
    first = await user.post(f"/{store}", body, idempotency_key=key)
    made = await user.list(store)
    assert len(made) == (1 if isinstance(body, dict) else 2)
    await user.patch(f"/{store}/{made[0]['_id']}", {"n": 9})
    second = await user.post(f"/{store}", body, idempotency_key=key)
    await user.delete(f"/{store}", {"n[gt]": "-1"})
    third = await user.post(f"/{store}", body, idempotency_key=key)
    for answer in (second, third):
        assert answer.status_code == 200
        assert answer.content == first.content
        assert answer.headers.get("etag") == first.headers.get("etag")
    assert await user.list(store) == []


async def test_a_key_belongs_to_its_request(user: Client, store: str, hub: Hub) -> None:
    """Another body, parameter or store with the same key is answered 409 with the header, and nothing is written."""
    key = unique("key")
    entity_of(await user.post(f"/{store}", {"code": "a"}, idempotency_key=key))
    elsewhere = await hub.define(unique=["code"])
    for path, body, params in (
        (f"/{store}", {"code": "b"}, None),
        (f"/{store}", [{"code": "a"}], None),
        (f"/{store}", {"code": "a"}, {"upsert": "code"}),
        (f"/{elsewhere}", {"code": "a"}, None),
    ):
        refused(await user.post(path, body, params, idempotency_key=key), 409, "Idempotency-Key")
    assert [e["code"] for e in await user.list(store)] == ["a"]
    assert await user.list(elsewhere) == []


async def test_a_key_belongs_to_its_user(user: Client, other: Client, store: str) -> None:
    """Equal keys of different users are independent: no user gets another user's answer."""
    key = unique("key")
    mine = entity_of(await user.post(f"/{store}", {"n": 1}, idempotency_key=key))
    theirs = entity_of(await other.post(f"/{store}", {"n": 1}, idempotency_key=key))
    assert mine["_id"] != theirs["_id"]
    assert theirs["owner"] == other.id


async def test_a_refused_request_leaves_its_key_free(user: Client, typed: str) -> None:
    """The corrected request may use the same key."""
    key = unique("key")
    await user.make(typed, name="a", code="taken")
    refused(await user.post(f"/{typed}", {"price": 1}, idempotency_key=key), 400, "name")
    refused(await user.post(f"/{typed}", {"name": "b", "code": "taken"}, idempotency_key=key), 409, "code")
    entity_of(await user.post(f"/{typed}", {"name": "b", "code": "free"}, idempotency_key=key))


@pytest.mark.gate("sqlite", "mongodb")
async def test_fifty_equal_requests_at_once_make_one_entity(user: Client, store: str) -> None:
    """All fifty answers are equal."""
    key = unique("key")
    answers = await asyncio.gather(*(user.post(f"/{store}", {"n": 1}, idempotency_key=key) for _ in range(50)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.content for a in answers}) == 1
    assert await user.list(store) == [entity_of(answers[0])]


async def test_a_repeated_upsert_changes_once(user: Client, store: str) -> None:
    """The revision is not increased again."""
    key, params = unique("key"), {"upsert": "code"}
    await user.make(store, code="a", n=0)
    answers = [await user.post(f"/{store}", {"code": "a", "n": 1}, params, idempotency_key=key) for _ in range(3)]
    assert [entity_of(a)["_rev"] for a in answers] == [2, 2, 2]
    assert len(await user.list(store)) == 1


async def test_a_repeated_definition_gets_the_first_answer(admin: Client) -> None:
    """The name is taken, by the request itself."""
    key, name = unique("key"), unique("store")
    first = await admin.post("/stores", {"name": name}, idempotency_key=key)
    entity_of(first)
    assert (await admin.post("/stores", {"name": name}, idempotency_key=key)).content == first.content
    refused(await admin.post("/stores", {"name": name}, idempotency_key=unique("key")), 409, "name")
    refused(await admin.post("/stores", {"name": unique("store")}, idempotency_key=key), 409, "Idempotency-Key")


async def test_what_changes_after_a_request_refuses_no_repetition(admin: Client, user: Client, hub: Hub) -> None:
    """A definition that requires more, and a role that is deleted, matter to other requests only."""
    key, store = unique("key"), await hub.define(fields=[{"id": "n", "type": "Numeric"}])
    first = await user.post(f"/{store}", {"n": 1}, idempotency_key=key)
    good(await user.delete(f"/{store}/{entity_of(first)['_id']}"))
    [definition] = await admin.list("stores", {"name": store})
    fields = [*definition["fields"], {"id": "must", "type": "Text", "required": True}]
    good(await admin.patch(f"/stores/{definition['_id']}", {"fields": fields}))
    assert (await user.post(f"/{store}", {"n": 1}, idempotency_key=key)).content == first.content
    refused(await user.post(f"/{store}", {"n": 1}), 400, "must")
    role, body = await hub.role("GET /*"), {"login": unique("user")}
    first = await admin.post("/users", body | {"roles": [role]}, idempotency_key=key)
    good(await admin.patch(f"/users/{entity_of(first)['_id']}", {"roles": []}))
    good(await admin.delete(f"/roles/{role}"))
    again = await admin.post("/users", body | {"roles": [role]}, idempotency_key=key)
    assert again.content == first.content


@pytest.mark.parametrize("key", ["", "a b", "a\tb", "x" * 256])
async def test_a_bad_key_is_refused(user: Client, bare: str, key: str) -> None:
    """Keys other than 1 to 255 visible ASCII characters are answered 400."""
    refused(await user.post(f"/{bare}", {}, idempotency_key=key), 400, "Idempotency-Key")
    assert await user.list(bare) == []


async def test_a_bulk_change_reaches_every_match(user: Client, store: str) -> None:
    """PATCH and DELETE with a filter answer the count. Each entity has its own revision, time and change."""
    made = await user.make_all(store, [{"n": n, "tag": "x" if n % 2 else "y"} for n in range(10)])
    start = (await user.get(f"/{store}")).headers["x-position"]
    assert good(await user.patch(f"/{store}?tag=x", {"done": True, "tag": None})) == {"success": True, "count": 5}
    after = await user.list(store)
    for old, new in zip(made, after, strict=True):
        if old["tag"] == "x":
            assert new == old | {"done": True, "tag": None, "_rev": 2, "_at": new["_at"]}
        else:
            assert new == old
    params = {"filter": '{"n":{"$gte":8}}'}
    assert good(await user.delete(f"/{store}", params)) == {"success": True, "count": 2}
    assert [e["n"] for e in await user.list(store)] == list(range(8))
    changes = good(await user.get(f"/{store}?since={start}"))["changes"]
    assert [c["op"] for c in changes] == ["update"] * 5 + ["remove"] * 2
    assert len({c["position"] for c in changes}) == 7
    assert good(await user.patch(f"/{store}?tag=x", {"done": True})) == {"success": True, "count": 0}
    entries = good(await user.get(f"/{store}/{made[1]['_id']}/history"))["history"]
    assert [e["by"] for e in entries] == [user.id, user.id]


async def test_a_bulk_change_needs_a_filter(user: Client, store: str) -> None:
    """A missing filter does not mean all entities."""
    await user.make(store, n=1)
    for query in ("", "?", "?filter", "?limit=1", "?search="):
        assert refused(await user.patch(f"/{store}{query}", {"m": 1}), 400), query
        assert refused(await user.delete(f"/{store}{query}"), 400), query
    for name in ("offset", "limit", "after", "sort", "only", "meta", "since", "upsert"):
        value = "true" if name == "meta" else "1" if name in ("offset", "limit") else "n"
        refused(await user.delete(f"/{store}", {name: value, "n": "1"}), 400)
    assert [e["_rev"] for e in await user.list(store)] == [1]


async def test_a_bulk_change_takes_every_kind_of_filter(user: Client, store: str) -> None:
    """Search and a period of creation are accepted too; `all` means all entities."""
    made = await user.make_all(store, [{"title": "Red"}, {"title": "blue"}, {"title": "dark RED"}])
    assert good(await user.patch(f"/{store}?search=red", {"m": 1}))["count"] == 2
    assert good(await user.patch(f"/{store}?from={made[0]['time']}&to={made[0]['time']}", {"m": 2}))["count"] == 3
    assert good(await user.delete(f"/{store}?from=2999-01-01"))["count"] == 0
    assert good(await user.delete(f"/{store}?all=true"))["count"] == 3


async def test_a_bulk_change_cannot_touch_system_fields(user: Client, other: Client, store: str) -> None:
    """System fields are refused, even with other fields; so are bodies that are not objects."""
    await user.make_all(store, [{"n": 1}, {"n": 1}])
    body = {"owner": other.id, "access": [other.id], "_rev": 7, "m": 1}
    refused(await user.patch(f"/{store}?n=1", body), 400, "owner", "access", "_rev")
    assert [(e["owner"], e["access"], e["_rev"]) for e in await user.list(store)] == [(user.id, [], 1)] * 2
    refused(await user.patch(f"/{store}?n=1", {"_id": new_id()}), 400, "_id")
    refused(await user.patch(f"/{store}?n=1", [{"n": 1}]), 400, "body")


async def test_a_bulk_change_is_all_or_nothing(user: Client, store: str) -> None:
    """A unique value for several entities is answered 409, and none is changed."""
    await user.make_all(store, [{"n": 1}, {"n": 1}, {"n": 2, "code": "b"}])
    refused(await user.patch(f"/{store}?n=1", {"code": "a"}), 409, "code")
    assert [e.get("code") for e in await user.list(store)] == [None, None, "b"]
    assert [e["_rev"] for e in await user.list(store)] == [1, 1, 1]
