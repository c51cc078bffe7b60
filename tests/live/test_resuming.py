"""Resuming: from the last position nothing is missed or sent twice, or the client must begin anew (resync)."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from realtime.missed_changes import READ_AT_ONCE
from tests.live.conftest import Connect
from tests.support.engines import sqlite_database
from tests.support.hub import Client, Hub, StartHub, entity_of, eventually, running_hub
from tests.support.live import Beacon, LiveClient, live, make_beacon, matches_rest, ops


def is_resync(answer: dict[str, Any]) -> bool:
    """Return whether the answer asks the client, in machine-readable form, to begin anew."""
    error = answer.get("error", {})
    return not answer["ok"] and error["code"] == "410" and "error_resync_required" in error["tags"]


@pytest.mark.gate("sqlite", "mongodb")
async def test_what_was_missed_comes_first(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """Missed events arrive in order, once each, before new ones."""
    first = await connected(user)
    watch = await first.watch(store, filter={"n": {"$lt": 100}})
    made = await user.make_all(store, [{"n": n} for n in range(5)])
    await first.caught_up(beacon)
    first.abort()
    await user.patch(f"/{store}/{made[0]['_id']}", {"n": 200})
    await user.patch(f"/{store}/{made[1]['_id']}", {"n": 50})
    await user.delete(f"/{store}/{made[2]['_id']}")
    new = await user.make(store, n=7)
    second = await connected(user)
    again = await second.resume(watch)
    assert again.channel == watch.channel
    last = await user.make(store, n=8)
    await second.caught_up(beacon)
    expected = [("remove", made[0]), ("update", made[1]), ("remove", made[2]), ("insert", new), ("insert", last)]
    assert ops(again.take()) == [(op, entity["_id"]) for op, entity in expected]
    await matches_rest(again, user)


@pytest.mark.gate("sqlite", "mongodb")
async def test_each_position_of_an_event_resumes_right_after_it(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """This holds between the changes of one commit too."""
    client = await connected(user)
    watch = await client.watch(store)
    await user.make_all(store, [{"n": n} for n in range(4)])
    await user.make_all(store, [{"n": n} for n in range(4, 8)])
    await client.caught_up(beacon)
    events = watch.take()
    assert [event["entity"]["n"] for event in events] == list(range(8))
    for number, event in enumerate(events):
        another = await connected(user)
        resumed = await another.watch(store, snapshot=False, since=event["position"])
        await another.caught_up(beacon)
        assert [e["entity"]["n"] for e in resumed.take()] == [e["entity"]["n"] for e in events[number + 1 :]]


async def test_positions_of_lists_and_events_are_one_kind(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """A live subscription can continue from a REST list, and delta sync from a live event."""
    one = await user.make(store, n=1)
    listed = (await user.get(f"/{store}")).headers["x-position"]
    two = await user.make(store, n=2)
    client = await connected(user)
    watch = await client.watch(store, snapshot=False, since=listed)
    await client.caught_up(beacon)
    assert ops(watch.take()) == [("insert", two["_id"])]
    position = watch.position
    await user.delete(f"/{store}/{one['_id']}")
    delta = (await user.get(f"/{store}?since={position}")).json()
    assert [(change["op"], change["_id"]) for change in delta["changes"]] == [("remove", one["_id"])]
    answer = await client.subscribe(store, only="n", since=delta["position"])
    assert answer["ok"] is True


async def test_quiet_connections_are_told_their_position(
    connected: Connect, user: Client, admin: Client, store: str, beacon: Beacon
) -> None:
    """They receive positions while others write elsewhere; resuming from one brings only later events."""
    client = await connected(user)
    watch = await client.watch(store)
    before = watch.position
    elsewhere = await admin.make(beacon.store)
    await client.until(lambda: len(client.positions) >= 2)
    assert watch.take() == []
    assert watch.position == client.positions[-1] != before
    assert elsewhere["_id"] not in "".join(client.packets)
    client.abort()
    made = await user.make(store, n=1)
    another = await connected(user)
    again = await another.resume(watch)
    await another.caught_up(beacon)
    assert ops(again.take()) == [("insert", made["_id"])]


def spoilt(position: str) -> dict[str, str]:
    """Return positions that the hub never issued, or not to this client."""
    place, _, visibility = position.rpartition("~")
    epoch, _, number = place.partition(".")
    return {
        "empty": "",
        "nonsense": "nonsense",
        "not text of the web": "é\x00😀~" + visibility,
        "cut": position[:-3],
        "without visibility": place,
        "another epoch": f"0{epoch[1:]}x.{number}~{visibility}",
        "another visibility": f"{place}~0000000000",
        "of the future": f"{epoch}.{'t4294967295.1' if number[0] in 'tr' else '999999999'}~{visibility}",
        "of before the beginning": f"{epoch}.-5~{visibility}",
        "huge": f"{epoch}.{'9' * 5000}~{visibility}",
        "no token": f"{epoch}.rAAAA~{visibility}",
    }


async def test_a_position_that_means_nothing_is_told(connected: Connect, user: Client, store: str) -> None:
    """Forged and malformed positions, and those of another database or time, are answered 410, or with a snapshot if
    `snapshot` is "auto"."""
    made = await user.make(store, n=1)
    client = await connected(user)
    watch = await client.watch(store)
    for what, position in spoilt(watch.position).items():
        answer = await client.subscribe(store, since=position)
        assert is_resync(answer), (what, answer)
        answer = await client.subscribe(store, since=position, snapshot=True)
        assert is_resync(answer), (what, answer)
        answer = await client.subscribe(store, since=position, snapshot="auto")
        assert answer["ok"] is True, (what, answer)
        assert (answer["resync"], answer["entities"]) == (True, [made])


async def test_a_position_of_somebody_else_means_nothing(
    connected: Connect, hub: Hub, user: Client, store: str, beacon: Beacon
) -> None:
    """Users with different visibility see different changes, so the other user must begin anew."""
    other = await hub.as_user()
    watch = await (await connected(user)).watch(store)
    made = await other.make(store, n=1)
    client = await connected(other)
    assert is_resync(await client.subscribe(store, since=watch.position))
    again = await client.resume(watch, snapshot="auto")
    assert again.resync
    assert again.view.keys() == {made["_id"]}


async def test_a_sight_that_changed_meanwhile_is_told(
    connected: Connect, hub: Hub, admin: Client, beacon: Beacon
) -> None:
    """After a move to another group while disconnected the user must begin anew, and sees the new group's entities."""
    here, there = await hub.group(), await hub.group()
    store = await hub.define()
    mover, other = await hub.as_user(group=here), await hub.as_user(group=there)
    made = await other.make(store)
    client = await connected(mover)
    watch = await client.watch(store)
    client.abort()
    entity_of(await admin.patch(f"/users/{mover.id}", {"group": there}))
    another = await connected(mover)
    assert is_resync(await another.subscribe(store, since=watch.position))
    again = await another.resume(watch, snapshot="auto")
    assert again.resync
    assert again.view.keys() == {made["_id"]}


