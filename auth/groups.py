"""The tree of groups. An entity's `branch` is the chain from its group up to the root."""

from __future__ import annotations

from stores.protocol import Engine
from stores.query import Equal, Query
from stores.records import Entity

DEEPEST = 64
"""Maximum levels of the tree. Longer chains are cut, for example in a tree that another program has damaged."""


async def chain_of(engine: Engine, group: str | None) -> tuple[str, ...]:
    """Return the ids of the group and its ancestors, nearest first."""
    return (await read_chain(engine, group))[0]


async def read_chain(engine: Engine, group: str | None) -> tuple[tuple[str, ...], list[Entity]]:
    """Return the ids of the group and its ancestors, nearest first, and the whole entities of those that exist."""
    chain: list[str] = []
    groups: list[Entity] = []
    while group is not None and group not in chain and len(chain) < DEEPEST:
        chain.append(group)
        found = await find_one(engine, "groups", group)
        groups += [found] if found else []
        parent = found.get("parent") if found else None
        group = parent if isinstance(parent, str) else None
    return tuple(chain), groups


async def subtree_of(engine: Engine, group: str) -> list[str]:
    """Return the ids of the group and of every group below it, parents before children."""
    found = [group]
    for parent in found:
        children = await engine.entities("groups", Query(Equal(("parent",), parent)))
        found += [child["_id"] for child in children if child["_id"] not in found]
    return found


async def find_one(engine: Engine, store: str, id: str) -> Entity | None:
    """Return one whole entity of a system store; None if no entity has this id."""
    found = await engine.entities(store, Query(Equal(("_id",), id), limit=1))
    return found[0] if found else None
