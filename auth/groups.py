"""The tree of groups. An entity's `branch` is the chain from its group up to the root."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

from stores.bounds import Limit
from stores.protocol import UNBOUNDED, Engine
from stores.query import And, ElemMatch, Equal, Filter, In, Not, Query
from stores.records import Entity

MOST_GROUP_LEVELS: Final[Annotated[int, Limit("tree of groups", "levels", "400")]] = 64
"""Writes refuse further levels; a move within a deeper tree, which another program made, may not make it deeper.
Reads follow any chain to its end."""


KnownGroups = dict[str, Entity | None]
"""Groups that have been read, by id; None for a group that does not exist."""


async def chain_of(engine: Engine, group: str | None, known: KnownGroups | None = None) -> tuple[str, ...]:
    """Return the ids of the group and its ancestors, nearest first."""
    return (await read_chain(engine, group, known))[0]


async def read_chain(
    engine: Engine, group: str | None, known: KnownGroups | None = None
) -> tuple[tuple[str, ...], list[Entity]]:
    """Return the ids of the group and its ancestors, nearest first, and the whole entities of those that exist. Groups
    in `known` are not read again; others are added to it."""
    chain: list[str] = []
    groups: list[Entity] = []
    known = {} if known is None else known
    while group is not None and group not in chain:
        chain.append(group)
        if group not in known:
            known[group] = await find_one(engine, "groups", group)
        found = known[group]
        groups += [found] if found else []
        parent = found.get("parent") if found else None
        group = parent if isinstance(parent, str) else None
    return tuple(chain), groups


async def subtree_of(engine: Engine, group: str) -> dict[str, tuple[str, ...]]:
    """Return the ids of the group and of every group below it, level by level, each with its chain up to the group."""
    chains: dict[str, tuple[str, ...]] = {group: (group,)}
    level = [group]
    while level:
        children = await engine.entities("groups", Query(inside("parent", level), limit=UNBOUNDED))
        below = {child["_id"]: (child["_id"], *chains[child["parent"]]) for child in children}
        level = [id for id in below if id not in chains]
        chains |= {id: below[id] for id in level}
    return chains


def inside(field: str, groups: Iterable[str]) -> Filter:
    """Return the condition that the text in `field` is one of the groups. An array with such an element, from another
    program, names no group: `read_chain` ends there too."""
    ids = tuple(groups)
    return And((In((field,), ids), Not(ElemMatch((field,), In((), ids), True))))


async def find_one(engine: Engine, store: str, id: str) -> Entity | None:
    """Return one whole entity of a system store; None if no entity has this id."""
    found = await engine.entities(store, Query(Equal(("_id",), id), limit=1))
    return found[0] if found else None
