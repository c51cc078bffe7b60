"""Several hubs on one MongoDB act as one hub for live clients, and writes by other programs reach the clients too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from stores.records import Entity
from tests.support import mongod
from tests.support.engines import Database, mongo_database
from tests.support.hub import Client, Hub, entity_of, eventually, running_hub
from tests.support.live import SOON, Beacon, Event, ends_as_revoked, live, make_beacon, matches_rest, ops

pytestmark = pytest.mark.engine("mongodb")

SLACK = 15
"""Seconds that a busy machine may need beyond the hub's own timeout."""


@pytest.fixture(scope="module")
async def shared(mongodb: str) -> AsyncIterator[Database]:
    database = mongo_database(mongodb)
    yield database
    await database.drop()


@pytest.fixture(scope="module")
async def hubs(shared: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Hub, Hub]]:
    """Two processes on one database."""
    folder = tmp_path_factory.mktemp("hubs")
    async with (
        running_hub(shared, folder / "one", live_position_every=1) as one,
        running_hub(shared, folder / "two", live_position_every=1) as two,
    ):
        yield one, two


@pytest.fixture(scope="module")
async def beacon(hubs: tuple[Hub, Hub]) -> Beacon:
    return await make_beacon(hubs[0])


async def known(hub: Hub, admin: Client, *stores: str) -> None:
    """Wait until this process knows stores that were defined through another."""
    for store in stores:
        path = f"/{store}"

        async def listed() -> bool:
            return (await at(hub, admin).get(path)).status_code == 200  # noqa: B023

        await eventually(listed)


def at(hub: Hub, client: Client) -> Client:
    """Return the same caller as a client of another process."""
    return hub.client(client.http.headers["Authorization"].removeprefix("Bearer "), client.user)


async def test_writes_of_one_process_are_seen_through_the_other(hubs: tuple[Hub, Hub], beacon: Beacon) -> None:
    """A thousand writes arrive once and in order, at a client that stays and at one that alternates between
    processes."""
    one, two = hubs
    store = await one.define()
    await known(two, one.admin, store, beacon.store)
    async with live(two, one.admin) as staying:
        stayed = await staying.watch(store)
        hopped, hops = await hop(hubs, one.admin, store)
        assert hops > 2
        await staying.caught_up(beacon)
        assert [event["entity"]["n"] for event in stayed.events] == [*range(1_000)]
        assert [event["entity"]["n"] for event in hopped] == [*range(1_000)]
        await matches_rest(stayed, at(two, one.admin))


async def hop(hubs: tuple[Hub, Hub], admin: Client, store: str) -> tuple[list[Event], int]:
    """Write through the first hub while a client changes hubs every 150 events; return its events and the number of
    changes."""
    listening = asyncio.Event()

    async def watch() -> tuple[list[Event], int]:
        events: list[Event] = []
        hops = 0
        async with live(hubs[0], admin) as client:
            seen = await client.watch(store)
        while len(events) < 1_000:
            async with live(hubs[hops % 2], admin) as client:
                seen = await client.resume(seen)
                listening.set()
                enough = min(150, 1_000 - len(events))
                await client.until(lambda: len(seen.events) >= enough)  # noqa: B023
                client.abort()
                await client.ending()
            events += seen.take()
            hops += 1
        return events, hops

    async def write() -> None:
        for start in range(0, 1_000, 10):
            for n in range(start, start + 5):
                await admin.make(store, n=n)
            await admin.make_all(store, [{"n": n} for n in range(start + 5, start + 10)])

    watching = asyncio.create_task(watch())
    await listening.wait()
    await write()
    return await watching


