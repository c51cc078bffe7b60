"""Tombstones of listings: the numbers of those that were published and are not any more, or are gone.

A reader who keeps copies of the published listings of one owner drops what has a tombstone since its last visit.
"""

from __future__ import annotations

from typing import Final

from hub.services.registry import StoreRegistry
from stores.compound import CompoundIndex
from stores.protocol import DeleteMany, Engine
from stores.query import EVERYTHING, Compare, In, Query, Sort
from stores.schema import StoreDefinition

TOMBSTONES: Final = StoreDefinition(
    "_listing_tombstones",
    indexes=("at",),
    unique=("number",),
    compounds=(CompoundIndex.of([Sort(("owner",)), Sort(("at",)), Sort(("number",))], False, EVERYTHING, "indexes.0"),),
)
"""An entity has the `number` of a listing, its `owner`, `at` (Unix microseconds, of the same counter as the listings'
`updated_at`), and `publish_status`: null when the listing is deleted."""

_DAY_MS: Final = 86_400_000
_REMOVED_AT_ONCE: Final = 1_000


async def sweep_tombstones(engine: Engine, registry: StoreRegistry, days: int, now: int) -> None:
    """Remove the tombstones that are older than so many days at `now` (Unix ms), in batches between which other writes
    can run."""
    if not registry.has_purposes:
        return
    old = Query(Compare(("at",), "lt", (now - days * _DAY_MS) * 1_000), limit=_REMOVED_AT_ONCE)
    while found := await engine.entities(TOMBSTONES.name, old):
        ids = In(("_id",), tuple(each["_id"] for each in found))
        await engine.commit([DeleteMany(TOMBSTONES.name, ids, _REMOVED_AT_ONCE)], None)
