"""Prepares the database for the listings API: its stores, and the reference data in them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from auth.purposes import PROPERTIES
from hub.services.listings.requirements import lacking, names_with
from hub.services.listings.seeds import plant
from hub.services.listings.stores import ListingsStores, definitions_of
from hub.services.listings.tombstones import TOMBSTONES
from hub.services.registry import RESERVED, StoreRegistry
from hub.services.retrying import RETRIES
from hub.services.stamping import own_entity, stamp_change
from stores.definitions import PURPOSE, parse_definition
from stores.errors import Conflict, DataConflict, NotFound
from stores.protocol import UNBOUNDED, DeleteMany, Engine, Insert, Update, Write
from stores.query import EVERYTHING, Equal, Query
from stores.records import Entity
from stores.schema import StoreDefinition

log = logging.getLogger(__name__)

ELSEWHERE: Final = "HUB_LISTINGS_STORE_PREFIX gives the stores of the listings API other names."


class NotAdopted(Conflict):
    """A store has a name that the listings API needs, and only an administrator may let it become part of the API."""


async def prepare(
    engine: Engine, registry: StoreRegistry, prefix: str, by: str | None = None, *, adopts: bool = True
) -> None:
    """Make what the listings API needs and the database lacks. `prefix`: what the names of new stores begin with; `by`:
    the user to whom new entities belong. Several processes may do it at once, and repeat it.

    With `adopts`, a store that has the name of one of them, and all its fields, becomes that one: everybody may read it
    then, or its owners may. Raises DataConflict, which names the stores that lack fields, and changes nothing then.
    Without, it raises Conflict if there is a store with such a name, and does not say which."""
    for _ in range(RETRIES):
        try:
            await _prepare(engine, registry, prefix, by, adopts=adopts)
            return
        except (DataConflict, NotAdopted):
            raise
        except Conflict:  # another process prepares it, or changes a definition
            await registry.refresh()
    await _prepare(engine, registry, prefix, by, adopts=adopts)


async def keep_prepared(engine: Engine, registry: StoreRegistry) -> None:
    """Bring a database that was prepared by an earlier process, or an earlier version, up to date. Raises
    Unavailable."""
    stores = ListingsStores.among(registry.all())
    if stores.by_purpose:
        await engine.define(TOMBSTONES)
    if stores.are_complete:
        try:
            await plant(engine, stores)
        except Conflict as error:  # an index that an administrator has added
            log.warning("new reference data of the listings API is not written: %s", error)


async def _prepare(engine: Engine, registry: StoreRegistry, prefix: str, by: str | None, *, adopts: bool) -> None:
    stores = ListingsStores.among(registry.all())
    if not stores.are_complete:
        await registry.refresh()
        stores = ListingsStores.among(registry.all())
    # Before the stores: who sees these may write at once.
    await engine.define(TOMBSTONES)
    if not stores.are_complete:
        names = names_with(prefix, stores.by_purpose)
        if not adopts and _exist(registry, names.keys() - stores.by_purpose.keys(), names):
            raise NotAdopted("An administrator must create the first key of this kind.")
        await _define(engine, registry, names, stores.by_purpose, by)
        await registry.refresh()
        stores = ListingsStores.among(registry.all())
    await plant(engine, stores, by)


async def _define(
    engine: Engine,
    registry: StoreRegistry,
    names: Mapping[str, str],
    present: Mapping[str, StoreDefinition],
    by: str | None,
) -> None:
    """Define the stores that are not `present`, in one commit. Raises DataConflict."""
    wanted = {purpose: each for purpose, each in definitions_of(names).items() if purpose not in present}
    if clashes := dict(_clashes(registry, wanted)):
        raise DataConflict(clashes)
    definitions: list[StoreDefinition] = []
    writes: list[Write] = []
    for purpose, document in wanted.items():
        if _defined(registry, document["name"]) is None:
            entity = own_entity(document, by)
            writes.append(Insert("stores", entity))
        else:
            before = await _stored(engine, document["name"])
            change, revs = stamp_change({PURPOSE: purpose}), frozenset({before["_rev"]})
            entity = before | change
            writes.append(Update("stores", before["_id"], change, revs=revs, targets=frozenset()))
        definitions.append(parse_definition(entity))
    if PROPERTIES in wanted:  # its numbers begin again, and so mean other listings
        writes.append(DeleteMany(TOMBSTONES.name, EVERYTHING, UNBOUNDED))
    await engine.define(*definitions, writes=writes, by=by)


def _exist(registry: StoreRegistry, purposes: Iterable[str], names: Mapping[str, str]) -> bool:
    """Return whether a store has the name of one that is yet to be made."""
    return any(names[each] in RESERVED or _defined(registry, names[each]) is not None for each in purposes)


def _clashes(registry: StoreRegistry, wanted: Mapping[str, Entity]) -> Iterator[tuple[str, str]]:
    """Yield the stores that have a name of these, and cannot serve, with the reasons."""
    for document in wanted.values():
        name: str = document["name"]
        if name in RESERVED:
            yield name, f"This name is reserved. {ELSEWHERE}"
            continue
        found = _defined(registry, name)
        if found is None:
            continue
        if found.purpose:
            yield name, f"This store belongs to another API of the hub. {ELSEWHERE}"
        elif fields := lacking(found, parse_definition(document)):
            yield name, f"This store lacks fields, or has them otherwise: {', '.join(fields)}. {ELSEWHERE}"


def _defined(registry: StoreRegistry, name: str) -> StoreDefinition | None:
    try:
        return registry.get(name)
    except NotFound:
        return None


async def _stored(engine: Engine, name: str) -> Entity:
    """Return the definition of a store as it is stored. Raises NotFound."""
    for entity in await engine.entities("stores", Query(Equal(("name",), name), limit=1)):
        return entity
    raise NotFound(f"no store {name}")
