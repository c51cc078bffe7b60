"""The reference data with which the stores of the listings API begin.

Each row is written once in the life of its store. An administrator may change or delete it: it is neither written again
nor overwritten, also by a version of the hub that brings more rows.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import orjson

from hub.services.listings.stores import CURRENCIES, ListingsStores
from hub.services.stamping import own_entity
from stores.procedures import InsertMany, Lock, Procedure, Step, Steps, do, find
from stores.protocol import Engine, Insert, Update
from stores.query import Equal, In, Query
from stores.records import Entity
from stores.reference_checks import NOTHING_WRITTEN, Substeps, keys
from stores.schema import StoreDefinition

SEEDS: Final = StoreDefinition("_seeds", unique=("definition",))
"""The rows that have been written: for each definition, the keys of the rows."""

Rows = Sequence[Entity]


@cache
def seed_rows() -> Mapping[str, Rows]:
    """Return the rows by the purposes of their stores. Rows stand after those to which they refer."""
    rows: Mapping[str, Rows] = orjson.loads((Path(__file__).parent / "seeds.json").read_bytes())
    return rows


def key_of(purpose: str) -> str:
    """Return the field by which rows are known."""
    return "code" if purpose == CURRENCIES else "slug"


async def plant(engine: Engine, stores: ListingsStores, by: str | None = None) -> None:
    """Write the rows that have never been written. `by`: the user to whom they belong. Several processes may do it at
    once."""
    await engine.define(SEEDS)
    if not await _are_planted(engine, stores):
        store = stores.get(next(iter(seed_rows()))).name
        await engine.commit([Procedure(store, partial(_planting, stores, by), bulk=True)], by)


async def _are_planted(engine: Engine, stores: ListingsStores) -> bool:
    marks = await engine.entities(SEEDS.name, Query())
    planted = {mark["definition"]: {*mark["keys"]} for mark in marks}
    return all(
        planted.get(stores.get(purpose).id, set()).issuperset(row[key_of(purpose)] for row in rows)
        for purpose, rows in seed_rows().items()
    )


def _planting(stores: ListingsStores, by: str | None) -> Steps:
    yield Lock((SEEDS.name,), exclusive=True)
    for purpose, rows in seed_rows().items():
        yield from _plant_store(stores.get(purpose), key_of(purpose), rows, by)
    return NOTHING_WRITTEN


def _plant_store(definition: StoreDefinition, key: str, rows: Rows, by: str | None) -> Substeps:
    marks = yield from find(SEEDS.name, Equal(("definition",), definition.id), 1)
    planted: list[str] = marks[0]["keys"] if marks else []
    fresh = yield from _without_dangling(definition, [row for row in rows if row[key] not in planted])
    if not fresh:
        return
    new = tuple(row[key] for row in fresh)
    taken = {each[key] for each in (yield from find(definition.name, In((key,), new), len(new), (key,)))}
    yield InsertMany(definition.name, [own_entity(row, by) for row in fresh if row[key] not in taken])
    all_keys = [*planted, *new]
    if marks:
        yield from do(Update(SEEDS.name, marks[0]["_id"], {"keys": all_keys}))
    else:
        yield from do(Insert(SEEDS.name, own_entity({"definition": definition.id, "keys": all_keys})))


def _without_dangling(definition: StoreDefinition, rows: Rows) -> Generator[Step, Any, Rows]:
    """Return the rows whose targets exist: an administrator may have deleted some."""
    for relation in definition.relations:
        values = tuple({row[relation.field] for row in rows if relation.field in row})
        if values:
            yield Lock(keys(relation, values))
            found = yield from find(relation.target, In((relation.by,), values), len(values), (relation.by,))
            present = {each[relation.by] for each in found}
            rows = [row for row in rows if row.get(relation.field) is None or row[relation.field] in present]
    return rows