async def test_a_write_by_another_program_is_pushed(hubs: tuple[Hub, Hub], shared: Database) -> None:
    """An insert, an update and a delete by PyMongo, directly in the collection, arrive as REST shows them."""
    one, two = hubs
    store = await one.define()
    await known(two, one.admin, store)
    async with live(two, one.admin) as client, AsyncMongoClient[Entity](shared.location) as mongo:
        watch = await client.watch(store)
        collection = mongo.get_default_database()[store]
        id = ObjectId()
        await collection.insert_one({"_id": id, "name": "é😀", "n": 1})
        await client.until(lambda: len(watch.events) == 1)
        await matches_rest(watch, one.admin)
        await collection.update_one({"_id": id}, {"$set": {"n": 2}})
        await client.until(lambda: len(watch.events) == 2)
        await matches_rest(watch, one.admin)
        await collection.delete_one({"_id": id})
        await client.until(lambda: len(watch.events) == 3)
        assert ops(watch.take()) == [(op, str(id)) for op in ("insert", "update", "remove")]


@pytest.mark.parametrize("act", ["replace", "drop", "foreign"])
async def test_what_another_program_does_to_a_collection_ends_the_views_of_its_store_alone(
    hubs: tuple[Hub, Hub], shared: Database, beacon: Beacon, act: str
) -> None:
    """No view ends if the collection belongs to no store. The store's collection is repaired immediately, and earlier
    positions are no longer valid."""
    one, two = hubs
    store, other = await one.define(unique=["code"]), await one.define()
    await known(two, one.admin, store, other, beacon.store)
    made = await one.admin.make(store, {"n": 1})
    async with live(two, one.admin) as client, AsyncMongoClient[Entity](shared.location) as outside:
        documents = outside.get_default_database()
        watched, others = await client.watch(store), await client.watch(other)
        if act == "drop":
            await documents[store].drop()
        else:
            await documents["reports"].insert_one({"n": 1})
            over = store if act == "replace" else "statements"
            await documents["reports"].rename(over, dropTarget=True)
        await one.admin.make(other, {"n": 2})
        await client.caught_up(beacon)
        assert [e["entity"]["n"] for e in others.events] == [2]
        assert others.ended is None
        since = {"since": watched.position}
        if act == "foreign":
            assert watched.ended is None
            assert (await one.admin.get(f"/{store}", since)).status_code == 200
            return
        await client.until(lambda: watched.ended)
        assert watched.ended is not None
        assert watched.ended["code"] == "410"
        assert (await one.admin.get(f"/{store}", since)).status_code == 410
        assert (await one.admin.get(f"/{other}", since)).status_code == 200

        async def has_unique_index() -> bool:
            return "hub_unique_code" in await documents[store].index_information()

        await eventually(has_unique_index)
        again = await client.watch(store)
        fresh = await one.admin.make(store, {"n": 3})
        await one.admin.patch(f"/{store}/{fresh['_id']}", {"n": 4})
        await client.caught_up(beacon)
        assert [event["op"] for event in again.events] == ["insert", "update"]
        trail = (await one.admin.get(f"/{store}/{fresh['_id']}/history")).json()["history"]
        assert [entry["_rev"] for entry in trail] == [1, 2]
        assert (await one.admin.get(f"/{store}/{made['_id']}/history")).status_code == 404


async def test_users_tokens_and_stores_changed_elsewhere_take_effect(hubs: tuple[Hub, Hub]) -> None:
    """They are created through one process and valid on the other. A move, revocation or redefinition through one takes
    effect on the other's live connections within about a second."""
    one, two = hubs
    here, there = await one.group(), await one.group()
    store, doomed = await one.define(), await one.define()
    mover, other = await one.as_user(group=here), await one.as_user(group=there)
    made = await other.make(store)
    await known(two, one.admin, store, doomed)
    async with live(two, mover) as client:
        watch, ending = await client.watch(store), await client.watch(doomed)
        assert watch.view == {}
        began = time.monotonic()
        entity_of(await one.admin.patch(f"/users/{mover.id}", {"group": there}))
        await client.until(lambda: made["_id"] in watch.view)
        assert time.monotonic() - began < SOON
        began = time.monotonic()
        [definition] = await one.admin.list("stores", {"name": doomed})
        entity_of(await one.admin.delete(f"/stores/{definition['_id']}"))
        await client.until(lambda: ending.ended)
        assert ending.ended is not None
        assert ending.ended["code"] == "404"
        assert time.monotonic() - began < SOON
        [token] = await one.admin.list("tokens", {"user": mover.id})
        began = time.monotonic()
        entity_of(await one.admin.delete(f"/tokens/{token['_id']}"))
        await ends_as_revoked(client, began)


