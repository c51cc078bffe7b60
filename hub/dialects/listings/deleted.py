"""Listings that the feed no longer shows, for delta sync: those that were deleted, and those that left `published`."""

from __future__ import annotations

from typing import Any, Final

from auth.principal import Principal
from hub.dialects.listings.context import ListingsContext
from hub.dialects.listings.errors import InvalidFields
from hub.dialects.listings.feed import cursor_in, page_answer
from hub.dialects.listings.filters import Refused, microseconds
from hub.dialects.listings.reading import read_page
from hub.dialects.listings.shapes import MICROSECONDS, moment
from hub.http.answer import Answer
from hub.http.call import Call
from stores.query import And, Compare, Equal, Filter
from stores.records import Entity, now_ms

AT: Final = "at"
"""The field of tombstones with the stamp of the change, in microseconds."""

_DAY: Final = 86_400_000_000


async def list_deleted(context: ListingsContext, call: Call, principal: Principal) -> Answer:
    parameters = dict(call.parameters())
    conditions: list[Filter] = [Equal(("owner",), principal.user_id)]
    since = parameters.get("updated_after", "")
    if since:
        conditions.append(Compare((AT,), "gte", _since(since, context.settings.tombstone_days)))
    store = context.stores.names().tombstones
    page = await read_page(context, store, And(tuple(conditions)), AT, cursor_in(parameters))
    return await page_answer(context, call, [tombstone(each) for each in page.entities], page)


def _since(text: str, days: int) -> int:
    """Return the time in microseconds. Raises InvalidFields for one from which on not everything is kept."""
    try:
        since = microseconds(text)
    except Refused as refusal:
        raise InvalidFields({"updated_after": [str(refusal)]}) from None
    if since < now_ms() * 1_000 - days * _DAY:
        text = f"Deletions are kept for {days} days (HUB_TOMBSTONE_DAYS): read the whole feed instead."
        raise InvalidFields({"updated_after": [text]})
    return since


def tombstone(entity: Entity) -> dict[str, Any]:
    """Return a tombstone as it is shown: with the present status of a listing that still exists."""
    shown = {"id": entity.get("number"), "deleted_at": moment(entity.get(AT), MICROSECONDS)}
    status = entity.get("publish_status")
    return {**shown, "publish_status": status} if status else shown
