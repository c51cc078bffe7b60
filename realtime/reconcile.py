"""The effect of changed visibility on a view: which entities enter it, leave it or differ, and at which position.

The client has seen the store by the old rule up to a position. Its view by the new rule is read at a later position.
For an entity that did not change in between, only the two rules decide whether it enters or leaves. For one that did
change, its states at both positions decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Final

import orjson

from realtime.change_view import ViewDifference
from realtime.client_sink import ClientSink
from realtime.fanout import Fanout
from realtime.missed_delivery import PIECE
from realtime.redefinitions import check_same_store
from realtime.unread import UnreadList
from stores.bounds import Limit
from stores.errors import FilterTooCostly, HistoryGone, Unavailable
from stores.matcher import compile_filter
from stores.protocol import Engine, Listing
from stores.query import And, Filter, Not, Or, Query
from stores.read_turns import READER
from stores.records import Change, Entity
from stores.schema import StoreDefinition
from stores.steps import StepBudget
from stores.turns import FairSemaphore

MOST_ENTERING_ENTITIES: Annotated[int, Limit("view", "entities", "410")] = 10_000
"""Maximum entities that may enter or leave one view at once, and maximum entities that may have changed meanwhile.
Beyond that, a fresh list is cheaper."""

MOST_ENTERING_BYTES: Annotated[int, Limit("view", "bytes", "410")] = 16_777_216
"""Maximum bytes of these entities, with both ends of those that have changed."""

MOST_COMPARED_STEPS: Annotated[int, Limit("view", "steps", "410")] = 20_000_000
"""Steps that the two filters may take on all these entities: about 2 s of a thread."""

COMPARED_AT_ONCE: Final = 2
"""Views that are compared at the same time, of different users. Fan-out needs a thread of the same pool for costly
filters."""

LIST_ATTEMPTS: Final = 20
"""Maximum reads of a list, LIST_RETRY_SECONDS apart, until one is not older than what the client has received: after an
election the new primary may for a moment be behind what the old one returned."""

LIST_RETRY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class ChangedView:
    """A view of a store by the filter `old`, of which the client has received everything up to `position`, and that
    changes to `new`. `encode` returns the event for a difference, or None if nothing shown differs."""

    definition: StoreDefinition
    old: Filter
    new: Filter
    position: str
    encode: Callable[[ViewDifference], str | None]

    @property
    def store(self) -> str:
        return self.definition.name


class Reconciler:
    """Compares views. `engine` and `fanout` are those of the process."""

    def __init__(self, engine: Engine, fanout: Fanout) -> None:
        self._engine = engine
        self._fanout = fanout
        self._slots = FairSemaphore(COMPARED_AT_ONCE, each=1)

    async def reconciled(self, view: ChangedView, unread: UnreadList) -> tuple[list[str], str]:
        """Return the events of the difference between the old view at its position and the new view at the returned
        position.

        Raises HistoryGone if the difference is too large, or if the changes in between are no longer in memory, and
        TooManyLists if `unread` has no slot.
        """
        order = self._engine.feed.order
        text, position = await self._list(view, unread)
        await self._fanout.reach(order(position))
        recent = self._fanout.missed.kept_after(order(view.position))
        if recent is None:
            raise HistoryGone("the changes since that position are not at hand")
        check_same_store(view.definition, recent)
        end = order(position)
        changed = _ends(change for change in recent if change.store == view.store and order(change.position) <= end)
        size = sum(first.size + (last.size if last is not first else 0) for first, last in changed.values())
        if len(changed) > MOST_ENTERING_ENTITIES or len(text) + size > MOST_ENTERING_BYTES:
            raise _too_large()
        if size > PIECE:
            unread.enter_at_once()
            unread.grow(size)
        async with self._slots.slot(READER.get()):
            # In a thread: there may be megabytes, and the filter may take long for each entity.
            return await asyncio.to_thread(_events, view, text, changed), position

    async def _list(self, view: ChangedView, unread: UnreadList) -> tuple[bytes, str]:
        """Return the entities that only one of the two filters matches, and the position of the list."""
        only_one = Or((And((view.new, Not(view.old))), And((view.old, Not(view.new)))))
        query = Query(only_one, limit=MOST_ENTERING_ENTITIES)
        order = self._engine.feed.order
        for _ in range(LIST_ATTEMPTS):
            listing = await self._engine.find(view.store, query, before_long=unread.enter_at_once)
            text = await whole_body(listing, MOST_ENTERING_BYTES, unread)
            if listing.next is not None or text is None:
                raise _too_large()
            if order(listing.position) >= order(view.position):
                return text, listing.position
            unread.end()
            await asyncio.sleep(LIST_RETRY_SECONDS)
        raise Unavailable("the database is behind what this client has been told")


Ends = Mapping[str, tuple[Change, Change]]
"""The first and the last change of each changed entity, by id."""


def _too_large() -> HistoryGone:
    most, most_bytes = MOST_ENTERING_ENTITIES, MOST_ENTERING_BYTES
    return HistoryGone(f"more than {most} entities or {most_bytes} bytes enter, leave or differ in this view")


def _events(view: ChangedView, text: bytes, changed: Ends) -> list[str]:
    """Return the events for the entities that enter, leave or differ, among those in `text` and those that have
    changed."""
    try:
        encoded = map(view.encode, _differences(view, text, changed))
        return [event for event in encoded if event is not None]
    except FilterTooCostly:
        raise HistoryGone("the difference between the views takes too long to compute") from None


def _differences(view: ChangedView, text: bytes, changed: Ends) -> Iterator[ViewDifference]:
    entities: list[Entity] = orjson.loads(text)
    budget = StepBudget(MOST_COMPARED_STEPS)
    sees_old, sees_new = compile_filter(view.old, budget.spend), compile_filter(view.new, budget.spend)
    for entity in entities:
        id = entity["_id"]
        if id not in changed:
            is_new = sees_new(entity)
            yield ViewDifference("insert", id, None, entity) if is_new else ViewDifference("remove", id, None, None)
    for id, (first, last) in changed.items():
        before, after = first.before, last.after
        was, is_ = before is not None and sees_old(before), after is not None and sees_new(after)
        if is_:
            yield ViewDifference("update", id, before, after) if was else ViewDifference("insert", id, None, after)
        elif was:
            yield ViewDifference("remove", id, None, None)


def _ends(changes: Iterable[Change]) -> Ends:
    """Return the first and the last change of each entity."""
    ends: dict[str, tuple[Change, Change]] = {}
    for change in changes:
        first = ends[change.id][0] if change.id in ends else change
        ends[change.id] = (first, change)
    return ends


async def send_in_pieces(texts: Sequence[str], sink: ClientSink, goes_on: Callable[[], bool]) -> int:
    """Send events no faster than the client takes them, for as long as `goes_on` says. Return how many were sent."""
    sent = 0
    while sent < len(texts):
        await sink.drained()
        if not goes_on():
            break
        end, size = sent, 0
        while end < len(texts) and size < PIECE:
            size += len(texts[end].encode())
            end += 1
        sink.make_room(size)
        for text in texts[sent:end]:
            sink.send(text)
        sent = end
        if sent < len(texts):
            await asyncio.sleep(0)
    return sent


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
