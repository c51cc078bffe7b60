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
from tests.live.model_definitions import DATA, DEFINITIONS, LINES, ORDERS, relations
from tests.live.model_oracle import Holder
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

    def request(self, run: Run, holder: Holder, made: Made) -> Request:
        """Return the request with ids."""
        filling = Filling(run, holder, made)
        if self.method == "POST":
            return Request("POST", self.store, body=filling.fill(self.body), upsert=self.upsert)
        if self.pick is None and self.store in made:
            id, rev = json.dumps({"$ref": f"{made[self.store]}._id"}), 1
        else:
            id = picked_id(f"@{self.store}:{self.pick or 0}", run, holder)
            rev = 1 if id == NOWHERE else run.now.entities[self.store][id]["_rev"]
        if_match = None if self.stale is None else rev + self.stale
        body = None if self.method == "DELETE" else filling.fill(self.body)
        return Request(self.method, self.store, id, body, if_match=if_match)


@dataclass(frozen=True)
class Filling:
    """Puts ids, and references to earlier requests of a batch, into the bodies of a holder's requests."""

    run: Run
    holder: Holder
    made: Made

    def fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.fill(each) for name, each in value.items()}
        if isinstance(value, list):
            return [found for each in value if (found := self.fill(each)) is not None]
        if value == "@number":
            return {"$ref": f"{[*self.made.values()][-1]}.number"} if self.made else 1
        if isinstance(value, str) and value.startswith("@"):
            return self._reference(value)
        return value

    def _reference(self, text: str) -> Any:
        """Return an id or a reference. It is null where the store has no entity yet."""
        kind, _, rest = text.partition(":")
        if kind == "@made":
            if rest in self.made:
                return {"$ref": f"{self.made[rest]}._id"}
            text = f"@{rest}:0"
        if not self.run.now.entities[text[1:].partition(":")[0]]:
            return None
        return picked_id(text, self.run, self.holder)


@dataclass(frozen=True)
class Ask(Operation):
    """A request by the administrator (0) or a user."""

    predicted = True
    by: int

    async def perform(self, run: Run) -> None:
        holder = run.holder_of(self.by)
        request, answer = await self.send(run, run.writers[self.by], holder)
        if answer.status_code != 400 or "a bulk change needs a condition" not in answer.text:
            run.asked.append(Asked(request, holder, answer))

    async def send(self, run: Run, client: Client, holder: Holder) -> tuple[Request | Batch, httpx.Response]:
        raise NotImplementedError


@dataclass(frozen=True)
class AskOne(Ask):
    one: One

    @property
    def touches(self) -> tuple[str, ...]:
        return touched([(self.one.method, self.one.store)])

    async def send(self, run: Run, client: Client, holder: Holder) -> tuple[Request, httpx.Response]:
        request = self.one.request(run, holder, {})
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

    @property
    def touches(self) -> tuple[str, ...]:
        return touched([(self.method, self.store)])

    async def send(self, run: Run, client: Client, holder: Holder) -> tuple[Request, httpx.Response]:
        filter = named(self.filter, run)
        body = None if self.method == "DELETE" else Filling(run, holder, {}).fill(self.body)
        more = {} if body is None else {"json": body}
        answer = await client.request(self.method, f"/{self.store}", params={"filter": json.dumps(filter)}, **more)
        return Request(self.method, self.store, body=body, filter=filter), answer


@dataclass(frozen=True)
class AskBatch(Ask):
    ones: tuple[One, ...]

    @property
    def touches(self) -> tuple[str, ...]:
        return touched([(one.method, one.store) for one in self.ones])

    async def send(self, run: Run, client: Client, holder: Holder) -> tuple[Batch, httpx.Response]:
        made: Made = {}
        requests: list[Request] = []
        for index, one in enumerate(self.ones):
            requests.append(one.request(run, holder, made))
            if one.method == "POST":
                made.pop(one.store, None)
                made[one.store] = index
        body = {"requests": [item(request) for request in requests]}
        return Batch(tuple(requests)), await client.post("/batch", body)


def touched(requests: list[tuple[str, str]]) -> tuple[str, ...]:
    """Return the stores that requests with these methods and stores may change. The deletion of an order may have
    consequences in both."""
    return DATA if ("DELETE", ORDERS) in requests else tuple({store for _, store in requests})


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


def seed(by: int, order: Entity, lines: list[tuple[str, Entity]]) -> AskBatch:
    """Return a batch that creates an order and lines, each of which refers to it by the field that is named."""
    many = {each.name for each in relations(DEFINITIONS) if each.many}
    made: Any = f"@made:{ORDERS}"
    linked = [{**body, name: [made] if name in many else made} for name, body in lines]
    return AskBatch(by, (One("POST", ORDERS, body=order), *(One("POST", LINES, body=body) for body in linked)))
