"""Collections and their indexes, created, changed and removed according to store definitions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pymongo
from pymongo.errors import DuplicateKeyError, OperationFailure

from stores.compound import named_by
from stores.errors import CannotOpen, Conflict, DuplicateValue, NotFound, ParallelArrays, StoreNotEmpty
from stores.mongo.connection import Connection, Session
from stores.mongo.errors import (
    DUPLICATE_KEY,
    INDEX_NOT_FOUND,
    NAMESPACE_EXISTS,
    NAMESPACE_NOT_FOUND,
    PARALLEL_ARRAYS,
    UUID_MISMATCH,
    parallel_arrays,
    store_errors,
)
from stores.mongo.indexes import OURS, Index, indexes_of, model_of
from stores.mongo.slow_reads import HOUSEKEEPING_SECONDS
from stores.protocol import is_internal
from stores.schema import StoreDefinition

DROPPED: Final = "_dropped"
"""The name that the hub gives a collection before it drops it. A drop of any other name is by another program."""

KEYS: Final = "_idempotency"
HISTORY: Final = "_history"
THROTTLES: Final = "_throttles"
STORES: Final = "_stores"
"""The list of stores, with one document for each collection that is a store. The feed ignores other collections."""

_CLOSED: Final = {"_id": {"$exists": False}}
"""A validator that no document meets, so nothing can be written to the collection of a deleted store. Without it an
insert by a process that does not know of the deletion yet would be lost, or create the collection again."""

KEPT_SECONDS: Final = 600
"""Seconds for which the empty collection of a deleted store is kept closed."""

_RENAMING: Final = "renaming"
"""The field of a store in the list of stores that is being renamed: its new name."""
_INTERRUPTED: Final = (
    "The renaming of the store {old} was interrupted. Repeat it while the hub does not run: "
    "hub store rename {old} {new}"
)

_REMOVING_MS: Final = 60_000
"""Milliseconds after which a sweep that has begun to remove a collection counts as interrupted."""
_ABANDONED: Final = {
    "removing": {"$type": "date"},
    "$expr": {"$lt": ["$removing", {"$subtract": ["$$NOW", _REMOVING_MS]}]},
}
_PAUSE: Final = 0.05
"""Seconds between checks of whether a collection has been removed."""

_MOST_INDEXES: Final = 64
"""Indexes that a collection may have, according to MongoDB."""
_IMAGES: Final = {"enabled": True}


async def make(connection: Connection, definition: StoreDefinition) -> list[str]:
    """Create or open the collection, and create the indexes that it lacks. Return the names of those that it has but
    the definition does not want. Raises DuplicateValue when a unique index finds equal values."""
    with store_errors():
        await _enlist(connection, definition.name)
        await _make_collection(connection, definition.name)
        return await _make_indexes(connection, definition)


async def drop_indexes(connection: Connection, store: str, names: Iterable[str]) -> None:
    """Drop indexes that a definition does not want, once it is committed: a unique index holds until then."""
    with store_errors():
        for name in names:
            try:
                await connection.collection(store).drop_index(name)
            except OperationFailure as error:  # another process may have dropped it meanwhile
                if error.code not in (INDEX_NOT_FOUND, NAMESPACE_NOT_FOUND):
                    raise


async def _enlist(connection: Connection, name: str) -> None:
    """Add a store to the list of stores, before the first change of the store, so that the feed includes it. Waits
    while a sweep removes the collection of a deleted store of this name. Raises CannotOpen when a renaming of the store
    was interrupted."""
    names = connection.collection(STORES)
    free = {"_id": name, "removing": {"$exists": False}, _RENAMING: {"$exists": False}}
    while True:
        try:
            await names.update_one(free, {"$unset": {"dropped": ""}}, upsert=True)
            return
        except DuplicateKeyError:
            taken = await names.find_one({"_id": name}) or {}
            if _RENAMING in taken:
                raise CannotOpen(_INTERRUPTED.format(old=name, new=taken[_RENAMING])) from None
            # Remove it here: should the sweep go on after all, it finds another collection, and leaves it.
            await _remove(connection, name, _ABANDONED)
            await asyncio.sleep(_PAUSE)


async def faults(connection: Connection, definition: StoreDefinition) -> list[str]:
    """Return texts on what the collection and its indexes lack compared with the definition."""
    name = definition.name
    with store_errors():
        found = [c async for c in await connection.database.list_collections(filter={"name": name})]
        if not found:
            return [f"{name} has no collection"]
        have = await connection.collection(name).index_information()
    lacks = [] if _has_images(found[0]) else [f"{name} has no pre- and post-images"]
    return lacks + [
        f"{name} lacks the index {index.name}" for index in indexes_of(definition) if index.name not in have
    ]


async def _make_collection(connection: Connection, name: str) -> None:
    found = [c async for c in await connection.database.list_collections(filter={"name": name})]
    is_in_feed = not is_internal(name)
    images = {"enabled": is_in_feed}
    if not found:
        try:
            await connection.command({"create": name, "changeStreamPreAndPostImages": images})
            return
        except OperationFailure as error:  # another process may have created it meanwhile
            if error.code != NAMESPACE_EXISTS:
                raise
    elif _has_images(found[0]) == is_in_feed and found[0].get("options", {}).get("validator") != _CLOSED:
        return
    await connection.command({"collMod": name, "changeStreamPreAndPostImages": images, "validator": {}})


def _has_images(collection: Mapping[str, Any]) -> bool:
    """Return whether changes of a collection, given as the server describes it, carry the document before and after."""
    return bool(collection.get("options", {}).get("changeStreamPreAndPostImages") == _IMAGES)


async def _make_indexes(connection: Connection, definition: StoreDefinition) -> list[str]:
    """Create what is wanted, and return the names of the hub's other indexes."""
    have = await connection.collection(definition.name).index_information()
    lacking = [index for index in indexes_of(definition) if index.name not in have]
    lacking.sort(key=lambda index: "unique" not in index.options)  # those that may be refused first
    # Unique ones last: they hold until the definition is committed.
    unwanted = sorted(_unwanted(have, definition), key=lambda name: "unique" in have[name])
    in_the_way = max(0, len(have) + len(lacking) - _MOST_INDEXES)
    await drop_indexes(connection, definition.name, unwanted[:in_the_way])
    # Building an index may take longer than any other request to the server.
    with pymongo.timeout(HOUSEKEEPING_SECONDS):
        if have.keys() <= {"_id_"} and await _make_at_once(connection, definition.name, lacking):
            lacking = []
        for index in lacking:
            await _make_index(connection, definition.name, index)
    return unwanted[in_the_way:]


