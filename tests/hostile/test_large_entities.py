"""Small requests over large entities do not block other clients: work is bounded by bytes and steps, not by rows."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httpx
import orjson
import pytest

from tests.support.hub import PATIENCE, Client, Hub
from tests.support.live import live
from tests.support.standstill import no_standstill

ELEMENTS: Final = 30_000


def large(number: int) -> dict[str, Any]:
    """Return an entity of some 700 kB, half of it text and half an array of objects."""
    return {"n": number, "a": [{"x": (n * 7 + number) % 1_000} for n in range(ELEMENTS)], "text": "é" * 180_000}


READS: Final[list[dict[str, str]]] = [
    {"limit": "100"},
    {"limit": "5"},
    {"sort": "-a.x", "limit": "3"},
    {"sort": "a.x,-n", "limit": "3"},
    {"sort": "-a", "limit": "3"},
    {"only": "a.x", "limit": "3"},
    {"only": "n"},
    {"meta": "true"},
    {"meta": "true", "only": "a.x"},
    {"search": "EE"},
    {"filter": '{"a":{"$elemMatch":{"x":{"$gt":2000}}}}'},
    {"filter": '{"a.x":{"$in":[5000,6000]}}', "limit": "3"},
    {"filter": '{"$or":[{"a":{"$size":3}},{"text":{"$contains":"xyz"}}]}'},
]


async def filled(hub: Hub, user: Client, count: int) -> str:
    store = await hub.define(search=["text"])
    for number in range(count):
        await user.make(store, large(number))
    return store


async def test_reads_over_large_entities(hub: Hub) -> None:
    """Lists, sorts, projections, summaries and filters, each twice, to test the cache too; and single entities."""
    user = await hub.as_user()
    store = await filled(hub, user, 12)
    async with no_standstill(hub.url):
        for _ in range(2):
            for parameters in READS:
                answer = await user.get(f"/{store}", parameters)
                assert answer.status_code == 200, (parameters, answer.text[:500])
        first = (await user.list(f"{store}?limit=1&only=n"))[0]["_id"]
        for path in (f"/{store}/{first}", f"/{store}/{first}?only=a.x", f"/{store}/{first}/history"):
            assert (await user.get(path)).status_code == 200


@pytest.mark.parametrize("parameters", [{"sort": "-a.x"}, {"only": "a.x"}], ids=["sort", "only"])
async def test_three_large_entities_by_what_their_arrays_hold(hub: Hub, parameters: dict[str, str]) -> None:
    user = await hub.as_user()
    store = await filled(hub, user, 3)
    async with no_standstill(hub.url):
        assert len(await user.list(store, parameters)) == 3


LONG_NAMES: Final = 30


def below(value: Any, levels: int) -> Any:
    """Return the value below this many objects with long names."""
    return {"n" * 200: below(value, levels - 1)} if levels else value


async def test_bodies_that_break_a_rule_at_every_value(hub: Hub) -> None:
    """The search for broken rules ends where an answer does, and copies no long paths."""
    user = await hub.as_user()
    closed = await hub.define(fields=[{"id": "name", "type": "Text"}])
    free = await hub.define()
    async with no_standstill(hub.url):
        for store, body in (
            (closed, {f"a{n}": 0 for n in range(80_000)}),
            (free, {f"_a{n}": 0 for n in range(80_000)}),
            (free, {"a": [{"$": 0}] * 45_000}),
            (free, below([{"$": 0}] * 45_000, LONG_NAMES)),
            (free, below([{"x": 1}] * 45_000, LONG_NAMES)),
        ):
            answer = await user.post(f"/{store}", body)
            assert answer.status_code in (200, 400)
            assert len(answer.json().get("errors", ())) <= 1_000


async def test_a_change_that_breaks_a_rule_behind_many_equal_values(hub: Hub) -> None:
    """Whether a field is sent back unchanged is decided once, however often it breaks a rule."""
    user = await hub.as_user()
    store = await hub.define()
    made = await user.make(store, a=[0.5] * 45_000 + [0] * 25_000)
    async with no_standstill(hub.url):
        for send in (user.patch, user.put):
            answer = await send(f"/{store}/{made['_id']}", {"a": [0.5] * 45_000 + [{"$": 0}] * 25_000})
            assert answer.status_code == 400
            assert len(answer.json()["errors"]) == 1_000


async def test_pages_of_large_entities_are_whole(hub: Hub) -> None:
    """A page that is streamed because of its size holds the requested entities and a link to the next page."""
    user = await hub.as_user()
    store = await filled(hub, user, 5)
    page = await user.get(f"/{store}", {"limit": "3", "sort": "-n"})
    assert [e["n"] for e in page.json()] == [4, 3, 2]
    assert page.json()[0]["a"] == large(4)["a"]
    following = await user.http.get(page.links["next"]["url"].removeprefix("/api/v1"))
    assert [e["n"] for e in following.json()] == [1, 0]
    assert "next" not in following.links
    projected = await user.list(store, {"only": "a.x", "limit": "2"})
    assert [e["a"] for e in projected] == [large(n)["a"] for n in (0, 1)]


async def test_changes_of_large_entities(hub: Hub) -> None:
    """Creates and changes, one by one, with a live subscription, a delta and a resumed subscription."""
    user = await hub.as_user()
    store = await hub.define()
    position = (await user.get(f"/{store}")).headers["x-position"]
    async with live(hub.url, user) as client, no_standstill(hub.url):
        watch = await client.watch(store, filter={"a.x": {"$gte": 0}})
        for number in range(10):
            await user.make(store, large(number))
            await client.until(lambda number=number: len(watch.view) == number + 1)  # type: ignore[misc]
        for one in list(watch.view):
            await user.patch(f"/{store}/{one}", {"n": 50})
            await client.until(lambda one=one: watch.view[one]["n"] == 50)  # type: ignore[misc]
        seen, more = 0, True
        while more:
            answer = (await user.get(f"/{store}", {"since": position})).json()
            position, more = answer["position"], answer["more"]
            seen += len(answer["changes"])
        assert seen == 20
        again = await client.watch(store, snapshot=False, since=watch.began)
        await client.until(lambda: len(again.view) == 10)


async def test_history_of_an_entity_with_many_fields(hub: Hub) -> None:
    """A page of it costs what has changed, not the fields of the entity times the entries of the page."""
    user = await hub.as_user()
    store = await hub.define()
    made = await user.make(store, {f"a{n}": 0 for n in range(20_000)} | {"n": 0})
    path = f"/{store}/{made['_id']}"
    for number in range(1, 251):
        assert (await user.patch(path, {"n": number})).status_code == 200
    async with no_standstill(hub.url):
        entries = (await user.get(path + "/history")).json()["history"]
    assert [entry["changes"]["n"]["new"] for entry in entries] == list(range(len(entries)))
    assert len(entries) > 100


@pytest.mark.engine("sqlite")
async def test_changes_of_an_entity_that_has_grown_to_a_million_values(hub: Hub) -> None:
    """Each PATCH is within the bounds of a body; from then on, small changes and a delta do not block others."""
    user = await hub.as_user()
    store = await hub.define()
    id = (await user.make(store, {"x": 0}))["_id"]
    for number in range(11):
        assert (await user.patch(f"/{store}/{id}", {f"f{number}": [{}] * 99_000})).status_code == 200
    position = (await user.get(f"/{store}", {"limit": "0"})).headers["x-position"]
    async with no_standstill(hub.url):
        for number in range(1, 3):
            assert (await user.patch(f"/{store}/{id}", {"x": number})).status_code == 200
        answer = await user.get(f"/{store}", {"since": position, "only": "x"})
        assert answer.json()["changes"][0]["entity"]["x"] == 1
        assert (await user.delete(f"/{store}/{id}")).status_code == 200


@pytest.mark.parametrize("key", [None, "once"])
async def test_a_hundred_large_entities_in_one_commit(hub: Hub, key: str | None) -> None:
    """Up to sixty megabytes in one array. Sent again with the same idempotency key, it has the same answer."""
    user = await hub.as_user()
    store = await hub.define()
    size = 600_000 if hub.database.kind == "sqlite" else 200_000  # a transaction must fit into MongoDB's cache
    body = orjson.dumps([{"n": n, "text": "x" * size} for n in range(100)])
    headers = {"idempotency_key": key} if key else {}
    async with no_standstill(hub.url):
        answers = [await user.send("POST", f"/{store}", body, **headers) for _ in range(2 if key else 1)]
        assert [a.status_code for a in answers] == [200] * len(answers)
        assert (await user.get(f"/{store}", {"meta": "true", "only": "n"})).json()["count"] == 100
    assert answers[0].content == answers[-1].content


@pytest.mark.alone
@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.engine("mongodb")
@pytest.mark.timeout(400)
async def test_many_large_arrays_at_once_are_all_taken(hub: Hub) -> None:
    """20 MB each, and as much again for the oplog: one fits into the tenth of the server's cache (512 MB) that may hold
    changes, but not all at once."""
    user = await hub.as_user()
    store = await hub.define()
    body = orjson.dumps([{"text": "x" * 500_000} for _ in range(40)])
    for _ in range(2):
        answers = await asyncio.gather(*(create(user, store, body) for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4, [answer.text[:300] for answer in answers]


async def create(user: Client, store: str, body: bytes) -> httpx.Response:
    # They take turns, so the last one waits for all others, on a busy machine for longer than other requests.
    json = {"Content-Type": "application/json"}
    return await user.http.post(f"/{store}", content=body, headers=json, timeout=10 * PATIENCE)
