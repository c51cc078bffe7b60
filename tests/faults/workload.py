"""Writers and followers around a fault, and the verdict on their observations.

The promise: every acknowledged write is stored, once; a write in doubt is stored as a whole or not at all. A follower
receives each change exactly once and in order, over any number of connections, never shows half of a commit, and
finally its view equals the REST list.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from stores.records import Entity
from tests.faults.followers import LAST, Follower, Sleeper
from tests.faults.hub import MortalHub, answered
from tests.faults.ledger import Audit, Fate, Ledger
from tests.faults.report import Row
from tests.faults.writers import CROWD, PARENT, Counting, Families, Writer
from tests.support.hub import API, Client, entity_of, eventually, unique
from tests.support.live import Event

LOW_PHASE: dict[str, Any] = {"filter": {"phase": {"$lt": 2}}, "only": "tag,phase,parent,children"}
"""A view that entities constantly enter and leave, families only as a whole."""


class Workload:
    """Writers and followers of one store. They are distributed over `addresses`: those of the hub and of proxies to
    it."""

    def __init__(self, hub: MortalHub, store: str, addresses: Sequence[str], crowd: Sequence[type[Writer]]) -> None:
        self.hub = hub
        self.store = store
        self.ledger = Ledger()
        self.admin = hub.client()
        self.start = ""
        self.sleeper = Sleeper(hub.client(), store)
        self.followers = [
            Follower(hub.client(addresses[0]), store),
            Follower(hub.client(addresses[-1]), store, restless=100),
            Follower(hub.client(addresses[-1]), store, **LOW_PHASE),
            Follower(hub.client(addresses[0]), store, restless=50, **LOW_PHASE),
        ]
        self.writers = [
            kind(hub.client(addresses[number % len(addresses)]), store, self.ledger)
            for number, kind in enumerate(crowd)
        ]
        self._stop = asyncio.Event()

    async def begin(self, group: asyncio.TaskGroup) -> None:
        """Start the followers, then the writers."""
        self.start = (await answered(lambda: self.admin.get(f"/{self.store}"))).headers["x-position"]
        await self._make_counter()
        await self.sleeper.fall_asleep()
        self._following = [group.create_task(follower.run()) for follower in self.followers]
        for follower in self.followers:
            await follower.began.wait()
        self._writing = [group.create_task(writer.run(self._stop)) for writer in self.writers]

    async def _make_counter(self) -> None:
        asked = self.ledger.ask("counter")
        counter = await make(self.admin, self.store, tag="counter", n=0, phase=0)
        self.ledger.settle(asked, Fate.ACKNOWLEDGED)
        for writer in self.writers:
            if isinstance(writer, Counting):
                writer.counter = counter["_id"]
        self.counter = counter["_id"]

    async def progress(self, more: int, fate: Fate = Fate.ACKNOWLEDGED) -> None:
        """Wait until so many more writes have met this fate."""
        enough = self.ledger.told[fate] + more

        async def reached() -> bool:
            return self.ledger.told[fate] >= enough

        await eventually(reached, 100)

    async def hear(self, more: int) -> None:
        """Wait until a follower has received so many more events. The writer of the last one may not have its answer
        yet."""
        follower = self.followers[0]
        await eventually(lambda: is_following(follower))
        assert follower.connection is not None
        enough = len(follower.watch.events) + more
        await follower.connection.until(lambda: len(follower.watch.events) >= enough)

    async def end(self) -> None:
        """Stop the writers, make a last write, and wait until all followers have received it."""
        self._stop.set()
        await asyncio.gather(*self._writing)
        asked = self.ledger.ask(LAST)
        await eventually(self._write_last)
        self.ledger.settle(asked, Fate.ACKNOWLEDGED)
        await asyncio.gather(self.sleeper.run(), *self._following)

    async def _write_last(self) -> bool:
        body = {"tag": LAST, "phase": 0}
        return (await self.admin.post(f"/{self.store}", body, idempotency_key=self.store)).status_code == 200

    # Verdict.

    async def verdict(self, fault: str, times: int) -> Row:
        """Return which promises were kept. Raises AssertionError if lists, changes and history contradict each
        other."""
        changes = await self.changes(self.start)
        assert replayed(changes) == await self.listed()
        await eventually(lambda: self._is_on_record(changes))
        audit = self.ledger.audit(changes)
        assert not audit.ghosts, audit
        assert "never retrieved" not in self.hub.log
        heard = [await self._heard(follower) for follower in [*self.followers, self.sleeper]]
        return self._row(fault, times, audit, [sum(column) for column in zip(*heard, strict=True)])

    def _row(self, fault: str, times: int, audit: Audit, heard: list[int]) -> Row:
        events, gaps, repeats, resyncs = heard
        return Row(
            fault=fault,
            engine=self.hub.database.kind,
            times=times,
            acknowledged=self.ledger.told[Fate.ACKNOWLEDGED],
            in_doubt=self.ledger.in_doubt,
            events=events,
            lost=len(audit.lost),
            twice=len(audit.twice),
            torn=len(audit.torn),
            gaps=gaps,
            repeats=repeats,
            resyncs=resyncs,
        )

    async def _heard(self, follower: Follower) -> tuple[int, int, int, int]:
        """Return the events, gaps, repeats and resyncs of one follower, whose view must equal the REST list."""
        params = parameters(follower)
        assert follower.watch.view == await self.listed(params)
        follower.show()
        assert follower.shown.view == follower.watch.view, "a commit has no last event"
        told, since = follower.told()
        events = [plain(event) for event in told]
        expected = [plain(change) for change in await self.changes(since, params)]
        gaps, repeats = Counter(expected) - Counter(events), Counter(events) - Counter(expected)
        assert gaps or repeats or events == expected, "everything was told once, but out of order"
        return len(follower.events), gaps.total(), repeats.total(), follower.resyncs

    async def _is_on_record(self, changes: list[Event]) -> bool:
        """Return whether the history of the counter has each of its changes, once and in order."""
        revs = [entry["_rev"] for entry in await self.history_of(self.counter)]
        return revs == [change["_rev"] for change in changes if change["_id"] == self.counter]

    async def history_of(self, id: str) -> list[Event]:
        """Return the whole history of an entity, by REST."""
        answer = await self._read(f"/{self.store}/{id}/history")
        entries: list[Event] = answer.json()["history"]
        while "next" in answer.links:
            answer = await self._read(answer.links["next"]["url"].removeprefix(API))
            entries += answer.json()["history"]
        return entries

    async def _read(self, path: str, params: dict[str, str] | None = None) -> httpx.Response:
        """Read a path, again while the answer is 503, as in an election after the fault."""

        async def answered() -> httpx.Response | None:
            answer = await self.admin.get(path, params)
            return None if answer.status_code == 503 else answer

        answer = await eventually(answered)
        assert answer is not None
        assert answer.status_code == 200, answer.text
        return answer

    async def changes(self, since: str, params: dict[str, str] | None = None) -> list[Event]:
        """Return all changes of the view since a position, by REST."""
        found: list[Event] = []
        while True:
            answer = await self._read(f"/{self.store}", {**(params or {}), "since": since})
            found += answer.json()["changes"]
            since = answer.json()["position"]
            if not answer.json()["more"]:
                return found

    async def listed(self, params: dict[str, str] | None = None) -> dict[str, Entity]:
        """Return all entities of the view, by REST, keyed by id."""
        answer = await self._read(f"/{self.store}", params)
        found: list[Entity] = answer.json()
        while "next" in answer.links:
            answer = await self._read(answer.links["next"]["url"].removeprefix(API))
            found += answer.json()
        return {entity["_id"]: entity for entity in found}


async def is_following(follower: Follower) -> bool:
    """Return whether the follower is connected and subscribed."""
    return (
        follower.connection is not None
        and bool(follower.connection.watches)
        and not follower.connection.closed.is_set()
    )


def parameters(follower: Follower) -> dict[str, str]:
    """Return the follower's view as parameters of a list."""
    request = follower.request
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in request.items()}


