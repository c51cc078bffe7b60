"""Queries for the listings of one user: a page, a single one, and the images of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

import orjson

from auth.principal import Principal
from auth.view import View
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.cursors import Cursor, after, sort_by
from hub.dialects.listings.lookups import STAMP, newest_stamp
from hub.dialects.listings.shapes import by_listing
from hub.http.body import SMALL_BODY
from stores.bounds import Limit
from stores.cursor import sort_key_of
from stores.errors import NotFound
from stores.newest import Newest
from stores.query import And, Equal, Filter, Or, Query, Sort
from stores.records import Entity
from stores.threads import in_thread

PAGE: Final = 50
"""Entities of a page."""

MOST_PAGE_BYTES: Final[Annotated[int, Limit("page of listings", "bytes of listings", "`next`")]] = 8_388_608
"""A page ends with the listing that exceeds them."""

IMAGES_EACH: Final = 50
"""Images of a listing, which are all that it can have."""

_IMAGE_BYTES: Final = 33_554_432
"""Bytes of the images of one page, far beyond what fifty listings can have."""

_OWNER: Final = ("owner",)
_MOST_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Page:
    """A page of entities, and the cursors of the pages before and after it. `is_large`: writing it takes long."""

    entities: list[Entity]
    previous: Cursor | None
    next: Cursor | None
    is_large: bool = False


def owned(view: View, user_id: str) -> Filter:
    """Return the filter for the entities of a view that a user owns. Visible are among others the user's own: all of
    these, without the other alternatives, which no index leads to."""
    own = Equal(_OWNER, user_id)
    if view.where == own or (isinstance(view.where, Or) and own in view.where.parts):
        return own
    return view.narrowed(own)


def visible(view: View, entities: list[Entity]) -> list[Entity]:
    """Return the entities without hidden fields that shapes would show."""
    hidden = view.hidden & SHAPED
    if not hidden:
        return entities
    return [{name: value for name, value in entity.items() if name not in hidden} for entity in entities]


SHAPED: Final = frozenset((
    "number", "title", "description", "price", "currency", "property_type", "listing_type", "location", "region",
    "district", "latitude", "longitude", "bedrooms", "bathrooms", "floor_size", "plot_size", "furnished", "is_verified",
    "is_sponsored", "publish_status", "availability", "amenities", "youtube_video_id", "updated_at", "property",
    "image", "is_main", "alt",
))  # fmt: skip
"""The fields that shapes show."""


async def read_page(context: ListingsContext, store: str, where: Filter, field: str, cursor: Cursor | None) -> Page:
    """Return a page of a store, the newest first by the time in `field`. It takes as long however far the cursor is.
    An entity of another program without a time or a number has no position, and is not listed."""
    backwards = cursor is not None and cursor.backwards
    query = Query(where, sort_by(field, backwards=backwards), 0, PAGE, None if cursor is None else cursor.after)
    found = await _read(context, store, query)
    while found.more and not any(_has_position(each, field) for each in found.entities):
        last = sort_key_of(found.entities[-1], query.sort)
        found = await _read(context, store, replace(query, after=last))
    listed = [each for each in found.entities if _has_position(each, field)]
    if backwards:
        listed.reverse()
    return replace(_page_of(listed, field, cursor, found.more), is_large=found.is_large)


@dataclass(frozen=True, slots=True)
class _Found:
    """Some of the matches of a query. `more`: there are others behind them. `is_large`: writing them takes long."""

    entities: list[Entity]
    more: bool
    is_large: bool


async def _read(context: ListingsContext, store: str, query: Query) -> _Found:
    listing = await context.engine.find(store, query)
    if isinstance(listing.body, bytes):
        return _Found(orjson.loads(listing.body), listing.next is not None, is_large=False)
    await listing.body.aclose()  # type: ignore[attr-defined]
    entities = await context.engine.entities(store, query, MOST_PAGE_BYTES)
    more = listing.next is not None or await _goes_on(context, store, query, entities)
    return _Found(entities, more and bool(entities), is_large=True)


def _has_position(entity: Entity, field: str) -> bool:
    return type(entity.get("number")) is int and type(entity.get(field)) is int


async def _goes_on(context: ListingsContext, store: str, query: Query, entities: list[Entity]) -> bool:
    """Return whether there is more than the first entities of a list."""
    if not entities:
        return False
    last = sort_key_of(entities[-1], query.sort)
    return bool(await context.engine.entities(store, Query(query.where, query.sort, 0, 1, last)))


def _page_of(entities: list[Entity], field: str, cursor: Cursor | None, more: bool) -> Page:
    if not entities and cursor is None:
        return Page([], None, None)
    if cursor is None:
        return Page(entities, None, after(entities[-1], field) if more else None)
    earlier, later = cursor.around(entities, field)
    if cursor.backwards:
        return Page(entities, earlier if more else None, later)
    return Page(entities, earlier, later if more else None)


async def newest_change(context: ListingsContext, view: View, user_id: str) -> int | None:
    """Return the greatest stamp of a user's listings; None if there are none."""
    query = Query(owned(view, user_id), (Sort((STAMP,), descending=True),), limit=1)
    newest = await context.engine.entities(view.store, query)
    return newest_stamp(newest) if newest else None


async def read_listing(context: ListingsContext, principal: Principal, number: str) -> Entity:
    """Return the listing of the principal's user with this number, as a path names it. Raises NotFound."""
    names = context.stores.names()
    view = context.registry.authorized(principal, names.properties)
    where = And((Equal(("number",), number_of(number)), owned(view, principal.user_id)))
    entities = visible(view, await context.engine.entities(names.properties, Query(where, limit=1)))
    if not entities:
        raise NotFound(f"no listing {number}")
    return entities[0]


def number_of(text: str) -> int:
    """Return the number in a path. Raises NotFound for a text that is not one."""
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit() and len(digits) <= _MOST_DIGITS):
        raise NotFound("not a number")
    return int(digits or "0")


async def read_images(
    context: ListingsContext, principal: Principal, listings: Sequence[Entity]
) -> dict[str, list[Entity]]:
    """Return the images of listings by their `_id`, the main one first. Whoever sees a listing sees all its images,
    also those that an administrator has added."""
    names = context.stores.names()
    if not listings or not names.images:
        return {}
    view = context.registry.authorized(principal, names.images)
    ids = tuple(listing["_id"] for listing in listings)
    wanted = Newest(("property",), ids, IMAGES_EACH, _IMAGE_BYTES)
    texts = await context.engine.newest(names.images, wanted)
    of_listing = {str(id): found for id, found in texts.items()}
    if sum(len(text) for found in of_listing.values() for text in found) > SMALL_BODY:
        images = await in_thread(by_listing, of_listing)
    else:
        images = by_listing(of_listing)
    return {id: visible(view, found) for id, found in images.items()}