async def _make_at_once(connection: Connection, store: str, indexes: list[Index]) -> bool:
    """Create the indexes of a new collection by one command, which takes a tenth of the time. Return whether that was
    possible: another program may have made the collection, with values that an index refuses."""
    try:
        await connection.collection(store).create_indexes([model_of(index) for index in indexes])
    except OperationFailure as error:
        if error.code not in (DUPLICATE_KEY, PARALLEL_ARRAYS):
            raise
        return False
    return True


def _unwanted(have: Iterable[str], definition: StoreDefinition) -> set[str]:
    """Return the names of the hub's indexes that the definition does not ask for."""
    return {name for name in have if name.startswith(OURS)} - {index.name for index in indexes_of(definition)}


async def _make_index(connection: Connection, store: str, index: Index) -> None:
    try:
        await connection.collection(store).create_indexes([model_of(index)])
    except OperationFailure as error:
        if error.code == DUPLICATE_KEY:
            first, *others = index.fields
            raise DuplicateValue(first, 0, others, index.compound.name if index.compound else "") from error
        if (parallel := parallel_arrays(error)) is not None:
            later, earlier = named_by([index.compound] if index.compound else [], *parallel)
            raise ParallelArrays(later, earlier) from error
        raise


async def prepare(connection: Connection) -> None:
    """Create the engine's own collections."""
    with store_errors():
        for expiring in (KEYS, THROTTLES):
            await connection.collection(expiring).create_index("expires", expireAfterSeconds=0)
        order = [("store", pymongo.ASCENDING), ("entity", pymongo.ASCENDING), ("_id", pymongo.ASCENDING)]
        await connection.collection(HISTORY).create_index(order)
        await _register_stores(connection)


async def _register_stores(connection: Connection) -> None:
    """Create the list of stores for a database of an earlier version, in which only stores have pre- and
    post-images."""
    if STORES in await connection.database.list_collection_names(filter={"name": STORES}):
        return
    found = [c async for c in await connection.database.list_collections()]
    names = [c["name"] for c in found if _has_images(c) and not c["name"].startswith("_")]
    try:
        await connection.command({"create": STORES})
    except OperationFailure as error:  # another process may have created it meanwhile
        if error.code != NAMESPACE_EXISTS:
            raise
    for name in names:
        await connection.collection(STORES).update_one({"_id": name}, {"$setOnInsert": {"_id": name}}, upsert=True)