async def test_cut_off_while_sight_changes_and_then_back(
    connected: Connect, hub: Hub, admin: Client, beacon: Beacon
) -> None:
    """The user is moved to another group, disconnected in the middle of the resulting events, and moved back. It must
    begin anew, because the events that it received are no longer true."""
    here, there = await hub.group(), await hub.group()
    store = await hub.define()
    mover, other = await hub.as_user(group=here), await hub.as_user(group=here)
    made = await other.make_all(store, [{"n": n} for n in range(3)])
    client = await connected(mover)
    watch = await client.watch(store)
    assert len(watch.view) == 3
    client.cut_after(1)
    entity_of(await admin.patch(f"/users/{mover.id}", {"group": there}))
    await client.ending()
    assert len(watch.view) == 2
    entity_of(await admin.patch(f"/users/{mover.id}", {"group": here}))
    another = await connected(mover)
    again = await another.resume(watch, snapshot="auto")
    await another.caught_up(beacon)
    assert again.resync
    assert again.view == {entity["_id"]: entity for entity in made}


async def test_a_store_that_was_redefined_meanwhile_is_told(
    connected: Connect, hub: Hub, admin: Client, user: Client
) -> None:
    """Unchanged entities are shown differently after the redefinition, so the client must begin anew."""
    store = await hub.define(fields=[{"id": "name", "type": "Text"}, {"id": "pin", "type": "Text", "hidden": True}])
    made = await user.make(store, name="a", pin="b")
    client = await connected(user)
    watch = await client.watch(store)
    client.abort()
    [definition] = await admin.list("stores", {"name": store})
    fields = [{"id": "name", "type": "Text"}, {"id": "pin", "type": "Text"}]
    entity_of(await admin.patch(f"/stores/{definition['_id']}", {"fields": fields}))
    another = await connected(user)
    again = await another.resume(watch, snapshot="auto")
    if not again.resync:  # the process does not know the redefinition yet, and ends the view when it does
        await another.until(lambda: again.ended)
        again = await another.resume(watch, snapshot="auto")
    assert again.resync
    assert again.view == {made["_id"]: await user.see(store, made["_id"])}


async def test_a_redefinition_behind_many_changes_is_told(connected: Connect, hub: Hub, admin: Client) -> None:
    """Also if the first changes that are read, which the present definition would show, do not reach up to it."""
    fields = [{"id": "n", "type": "Number"}, {"id": "pin", "type": "Text", "hidden": True}]
    store = await hub.define(fields=fields)
    user = await hub.as_user()
    position = (await user.get(f"/{store}")).headers["x-position"]
    made = await user.make_all(store, [{"n": n} for n in range(READ_AT_ONCE + 100)])
    [definition] = await admin.list("stores", {"name": store})
    entity_of(await admin.patch(f"/stores/{definition['_id']}", {"fields": [*fields, {"id": "m", "type": "Text"}]}))
    client = await connected(user)
    assert is_resync(await client.subscribe(store, since=position))
    again = await client.watch(store, since=position, snapshot="auto")
    assert (again.resync, len(again.view)) == (True, len(made))


