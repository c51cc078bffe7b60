"""The feed: a user's listings, newest first, filtered and searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from auth.principal import Principal
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.cursors import Cursor
from hub.dialects.listings.filters import feed_filter
from hub.dialects.listings.links import base_of, with_cursor
from hub.dialects.listings.lookups import STAMP, newest_stamp
from hub.dialects.listings.reading import (
    Page,
    newest_change,
    owned,
    read_images,
    read_listing,
    read_page,
    visible,
)
from hub.dialects.listings.shapes import image, listing, page_text, rendered
from hub.http.answer import Answer
from hub.http.call import Call
from stores.query import And
from stores.threads import in_thread

CREATED: Final = "time"
"""The field of the order: the time of the creation, in milliseconds."""


async def list_properties(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    parameters = dict(call.parameters())
    view = context.registry.authorized(principal, context.stores.names().properties)
    conditions = feed_filter(parameters, view, await context.lookups.current())
    cursor = cursor_in(parameters)
    where = And((owned(view, principal.user_id), *conditions))
    bound = await newest_change(context, view, principal.user_id) if cursor is None else cursor.until
    page = await read_page(context, view.store, where, CREATED, cursor)
    if cursor is None:  # whatever this page shows was there before the rest of the walk is read
        bound = max(bound or 0, newest_stamp(page.entities))
    images = await read_images(context, principal, page.entities)
    data = await context.lookups.current(newest_stamp(page.entities))
    page = bounded(page, bound)
    base = base_of(context, call)
    shown = visible(view, page.entities)
    results = [listing(each, images.get(each["_id"], ()), data, base) for each in shown]
    return await page_answer(context, call, results, page)


async def get_property(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    found = await read_listing(context, principal, call.path["id"])
    images = await read_images(context, principal, [found])
    data = await context.lookups.current(newest_stamp([found]))
    return Answer(rendered(listing(found, images.get(found["_id"], ()), data, base_of(context, call))))


async def list_images(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    found = await read_listing(context, principal, call.path["id"])
    images = await read_images(context, principal, [found])
    base = base_of(context, call)
    return Answer(rendered([image(each, base) for each in images.get(found["_id"], ())]))


def bounded(page: Page, bound: int | None) -> Page:
    """Return a page of a walk whose stamps are not above the bound, with the bound in its cursors.

    Readers take the greatest stamp of a walk as the mark from which they read on. What changes while they walk has a
    stamp above the bound, also where they have been already. So no page shows a stamp above it, and the next walk
    finds all that has changed meanwhile.
    """
    if bound is None:
        return page
    entities = [
        {**each, STAMP: bound} if type(each.get(STAMP)) is int and each[STAMP] > bound else each
        for each in page.entities
    ]
    following, previous = (None if c is None else replace(c, until=bound) for c in (page.next, page.previous))
    return replace(page, entities=entities, next=following, previous=previous)


def cursor_in(parameters: Mapping[str, str]) -> Cursor | None:
    """Return the cursor that the parameters name; None for the first page. Raises InvalidCursor."""
    text = parameters.get("cursor", "")
    return Cursor.decode(text) if text else None


async def page_answer(context: ListingsContext, call: Call, results: list[Any], page: Page) -> Answer:
    """Return a page with the addresses of its neighbours."""
    following, previous = (
        None if cursor is None else with_cursor(context, call, cursor.encode()) for cursor in (page.next, page.previous)
    )
    if page.is_large:
        return Answer(await in_thread(page_text, results, following, previous))
    return Answer(page_text(results, following, previous))
