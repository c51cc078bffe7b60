"""Creations with one key in two processes that know different definitions of the store, as for moments on MongoDB."""

from __future__ import annotations

import orjson
import pytest

from stores.protocol import IdempotencyKey, Insert, Procedure, Steps, Write
from stores.records import Entity, now_ms
from stores.reference_checks import NOTHING_WRITTEN
from tests.support.entities import USER, entity
from tests.support.racing import Racing


def nothing() -> Steps:
    """The steps of a check that has nothing to do."""
    yield from ()
    return NOTHING_WRITTEN


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("refers", [True, False])
async def test_the_outcome_is_that_of_the_first_one(racing: Racing, refers: bool) -> None:
    """Whether the first process or the second knows that the store refers to another, so that one of the commits has
    checks and the other has none."""
    await racing.make("stores", {"name": "customers"})
    body = {"n": 1, "customer": await racing.make("customers", {})}
    field: Entity = {"id": "customer", "type": "Reference", "store": "customers"}
    await racing.make("stores", {"name": "orders", "fields": [field] if refers else [], "open": True})
    key = IdempotencyKey("key", "one", now_ms() + 60_000)
    entities, me, engine = racing.hub.entities, racing.principal, racing.hub.engine

    async def first() -> None:
        checks: list[Write] = [] if refers else [Procedure("orders", nothing)]
        await engine.commit([*checks, Insert("orders", entity(body))], USER, key)

    racing.before("commit", first)
    [(text, rev)] = await entities.create(me, "orders", [body], key)
    assert (orjson.loads(text)["customer"], rev) == (body["customer"], 1)
