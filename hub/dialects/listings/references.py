"""Reference data as answers: amenities, types, currencies, locations, and the facets of the feed."""

from __future__ import annotations

from typing import Any, Final

import orjson

from auth.principal import Principal
from hub.dialects.base import Handler
from hub.dialects.listings.context import ListingsContext
from hub.http.answer import Answer, json_answer
from hub.http.call import Call
from stores.field import Field

FACETS: Final = ("listing_type", "furnished", "availability", "publish_status")
"""The fields of listings whose options are facets."""


def list_table(kind: str) -> Handler[ListingsContext]:
    """Return the handler that lists one kind of reference data."""

    async def list_references(context: ListingsContext, call: Call, principal: Principal) -> Answer:
        return Answer((await context.lookups.current()).tables[kind].body)

    return list_references


async def list_locations(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    return Answer((await context.lookups.current()).locations)


async def list_facets(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    definition = context.registry.get(context.stores.names().properties)
    tables = (await context.lookups.current()).tables
    facets: dict[str, Any] = {name: _labels(definition.by_id[name]) for name in FACETS if name in definition.by_id}
    types = orjson.loads(tables["property_types"].body)
    facets["property_types"] = [{"slug": each["slug"], "name": each["name"]} for each in types]
    facets["currencies"] = orjson.Fragment(tables["currencies"].body)
    return json_answer(facets)


def _labels(field: Field) -> dict[str, str]:
    """Return the options of a field with their labels."""
    return {str(id): label or str(id) for id, label in field.options}
