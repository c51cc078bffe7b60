"""The effect of changed visibility on a view: which entities enter it, leave it or differ, and at which position.

The client has seen the store by the old rule up to a position. Its view by the new rule is read at a later position.
For an entity that did not change in between, only the two rules decide whether it enters or leaves. For one that did
change, its states at both positions decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import Annotated

import orjson

from realtime.fanout import Fanout
from realtime.unread import UnreadList
from realtime.view import ViewDifference, check_same_store
from stores.bounds import Limit
from stores.errors import HistoryGone
from stores.matcher import compile_filter
from stores.protocol import Engine, Listing
from stores.query import And, Filter, Not, Or, Query
from stores.records import Change, Entity

MOST_ENTERING_ENTITIES: Annotated[int, Limit("view", "entities", "410")] = 10_000
"""Maximum entities that may enter or leave one view at once. Beyond that, a fresh list is cheaper."""

MOST_ENTERING_BYTES: Annotated[int, Limit("view", "bytes", "410")] = 16_777_216
"""Maximum bytes of these entities."""


async def reconciled(
    engine: Engine, fanout: Fanout, store: str, old: Filter, new: Filter, position: str, unread: UnreadList
) -> tuple[list[ViewDifference], str]:
    """Return the difference between the view by `old` at `position` and the view by `new` at the returned position.

    Raises HistoryGone if the difference is too large, or if the changes in between are no longer in memory, and
    TooManyLists if `unread` has no place.
    """
    start = engine.feed.order(position)
    only_one = Or((And((new, Not(old))), And((old, Not(new)))))
    listing = await engine.find(store, Query(only_one, limit=MOST_ENTERING_ENTITIES), before_long=unread.enter_at_once)
    text = await whole_body(listing, MOST_ENTERING_BYTES, unread)
    if listing.next is not None or text is None:
        raise HistoryGone(
            f"more than {MOST_ENTERING_ENTITIES} entities or {MOST_ENTERING_BYTES} bytes enter or leave this view"
        )
    end = engine.feed.order(listing.position)
    await fanout.reach(end)
    recent = fanout.recent_after(start)
    if recent is None:
        raise HistoryGone("the changes since that position are not at hand")
    check_same_store(store, recent)
    changes = [change for change in recent if change.store == store and engine.feed.order(change.position) <= end]
    # In a thread: there may be megabytes, and the filter may take long for each entity.
    return await asyncio.to_thread(_differences, old, new, text, changes), listing.position


def _differences(old: Filter, new: Filter, text: bytes, changes: list[Change]) -> list[ViewDifference]:
    """Return the entities that enter, leave or differ, among those in `text` and those that have changed."""
    entities: list[Entity] = orjson.loads(text)
    changed = _ends(changes)
    sees_old, sees_new = compile_filter(old), compile_filter(new)
    differences = [
        ViewDifference("insert", e["_id"], None, e) if sees_new(e) else ViewDifference("remove", e["_id"], None, None)
        for e in entities
        if e["_id"] not in changed
    ]
    for id, (before, after) in changed.items():
        was, is_ = before is not None and sees_old(before), after is not None and sees_new(after)
        if is_:
            differences.append(
                ViewDifference("update", id, before, after) if was else ViewDifference("insert", id, None, after)
            )
        elif was:
            differences.append(ViewDifference("remove", id, None, None))
    return differences


def _ends(changes: Iterable[Change]) -> dict[str, tuple[Entity | None, Entity | None]]:
    """Return the state of each changed entity before its first change and after its last."""
    ends: dict[str, tuple[Entity | None, Entity | None]] = {}
    for change in changes:
        first = ends[change.id][0] if change.id in ends else change.before
        ends[change.id] = (first, change.after)
    return ends


async def whole_body(listing: Listing, most_bytes: int, unread: UnreadList) -> bytes | None:
    """Return the text of the array, joined from its pieces, and count them in `unread`; None if it is longer than
    `most_bytes`."""
    if isinstance(listing.body, bytes):
        return listing.body if len(listing.body) <= most_bytes else None
    pieces: list[bytes] = []
    size = 0
    async with aclosing(listing.body) as body:  # type: ignore[type-var]
        async for piece in body:
            unread.grow(len(piece))
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                return None
    return b"".join(pieces)
