"""Moving a group writes only to stores that have entities of the group or its descendants."""

from __future__ import annotations

from hub.services.group_paths import restamped
from hub.services.registry import StoreRegistry
from stores.protocol import Engine, Insert, UpdateMany
from stores.records import new_id
from stores.schema import StoreDefinition
from tests.support.entities import STORE, USER, entity, insert


async def test_the_groups_that_a_store_holds_are_found(engine: Engine) -> None:
    """They are found by `group`, not by sharing or branch."""
    await engine.define(StoreDefinition("others"), StoreDefinition("empty"))
    a, b, c, d = (new_id() for _ in range(4))
    await insert(engine, entity(group=a, branch=[a, b]), entity(group=a, branch=[a, b]), entity(group=c, branch=[c]))
    await insert(engine, entity(group=b, branch=[b], access=[d]), entity(group=None, branch=[]), store="others")
    stores = [STORE, "others", "empty"]
    assert await engine.groups_in_use(stores, [a, b, c, d]) == {(STORE, a), (STORE, c), ("others", b)}
    assert await engine.groups_in_use(stores, [d]) == set()
    assert await engine.groups_in_use([STORE], [a, d]) == {(STORE, a)}
    assert await engine.groups_in_use([], [a]) == await engine.groups_in_use(stores, []) == set()


async def test_a_group_is_moved_where_it_holds_something(engine: Engine) -> None:
    """With twenty stores and a tree of ten groups only two writes are needed, which set the new branch."""
    registry = StoreRegistry(engine)
    await registry.open()
    names = [f"store{n}" for n in range(20)]
    await engine.define(*map(StoreDefinition, names))
    await insert(engine, *(entity(name=name) for name in names), store="stores")
    await registry.refresh()
    groups = [new_id() for _ in range(10)]
    tree = [entity(_id=id, name=id, parent=groups[0] if n else None) for n, id in enumerate(groups)]
    await engine.commit([Insert("groups", each) for each in tree], USER)
    stale = {"group": groups[7], "branch": [groups[7], new_id()]}
    await insert(engine, entity(stale), entity(stale), store="store3")
    await insert(engine, entity(stale | {"group": groups[0]}), store="store9")
    writes = await restamped(engine, registry, groups[0])
    assert [(w.store, w.changes["branch"]) for w in writes if isinstance(w, UpdateMany)] == [
        ("store9", [groups[0]]),
        ("store3", [groups[7], groups[0]]),
    ]
    assert [w.count for w in await engine.commit(writes, USER)] == [1, 2]
