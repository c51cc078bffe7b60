"""The position at which a subscription begins: after all answered writes, and not behind the client's other events.
Also several subscriptions of one connection to one view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from auth.principal import Principal
from hub.app import assemble
from hub.running import Hub as HubParts
from hub.settings import Settings
from realtime.session import LiveSession
from tests.live.conftest import Connect
from tests.support.ear import Ear
from tests.support.engines import Database
from tests.support.hub import ADMIN_PASSWORD, SECRET_KEY, Client, Hub, entity_of, eventually
from tests.support.live import Beacon, Event, matches_rest, ops, order_of

# Lagging fan-out, as on a busy machine: it handles no changes of the feed until `go_on`.


class Lagging:
    """The parts of a hub with a paused fan-out, and one client's session."""

    def __init__(self, hub: HubParts, principal: Principal) -> None:
        self.hub = hub
        self.principal = principal
        self.ear = Ear()
        self.session = LiveSession(hub.session_registry.context, self.ear, principal, hub.control_token)
        hub.session_registry.open(self.session)
        self._go = asyncio.Event()
        advance = hub.session_registry.context.fanout.advance

        async def wait(changes: Any, position: str) -> None:
            await self._go.wait()
            await advance(changes, position)

        hub.session_registry.context.fanout.advance = wait  # type: ignore[method-assign]

    async def ask(self, name: str, **payload: Any) -> dict[str, Any]:
        answers: list[bytes] = []
        async with asyncio.timeout(20):
            await self.session.request(name, payload, answers.append)
        answer: dict[str, Any] = orjson.loads(answers[0])
        return answer

    async def write(self, *texts: str) -> None:
        await self.hub.entities.create(self.principal, "notes", [{"text": text} for text in texts])

    def heard(self) -> list[str]:
        return [note["text"] for note in self.ear.changes()]

    def go_on(self) -> None:
        self._go.set()


@pytest.fixture
async def lagging(database: Database, tmp_path: Path) -> AsyncIterator[Lagging]:
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    secrets = {"admin_password": ADMIN_PASSWORD, "database_url": url, "secret_key": SECRET_KEY}
    settings = Settings(data_dir=tmp_path, **secrets)  # type: ignore[arg-type]
    made = assemble(settings)
    async with made.run():
        principal = await made.resolver.resolve(made.control_token)
        await made.entities.create(principal, "stores", [{"name": "notes"}])
        fanout = made.session_registry.context.fanout
        reached = fanout.order_of(await made.engine.feed.position())
        await fanout.reach(reached)
        yield Lagging(made, principal)


async def test_a_subscription_does_not_hear_of_what_was_answered_before(lagging: Lagging) -> None:
    """Writes answered before the request are not delivered to it, although fan-out has yet to handle them."""
    await lagging.write("old", "older")
    answer = await lagging.ask("subscribe", store="notes")
    await lagging.write("new")
    lagging.go_on()
    assert await eventually(lambda: heard(lagging, 1)) == ["new"]
    [(_, event)] = lagging.ear.said
    assert order_of(answer["position"]) < order_of(event["position"])


async def heard(lagging: Lagging, number: int) -> list[str]:
    return lagging.heard() if len(lagging.heard()) >= number else []


@pytest.mark.parametrize("first", [{"snapshot": True}, {}])
@pytest.mark.parametrize("second", [{"snapshot": True}, {}])
@pytest.mark.parametrize("ids", [(None, None), ("a", "b"), (None, "b"), ("a", None)])
async def test_no_position_lies_behind_one_that_the_client_has(
    lagging: Lagging, first: dict[str, Any], second: dict[str, Any], ids: tuple[str | None, str | None]
) -> None:
    """Two subscriptions to one view while fan-out lags: the second one's position is not before the first one's, and
    each later change is delivered once."""
    requests = [more | ({} if id is None else {"id": id}) for more, id in zip((first, second), ids, strict=True)]
    await lagging.write("one")
    before = await lagging.ask("subscribe", store="notes", **requests[0])
    await lagging.write("two")
    asking = asyncio.create_task(lagging.ask("subscribe", store="notes", **requests[1]))
    await asyncio.sleep(0)
    lagging.go_on()
    after = await asking
    assert before["ok"]
    assert after["ok"], after
    assert order_of(before["position"]) <= order_of(after["position"])
    await lagging.write("three")
    shares = ids[0] != ids[1]
    expected = ["two", "three"] if shares else ["three"]
    assert await eventually(lambda: heard(lagging, len(expected))) == expected
    events = [event for _, event in lagging.ear.said]
    assert order_of(events[-1]["position"]) > order_of(after["position"])
    if shares:
        assert order_of(events[0]["position"]) <= order_of(after["position"])
    for answer, texts in ((before, ["one"]), (after, ["one", "two"])):
        if "entities" in answer:
            assert [note["text"] for note in answer["entities"]] == texts


# The same from outside: fan-out has thousands of changes before it when the client asks.

BULK = 5_000


