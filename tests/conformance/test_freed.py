"""A commit is freed by the end of its references, even if it failed or began anew: a search through all objects for
cycles would stop the event loop."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import pytest

from stores.errors import StoreError
from stores.protocol import Engine, Procedure, Steps, Update, UpdateMany, Write, do
from stores.query import EVERYTHING
from stores.records import new_id
from stores.sqlite.heavy import HEAVY_BYTES
from stores.tracebacks import drop_tracebacks
from tests.support.entities import STORE, USER, entity, insert
from tests.support.hub import eventually


class Values(dict[str, Any]):
    """The values of a change. They can be referred to weakly."""


def refused(values: Values) -> Steps:
    return (yield from do(Update(STORE, new_id(), values)))


LARGE = "x" * 2 * HEAVY_BYTES
"""A text that SQLite's engine changes in its thread, after it has begun on the loop."""


def write_of(kind: str, values: Values, large: str) -> Write:
    if kind == "large":
        return Update(STORE, large, values)
    if kind == "single":
        return Update(STORE, new_id(), values)
    if kind == "bulk":
        return UpdateMany(STORE, EVERYTHING, values, 2)
    return Procedure(STORE, partial(refused, values), bulk=kind == "bulk procedure")


async def done(engine: Engine, kind: str, large: str) -> weakref.ref[Values]:
    """Return a reference to the values of a commit that has been done. Only that of the large entity succeeds."""
    values = Values(z=1)
    try:
        await engine.commit([write_of(kind, values, large)], USER)
        assert kind == "large"
    except StoreError as error:
        assert kind != "large"
        drop_tracebacks(error)  # as an endpoint does
    return weakref.ref(values)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", ["large", "single", "bulk", "procedure", "bulk procedure"])
async def test_a_commit_is_freed(engine: Engine, kind: str) -> None:
    entities = [entity(text=LARGE), *(entity(n=n) for n in range(3))]
    await insert(engine, *entities)
    held = await done(engine, kind, entities[0]["_id"])

    async def is_freed() -> bool:
        return held() is None

    await eventually(is_freed)  # a thread that has worked for it may still be about to wait for more
