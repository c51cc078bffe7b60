"""Databases that are prepared for the listings API, and bodies of listings."""

from __future__ import annotations

from typing import Any, Final

from hub.services.listings.preparing import prepare
from hub.services.registry import StoreRegistry
from stores.protocol import Engine
from stores.records import Entity
from tests.support.engines import Database, opened

LISTING: Final[Entity] = {
    "title": "A house",
    "price": "850000000.00",
    "currency": "UGX",
    "property_type": "bungalow",
    "listing_type": "sale",
    "district": "kampala",
}
"""The fields that a listing needs."""


def listing(**more: Any) -> Entity:
    return LISTING | more


async def registry_of(engine: Engine) -> StoreRegistry:
    registry = StoreRegistry(engine)
    await registry.open()
    return registry


async def prepared(engine: Engine, prefix: str = "") -> StoreRegistry:
    """Prepare the database of an open engine; return the registry of its stores."""
    registry = await registry_of(engine)
    await prepare(engine, registry, prefix)
    return registry


async def prepare_database(database: Database, prefix: str = "") -> None:
    """Prepare a database that no hub has open."""
    async with opened(database.engine()) as engine:
        await prepared(engine, prefix)