async def changed_at_once(user: Client, store: str, number: int) -> None:
    """Change everything in the store, whose answer is short."""
    answer = await user.patch(f"/{store}", {"m": number}, {"n[gte]": "0"})
    assert answer.json()["count"] == BULK


async def test_a_subscription_right_behind_a_bulk_does_not_hear_of_it(
    connected: Connect, user: Client, store: str
) -> None:
    client = await connected(user)
    await user.make_all(store, [{"n": n} for n in range(BULK)])
    await changed_at_once(user, store, 1)
    watch = await client.watch(store, snapshot=False)
    await user.make(store, n=BULK)
    await client.until(lambda: any(event["entity"]["n"] == BULK for event in watch.events))
    assert [event["entity"]["n"] for event in watch.events] == [BULK]


@pytest.mark.gate("sqlite", "mongodb")
async def test_right_behind_a_bulk_no_position_leads_back(connected: Connect, hub: Hub, user: Client) -> None:
    """A snapshot, then the same view without one: its beginning is where the snapshot is, or behind it, and what was
    in the snapshot is not told."""
    store = await hub.define(indexes=["n"])
    client = await connected(user)
    view = {"filter": {"n": {"$gte": BULK - 1}}}
    await user.make_all(store, [{"n": n} for n in range(BULK)])
    await changed_at_once(user, store, 1)
    asked = client.subscribe(store, snapshot=True, **view), client.watch(store, snapshot=False, **view)
    first, watch = await asyncio.gather(*asked)
    assert [entity["m"] for entity in first["entities"]] == [1]
    assert order_of(first["position"]) <= order_of(watch.began)
    await user.make(store, n=BULK)
    await client.until(lambda: any(event["entity"]["n"] == BULK for event in watch.events))
    assert [event["entity"]["n"] for event in watch.events] == [BULK]


# Several subscriptions to one view.


