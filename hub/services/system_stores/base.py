"""The interface of hooks: `StoreHooks` has defaults, and each system store overrides some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from auth.principal import Principal
from hub.services.registry import StoreRegistry
from hub.services.shared_reads import SharedReads
from stores.protocol import Definitions, Engine, IdempotencyKey, Write, Written
from stores.records import Entity
from stores.schema import StoreDefinition


@dataclass(slots=True)
class Prepared:
    """A prepared write: its fields, accompanying writes, and members that are added only to the answer."""

    fields: Entity
    more_writes: list[Write] = field(default_factory=list)
    reveal: Entity = field(default_factory=dict)


class StoreHooks:
    """Hooks around the writes of one store. `body` is the caller's input, `fields` its checked fields."""

    hook_members: frozenset[str] = frozenset()
    """Members of a body for the hooks alone, which are not fields of the store."""

    shared: bool = True
    """Whether the owner of an entity may share it."""

    repeatable: bool = True
    """Whether the answer to a creation can be repeated for an Idempotency-Key."""

    sent_as: Mapping[str, str] = {}
    """Unique fields that the hooks derive, with the fields that they are derived from."""

    def __init__(self, engine: Engine, registry: StoreRegistry) -> None:
        self.engine = engine
        self.registry = registry

    async def check_number(self, principal: Principal, entities: Sequence[Entity]) -> None:
        """Refuse more entities than can ever be created. Called before they are prepared one by one."""

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        return Prepared(entity)

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        return Prepared(fields)

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        return []

    def moves(self, prepared: Prepared) -> bool:
        """Return whether the change moves a group, and so re-stamps everything in and below it."""
        return False

    def alters_principals(self, prepared: Prepared) -> bool:
        """Return whether the change affects cached principals."""
        return True

    async def commit_creation(
        self, principal: Principal, entities: Sequence[Entity], writes: Sequence[Write], key: IdempotencyKey | None
    ) -> list[Written]:
        return await self.engine.commit(writes, principal.user_id, key)

    async def commit_change(
        self, before: Entity, after: Entity, writes: Sequence[Write], by: str | None, definition: StoreDefinition
    ) -> list[Written]:
        """Do the writes. `definition` is that of the store as it was when they were prepared."""
        return await self.engine.commit(writes, by, definition=definition)

    async def commit_deletion(
        self, before: Entity, writes: Sequence[Write], by: str | None, definition: Definitions
    ) -> list[Written]:
        """Do the writes, which rely on `definition`."""
        return await self.engine.commit(writes, by, definition=definition)

    async def created(self) -> None:
        """Called once after the commit."""

    async def changed(self) -> None:
        """Called after the commit."""

    async def deleted(self, entity: Entity) -> None:
        """Called after the commit."""
