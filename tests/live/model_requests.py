"""The operations of a run that change `orders` and `lines`: any request by anybody, whose outcome the oracle predicts.

In bodies, ``@orders:3`` stands for the id of an entity, chosen by number. In a batch, ``@made:orders`` stands for the
id of the entity of this store that was created last by the batch, and ``@number`` for its number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from stores.records import Entity
from tests.live.model_data import Batch, Request
from tests.live.model_definitions import DATA, ORDERS
from tests.live.model_predictions import Asked
from tests.live.model_run import Run
from tests.live.model_writes import NOWHERE, Operation, named, picked_id
from tests.support.hub import Client

Made = dict[str, int]
"""The numbers of the requests of a batch that were the last ones to create an entity of each store."""


@dataclass(frozen=True)
class One:
    """A request of one entity. `pick`: its number, None for that which the batch has made last, or -1 for none.
    `stale`: by how much the revision in ``if_match`` is wrong, None without this condition."""

    method: str
    store: str
    pick: int | None = 0
    body: Any = None
    upsert: bool = False
    stale: int | None = None

    def request(self, run: Run, made: Made) -> Request:
        """Return the request with ids."""
        if self.method == "POST":
            return Request("POST", self.store, body=filled(self.body, run, made), upsert=self.upsert)
        if self.pick is None and self.store in made:
            id, rev = json.dumps({"$ref": f"{made[self.store]}._id"}), 1
        else:
            id = picked_id(f"@{self.store}:{self.pick or 0}", run)
            rev = 1 if id == NOWHERE else run.now.entities[self.store][id]["_rev"]
        if_match = None if self.stale is None else rev + self.stale
        body = None if self.method == "DELETE" else filled(self.body, run, made)
        return Request(self.method, self.store, id, body, if_match=if_match)


def filled(value: Any, run: Run, made: Made) -> Any:
    """Return the value with ids, and with references to earlier requests of a batch."""
    if isinstance(value, dict):
        return {name: filled(each, run, made) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, run, made) for each in value]
    if value == "@number":
        return {"$ref": f"{[*made.values()][-1]}.number"} if made else 1
    if isinstance(value, str) and value.startswith("@made:"):
        store = value.partition(":")[2]
        return {"$ref": f"{made[store]}._id"} if store in made else picked_id(f"@{store}:0", run)
    return named(value, run)


@dataclass(frozen=True)
class Ask(Operation):
    """A request by the administrator (0) or a user."""

    predicted = True
    by: int

    @property
    def touches(self) -> tuple[str, ...]:
        return DATA

    async def perform(self, run: Run) -> None:
        request, answer = await self.send(run, run.writers[self.by])
        if answer.status_code != 400 or "a bulk change needs a condition" not in answer.text:
            run.asked.append(Asked(request, run.holder_of(self.by), answer))

    async def send(self, run: Run, client: Client) -> tuple[Request | Batch, httpx.Response]:
        raise NotImplementedError


@dataclass(frozen=True)
class AskOne(Ask):
    one: One

    async def send(self, run: Run, client: Client) -> tuple[Request, httpx.Response]:
        request = self.one.request(run, {})
        path = f"/{request.store}/{request.id}" if request.id else f"/{request.store}"
        more: dict[str, Any] = {} if request.body is None else {"json": request.body}
        if request.if_match is not None:
            more["headers"] = {"If-Match": f'"{request.if_match}"'}
        if request.upsert:
            more["params"] = {"upsert": "code"}
        return request, await client.request(request.method, path, **more)


@dataclass(frozen=True)
class AskAll(Ask):
    """PATCH or DELETE of all matches."""

    store: str
    filter: Entity
    method: str
    body: Any = None

    async def send(self, run: Run, client: Client) -> tuple[Request, httpx.Response]:
        filter = named(self.filter, run)
        body = None if self.method == "DELETE" else filled(self.body, run, {})
        more = {} if body is None else {"json": body}
        answer = await client.request(self.method, f"/{self.store}", params={"filter": json.dumps(filter)}, **more)
        return Request(self.method, self.store, body=body, filter=filter), answer


@dataclass(frozen=True)
class AskBatch(Ask):
    ones: tuple[One, ...]

    async def send(self, run: Run, client: Client) -> tuple[Batch, httpx.Response]:
        made: Made = {}
        requests: list[Request] = []
        for index, one in enumerate(self.ones):
            requests.append(one.request(run, made))
            if one.method == "POST":
                made.pop(one.store, None)
                made[one.store] = index
        body = {"requests": [item(request) for request in requests]}
        return Batch(tuple(requests)), await client.post("/batch", body)


def item(request: Request) -> dict[str, Any]:
    """Return a request as a member of a batch."""
    found: dict[str, Any] = {"method": request.method, "path": f"/{request.store}"}
    if request.id:
        found["path"] += f"/{request.id}"
    if request.upsert:
        found["path"] += "?upsert=code"
    if request.body is not None:
        found["body"] = request.body
    if request.if_match is not None:
        found["if_match"] = request.if_match
    return found


def seed(by: int, bodies: list[Entity]) -> AskBatch:
    """Return a batch that creates an order and lines that refer to it."""
    first = [One("POST", ORDERS, body={"name": "a", "amount": 1, "n": 2})]
    return AskBatch(by, (*first, *(One("POST", "lines", body={"head": "@made:orders", **body}) for body in bodies)))
