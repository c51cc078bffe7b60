"""Writers of different kinds that run during a fault and record the answers to their requests.

A write that is answered 200 is acknowledged. 4xx and 507 promise that nothing was done. Without an answer, or with
another 5xx, the write is in doubt: a writer with an Idempotency-Key or If-Match repeats it until it knows; others go
on.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx

from stores.records import Entity
from tests.faults.ledger import Asked, Fate, Ledger
from tests.support.hub import Client, dashed, unique

PAUSE = 0.05
"""Seconds between attempts while the hub is down."""

FLOCK = 12
BULK = 5
HEAVY = 120
"""More entities than SQLite writes on the event loop, so the transaction runs in the writer thread."""

CHILDREN = 3
MANY_CHILDREN = 30
"""More requests of a batch than the hub carries out on the event loop."""

PARENT: Entity = {"id": "parent", "type": "Reference", "on_delete": "cascade"}
"""The field by which children refer to their parents, without its store: it is that of the children themselves."""


class Writer:
    """Repeats `step` until `stop` is set. Its names, tags and keys begin with its own name. Its writes may be answered
    by `refusals`."""

    refusals: tuple[int, ...] = (507,)

    def __init__(self, client: Client, store: str, ledger: Ledger) -> None:
        self.client = client
        self.path = f"/{store}"
        self.ledger = ledger
        self.name = unique(type(self).__name__.lower())
        self.numbers: Iterator[int] = itertools.count()

    async def run(self, stop: asyncio.Event) -> None:
        await self.prepare()
        while not stop.is_set():
            await self.step(next(self.numbers))

    async def prepare(self) -> None:
        """Create what the steps need."""

    async def step(self, number: int) -> None:
        raise NotImplementedError

    # Requests.

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response | None:
        """Send a request; return the answer, or None if the outcome is in doubt."""
        try:
            answer = await self._send(method, path, json=body, headers=dashed(headers))
        except httpx.TransportError:
            answer = None
        assert answer is None or answer.status_code != 500, answer.text
        if answer is not None and (answer.status_code < 500 or answer.status_code == 507):
            return answer
        await asyncio.sleep(PAUSE)
        return None

    async def _send(self, *request: Any, **more: Any) -> httpx.Response:
        """Send a request, again if the connection is refused, since then it has certainly not been handled."""
        while True:
            try:
                return await self.client.request(*request, **more)
            except httpx.ConnectError:
                await asyncio.sleep(PAUSE)

    async def attempt(self, asked: Asked, *request: Any, **headers: str) -> httpx.Response | None:
        """Send a write once, and record its fate."""
        answer = await self.send(*request, **headers)
        if answer is not None:
            self.ledger.settle(asked, Fate.ACKNOWLEDGED if answer.status_code == 200 else Fate.REFUSED)
            assert answer.status_code in (200, *self.refusals), answer.text
        return answer

    async def insist(self, asked: Asked, *request: Any, **headers: str) -> httpx.Response:
        """Send a write until it is answered. Only for requests that may be repeated."""
        return await until(lambda: self.attempt(asked, *request, **headers))

    def body(self, tag: str, number: int, **more: Any) -> Entity:
        return {"tag": tag, "kind": type(self).__name__, "phase": number % 4, **more}


async def until(ask: Callable[[], Awaitable[httpx.Response | None]]) -> httpx.Response:
    while True:
        answer = await ask()
        if answer is not None:
            return answer


class Singles(Writer):
    """Creates one entity at a time, and deletes every third one. No request is repeated."""

    async def step(self, number: int) -> None:
        tag = f"{self.name}-{number}"
        made = await self.attempt(self.ledger.ask(tag), "POST", self.path, self.body(tag, number))
        if made is not None and made.status_code == 200 and number % 3 == 0:
            id = made.json()["_id"]
            await self.attempt(self.ledger.ask_removal([id]), "DELETE", f"{self.path}/{id}")


class Keyed(Writer):
    """Creates an entity under an Idempotency-Key, repeated until it is answered. Every fourth request is then repeated
    once more, and must have the same answer."""

    async def step(self, number: int) -> None:
        tag = f"{self.name}-{number}"
        request = ("POST", self.path, self.body(tag, number))
        made = await self.insist(self.ledger.ask(tag), *request, idempotency_key=tag)
        if number % 4 == 0 and made.status_code == 200:
            again = await until(lambda: self.send(*request, idempotency_key=tag))
            assert again.status_code == 507 or again.json() == made.json(), again.text


class Bulk(Writer):
    """Creates arrays, alternately with and without a key; some are long."""

    async def step(self, number: int) -> None:
        tag = f"{self.name}-{number}"
        size = HEAVY if number % 25 == 20 else BULK
        request = ("POST", self.path, [self.body(tag, number, item=item) for item in range(size)])
        asked = self.ledger.ask(tag, size)
        if number % 2:
            await self.insist(asked, *request, idempotency_key=tag)
        else:
            await self.attempt(asked, *request)


class Counting(Writer):
    """Increments a counter that others increment as well, each time from the revision that it has read (If-Match). Each
    revision can be changed only once, so repeating is safe."""

    counter = ""

    async def step(self, number: int) -> None:
        path = f"{self.path}/{self.counter}"
        seen = (await until(lambda: self.send("GET", path))).json()
        asked = self.ledger.ask(f"{self.name}-{number}")
        body = {"tag": asked.tag, "n": seen["n"] + 1, "phase": number % 4}
        request, header = ("PATCH", path, body), {"if_match": f'"{seen["_rev"]}"'}
        answer = await self.send(*request, **header)
        if answer is None:
            answer = await until(lambda: self.send(*request, **header))
            if answer.status_code == 412:
                return  # in doubt: it lost the race, or won it without receiving the answer
        assert answer.status_code in (200, 412, 507), answer.text
        self.ledger.settle(asked, Fate.ACKNOWLEDGED if answer.status_code == 200 else Fate.REFUSED)


class Upserting(Writer):
    """Upserts two entities by their unique codes, both or neither, alternately with and without a key."""

    async def step(self, number: int) -> None:
        asked = self.ledger.ask(f"{self.name}-{number}", 2)
        bodies = [self.body(asked.tag, number, code=f"{self.name}-{which}") for which in "ab"]
        request = ("POST", f"{self.path}?upsert=code", bodies)
        if number % 2:
            await self.insist(asked, *request, idempotency_key=asked.tag)
        else:
            await self.attempt(asked, *request)


class Herding(Writer):
    """Changes a flock of entities by a filter, all or none."""

    async def prepare(self) -> None:
        tag = f"{self.name}-flock"
        flock = [self.body(tag, 0, flock=self.name) for _ in range(FLOCK)]
        await self.insist(self.ledger.ask(tag, FLOCK), "POST", self.path, flock, idempotency_key=tag)

    async def step(self, number: int) -> None:
        asked = self.ledger.ask(f"{self.name}-{number}", FLOCK)
        await self.attempt(asked, "PATCH", f"{self.path}?flock={self.name}", {"tag": asked.tag, "phase": number % 4})


class Families(Writer):
    """Makes parents and children in batches. A parent names the number of its `children`, and each child its `parent`,
    like an order and its lines."""

    def parent(self, tag: str, number: int, children: int) -> Entity:
        return {"method": "POST", "path": self.path, "body": self.body(tag, number, children=children)}

    def child(self, tag: str, number: int, parent: object) -> Entity:
        return {"method": "POST", "path": self.path, "body": self.body(tag, number, parent=parent)}

    def family(self, tag: str, number: int, children: int) -> list[Entity]:
        """Return the requests for a parent and its children."""
        parent, its_id = self.parent(tag, number, children), {"$ref": "0._id"}
        return [parent, *(self.child(tag, number, its_id) for _ in range(children))]

    async def carry_out(self, requests: list[Entity], asked: Asked, **headers: str) -> list[str]:
        """Send a batch, with an Idempotency-Key until it is answered; return the ids of the entities that it has
        written, none if it has not or may not have."""
        send = self.insist if headers else self.attempt
        answer = await send(asked, "POST", "/batch", {"requests": requests}, **headers)
        if answer is None or answer.status_code != 200:
            return []
        return [each["body"]["_id"] for each in answer.json()["responses"]]


class Batches(Families):
    """Creates families, alternately with and without a key, some of them large. After each it gives the last one that
    it knows another child, and counts it with `$inc`."""

    last = ""
    phase = 0

    async def step(self, number: int) -> None:
        tag = f"{self.name}-{number}"
        size = MANY_CHILDREN if number % 10 == 7 else CHILDREN
        key = {"idempotency_key": tag} if number % 2 else {}
        made = await self.carry_out(self.family(tag, number, size), self.ledger.ask(tag, 1 + size), **key)
        if made:
            self.last, self.phase = made[0], number
        if self.last:
            await self._add_child(f"{tag}-more")

    async def _add_child(self, tag: str) -> None:
        """The family stays in one phase, so that a view of a phase shows all of it or nothing."""
        counted = {"method": "PATCH", "path": f"{self.path}/{self.last}", "body": {"tag": tag, "$inc": {"children": 1}}}
        await self.carry_out([self.child(tag, self.phase, self.last), counted], self.ledger.ask(tag, 2))


class Cascades(Families):
    """Creates a family, and deletes the parent, which deletes the children."""

    async def step(self, number: int) -> None:
        tag = f"{self.name}-{number}"
        size = MANY_CHILDREN if number % 10 == 7 else CHILDREN
        asked = self.ledger.ask(tag, 1 + size)
        made = await self.carry_out(self.family(tag, number, size), asked, idempotency_key=tag)
        if made:
            await self.attempt(self.ledger.ask_removal(made), "DELETE", f"{self.path}/{made[0]}")


SEPARATE: tuple[type[Writer], ...] = (Singles, Singles, Keyed, Keyed, Bulk, Counting, Counting, Upserting, Herding)
"""Writers of a store to which nothing refers."""

CROWD: tuple[type[Writer], ...] = (*SEPARATE, Batches, Batches, Cascades)