async def rename(connection: Connection, store: str, name: str) -> None:
    """Rename a collection, and the store in its history. Called again after an interruption, it does the rest. Until
    `end_renaming` the store cannot be defined by its former name. Raises NotFound, and Conflict if the name is
    taken."""
    await remove_dropped(connection, 0)
    names = connection.collection(STORES)
    with store_errors():
        have = set(await connection.database.list_collection_names())
        if store in have and name in have:
            raise Conflict(f"there is a collection {name}")
        if store not in have and name not in have:
            raise NotFound(f"no collection {store}")
        # First, since a hub that started now would create an empty collection by the former name.
        await names.update_one({"_id": store}, {"$set": {_RENAMING: name}}, upsert=True)
        if store in have:
            await connection.collection(store).rename(name)
        await connection.collection(HISTORY).update_many({"store": store}, {"$set": {"store": name}})
        await names.update_one({"_id": name}, {"$setOnInsert": {"_id": name}}, upsert=True)


async def end_renaming(connection: Connection, store: str, session: Session) -> None:
    """Remove the former name of a renamed store, in the transaction that renames its definition."""
    await connection.collection(STORES).delete_one({"_id": store}, session=session)


async def close(connection: Connection, store: str) -> None:
    """Close an empty collection, so that it accepts documents from no process. Does nothing when there is no
    collection. Raises StoreNotEmpty."""
    with store_errors():
        await _check_empty(connection, store)  # first, since a closed collection rejects writes even for a moment
        try:
            await _set_validator(connection, store, _CLOSED)
        except OperationFailure as error:
            if error.code != NAMESPACE_NOT_FOUND:
                raise
            return
        try:
            await _check_empty(connection, store)
        except StoreNotEmpty:
            await _set_validator(connection, store, {})
            raise


async def _check_empty(connection: Connection, store: str) -> None:
    if await connection.collection(store).find_one({}, {"_id": 1}) is not None:
        raise StoreNotEmpty(f"{store} still holds entities")


async def reopen(connection: Connection, store: str) -> None:
    """Open a closed collection again. Does nothing when there is no collection."""
    with store_errors():
        try:
            await _set_validator(connection, store, {})
        except OperationFailure as error:
            if error.code != NAMESPACE_NOT_FOUND:
                raise


async def leave(connection: Connection, store: str) -> None:
    """Mark a closed collection for removal by a sweep, `KEPT_SECONDS` from now."""
    with store_errors():
        await connection.collection(STORES).update_one({"_id": store}, [{"$set": {"dropped": "$$NOW"}}])


async def _set_validator(connection: Connection, store: str, validator: Mapping[str, Any]) -> None:
    await connection.command({"collMod": store, "validator": validator})


async def remove_dropped(connection: Connection, kept_seconds: float = KEPT_SECONDS) -> None:
    """Remove the collections of stores that were deleted more than `kept_seconds` ago."""
    long_ago = {"$lt": ["$dropped", {"$subtract": ["$$NOW", round(kept_seconds * 1000)]}]}
    unclaimed = {"$or": [{"removing": {"$exists": False}}, _ABANDONED]}
    condition = {"dropped": {"$type": "date"}, "$expr": long_ago, **unclaimed}
    with store_errors():
        while (found := await connection.collection(STORES).find_one(condition, {"_id": 1})) is not None:
            await _remove(connection, found["_id"], condition)


async def _remove(connection: Connection, store: str, condition: Mapping[str, Any]) -> None:
    """Remove the collection of a deleted store that meets `condition`; do nothing if another process is faster."""
    names = connection.collection(STORES)
    # Before the claim: a process that is suspended until its claim has lapsed must not remove a later collection.
    uuid = await _uuid(connection, store)
    claimed = await names.find_one_and_update(
        {"_id": store, **condition},
        [{"$set": {"removing": "$$NOW"}}],
        return_document=pymongo.ReturnDocument.AFTER,
    )
    if claimed is None:
        return
    claim = {"_id": store, "removing": claimed["removing"]}
    if uuid is not None:
        database = connection.database.name
        renamed = {"renameCollection": f"{database}.{store}", "to": f"{database}.{DROPPED}", "dropTarget": True}
        try:
            await connection.client.admin.command({**renamed, "collectionUUID": uuid})
        except OperationFailure as error:
            if error.code not in (UUID_MISMATCH, NAMESPACE_NOT_FOUND):
                raise
            await names.update_one(claim, {"$unset": {"removing": ""}})
            return
    await connection.database.drop_collection(DROPPED)
    await names.delete_one(claim)


async def _uuid(connection: Connection, name: str) -> Any:
    """Return the identity of the collection of this name; None if there is none."""
    found = [c async for c in await connection.database.list_collections(filter={"name": name})]
    return found[0]["info"]["uuid"] if found else None