def plain(change: Event) -> str:
    """Return the content of a change as text, equal for REST and live."""
    members = ("op", "_id", "_rev", "entity", "commit", "last")
    return json.dumps([change.get(name) for name in members], sort_keys=True)


def replayed(changes: list[Event]) -> dict[str, Entity]:
    """Apply the changes to an empty store; each must fit the state before it."""
    content: dict[str, Entity] = {}
    for change in changes:
        id = change["_id"]
        assert (id in content) is (change["op"] != "insert"), change
        if change["op"] == "remove":
            del content[id]
        else:
            assert change["_rev"] == content.get(id, {"_rev": 0})["_rev"] + 1, change
            content[id] = change["entity"]
    return content


async def define(client: Client, **definition: Any) -> str:
    """Create a store; return its name. Tries again like `make`."""
    return str((await make(client, "stores", name=unique("store"), **definition))["name"])


async def make(client: Client, store: str, **fields: Any) -> Entity:
    """Create an entity, once. A database that has just begun may elect once more: then it is 503, and the client tries
    again."""
    key = unique("made")
    return entity_of(await answered(lambda: client.post(f"/{store}", fields, idempotency_key=key)))


async def let_children_refer(client: Client, store: str) -> None:
    """Let the children of families refer to parents in the same store. Tries again like `define`."""
    change = {"fields": [PARENT | {"store": store}], "open": True}

    async def changed() -> bool:
        found = await client.get("/stores", {"name": store})
        if found.status_code == 503:
            return False
        [definition] = found.json()
        answer = await client.patch(f"/stores/{definition['_id']}", change)
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    await eventually(changed)


@asynccontextmanager
async def workload(hub: MortalHub, *detours: str, crowd: Sequence[type[Writer]] = CROWD) -> AsyncIterator[Workload]:
    """Run writers and followers while the block runs; at its end all writes have been delivered. `detours` are other
    addresses of the hub, which half of the clients use."""
    async with asyncio.TaskGroup() as group:
        store = await define(hub.client(), unique=["code"], indexes=["flock"])
        if any(issubclass(kind, Families) for kind in crowd):
            await let_children_refer(hub.client(), store)
        load = Workload(hub, store, [hub.url, *detours], crowd)
        await load.begin(group)
        yield load
        await load.end()
