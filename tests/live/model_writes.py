"""The operations of a run that write entities, and the base of all operations. Users, groups, seats and entities are
chosen by number, entities modulo their count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx

from stores.records import Entity
from tests.live.model_definitions import DATA
from tests.live.model_oracle import Holder, matches
from tests.live.model_run import Run
from tests.live.model_stage import TYPED
from tests.support.hub import Client

NOWHERE = "f" * 24
"""The id of no entity."""
FEW = 4


class Operation:
    """One operation of a run. It may change entities of the stores in `touches`. `predicted`: whether the oracle
    predicts all that it changes. `changes_rights`: whether it may change who sees what."""

    predicted: ClassVar[bool] = False
    changes_rights: ClassVar[bool] = False

    @property
    def touches(self) -> tuple[str, ...]:
        return ()

    async def perform(self, run: Run) -> None:
        raise NotImplementedError


def named(filter: Any, run: Run) -> Any:
    """Return the filter with ids in place of ``@user0``, ``@group0``, ``@orders:0`` and ``@lines:0``."""
    if isinstance(filter, dict):
        return {name: named(value, run) for name, value in filter.items()}
    if isinstance(filter, list):
        return [named(part, run) for part in filter]
    if isinstance(filter, str) and filter.startswith("@"):
        if filter[1:].partition(":")[0] in DATA:
            return picked_id(filter, run)
        return (run.users if filter.startswith("@user") else run.stage.groups)[int(filter[-1])]
    return filter


def picked_id(text: str, run: Run, holder: Holder | None = None) -> str:
    """Return the id for ``@orders:3``: that of the entity with this number, or of no entity for ``@orders:-1``. Small
    numbers count those that the holder sees."""
    store, _, number = text[1:].partition(":")
    found = [*run.now.entities[store].values()]
    if holder is not None and int(number) < FEW:
        found = [each for each in found if holder.sees(store, each, run.now.parents)] or found
    return found[int(number) % len(found)]["_id"] if found and int(number) >= 0 else NOWHERE


@dataclass(frozen=True)
class Write(Operation):
    """A write `by` the administrator (0) or a user. If the user may not do it, the administrator does."""

    by: int
    store: str

    @property
    def touches(self) -> tuple[str, ...]:
        return (self.store,)

    def writer(self, run: Run, method: str, entity: Entity | None = None) -> Client:
        writer = run.writers[self.by]
        if self.by:
            holder = run.holder_of(self.by)
            visible = entity is None or holder.sees(self.store, entity, run.now.parents)
            if not (visible and holder.may(method, self.store) and holder.may("GET", self.store)):
                return run.admin
        return writer

    def wrote(self, run: Run, answer: httpx.Response) -> None:
        """Remember the written states. With concurrent operations, one may cause another to be refused."""
        if answer.status_code in (403, 404) and run.together:
            return
        assert answer.status_code == 200, answer.text
        body = answer.json()
        body.pop("success")
        run.meanwhile += [(self.store, entity) for entity in body.get("entities", [body])]

    def picked(self, run: Run, number: int) -> Entity | None:
        entities = [*run.now.entities[self.store].values()]
        return entities[number % len(entities)] if entities else None


@dataclass(frozen=True)
class Make(Write):
    items: list[Entity]

    async def perform(self, run: Run) -> None:
        body = self.items if len(self.items) > 1 else self.items[0]
        self.wrote(run, await self.writer(run, "POST").post(f"/{self.store}", body))


@dataclass(frozen=True)
class Change(Write):
    """PATCH, PUT or DELETE of one entity."""

    pick: int
    method: str
    fields: Entity

    async def perform(self, run: Run) -> None:
        entity = self.picked(run, self.pick)
        if entity is not None:
            path = f"/{self.store}/{entity['_id']}"
            more = {} if self.method == "DELETE" else {"json": self.fields}
            self.wrote(run, await self.writer(run, self.method, entity).request(self.method, path, **more))


@dataclass(frozen=True)
class ChangeAll(Write):
    """PATCH or DELETE of all matches that the writer sees."""

    filter: Entity
    method: str
    fields: Entity

    async def perform(self, run: Run) -> None:
        writer = self.writer(run, self.method)
        filter = named(self.filter, run)
        more = {} if self.method == "DELETE" else {"json": self.fields}
        condition = {"filter": json.dumps(filter)} if filter else {"all": "true"}
        answer = await writer.request(self.method, f"/{self.store}", params=condition, **more)
        if answer.status_code == 400 and "a bulk change needs a condition" in answer.text:
            return  # the filter matches everything
        assert answer.status_code == 200, answer.text
        entities = [e for e in run.now.entities[self.store].values() if matches(filter, e)]
        if writer is not run.admin:
            holder = run.holder_of(self.by)
            if not holder.may_read(self.store):
                assert "count" not in answer.json()
                return
            entities = [e for e in entities if holder.sees(self.store, e, run.now.parents)]
        assert answer.json()["count"] == len([e for e in entities if self.alters(run, e)])

    def alters(self, run: Run, entity: Entity) -> bool:
        """Return whether the hub writes the entity: the change makes a difference, or names a hidden field, whose value
        a missing write would reveal."""
        guesses = self.store == TYPED and run.hidden and "pin" in self.fields
        return (
            self.method == "DELETE" or guesses or any(n not in entity or entity[n] != v for n, v in self.fields.items())
        )


@dataclass(frozen=True)
class Share(Write):
    pick: int
    users: list[int]

    async def perform(self, run: Run) -> None:
        entity = self.picked(run, self.pick)
        if entity is not None:
            owner = run.writers[self.by]
            writer = self.writer(run, "PUT", entity) if entity["owner"] == owner.id else run.admin
            body = {"access": [run.users[user] for user in self.users]}
            self.wrote(run, await writer.put(f"/{self.store}/{entity['_id']}/access", body))
