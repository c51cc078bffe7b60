"""Hooks of the store `groups`."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from auth.groups import MOST_GROUP_LEVELS, KnownGroups, chain_of, find_one, inside, read_chain, subtree_of
from auth.principal import Principal
from hub.services import expectations as expect
from hub.services.credentials import refuse
from hub.services.group_paths import restamping
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from stores.errors import Conflict, NotAsExpected
from stores.protocol import Write
from stores.query import Query
from stores.records import Entity, is_id


class GroupHooks(StoreHooks):
    """Groups form a tree. Moving a group re-stamps the `branch` of everything in and below it."""

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        parent = entity.get("parent")
        return Prepared(entity, await shared.once(parent, lambda: self._expect_parent(parent, shared.groups)))

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        if fields.get("parent", before.get("parent")) == before.get("parent"):
            return Prepared(fields)
        parent = fields["parent"]
        subtree = await subtree_of(self.engine, before["_id"])
        await self._check_parent(parent, subtree)
        above, ancestors = await read_chain(self.engine, parent)
        if before["_id"] in above:
            raise NotAsExpected  # a concurrent move put it there after the subtree was read
        if len(above) >= len(await chain_of(self.engine, before["_id"])):  # not if it goes up, or to the side
            self._check_levels(len(above) + max(map(len, subtree.values())))

        async def branch_of(group: str) -> list[str]:
            return [*subtree[group], *above]

        restamped = await restamping(self.engine, self.registry, list(subtree), branch_of)
        # While no group above has moved or been deleted, the move creates no cycle.
        expected = [*self._ancestors_are_unchanged(parent, ancestors), *expect.subtree_has_not_grown(subtree)]
        return Prepared(fields, [*expected, *restamped])

    def moves(self, prepared: Prepared) -> bool:
        return bool(prepared.more_writes)

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        for store, path, what in (("groups", "parent", "groups below it"), ("users", "group", "users in it")):
            if await self.engine.entities(store, Query(inside(path, [before["_id"]]), limit=1)):
                raise Conflict(f"There are {what}.")
        return [*expect.nothing_is_in_group(before["_id"])]

    async def _expect_parent(self, parent: Any, known: KnownGroups) -> list[Write]:
        """Check the parent of a new group, and return the expectations that its ancestors are unchanged."""
        await self._check_parent(parent, ())
        above, ancestors = await read_chain(self.engine, parent, known)
        self._check_levels(len(above) + 1)
        return self._ancestors_are_unchanged(parent, ancestors)

    async def _check_parent(self, parent: Any, subtree: Container[str]) -> None:
        if parent is None:
            return
        if not is_id(parent) or await find_one(self.engine, "groups", parent) is None:
            raise refuse("parent", f"There is no group with the id {parent!r}.")
        if parent in subtree:
            raise refuse("parent", "A group cannot be below itself.")

    @staticmethod
    def _check_levels(levels: int) -> None:
        if levels > MOST_GROUP_LEVELS:
            text = f"A tree of groups may have {MOST_GROUP_LEVELS} levels: this one would have {levels}."
            raise refuse("parent", text).at("MOST_GROUP_LEVELS")

    @staticmethod
    def _ancestors_are_unchanged(parent: str | None, ancestors: Sequence[Entity]) -> list[Write]:
        return [*expect.groups_exist(parent), *expect.groups_are_unchanged(ancestors)]
