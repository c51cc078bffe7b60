"""A changed view is compared within bounds, and its events are sent no faster than the client reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from realtime import reconcile
from realtime.change_view import ViewDifference
from realtime.fanout import Fanout
from realtime.missed_delivery import PIECE
from realtime.reconcile import LIST_ATTEMPTS, ChangedView, Reconciler, send_in_pieces
from realtime.unread import UnreadLists
from stores.errors import HistoryGone, Unavailable
from stores.long_lists import LongLists
from stores.parse import parse_filter
from stores.protocol import Engine, Listing
from stores.query import EVERYTHING, Filter
from stores.schema import StoreDefinition
from tests.support.ear import Ear
from tests.support.entities import STORE, insert_one
from tests.support.reading import changes_since

TEXT = "é" * 1_000
COSTLY = parse_filter({"a": {"$elemMatch": {"$or": [{f"x{n}": 1} for n in range(20)]}}})


def encode(item: ViewDifference) -> str:
    return f"{item.op} {(item.after or {}).get('n')}"


class Delivered(Fanout):
    """A fan-out that has delivered everything, also up to the time of a list on MongoDB."""

    async def reach(self, order: bytes) -> None:
        """Return immediately."""


class Changing:
    """A view of two entities, and changes of both since then that fan-out has delivered."""

    def __init__(self, engine: Engine, begun: str) -> None:
        self.engine = engine
        self.begun = begun
        self.unread = UnreadLists(LongLists(2))

    async def events(self, new: Filter = EVERYTHING) -> list[str]:
        fanout = Delivered(self.engine)
        fanout.start(self.begun)
        changes = await changes_since(self.engine.feed, self.begun)
        await fanout.advance(changes, changes[-1].position)
        reconciler = Reconciler(self.engine, fanout)
        view = ChangedView(StoreDefinition(STORE), parse_filter({"n": -1}), new, self.begun, encode)
        events, _ = await reconciler.reconciled(view, self.unread.begin("ada"))
        return events


@pytest.fixture
async def changing(engine: Engine) -> Changing:
    await engine.define(StoreDefinition(STORE))
    await insert_one(engine, n=0)
    begun = await engine.feed.position()
    for number in (1, 2):
        await insert_one(engine, n=number, text=TEXT, a=[{}] * 10)
    return Changing(engine, begun)


async def test_what_has_changed_meanwhile_counts(changing: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it would be sent at once, and both images of each change would be in memory."""
    assert sorted(await changing.events()) == ["insert 0", "insert 1", "insert 2"]
    nothing = parse_filter({"n": -2})
    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "MOST_ENTERING_ENTITIES", 1)
        with pytest.raises(HistoryGone):
            await changing.events(nothing)
    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "MOST_ENTERING_BYTES", len(TEXT))
        with pytest.raises(HistoryGone):
            await changing.events(nothing)
    monkeypatch.setattr(reconcile, "MOST_COMPARED_STEPS", 20)
    with pytest.raises(HistoryGone):
        await changing.events(COSTLY)


async def test_what_has_changed_meanwhile_is_unread(changing: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in memory until the client has read it."""
    monkeypatch.setattr(reconcile, "PIECE", 100)
    await changing.events()
    assert changing.unread.bytes > 2 * len(TEXT)


async def test_a_list_that_is_older_than_what_the_client_has_is_read_again(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an election, when the new primary is behind the old one."""
    find, older = changing.engine.find, list[str]()
    monkeypatch.setattr(reconcile, "LIST_RETRY_SECONDS", 0)
    before = changing.begun
    changing.begun = (await changes_since(changing.engine.feed, before))[0].position
    times = 2

    async def behind(*args: object, **more: object) -> Listing:
        found: Listing = await find(*args, **more)  # type: ignore[arg-type]
        if len(older) < times:
            older.append(before)
            return replace(found, position=before)
        return found

    monkeypatch.setattr(changing.engine, "find", behind)
    assert sorted(await changing.events()) == ["insert 0", "insert 1", "insert 2"]
    assert len(older) == times
    times = LIST_ATTEMPTS * 2
    with pytest.raises(Unavailable):
        await changing.events()


@dataclass
class Slow(Ear):
    """The sink of a client that reads what waits only when it is waited for."""

    waiting: int = 0
    most: int = 0
    room: int = 0
    on_drained: Callable[[], None] = lambda: None

    def send(self, text: str) -> None:
        self.waiting += len(text.encode())
        self.most = max(self.most, self.waiting)
        assert self.waiting <= self.room
        self.said.append(("change", text))

    def make_room(self, size: int) -> None:
        self.room = max(self.room, size)

    async def drained(self) -> None:
        await asyncio.sleep(0)
        self.waiting = self.room = 0
        self.on_drained()


EVENTS = [TEXT] * 200


async def test_the_events_of_a_changed_view_wait_for_their_client() -> None:
    """A client that reads is not closed as lagging, and a client that does not read holds one piece."""
    sink = Slow()
    assert await send_in_pieces(EVENTS, sink, lambda: True) == len(EVENTS)
    assert len(sink.said) == len(EVENTS)
    assert PIECE <= sink.most < PIECE + 2 * len(TEXT)


async def test_the_events_of_a_changed_view_stop_when_it_changes_again() -> None:
    sink, calls = Slow(), iter((True, True, False))
    sent = await send_in_pieces(EVENTS, sink, lambda: next(calls))
    assert 0 < sent == len(sink.said) < len(EVENTS)
    assert await send_in_pieces(EVENTS, sink, lambda: False) == 0