async def test_what_one_process_creates_while_another_moves_its_group(hubs: tuple[Hub, Hub]) -> None:
    """Finally its `branch` agrees with the tree of groups."""
    one, two = hubs
    tops = [await one.group(), await one.group()]
    group = await one.group(tops[0])
    store = await one.define()
    maker = at(two, await one.as_user(group=group))
    await known(two, one.admin, store)

    async def all_moved(top: str) -> bool:
        return all(entity["branch"] == [group, top] for entity in await one.admin.list(store, {"limit": 1_000}))

    for number in range(10):
        top = tops[(number + 1) % 2]
        makes = [maker.make(store, n=number) for _ in range(20)]
        move = one.admin.patch(f"/groups/{group}", {"parent": top})
        *_, moved = await asyncio.gather(*makes, move)
        entity_of(moved)
        await eventually(lambda: all_moved(top))  # noqa: B023


async def test_an_outage_of_the_database_is_only_a_delay(tmp_path: Path) -> None:
    """Live clients stay connected and receive later writes, and so does a client that resumes."""
    async with (
        mongod.restartable(tmp_path / "mongod") as server,
        running_hub(mongo_database(server.url), tmp_path / "hub") as hub,
    ):
        store = await hub.define()
        beacon = await make_beacon(hub)
        async with live(hub, hub.admin) as client, live(hub, hub.admin) as leaving:
            watch, left = await client.watch(store), await leaving.watch(store)
            for n in range(20):
                await hub.admin.make(store, n=n)
            await client.caught_up(beacon)
            leaving.abort()
            await asyncio.to_thread(server.kill)
            assert (await hub.admin.post(f"/{store}", {"n": 20})).status_code == 503
            await asyncio.to_thread(server.start_again)
            written = await write_again(hub.admin, store, 20)
            await client.caught_up(beacon)
            assert [event["entity"]["n"] for event in watch.events] == [*range(written)]
            async with live(hub, hub.admin) as back:
                again = await back.resume(left)
                await back.caught_up(beacon)
                await matches_rest(again, hub.admin)
            assert client.notices == []
            await matches_rest(watch, hub.admin)


async def write_again(client: Client, store: str, start: int) -> int:
    """Write more entities as soon as the database accepts them; return how many there are then."""
    number = start
    while number < start + 20:
        answer = await client.post(f"/{store}", {"n": number})
        number += answer.status_code == 200
    return number


@pytest.mark.parametrize("outage", [pytest.param("killed", marks=pytest.mark.full), "frozen"])
async def test_sigterm_ends_the_hub_within_its_grace_while_the_database_is_gone(tmp_path: Path, outage: str) -> None:
    """It ends in time whether the server refuses connections or does not answer, and even with a write in progress."""
    grace = 8
    async with mongod.restartable(tmp_path / "db") as server:
        async with running_hub(mongo_database(server.url), tmp_path / "hub", shutdown_grace=grace) as hub:
            store = await hub.define()
            if outage == "frozen":
                server.freeze()
            else:
                await asyncio.to_thread(server.kill)
            writing = asyncio.ensure_future(hub.admin.post(f"/{store}", {"n": 1}))
            await asyncio.wait([writing], timeout=0.5)  # it has no answer yet
            process = hub.process.process
            process.terminate()
            code = await asyncio.to_thread(process.wait, grace + SLACK)
            assert code == 0
            await asyncio.gather(writing, return_exceptions=True)
        if outage == "frozen":
            server.thaw()
        else:
            await asyncio.to_thread(server.start_again)
