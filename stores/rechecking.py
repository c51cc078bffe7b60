"""Checks what has changed since a position of the feed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stores.errors import HistoryGone, NotAsExpected
from stores.protocol import Feed
from stores.records import Change
from stores.threads import in_thread


async def check_changes(feed: Feed, since: str, check: Callable[[Sequence[Change]], None]) -> str:
    """Call `check` with all changes after `since`, part by part, and return the position reached. It runs in a thread,
    because a part may be large. Raises what `check` raises, and NotAsExpected when the feed does not reach back."""
    more = True
    while more:
        try:
            batch = await feed.read(since)
        except HistoryGone:
            raise NotAsExpected from None
        await in_thread(check, batch.changes)
        since, more = batch.position, batch.more
    return since
