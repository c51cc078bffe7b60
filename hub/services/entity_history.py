"""The audit trail of one entity, as far as a principal may see it."""

from __future__ import annotations

from dataclasses import replace

from auth.view import View
from hub.services.entity_writes import checked_id
from hub.services.registry import StoreRegistry
from stores.errors import NotFound
from stores.matcher import compile_filter, matches
from stores.protocol import Engine
from stores.query import And, Equal, Query, leaves
from stores.records import History, HistoryEntry
from stores.trail import images
from stores.turns import Turn


async def visible_history(
    engine: Engine, registry: StoreRegistry, view: View, id: str, after: str | None, limit: int
) -> History:
    """Return a page of the entity's audit trail: see `EntityService.history`. Raises NotFound."""
    store, where = view.store, view.where
    present = await engine.entities(store, Query(And((where, Equal(("_id",), checked_id(id)))), limit=1))
    needed = frozenset(leaf.path[0] for leaf in leaves(where))
    page = await engine.history(store, id, after, limit, needed)
    end = present[0] if present else page.final
    if end is None or not (present or (matches(where, end) and await _is_of_this_life(engine, registry, store, id))):
        raise NotFound(f"no {store}/{id}")
    sees = compile_filter(where)
    shown: list[HistoryEntry] = []
    turn = Turn()
    for entry, image in images(page.entries, end | page.later, needed):
        if sees(image):
            shown.append(replace(entry, changed={n: c for n, c in entry.changed.items() if view.shows(n)}))
        if turn.is_over:
            await turn.pass_on()
    return replace(page, entries=shown[::-1])


async def _is_of_this_life(engine: Engine, registry: StoreRegistry, store: str, id: str) -> bool:
    """Return whether a deleted entity belonged to the store's current definition, not to an earlier store of its
    name."""
    definition = registry.id_of(store)
    if definition is None:
        return True
    beginning = await engine.history("stores", definition, limit=1)
    if not beginning.entries or beginning.entries[0].op != "insert":
        return True  # the definition is older than the recorded history
    return bool((await engine.history(store, id, beginning.place, 1)).entries)
