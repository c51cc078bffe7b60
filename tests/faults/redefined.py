"""Writers, followers and a changing definition around a fault, and the verdict on their observations.

The promise, beside that of `tests.faults.workload`: a change of a definition with its data is not begun, or it is
carried out to its end, and no entity is ever changed by a part of it. A follower whose view is redefined is told to
begin anew; its view then equals the REST list.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from stores.definitions import parse_definition
from stores.mongo import MongoEngine, structure
from stores.options import EngineOptions
from stores.protocol import Engine
from stores.query import Query
from stores.records import Change, Entity
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine
from tests.faults.forms import COLUMNS, FIXED, form_like
from tests.faults.hub import MortalHub, answered
from tests.faults.ledger import Fate
from tests.faults.redefiner import FEW_REMAIN, Redefiner, Shaped
from tests.faults.report import Row
from tests.faults.workload import Workload, is_following, make, replayed
from tests.faults.writers import PARENT, Counting, Herding
from tests.support.engines import opened
from tests.support.hub import entity_of, eventually, unique
from tests.support.live import POSITIONS, Ended, Event, differing

SEEDS: Final = 150
"""Entities that are there from the beginning."""


class RedefinedWorkload(Workload):
    """The writers of a user, whose store an administrator redefines. The administrator also counts, since single
    changes by administrators are taken between the steps of a change."""

    def __init__(self, hub: MortalHub, definition: Entity, token: str) -> None:
        super().__init__(hub, definition["name"], [hub.url], FEW_REMAIN)
        self.redefiner = Redefiner(hub.client(), self.store, self.ledger)
        self.redefiner.definition = f"/stores/{definition['_id']}"
        self.redefiner.others = [field for field in definition["fields"] if field["id"] not in COLUMNS]
        self._user = hub.client(token=token)
        self._enough = asyncio.Event()
        for writer in self.writers:
            if not isinstance(writer, Counting):
                writer.client = self._user
            if isinstance(writer, Shaped):
                writer.redefiner = self.redefiner

    async def begin(self, group: asyncio.TaskGroup) -> None:
        await super().begin(group)
        asked = self.ledger.ask("seed", SEEDS)
        seeds = [{"tag": "seed", "phase": n % 4, **self.redefiner.columns()} for n in range(SEEDS)]
        self.seeds = [seed["_id"] for seed in await self._user.make_all(self.store, seeds)]
        self.ledger.settle(asked, Fate.ACKNOWLEDGED)
        await eventually(self._has_flocks)
        self._redefining = group.create_task(self.redefiner.run(self._enough))

    async def _has_flocks(self) -> bool:
        """Return whether the flocks are there: a herder does not ask again after a refusal."""
        made = [asked for asked in self.ledger.writes if asked.tag.endswith("-flock")]
        herders = sum(isinstance(writer, Herding) for writer in self.writers)
        return [asked.fate for asked in made] == [Fate.ACKNOWLEDGED] * herders

    async def hear_of_change(self, in_steps: bool, seconds: float) -> None:
        """Wait until a follower hears of a change of the definition, at most so many seconds: its view ends, or the
        events of a step arrive. The answer to the redefiner comes at about the same time."""
        follower = self.followers[0]
        with suppress(TimeoutError, Ended):
            async with asyncio.timeout(seconds):
                await eventually(lambda: is_following(follower))
                assert follower.connection is not None
                watch, known = follower.watch, len(follower.watch.events)

                def has_heard() -> bool:
                    return watch.ended is not None or (in_steps and any("commit" in e for e in watch.events[known:]))

                await follower.connection.until(has_heard)

    async def end(self) -> None:
        """End the present change of the definition, then like any workload."""
        self._enough.set()
        await self._redefining
        await super().end()

    # Verdict.

    async def verdict(self, fault: str, times: int) -> Row:
        """Return which promises were kept. Raises AssertionError if an entity, a change, a list, the history or the
        stored definition contradicts another. Restarts the hub."""
        await self.hub.end()
        async with opened(self.hub.database.engine(EngineOptions(seal=POSITIONS))) as engine:
            changes = await self._check_storage(engine)
        await self.hub.start()
        listed = await self.listed()
        assert all(self.redefiner.form.fits(entity) for entity in listed.values())
        for id in [*self.seeds[::60], self.counter]:
            await eventually(lambda: self._is_what_history_tells(listed[id]))  # noqa: B023
        await self._check_indexes(listed[self.seeds[0]])
        audit = self.ledger.audit([change for change in changes if change["tagged"]])
        assert not audit.ghosts, audit
        assert "never retrieved" not in self.hub.log
        heard = [await self._heard(follower) for follower in [*self.followers, self.sleeper]]
        for follower in [*self.followers, self.sleeper]:
            assert follower.resyncs <= self.redefiner.ended
            assert all(form_like(event.get("entity", {})).fits(event.get("entity", {})) for event in follower.events)
        return self._row(fault, times, audit, [sum(column) for column in zip(*heard, strict=True)])

    async def _check_storage(self, engine: Engine) -> list[Event]:
        """Check all that is stored, and each change on the way to it; return these changes."""
        [stored] = [each for each in await engine.entities("stores", Query()) if each["name"] == self.store]
        assert self.redefiner.form.is_of(stored)
        assert stored.get("pending") is None
        assert not await _differences(engine, parse_definition(stored))
        entities = {entity["_id"]: entity for entity in await engine.entities(self.store, Query(limit=10_000))}
        assert all(self.redefiner.form.fits(entity) for entity in entities.values())
        changes: list[Event] = []
        position, more = self.start.partition("~")[0], True
        while more:
            batch = await engine.feed.read(position)
            changes += [_event(change) for change in batch.changes if change.store == self.store]
            position, more = batch.position, batch.more
        assert replayed(changes) == entities
        for change in changes:
            assert change["op"] == "remove" or form_like(change["entity"]).fits(change["entity"]), change
        return changes

    async def _is_what_history_tells(self, entity: Entity) -> bool:
        """Return whether the history leads from nothing to what the entity is, revision by revision."""
        told: Entity = {"_id": entity["_id"]}
        entries = await self.history_of(entity["_id"])
        for entry in entries:
            for name, change in entry["changes"].items():
                assert told.get(name) == change["old"], (entry, told)
                told[name] = change["new"]
        revs = [entry["_rev"] for entry in entries]
        return revs == [*range(1, entity["_rev"] + 1)] and not differing(_present(told), _present(entity))

    async def _check_indexes(self, entity: Entity) -> None:
        """Check that the amount is unique, is found, and sorts, under its name and with the type that it has."""
        form = self.redefiner.form
        answer = await self.admin.post(f"/{self.store}", form.columns(entity["number"]))
        assert answer.status_code == 409, answer.text
        assert [*answer.json()["errors"]] == [form.amount]
        found = await self.admin.list(self.store, {form.amount: str(entity[form.amount])})
        assert [each["_id"] for each in found] == [entity["_id"]]
        sort = {"sort": form.amount}
        amounts = [each[form.amount] for each in await self.admin.list(self.store, sort) if form.amount in each]
        assert amounts == sorted(amounts)


def _present(entity: Entity) -> Entity:
    """Return the fields that have a value."""
    return {name: value for name, value in entity.items() if value is not None}


def _event(change: Change) -> Event:
    """Return a change as live clients get it. `tagged`: a writer has made it, as opposed to a redefinition."""
    before, after = change.before or {}, change.after or {}
    op = "remove" if change.op == "delete" else change.op
    tagged = change.op != "update" or before.get("tag") != after.get("tag")
    return {"op": op, "_id": change.id, "_rev": after.get("_rev"), "entity": after, "tagged": tagged}


async def _differences(engine: Engine, definition: StoreDefinition) -> list[str]:
    """Return what the storage lacks compared with the definition, and the indexes that it has beside."""
    if isinstance(engine, MongoEngine):
        return await structure.faults(engine._connection, definition) + await structure.make(
            engine._connection, definition
        )
    assert isinstance(engine, SQLiteEngine)
    return [*engine._structure.differing([definition])]


@asynccontextmanager
async def redefined(hub: MortalHub) -> AsyncIterator[RedefinedWorkload]:
    """Run writers, followers and a changing definition while the block runs; at its end all has been delivered."""
    admin = hub.client()
    user = await make(admin, "users", login=unique("user"), name="Somebody")
    body = {"name": "faults", "user": user["_id"]}  # without a key: the answer with a secret is not kept
    token = entity_of(await answered(lambda: admin.post("/tokens", body)))["token"]
    name = unique("store")
    fields: list[Any] = [*FIXED, PARENT | {"store": name}, *Redefiner.form.fields]
    definition = await make(admin, "stores", name=name, fields=fields)
    async with asyncio.TaskGroup() as group:
        load = RedefinedWorkload(hub, definition, token)
        await load.begin(group)
        yield load
        await load.end()
