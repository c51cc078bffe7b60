"""Writes of listings: create, replace, change, delete. The entity service stamps the owner and keeps the rules of the
store, such as the region that follows from the district."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from auth.principal import Principal
from hub.dialects.listings.bodies import received
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.errors import InvalidFields
from hub.dialects.listings.fields import Slug, Slugs, does_not_exist
from hub.dialects.listings.lookups import ReferenceData
from hub.dialects.listings.reading import read_listing
from hub.dialects.listings.serializers import LISTING, Values
from hub.dialects.listings.shapes import written_listing
from hub.http.answer import Answer
from hub.http.call import Call
from hub.http.write_answer import WriteAnswer
from stores.errors import InvalidEntity


async def create_property(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    values = await _values(context, call)
    with slug_errors(values):
        [(text, _)] = await context.entities.create(principal, context.stores.names().properties, [values])
    return written_answer(written_listing(orjson.loads(text)), 201)


async def replace_property(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    """Change the fields in the body, which must have all required ones. Others keep their values, as in Django REST
    framework."""
    return await _change(context, call, principal, partial=False)


async def change_property(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    return await _change(context, call, principal, partial=True)


async def delete_property(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    listing = await read_listing(context, principal, call.path["id"])
    await context.entities.delete(principal, context.stores.names().properties, listing["_id"], None)
    return Answer(status=204)


async def _change(context: ListingsContext, call: Call, principal: Principal, *, partial: bool) -> Answer:
    listing = await read_listing(context, principal, call.path["id"])
    values = await _values(context, call, partial=partial)
    store = context.stores.names().properties
    with slug_errors(values):
        text, _ = await context.entities.change(principal, store, listing["_id"], values, None)
    return written_answer(written_listing(orjson.loads(text)))


def written_answer(shape: dict[str, Any], status: int = 200) -> Answer:
    """Return the answer to a write; only the `id` where there is no room for more."""
    body = orjson.dumps(shape)
    return WriteAnswer(body, status, size=len(body), brief=lambda: orjson.dumps({"id": shape["id"]}))


@dataclass(slots=True)
class Looked:
    """Reference data, and whether something was looked for that is not in it."""

    data: ReferenceData
    missed: bool = False

    def has(self, kind: str, key: str) -> bool:
        found = self.data.has(kind, key)
        self.missed |= not found
        return found


async def _values(context: ListingsContext, call: Call, *, partial: bool = False) -> Values:
    async with received(context, call) as body:
        known = Looked(await context.lookups.current())
        try:
            return LISTING.validate(body, known, partial=partial)
        except InvalidFields:
            if not known.missed:
                raise
        # What was created a moment ago may be used at once.
        return LISTING.validate(body, await context.lookups.anew(), partial=partial)


@contextmanager
def slug_errors(values: Values) -> Iterator[None]:
    """Say of an object of the reference data that has just been deleted what the serializer says of one that does not
    exist."""
    try:
        yield
    except InvalidEntity as error:
        errors = {name: [text] for name, text in _gone(error, values)}
        if not errors:
            raise
        raise InvalidFields(errors) from error


def _gone(error: InvalidEntity, values: Values) -> Iterator[tuple[str, str]]:
    """Yield the fields whose objects do not exist, with their texts."""
    for violation in error.violations:
        name, _, position = violation.field.partition(".")
        field = LISTING.fields.get(name)
        if violation.rule != "reference" or name not in values:
            continue
        if isinstance(field, Slug):
            yield name, does_not_exist(field.by, values[name])
        elif isinstance(field, Slugs) and position.isdigit():
            yield name, does_not_exist(field.item.by, values[name][int(position)])
