"""A writer that changes the definition of a store with its data, again and again, and writers that go along with it."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence, Set
from typing import Any, Final
from urllib.parse import quote

import httpx

from stores.records import Entity
from tests.faults.forms import COLUMNS, Form
from tests.faults.ledger import Asked
from tests.faults.writers import PAUSE, Cascades, Counting, Herding, Upserting, Writer, until

STEP: Final = 25
"""Entities that one step of a change in steps changes, a tenth of all."""

KEPT: Final = 20
"""Entities that a `Reshaping` keeps."""


class Redefiner(Writer):
    """Changes the definition to another form, in one commit or, if the hub takes that many entities only so, in steps.

    After each interruption it looks at the definition. Either the change had not begun, and everything is as before, or
    the new definition is in force and the change goes on: in no case is it in force for a part of the entities of a
    commit. `form` is the one in force, `ended` counts the changes that end live views, and `made` all of them.
    """

    definition = ""
    """The path of the definition."""

    others: Sequence[Entity] = ()
    """The fields of the definition that stay."""

    form = Form()
    ended = 0
    made = 0
    found: Counter[str]
    """The number of changes that were `not begun`, `begun` or in the `middle` of their steps after an interruption."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sending = {True: asyncio.Event(), False: asyncio.Event()}
        self._unused = itertools.count(1)
        self.found = Counter()
        self._taken = {True: PAUSE, False: PAUSE}

    def columns(self) -> Entity:
        """Return the columns of an entity with a new number."""
        return self.form.columns(next(self._unused))

    async def has_sent(self, requests: int, in_steps: bool) -> float:
        """Wait until so many more requests are on their way that ask for steps, or that ask for a change; return the
        seconds that the last one of them may take, which are those of the one before."""
        for _ in range(requests):
            await self._sending[in_steps].wait()
        return self._taken[in_steps]

    async def step(self, number: int) -> None:
        """Make one change, and check all entities after it, and a position from before it."""
        await asyncio.sleep(random.uniform(0, PAUSE))  # the other writers write
        former, target = self.form, self.form.another()
        position = (await self._get(f"{self.path}?limit=1")).headers["x-position"]
        begun = await self._begin(target)
        keeps_views = former.shows_like(target) and begun.get("pending") is None
        self.form = target
        await self._finish(begun, former)
        await self._check(target)
        since = await until(lambda: self.send("GET", f"{self.path}?since={quote(position)}"))
        assert since.status_code == (200 if keeps_views else 410), since.text
        self.ended += not keeps_views
        self.made += 1

    async def _begin(self, target: Form) -> Entity:
        """Send the change until the definition is that of the target; return it."""
        fields = [*self.others, *target.fields]
        data, is_doubtful = self.form.data_for(target), False
        while True:
            definition = await self._read_definition()
            if is_doubtful and target.is_of(definition):
                self.found["begun"] += 1
                return definition
            assert self.form.is_of(definition), definition
            assert definition.get("pending") is None, definition
            if is_doubtful:
                self.found["not begun"] += 1
                await self._check(self.form)
            body = {"fields": fields, "data": data} if data else {"fields": fields}
            answer = await self._send_change(body, if_match=f'"{definition["_rev"]}"')
            if answer is not None and answer.status_code == 200:
                begun: Entity = answer.json()
                return begun
            is_doubtful = is_doubtful or answer is None
            if answer is not None and answer.status_code != 412:
                assert answer.status_code == 409, answer.text
                assert [*answer.json()["errors"]] == ["data"], answer.text
                assert "steps" not in data, answer.text
                data["steps"] = True

    async def _finish(self, definition: Entity, former: Form) -> None:
        """Do the steps of a change until none is left."""
        pending = definition.get("pending")
        while pending is not None:
            answer = await self._send_change({"data": {"continue": STEP}})
            if answer is None:
                definition = await self._read_definition()
                assert self.form.is_of(definition), definition
                await self._check(self.form, former, shown=self.form.names)
                now = definition["pending"]
                assert now is None or 0 <= now["done"] - pending["done"] <= STEP, (pending, now)
                self.found["middle"] += 1
            else:
                assert answer.status_code == 200, answer.text
                now = answer.json()["pending"]
            pending = now

    async def _check(self, *forms: Form, shown: Set[str] = COLUMNS) -> None:
        """Check that each entity fits one of the forms."""
        answer = await self._get(self.path)
        assert "next" not in answer.links
        for entity in answer.json():
            assert any(form.fits(entity, shown) for form in forms), (entity, forms)

    async def _send_change(self, body: Entity, **headers: str) -> httpx.Response | None:
        in_steps, start = "fields" not in body, time.monotonic()
        self._sending[in_steps].set()
        self._sending[in_steps] = asyncio.Event()
        answer = await self.send("PATCH", self.definition, body, **headers)
        if answer is not None and answer.status_code == 200:
            self._taken[in_steps] = time.monotonic() - start
        return answer

    async def _read_definition(self) -> Entity:
        definition: Entity = (await self._get(self.definition)).json()
        return definition

    async def _get(self, path: str) -> httpx.Response:
        answer = await until(lambda: self.send("GET", path))
        assert answer.status_code == 200, answer.text
        return answer


class Shaped(Writer):
    """Gives its entities the columns of the form that it knows. When another one is in force by the time of the write,
    this is refused by the names of columns (400)."""

    refusals = (400, 507)
    redefiner: Redefiner

    def body(self, tag: str, number: int, **more: Any) -> Entity:
        return {**super().body(tag, number, **more), **self.redefiner.columns()}

    async def attempt(self, asked: Asked, *request: Any, **headers: str) -> httpx.Response | None:
        answer = await super().attempt(asked, *request, **headers)
        if answer is not None and answer.status_code == 400:
            assert all(COLUMNS.intersection(place.split(".")) for place in answer.json()["errors"]), answer.text
        return answer


class Reshaping(Shaped):
    """Keeps a few entities: creates, changes, replaces and deletes them one by one, always with all columns."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ids: list[str] = []

    async def step(self, number: int) -> None:
        tag = f"{self.name}-{number}"
        if len(self.ids) < KEPT:
            created = ("POST", self.path, self.body(tag, number))
            answer = await self.insist(self.ledger.ask(tag), *created, idempotency_key=tag)
            if answer.status_code == 200:
                self.ids.append(answer.json()["_id"])
        elif number % 5 == 0:
            id = self.ids.pop(random.randrange(KEPT))
            await self.attempt(self.ledger.ask_removal([id]), "DELETE", f"{self.path}/{id}")
        else:
            method = random.choice(("PATCH", "PUT"))
            path = f"{self.path}/{random.choice(self.ids)}"
            await self.attempt(self.ledger.ask(tag), method, path, self.body(tag, number))


class ShapedUpserting(Shaped, Upserting):
    """Upserts entities with columns."""


class ShapedHerding(Shaped, Herding):
    """Changes a flock with columns, but not the columns."""


class ShapedCascades(Shaped, Cascades):
    """Creates and deletes families with columns."""


FEW_REMAIN: Final[tuple[type[Writer], ...]] = (
    *(ShapedUpserting, ShapedHerding, ShapedCascades, Reshaping, Reshaping, Reshaping),
    *(Counting, Counting),
)
"""Writers of which few entities remain, however long they run: each change of the definition changes all."""
