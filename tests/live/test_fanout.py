"""Fan-out and who joins while it lags a little behind the database."""

from __future__ import annotations

from realtime.channels import ChannelKey
from realtime.fanout import Fanout, topic_of
from stores.protocol import Engine
from stores.query import EVERYTHING, WHOLE
from stores.schema import StoreDefinition
from tests.support.entities import STORE, insert_one
from tests.support.reading import changes_since


class Listener:
    """A subscription that writes down what it is told."""

    def __init__(self, floor: bytes) -> None:
        self.floor = floor
        self.told: list[str] = []

    def tell(self, frame: bytes, text: str) -> None:
        self.told.append(text)


async def test_a_snapshot_that_is_ahead_is_told_nothing_twice(engine: Engine) -> None:
    """Its list has what fan-out is yet to hand out: of the three changes only those behind its position are told."""
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    fanout = Fanout(engine)
    fanout.start(begun)
    for number in range(3):
        await insert_one(engine, n=number)
    changes = await changes_since(engine.feed, begun)
    topic = topic_of(STORE, EVERYTHING, WHOLE)
    listeners = [Listener(engine.feed.order(position)) for position in (begun, *(c.position for c in changes))]
    for listener in listeners:
        fanout.join(ChannelKey(STORE, repr(EVERYTHING), WHOLE, ""), EVERYTHING, topic, listener)
    fanout.advance(changes, changes[-1].position)
    assert [len(listener.told) for listener in listeners] == [3, 2, 1, 0]
    assert listeners[1].told == listeners[0].told[1:]
    assert fanout.deliveries == 6
