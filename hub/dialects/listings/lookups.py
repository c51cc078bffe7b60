"""The reference data in memory: the texts that answers contain, read anew when the feed says that it has changed.

A listing counts as changed when a name that it shows changes: both are in one commit, and the listing's stamp rises. So
an answer with a listing of a certain stamp must not have older names. `Lookups.current` sees to that without asking the
database each time: it knows the stamp up to which it has seen all changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import orjson

from hub.dialects.listings.stores import ListingStores, StoreNames
from stores.bounds import Limit
from stores.errors import NotFound
from stores.folding import fold
from stores.protocol import Engine
from stores.query import Query
from stores.records import Change, Entity

MOST_REFERENCES: Final[Annotated[int, Limit("store of reference data", "entities", "the first ones are known")]] = (
    10_000
)

STAMP: Final = "updated_at"
"""The field of listings with the time of the last change, in microseconds, which rises with each commit."""

SHOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "amenities": ("name", "slug", "icon"),
    "property_types": ("name", "slug"),
    "currencies": ("code", "symbol"),
    "tenures": ("slug", "name"),
    "plot_size_units": ("slug", "name"),
    "regions": ("name", "slug"),
    "districts": ("name", "slug"),
}
"""The fields of each kind of reference data that answers show, in their order."""


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of reference data, by name. `texts`: what answers show, by slug or code. `names`: (folded name, slug or
    code)."""

    texts: Mapping[str, orjson.Fragment]
    names: Sequence[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, kind: str, entities: Iterable[Entity]) -> Table:
        shown = SHOWN[kind]
        key = "code" if "code" in shown else "slug"
        rows = sorted((e for e in entities if isinstance(e.get(key), str)), key=lambda e: _order(e, key))
        texts = {row[key]: orjson.dumps({name: _text(row, name) for name in shown}) for row in rows}
        names = [(fold(_text(row, "name")), row[key]) for row in rows]
        return cls({k: orjson.Fragment(text) for k, text in texts.items()}, names, _array(texts.values()))

    def named(self, folded: str) -> tuple[str, ...]:
        """Return the slugs whose names contain a text without regard to case."""
        return tuple(slug for name, slug in self.names if folded in name)


def _order(entity: Entity, key: str) -> tuple[str, str]:
    return _text(entity, "name" if key == "slug" else key).casefold(), entity[key]


def _text(entity: Entity, name: str) -> str:
    value = entity.get(name)
    return value if isinstance(value, str) else ""


def _array(texts: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(texts) + b"]"


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """All reference data at one time. `locations`: the regions with their districts, as JSON text."""

    tables: Mapping[str, Table]
    locations: bytes

    @classmethod
    def of(cls, entities: Mapping[str, Sequence[Entity]]) -> ReferenceData:
        tables = {kind: Table.of(kind, entities.get(kind, ())) for kind in SHOWN}
        return cls(tables, _locations(tables, entities.get("districts", ())))

    def has(self, kind: str, key: str) -> bool:
        """Return whether there is such an entity. `kind` is a key of `SHOWN`, `key` a slug or code."""
        return key in self.tables[kind].texts


def _locations(tables: Mapping[str, Table], districts: Iterable[Entity]) -> bytes:
    region_of = {district.get("slug"): district.get("region") for district in districts}
    within: dict[Any, list[orjson.Fragment]] = {}
    for slug, text in tables["districts"].texts.items():
        within.setdefault(region_of[slug], []).append(text)
    regions = [
        {**orjson.loads(orjson.dumps(text)), "districts": within.get(slug, [])}
        for slug, text in tables["regions"].texts.items()
    ]
    return orjson.dumps(regions)


@dataclass(slots=True)
class Lookups:
    """The reference data of a running hub. It follows the feed."""

    engine: Engine
    stores: ListingStores
    _data: ReferenceData = field(default_factory=lambda: ReferenceData.of({}))
    _is_stale: bool = True
    _covered: int = 0
    """The greatest stamp up to which all changes of reference data are in `_data`, or have made it stale."""
    _asked: int = 0
    _read: int = 0
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def current(self, newest: int = 0) -> ReferenceData:
        """Return reference data no older than any listing with a stamp up to `newest`, which has been read before."""
        if self._is_stale or newest > self._covered:
            await self._refresh()
            self._covered = max(self._covered, newest)
        return self._data

    async def anew(self) -> ReferenceData:
        """Return reference data that is read after this call: the feed is a moment behind the commits."""
        await self._refresh()
        return self._data

    def follow(self, changes: Sequence[Change]) -> None:
        """Apply the next changes of the feed."""
        names = self.stores.names()
        kinds = {getattr(names, kind) for kind in SHOWN}
        if any(change.store in kinds for change in changes):
            self._is_stale = True
        of_listings = (change for change in reversed(changes) if change.store == names.properties)
        last = next((change for change in of_listings if change.op in ("insert", "update")), None)
        if last is not None and last.after is not None:  # stamps rise, so the last one is the greatest
            self._covered = max(self._covered, _stamp_of(last.after))

    def start_afresh(self) -> None:
        self._is_stale = True
        self._covered = 0

    async def _refresh(self) -> None:
        """Read everything. Callers that wait for one reading share the next one."""
        self._asked += 1
        mine = self._asked
        async with self._reading:
            if self._read < mine:
                covered = self._asked
                self._is_stale = False  # a change during the reading sets it again
                try:
                    self._data = ReferenceData.of(await self._entities(self.stores.names()))
                except BaseException:
                    self._is_stale = True
                    raise
                self._read = covered

    async def _entities(self, names: StoreNames) -> dict[str, list[Entity]]:
        found = await asyncio.gather(*(self._entities_of(getattr(names, kind)) for kind in SHOWN))
        return dict(zip(SHOWN, found, strict=True))

    async def _entities_of(self, store: str) -> list[Entity]:
        try:
            return await self.engine.entities(store, Query(limit=MOST_REFERENCES)) if store else []
        except NotFound:
            return []


def _stamp_of(entity: Entity) -> int:
    stamp = entity.get(STAMP)
    return stamp if type(stamp) is int else 0


def newest_stamp(entities: Iterable[Entity]) -> int:
    """Return the greatest stamp of these listings."""
    return max(map(_stamp_of, entities), default=0)
