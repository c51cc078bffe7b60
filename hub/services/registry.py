"""The registry of stores: system stores, and those that administrators have defined."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Final

from auth.policy import authorize
from auth.principal import Principal
from auth.system_stores import DEFINITIONS, SYSTEM_STORES
from auth.view import View
from hub.http.errors import NoSuchStore
from hub.services.key_fields import with_keys
from stores.bounds import Limit
from stores.definitions import parse_definition
from stores.errors import CannotOpen, NotFound, StoreError, Unavailable
from stores.protocol import Engine
from stores.query import In, Query
from stores.records import Change, Entity
from stores.relation import Relation
from stores.schema import StoreDefinition

log = logging.getLogger(__name__)

RESERVED = frozenset({*SYSTEM_STORES, "auth", "batch"})
"""Names that no defined store may have: those of system stores, and paths of the API."""

RESTORE_PAUSES = (0, 0.5, 1, 2, 5, 15, 60, 300)
"""Seconds before each attempt to restore a store after its deletion failed. A restart restores it in any case."""

MOST_STORES: Final[Annotated[int, Limit("database", "stores", "400")]] = 10_000

CLASH = (
    "This version uses a name itself that one of your stores has: {names}. Give yours another name while the "
    "hub does not run: hub store rename {first} NEW"
)


class StoreRegistry:
    """All store definitions. The service updates it after its own writes; the feed updates it after those of others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._system = {name: self._with_leftovers(definition) for name, definition in SYSTEM_STORES.items()}
        self._defined: dict[str, StoreDefinition] = {}
        self._ids: dict[str, str] = {}
        self._referring: dict[str, list[Relation]] = {}
        self._connected = self._with_relations()
        self._has_purposes = False
        self._restoring: set[asyncio.Task[None]] = set()
        self._refreshing = asyncio.Lock()
        self._asked = 0
        self._read = 0

    def get(self, name: str) -> StoreDefinition:
        """Return a store's definition. Raises NotFound."""
        found = self._system.get(name) or self._defined.get(name)
        if found is None:
            raise NotFound(f"no store {name}")
        return found

    def authorized(self, principal: Principal, name: str, method: str = "GET") -> View:
        """Return the principal's View of a store for a method. Called before any other part of a request is examined.
        Raises NoSuchStore, and Forbidden for missing rights."""
        definition = self._system.get(name) or self._defined.get(name)
        if definition is None:
            raise NoSuchStore(name, revealed=principal.may_administer("GET", "stores"))
        return authorize(principal, definition, method)

    def id_of(self, name: str) -> str | None:
        """Return the id of a store's current definition; None for a system store."""
        return self._ids.get(name) if name in self._defined else None

    def referring(self, name: str) -> Sequence[Relation]:
        """Return the relations whose target is this store."""
        return self._referring.get(name, ())

    def is_connected(self, name: str) -> bool:
        """Return whether a store refers to another one, or is referred to."""
        return name in self._connected

    @property
    def has_purposes(self) -> bool:
        """Whether a store belongs to one of the hub's APIs."""
        return self._has_purposes

    def _with_relations(self) -> frozenset[str]:
        """Return the names of the stores that refer to others, and of those that are referred to."""
        return frozenset({*self._referring, *(each.name for each in self.all() if each.relations)})

    def with_keys(self, definition: StoreDefinition) -> StoreDefinition:
        """Return a definition that is not in force yet with the keys of its references."""
        return with_keys(definition, {**self._defined, **self._system, definition.name: definition})

    @property
    def generation(self) -> int:
        """A number that is greater after each reading of the definitions."""
        return self._read

    def is_full(self) -> bool:
        """Return whether no further store can be defined."""
        return len(self._defined) >= MOST_STORES

    def all(self) -> list[StoreDefinition]:
        """Return every store, system stores first."""
        return [*self._system.values(), *self._defined.values()]

    def _with_leftovers(self, definition: StoreDefinition) -> StoreDefinition:
        """Return the definition, with `leftovers` if other programs write to the database: then entities may contain
        anything."""
        return replace(definition, leftovers=True) if self._engine.shared else definition

    async def open(self) -> None:
        """Define all stores in the engine; a definition that the engine refuses is logged and left out. Raises
        CannotOpen if a defined store has the name of a system store or of a path, which an older version did not have,
        and if the renaming of a store was interrupted."""
        await self._engine.define(DEFINITIONS)
        await self._refuse_clashes()
        for definition in SYSTEM_STORES.values():
            await self._engine.define(definition)
        await self.refresh()

    async def _refuse_clashes(self) -> None:
        """Check before any of those stores is changed."""
        taken = Query(In(("name",), tuple(sorted(RESERVED))), limit=len(RESERVED))
        names = ", ".join(str(entity["name"]) for entity in await self._engine.entities("stores", taken))
        if names:
            raise CannotOpen(CLASH.format(names=names, first=names.partition(",")[0]))

    async def refresh(self) -> None:
        """Read the current definitions. If one cannot be applied, the previous one stays in force. Raises Unavailable,
        and then every previous one stays.

        One refresh runs at a time, so an earlier read never replaces a later one. A caller that had to wait uses the
        result of a read that began after its call.
        """
        self._asked += 1
        mine = self._asked
        async with self._refreshing:
            if self._read < mine:
                covered = self._asked
                defined, revs = await self._read_definitions()
                self._system = {name: replace(each, known_revs=revs) for name, each in self._system.items()}
                stores = {**defined, **self._system}
                self._defined = {name: with_keys(definition, stores) for name, definition in defined.items()}
                self._referring = _by_target(self._defined.values())
                self._connected = self._with_relations()
                self._has_purposes = any(each.purpose for each in self._defined.values())
                self._read = covered

    async def _read_definitions(self) -> tuple[dict[str, StoreDefinition], dict[str, int]]:
        """Return the definitions by name, and the revisions of all that there are by id."""
        defined: dict[str, StoreDefinition] = {}
        entities = await self._engine.entities("stores", Query(limit=MOST_STORES))
        revs = {entity["_id"]: entity.get("_rev") or 0 for entity in entities}
        for entity in entities:
            definition = await self._in_force(entity)
            if definition is not None:
                defined[definition.name] = replace(definition, known_revs=revs)
                self._ids[definition.name] = entity["_id"]
        return defined, revs

    async def _in_force(self, entity: Entity) -> StoreDefinition | None:
        name = entity.get("name")
        known = self._defined.get(name) if isinstance(name, str) else None
        try:
            definition = self._with_leftovers(parse_definition(entity))
            if definition != known:
                await self._engine.define(definition)
        except (Unavailable, CannotOpen):
            raise  # the definition may well be right
        except StoreError as error:
            log.error("the definition of store %r is not in force: %s", name, error)
            return known
        return definition

    async def follow(self, changes: list[Change]) -> None:
        """Apply changes of definitions and of storage by others. Raises Unavailable; can be repeated."""
        for name in {change.store for change in changes if change.op == "lost"}:
            await self._restore(name)
        if any(change.store == "stores" for change in changes):
            await self.refresh()

    def restore_later(self, name: str) -> None:
        """Restore a store's storage in the background if the store is still defined. The database may be unavailable
        now."""
        task = asyncio.create_task(self._restore_patiently(name))
        self._restoring.add(task)
        task.add_done_callback(self._restoring.discard)

    async def _restore_patiently(self, name: str) -> None:
        for pause in RESTORE_PAUSES:
            await asyncio.sleep(pause)
            try:
                await self.refresh()
                definition = self._defined.get(name)
                if definition is not None:
                    await self._engine.define(definition)
            except StoreError as error:
                log.warning("the storage of store %r is not restored yet: %s", name, error)
            else:
                return

    async def _restore(self, name: str) -> None:
        """Redefine a store whose storage another program has removed or replaced."""
        definition = SYSTEM_STORES.get(name) or self._defined.get(name)
        try:
            if definition is not None:
                await self._engine.define(definition)
        except Unavailable:
            raise
        except StoreError as error:
            log.error("the collection of store %r could not be put right: %s", name, error)


def _by_target(definitions: Iterable[StoreDefinition]) -> dict[str, list[Relation]]:
    found: dict[str, list[Relation]] = {}
    for definition in definitions:
        for relation in definition.relations:
            found.setdefault(relation.target, []).append(relation)
    return found
