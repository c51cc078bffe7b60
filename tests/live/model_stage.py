"""The resources that all runs of the model share: one hub that can be restarted, its stores, groups and role."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from tests.live.model_definitions import DATA, DEFINITIONS
from tests.support.direct_http import DirectTransport
from tests.support.engines import Database
from tests.support.hub import PATIENCE, Client, Hub, HubProcess, entity_of, unique
from tests.support.ports import free_port

FIELDS: list[dict[str, Any]] = [
    {"id": "name", "type": "Text"},
    {"id": "n", "type": "Number"},
    {"id": "tags", "type": "JSON"},
    {"id": "place", "type": "JSON"},
]
PLAIN, TYPED, USERS = "plain", "typed", "users"
PARENTS = (None, 0, 1, None)
"""The tree of groups at the beginning of each run: a chain of three, and a separate one."""
SCOPES: tuple[tuple[str, ...], ...] = (
    ("* /*",),
    ("GET /*",),
    ("GET /plain/*",),
    ("* /typed/*", "GET /users/*"),
    ("GET /users/*",),
    ("* /lines/*",),
    ("* /orders/*", "GET /lines/*"),
)


ENOUGH, FEW = 40, 4
"""Changes that the hub keeps in memory: ENOUGH for all but long absences, FEW for hardly any absence."""


def pin(hidden: bool) -> dict[str, Any]:
    return {"id": "pin", "type": "Text", "hidden": hidden}


class Stage:
    """The hub and how to start it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.hub: Hub
        self.admin: Client
        self.groups: list[str] = []
        self.typed = self.role = self.beacons = ""
        self.numbers = dict.fromkeys(DATA, 0)
        """The largest serial number that each store has given so far."""
        self.transport = DirectTransport(PATIENCE)
        """That of all clients, because a run makes some two hundred requests."""
        self._database = database
        self._folder = folder
        # It is started again at this port.
        self._settings: dict[str, object] = {"live_position_every": 1, "live_recent": ENOUGH, "port": free_port()}

    @property
    def remembers_little(self) -> bool:
        """Whether the hub keeps so few changes that more may occur during a change of visibility. Then it ends the
        affected views with an error."""
        return self._settings.get("live_recent") == FEW

    @property
    def admin_role(self) -> str:
        return str(self.admin.user["roles"][0])

    async def open(self) -> None:
        self.hub = Hub(await self._start(), self._database, self.transport)
        await self.hub.open()
        self.admin = self.hub.admin
        self.beacons = await self.hub.define(label="beacons")
        await self.admin.make("stores", {"name": PLAIN})
        typed = {"name": TYPED, "fields": [*FIELDS, pin(True)]}
        self.typed = (await self.admin.make("stores", typed))["_id"]
        for store in DATA:
            await self.admin.make("stores", {"name": store, "fields": DEFINITIONS[store]})
        for parent in PARENTS:
            self.groups.append(await self.hub.group(None if parent is None else self.groups[parent]))
        self.role = await self.hub.role(*self.scopes(0))

    async def close(self) -> None:
        await self.hub.close()
        await asyncio.to_thread(self.hub.process.stop, signal.SIGKILL)

    async def restart(self, number: int, recent: int) -> None:
        """Stop the hub with signal `number` and start it on the same port. `recent`: changes that it keeps in memory;
        if few, returning clients are served from the database."""
        await asyncio.to_thread(self.hub.process.stop, number)
        self._settings["live_recent"] = recent
        self.hub.process = await self._start()

    async def _start(self) -> HubProcess:
        return await asyncio.to_thread(HubProcess, self._database, self._folder, self._settings)

    def scopes(self, choice: int) -> tuple[str, ...]:
        """Return the scopes of a choice, and the scope to read the beacons, which every user needs."""
        return (*SCOPES[choice], f"GET /{self.beacons}/*")

    def note_numbers(self, given: list[tuple[str, int]]) -> None:
        """Check that the serial numbers that stores have given are new, and larger than all before."""
        assert len({*given}) == len(given), f"a number twice: {given}"
        before = self.numbers.copy()
        for store, number in given:
            assert number > before[store], f"{store} has given {before[store]} before {number}"
            self.numbers[store] = max(self.numbers[store], number)

    def tree(self) -> dict[str, str | None]:
        """Return the groups' parents at the beginning of each run."""
        return {
            group: None if parent is None else self.groups[parent]
            for group, parent in zip(self.groups, PARENTS, strict=True)
        }

    async def reset(
        self, users: list[str], parents: dict[str, str | None], scopes: tuple[str, ...], hidden: bool
    ) -> None:
        """Restore the shared resources after a run. The arguments are the state that the run left."""
        # Users are deleted first, because moving a group stamps its users too.
        await asyncio.gather(*(self.admin.delete(f"/{USERS}/{user}") for user in users))
        if self.hub.process.process.poll() is not None:
            self.hub.process = await self._start()
        await asyncio.gather(
            *(self._empty(*stores) for stores in ((PLAIN,), (TYPED,), reversed(DATA))),
            self._replant(parents),
            self._give_back(scopes),
            self._hide(hidden),
        )

    async def _empty(self, *stores: str) -> None:
        """Delete all entities of the stores, one store after the other, because one may refer to the next."""
        for store in stores:
            answer = await self.admin.delete(f"/{store}", {"all": "true"})
            assert answer.status_code == 200, answer.text

    async def _replant(self, parents: dict[str, str | None]) -> None:
        moved = {group: parent for group, parent in self.tree().items() if parents[group] != parent}
        for group in moved:
            entity_of(await self.admin.patch(f"/groups/{group}", {"parent": None}))
        for group, parent in moved.items():
            entity_of(await self.admin.patch(f"/groups/{group}", {"parent": parent}))

    async def _give_back(self, scopes: tuple[str, ...]) -> None:
        if scopes != self.scopes(0):
            entity_of(await self.admin.patch(f"/roles/{self.role}", {"scopes": self.scopes(0)}))

    async def _hide(self, hidden: bool) -> None:
        if not hidden:
            entity_of(await self.admin.patch(f"/stores/{self.typed}", {"fields": [*FIELDS, pin(True)]}))

    @staticmethod
    def tag() -> str:
        """Return a name for one run."""
        return unique("run")
