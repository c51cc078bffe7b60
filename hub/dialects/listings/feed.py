"""The feed: a user's listings, newest first, filtered and searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from auth.principal import Principal
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.cursors import Cursor
from hub.dialects.listings.filters import feed_filter
from hub.dialects.listings.links import base_of, with_cursor
from hub.dialects.listings.lookups import newest_stamp
from hub.dialects.listings.reading import Page, owned, read_images, read_listing, read_page, visible
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
    cursor = cursor_in(parameters)
    conditions = feed_filter(parameters, view.definition, await context.lookups.current())
    where = And((owned(view, principal.user_id), *conditions))
    page = await read_page(context, view.store, where, CREATED, cursor)
    images = await read_images(context, principal, page.entities)
    data = await context.lookups.current(newest_stamp(page.entities))
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