async def test_an_id_is_acknowledged_and_ends_only_itself(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """Two ids share a channel, on which each event arrives once. The channel ends with its last id."""
    client = await connected(user)
    one = await client.watch(store, id="one")
    two = await client.subscribe(store, id="two", snapshot=True)
    assert (two["channel"], two["id"], two["entities"]) == (one.channel, "two", [])
    assert (await client.subscribe(store, id="three", only="n"))["channel"] != one.channel
    await user.make(store, n=1)
    await client.caught_up(beacon)
    assert len(one.take()) == 1
    assert await client.ask("unsubscribe", {"id": "two"}) == {"ok": True}
    await user.make(store, n=2)
    await client.caught_up(beacon)
    assert len(one.take()) == 1
    await matches_rest(one, user)
    assert await client.ask("unsubscribe", {"id": "one"}) == {"ok": True}
    await user.make(store, n=3)
    await client.caught_up(beacon)
    assert one.take() == []
    for payload in ({"id": "one"}, {"id": "none"}, {"channel": one.channel}, {"id": 5}):
        assert (await client.ask("unsubscribe", payload))["error"]["code"] == "404", payload
    for payload in ({"id": "three", "channel": one.channel}, {}):
        refusal = (await client.ask("unsubscribe", payload))["error"]
        assert (refusal["code"], refusal["errors"].keys()) == ("400", {"id"}), payload


async def test_a_channel_takes_all_its_ids_with_it(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    client = await connected(user)
    watch = await client.watch(store, id="one")
    await client.subscribe(store)
    await client.subscribe(store, id="two")
    assert await client.ask("unsubscribe", {"channel": watch.channel}) == {"ok": True}
    await user.make(store, n=1)
    await client.caught_up(beacon)
    assert watch.take() == []
    assert (await client.ask("unsubscribe", {"id": "two"}))["error"]["code"] == "404"


async def test_the_same_id_again_leaves_what_it_stood_for(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """An id that is used again for another view leaves its first view, even if the second request fails. The first view
    continues if another id uses it."""
    client = await connected(user)
    first = await client.watch(store, id="a")
    second = await client.watch(store, id="a", only="n")
    await user.make(store, n=1)
    await client.caught_up(beacon)
    assert (len(first.take()), len(second.take())) == (0, 1)
    assert not (await client.subscribe(store, id="a", filter=5))["ok"]
    kept = await client.watch(store, id="b", only="n")
    refused = await client.subscribe(store, id="c", only="n", since="nonsense~x")
    assert refused["error"]["code"] == "410"
    await user.make(store, n=2)
    await client.caught_up(beacon)
    assert len(kept.take()) == 1


async def test_a_further_subscription_that_resumes(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """It may resume from the view's current position on this connection. An earlier position is answered 410 or with a
    snapshot, because events are not sent twice on one connection."""
    client = await connected(user)
    watch = await client.watch(store, id="a")
    began = watch.position
    await user.make(store, n=1)
    await client.caught_up(beacon)
    behind = await client.subscribe(store, id="b", since=began)
    assert behind["error"]["tags"][0] == "error_resync_required"
    auto = await client.subscribe(store, id="b", since=began, snapshot="auto")
    assert (auto["resync"], [e["n"] for e in auto["entities"]]) == (True, [1])
    here = await client.subscribe(store, id="c", since=auto["position"])
    assert order_of(here["position"]) >= order_of(auto["position"])
    await user.make(store, n=2)
    await client.caught_up(beacon)
    assert [event["entity"]["n"] for event in watch.take()] == [1, 2]


@pytest.mark.parametrize("id", ["", 5, "x" * 101, ["a"]])
async def test_an_id_is_a_short_text(connected: Connect, user: Client, store: str, id: Any) -> None:
    client = await connected(user)
    assert (await client.subscribe(store, id=id))["error"]["errors"].keys() == {"id"}


@pytest.mark.gate("sqlite", "mongodb")
async def test_ids_under_writes(connected: Connect, hub: Hub, user: Client, store: str, beacon: Beacon) -> None:
    """Ids come and go during writes and a change of the user: the id that stays receives each change once."""
    client = await connected(user)
    watch = await client.watch(store, id="stays")

    async def write() -> None:
        for n in range(40):
            await user.make(store, n=n)
        await hub.admin.patch(f"/users/{user.id}", {"name": "Another"})

    def agrees(answer: Event) -> None:
        """Check that a snapshot equals the view that the events so far have made of the first snapshot."""
        assert answer["ok"], answer
        if "entities" in answer:
            assert {entity["_id"]: entity for entity in answer["entities"]} == watch.view

    writing = asyncio.create_task(write())
    number = 0
    while not writing.done():
        number += 1
        request = {"store": store, "id": f"id{number % 3}", "snapshot": number % 2 == 0}
        await client._ask("subscribe", (request,), agrees)
    await writing
    await client.caught_up(beacon)
    assert [event["entity"]["n"] for event in watch.take()] == [*range(40)]


# Endings of a view.


async def test_only_what_changes_views_ends_them(connected: Connect, hub: Hub, user: Client, beacon: Beacon) -> None:
    """A new description, label, index or option does not, nor a default that is spelled out, or left out again by a
    replacement. A client that was disconnected can resume after it, live and by delta sync."""
    field: dict[str, Any] = {"id": "n", "type": "Number"}
    serial: dict[str, Any] = {"id": "no", "type": "Serial"}
    parent: dict[str, Any] = {"id": "parent", "type": "Reference", "store": await hub.define()}
    plain = [field, serial, parent]
    store = await hub.define(fields=plain)
    path = f"/stores/{(await hub.admin.list('stores', {'name': store}))[0]['_id']}"
    client, away = await connected(user), await connected(user)
    watch, missed = await client.watch(store), await away.watch(store)
    await away.close()
    explicit = {"hidden": False, "many": False}
    harmless: list[dict[str, Any]] = [
        {"description": "Numbers"},
        {"label": "Numbers"},
        {"indexes": ["n"]},
        {"fields": [field | {"label": "A number", "required": True, "index": True}, serial, parent]},
        {"fields": [field | explicit, serial, parent]},
        {"open": False},
        {"fields": [field, serial | {"start": 1000}, parent | {"on_delete": "clear"}]},
    ]

    async def keeps_views(number: int) -> None:
        await user.make(store, n=number)
        await client.caught_up(beacon)
        assert watch.ended is None
        assert ops(watch.take())[-1][0] == "insert"
        changes = (await user.get(f"/{store}", {"since": missed.position})).json()["changes"]
        assert len(changes) == number + 1

    for number, change in enumerate(harmless):
        entity_of(await hub.admin.patch(path, change))
        await keeps_views(number)
    for number, description in enumerate(("Figures", None), len(harmless)):
        shown = entity_of(await hub.admin.get(path))
        entity_of(await hub.admin.put(path, shown | {"description": description}))
        await keeps_views(number)
    entity_of(await hub.admin.put(path, {"name": store, "fields": plain}))
    await keeps_views(len(harmless) + 2)
    again = await client.resume(missed)
    await client.caught_up(beacon)
    assert [event["entity"]["n"] for event in again.take()] == [*range(len(harmless) + 3)]
    hiding = [*plain, {"id": "m", "type": "Number", "hidden": True}]
    entity_of(await hub.admin.patch(path, {"fields": hiding}))
    await client.until(lambda: again.ended)
    assert (again.ended or {})["code"] == "410"


async def test_a_revoked_token_ends_the_connection_that_changed_to_it(hub: Hub, connected: Connect) -> None:
    """After `authenticate` the connection depends on the new token, and no longer on the first one."""
    user = await hub.as_user()
    client = await connected(user)
    await client.watch("users")
    second = await hub.with_token(user.user)
    secret = second.http.headers["Authorization"].removeprefix("Bearer ")
    assert await client.ask("authenticate", {"token": secret}) == {"ok": True}
    old, new = await hub.admin.list("tokens", {"user": user.id, "sort": "_id"})
    entity_of(await hub.admin.delete(f"/tokens/{old['_id']}"))
    assert (await client.ask("unsubscribe", {"channel": "x"}))["error"]["code"] == "404"
    entity_of(await hub.admin.delete(f"/tokens/{new['_id']}"))
    assert await client.ending() == ["revoked"]
