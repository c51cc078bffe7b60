"""Each user's share of fan-out: what counts, what goes on within a change, and what becomes of subscriptions beyond
it."""

from __future__ import annotations

import pytest

from realtime import shares as shares_module
from realtime.channels import ChannelKey, topic_of
from realtime.fanout import Fanout
from realtime.shares import BYTES_PER_STEP, EXEMPT_STEPS, MOST_SHARE_STEPS, MOST_USER_STEPS, PERIOD, Shares
from stores.canonical import filter_text
from stores.errors import StoreError
from stores.parse import parse_filter
from stores.protocol import Engine
from stores.query import WHOLE
from stores.schema import StoreDefinition
from tests.support.entities import STORE, insert_one
from tests.support.reading import changes_since


class Recorder:
    """A subscription of a user that records what becomes of it."""

    def __init__(self, user: str, delivered_up_to: bytes = b"") -> None:
        self.user = user
        self.delivered_up_to = delivered_up_to
        self.outcomes: list[str] = []

    def deliver(self, frame: bytes, text: str) -> bool:
        self.outcomes.append("delivered")
        return True

    def reached(self, position: str, order: bytes) -> None:
        self.delivered_up_to = order

    def fall_behind(self) -> None:
        self.outcomes.append("behind")

    def fail(self, error: StoreError) -> None:
        self.outcomes.append(error.limit_name)


class Clock:
    now = 1.0

    def __call__(self) -> float:
        return self.now


def test_a_used_up_share_comes_back_with_the_next_period() -> None:
    clock, reached = Clock(), list[str]()
    shares = Shares(clock)
    shares.on_limit = reached.append
    shares.begin_change()
    for _ in range(2):
        shares.take("a", 1, MOST_SHARE_STEPS)
    members = [Recorder("a")]
    assert shares.payer(members, all_go_on=False) is None
    assert shares.payer(members, all_go_on=True) == "a"
    assert shares.payer([*members, Recorder("b")], all_go_on=False) == "b"
    shares.begin_change()
    assert shares.payer(members, all_go_on=False) is None
    clock.now += PERIOD
    shares.begin_change()
    assert shares.payer(members, all_go_on=False) == "a"
    assert reached == ["MOST_SHARE_STEPS"]


def test_a_user_of_a_costly_filter_goes_on_within_the_change_up_to_a_bound() -> None:
    """Otherwise a filter that takes more than a share would fall behind at every change, and never end."""
    shares = Shares(Clock())
    shares.begin_change()
    members = [Recorder("a")]
    shares.take("a", MOST_USER_STEPS - 1)
    assert shares.is_used_up("a")
    assert shares.payer(members, all_go_on=False) == "a"
    shares.take("a", 1, EXEMPT_STEPS - MOST_USER_STEPS - 1)
    assert shares.payer(members, all_go_on=False) == "a"
    shares.take("a", 1)
    assert shares.payer(members, all_go_on=False) is None


def test_the_exemption_ends_with_the_change() -> None:
    shares = Shares(Clock())
    shares.begin_change()
    shares.take("a", MOST_USER_STEPS)
    assert not shares.has_steps("a")
    shares.begin_change()
    assert shares.has_steps("a")
    assert shares.payer([Recorder("a")], all_go_on=False) is None


def test_a_member_that_may_have_costly_filters_pays_first() -> None:
    shares = Shares(Clock())
    shares.begin_change()
    shares.take("a", MOST_USER_STEPS)
    assert shares.payer([Recorder("a")], all_go_on=False) == "a"
    assert shares.payer([Recorder("a"), Recorder("b")], all_go_on=False) == "b"


def test_the_size_of_a_change_counts_from_the_second_time_on() -> None:
    """One subscription to entities of any size uses up no share; hundreds to the same do."""
    shares = Shares(Clock())
    shares.begin_change()
    size = (MOST_SHARE_STEPS + 1) * BYTES_PER_STEP
    shares.take_shown("a", size)
    assert not shares.is_used_up("a")
    shares.begin_change()
    shares.take_shown("a", size)
    assert not shares.is_used_up("a")
    shares.take_shown("b", size)
    shares.take_shown("a", size)
    assert (shares.is_used_up("a"), shares.is_used_up("b")) == (True, False)


async def fanout_of(engine: Engine, *filters: dict[str, object]) -> tuple[Fanout, list[dict[str, Recorder]]]:
    """Return a fan-out in a period that does not end, and for each filter one subscription of each of two users."""
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    fanout = Fanout(engine)
    fanout.start(begun)
    fanout.shares = Shares(Clock())
    fanout.shares.begin_change()
    members = []
    for document in filters:
        where = parse_filter(document)
        members.append({user: Recorder(user, fanout.order_of(begun)) for user in ("a", "b")})
        for member in members[-1].values():
            key = ChannelKey(STORE, filter_text(where), WHOLE, "")
            fanout.join(key, where, topic_of(STORE, where, WHOLE), member)
    return fanout, members


async def deliver_one(fanout: Fanout, engine: Engine, elements: int) -> None:
    begun = fanout.position
    await insert_one(engine, n=1, a=[{}] * elements)
    changes = await changes_since(engine.feed, begun)
    await fanout.advance(changes, changes[-1].position)


def costly(number: int) -> dict[str, object]:
    return {"a": {"$not": {"$elemMatch": {"$or": [{f"x{number}": each} for each in range(20)]}}}}


@pytest.mark.engine("sqlite")
async def test_a_costly_filter_ends_for_users_without_steps_only(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user whose share is used up falls behind instead: its own filters may have cost nothing yet."""
    monkeypatch.setattr(shares_module, "MOST_USER_STEPS", 3_000)
    fanout, [first, second] = await fanout_of(engine, costly(1), costly(2))
    fanout.shares.take("b", 1, MOST_SHARE_STEPS)
    await deliver_one(fanout, engine, 200)
    assert first["a"].outcomes == first["b"].outcomes == ["delivered"]
    assert second["a"].outcomes == ["MOST_USER_STEPS"]
    assert second["b"].outcomes == ["behind"]


@pytest.mark.engine("sqlite")
async def test_nobody_pays_for_a_change_that_concerns_too_many(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up of channels gives up at an entity of very many values: then every channel of the store is looked at,
    and users with used up shares go on."""
    monkeypatch.setattr("realtime.channels.LOOKUP_STEPS", 10)
    fanout, [indexed, always] = await fanout_of(engine, {"a.y": 1}, {"n": {"$gt": 5}})
    for user in ("a", "b"):
        fanout.shares.take(user, 1, MOST_SHARE_STEPS)
    members = [*indexed.values(), *always.values()]
    await deliver_one(fanout, engine, 100)
    assert [member.outcomes for member in members] == [[], [], [], []]
    await deliver_one(fanout, engine, 1)
    assert [member.outcomes for member in members] == [[], [], ["behind"], ["behind"]]