async def test_auto_takes_what_is_there(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """With a valid position only the missed events arrive; without a position, a snapshot."""
    client = await connected(user)
    watch = await client.watch(store, snapshot="auto")
    assert (watch.resync, watch.view) == (False, {})
    client.abort()
    await user.make(store, n=1)
    another = await connected(user)
    answer = await another.subscribe(store, since=watch.position, snapshot="auto", only="n")
    assert answer.keys() == {"ok", "channel", "position"}
    again = await another.resume(watch, snapshot="auto")
    await another.caught_up(beacon)
    assert len(again.take()) == 1


@pytest.mark.engine("sqlite")
async def test_history_that_was_retired_is_told(tmp_path: Path) -> None:
    """Beyond the retention the answer is 410 or a new snapshot, never a silent gap."""
    settings = {"feed_retention_mb": 1, "sweep_interval": 1, "live_recent": 10}
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub:
        store = await hub.define()
        async with live(hub, hub.admin) as client:
            watch = await client.watch(store)
            made = await hub.admin.make_all(store, [{"n": n, "text": "x" * 10_000} for n in range(300)])
            await client.until(lambda: len(watch.view) == 300)
            first = watch.take()[0]["position"]

            async def retired() -> bool:
                return is_resync(await client.subscribe(store, since=first, only="n"))

            await eventually(retired)
            again = await client.watch(store, since=first, snapshot="auto")
            assert again.resync
            assert again.view == {entity["_id"]: entity for entity in made}


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_is_only_a_delay(own_hub: StartHub, number: int) -> None:
    """The hub is stopped (with a notice) or killed in the middle of writes: a client that resumes sees each write
    once."""
    hub = await own_hub()
    store = await hub.define()
    async with live(hub, hub.admin) as client:
        watch = await client.watch(store)
        writing = asyncio.create_task(write_until_it_fails(hub.admin, store))
        await client.until(lambda: len(watch.events) > 50)
        hub.process.process.send_signal(number)
        notices = await client.ending()
        written = await writing
        assert notices == (["shutdown"] if number == signal.SIGTERM else [])
    await asyncio.to_thread(hub.process.wait)
    hub = await own_hub()
    beacon = await make_beacon(hub)
    async with live(hub, hub.admin) as client:
        again = await client.resume(watch)
        await client.caught_up(beacon)
        assert not again.resync
        await matches_rest(again, hub.admin)
        seen = [event["entity"]["n"] for event in [*watch.events, *again.events]]
        assert seen == [*range(len(seen))]
        assert len(seen) >= written


async def write_until_it_fails(client: Client, store: str) -> int:
    """Create entities numbered from 0, one per request, until one fails; return the number of acknowledged ones."""
    number = 0
    while True:
        try:
            answer = await client.post(f"/{store}", {"n": number})
        except Exception:
            return number
        if answer.status_code != 200:
            return number
        number += 1


@pytest.mark.gate("sqlite", "mongodb")
async def test_snapshots_and_events_join_under_concurrent_writers(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """Many clients connect, leave and resume while several writers update, insert and delete: each view is exact."""
    stop = asyncio.Event()

    async def write(worker: int) -> None:
        ids: list[str] = []
        number = 0
        while not stop.is_set():
            number += 1
            if number % 3 or not ids:
                ids.append((await user.make(store, worker=worker, n=number % 7))["_id"])
            elif number % 2:
                entity_of(await user.delete(f"/{store}/{ids.pop(0)}"))
            else:
                entity_of(await user.patch(f"/{store}/{ids[-1]}", {"n": number % 5}))

    async def watch(number: int) -> tuple[LiveClient, Any]:
        client = await connected(user)
        watch = await client.watch(store, filter={"n": {"$lt": 4}})
        for _ in range(3):
            enough = len(watch.events) + 10 * number
            await client.until(lambda: len(watch.events) >= enough)  # noqa: B023
            client.abort()
            client = await connected(user)
            watch = await client.resume(watch)
        return client, watch

    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(write(worker)) for worker in range(3)]
        watching = [group.create_task(watch(number)) for number in range(6)]
        await asyncio.wait(watching)
        stop.set()
        await asyncio.wait(writers)
    for client, seen in (task.result() for task in watching):
        await client.caught_up(beacon)
        await matches_rest(seen, user)


async def test_a_long_absence_is_replayed_while_others_write(own_hub: StartHub) -> None:
    """More changes than the hub keeps in memory come from the engine, and join the live events without a gap."""
    hub = await own_hub(live_recent=20, live_max_buffered=200_000)
    store = await hub.define()
    beacon = await make_beacon(hub)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(live(hub, hub.admin))
        watch = await first.watch(store)
        first.abort()
        for start in range(0, 3_000, 1_000):
            await hub.admin.make_all(store, [{"n": n, "text": "x" * 300} for n in range(start, start + 1_000)])
        second = await stack.enter_async_context(live(hub, hub.admin))
        resuming = asyncio.create_task(second.resume(watch))
        for n in range(3_000, 3_050):
            await hub.admin.make(store, n=n)
        again = await resuming
        await second.caught_up(beacon)
        assert [event["entity"]["n"] for event in again.take()] == [*range(3_050)]
