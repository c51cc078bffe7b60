"""Changes of users, roles and credentials with many live sessions and cached principals."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final

import pytest

from auth.principal import Principal
from auth.resolver import FOREVER, Resolver
from auth.secrets import digest
from auth.view import View
from realtime import session_registry
from realtime.context import BEGUN_AT_ONCE, LiveContext, LiveSettings
from realtime.fanout import Fanout
from realtime.session import LiveSession
from realtime.session_registry import SessionRegistry
from realtime.subscription import Subscription
from stores.query import EVERYTHING, WHOLE, Query
from stores.read_turns import READER
from stores.records import Change, Entity, now_ms
from stores.schema import StoreDefinition
from tests.support.ear import Ear
from tests.support.program import printed
from tests.support.steps import counted_steps
from tests.support.tasks import end as end_tasks

SESSIONS: Final = 20_000
SLICED: Final = 5_000
REMEMBERED: Final = 10_000
FEW: Final = 5_000
"""Maximum number of steps for one session or principal; iterating over all of them takes several times as many."""


NOTES: Final = View(StoreDefinition("notes"), EVERYTHING, frozenset(), frozenset(), "")


def principal(number: int, role: str = "reader") -> Principal:
    user = f"user{number}"
    return Principal(user, user, None, (), (role,), False, None, None, "token", f"token{number}", FOREVER)


def changed(store: str, id: str, before: Entity | None, after: Entity | None, at: int = 1) -> Change:
    op = "update" if before and after else "delete" if before else "insert"
    return Change(str(at).zfill(9), op, store, id, before, after, None, now_ms())  # type: ignore[arg-type]


def revoked(number: int) -> Change:
    return changed("tokens", f"token{number}", {"user": f"user{number}"}, None)


class Database:
    """Finds users and tokens by their numbers, and records the stores that were read."""

    def __init__(self) -> None:
        self.feed = self
        self.reads: list[str] = []

    @staticmethod
    def order(position: str) -> bytes:
        return position.encode()

    async def entities(self, store: str, query: Query) -> list[Entity]:
        self.reads.append(store)
        where: Any = query.where
        if store == "tokens":
            number = NUMBERS[where.value]
            return [{"_id": f"token{number}", "user": f"{number:024x}", "expires": None}]
        return [{"_id": where.value, "login": where.value}] if store == "users" else []


SECRETS: Final = [f"secret{number}" for number in range(REMEMBERED)]
NUMBERS: Final = {digest(secret): number for number, secret in enumerate(SECRETS)}


@pytest.fixture
async def resolver() -> Resolver:
    """A resolver that caches the principals of all tokens, each of a different user."""
    made = Resolver(Database(), REMEMBERED)  # type: ignore[arg-type]
    for secret in SECRETS:
        await made.resolve(secret)
    return made


async def read_again(resolver: Resolver) -> list[int]:
    """Return the numbers of the principals that are no longer cached."""
    database: Any = resolver._engine
    again = []
    for number, secret in enumerate(SECRETS):
        database.reads.clear()
        await resolver.resolve(secret)
        if database.reads:
            again.append(number)
    return again


ALTERED: Final[list[Entity]] = [{"login": "ada"}, {"roles": ["r"]}, {"disabled": True}, {"group": "g"}]
UNALTERED: Final[list[Entity]] = [{"name": "Ada"}, {"email": "ada@example.org"}, {"password": "x"}]


async def test_a_changed_user_costs_nobody_else_a_reading(resolver: Resolver) -> None:
    """The changed user's principals are read again only after a change of a field that they depend on."""
    with counted_steps() as steps:
        for number, change in enumerate(ALTERED + UNALTERED):
            before: Entity = {"_id": f"{number:024x}", "login": "l", "_rev": 1, "_at": 1}
            resolver.forget([changed("users", before["_id"], before, before | change | {"_rev": 2, "_at": 2})])
    assert steps.count < FEW
    assert await read_again(resolver) == [0, 1, 2, 3]


ALTERED_TOKEN: Final[list[Entity]] = [{"scopes": []}, {"expires": 1}, {"user": "u"}]
UNALTERED_TOKEN: Final[list[Entity]] = [{"name": "laptop"}, {"last_used": 1, "address": "::1", "agent": "curl"}]


async def test_a_renamed_token_costs_nothing(resolver: Resolver) -> None:
    """Its owner may rename it as often as it likes. A principal depends on its user, scopes and expiry."""
    for number, change in enumerate(ALTERED_TOKEN + UNALTERED_TOKEN):
        before: Entity = {"_id": f"token{number}", "name": "t", "_rev": 1, "_at": 1}
        resolver.forget([changed("tokens", before["_id"], before, before | change | {"_rev": 2, "_at": 2})])
    assert await read_again(resolver) == [0, 1, 2]


async def test_a_revoked_token_is_found_among_all_remembered_principals(resolver: Resolver) -> None:
    """It is found by an index; the others are neither visited nor forgotten."""
    with counted_steps() as steps:
        resolver.forget([revoked(7)])
    assert steps.count < FEW
    assert await read_again(resolver) == [7]


def test_revoked_tokens_cost_the_same_among_few_and_many_principals() -> None:
    """In CPU seconds; and only theirs are read again."""
    few, many = (line.split() for line in printed("revoked_tokens", "1000", "10000").splitlines())
    assert few[1] == many[1] == "100"
    assert float(many[0]) < 3 * max(float(few[0]), 0.001)


async def test_others_that_change_do_not_keep_a_principal_from_being_read() -> None:
    """A principal is read only once, however fast other users change."""
    database = Database()
    resolver = Resolver(database)  # type: ignore[arg-type]
    find = database.entities

    async def entities(store: str, query: Query) -> list[Entity]:
        resolver.forget_user(f"{len(database.reads) + 100:024x}")
        return await find(store, query)

    database.entities = entities  # type: ignore[method-assign]
    await resolver.resolve(SECRETS[1])
    assert database.reads == ["sessions", "tokens", "users"]


class Principals:
    """A resolver that waits for `go`; then every principal has the same rights as before. `resolved` counts them, and
    `readers` has those for whom they are read."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.resolved = 0
        self.readers: set[str] = set()

    async def resolve(self, credential: str) -> Principal:
        if not self.go.is_set():
            await self.go.wait()
        self.resolved += 1
        self.readers.add(READER.get())
        return replace(principal(int(credential)), login="changed")


def no_view(of: Principal, store: str) -> View:
    raise AssertionError("nothing is seen otherwise")


async def no_resuming(definition: StoreDefinition, position: str) -> None:
    raise AssertionError("nothing is resumed")


class Crowd:
    """`count` sessions of as many users, all with one role; the first `watchers` sessions watch a store."""

    def __init__(self, count: int, watchers: int) -> None:
        self.fanout = Fanout(Database())  # type: ignore[arg-type]
        self.fanout.start("0" * 9)
        self.principals = Principals()
        context = LiveContext(
            None, self.principals, self.fanout, no_view, lambda error: {}, LiveSettings(), no_resuming
        )  # type: ignore[arg-type]
        self.context = context
        self.hub = SessionRegistry(context, 60)
        self.sessions = [LiveSession(context, Ear(), principal(n), str(n)) for n in range(count)]
        for session in self.sessions:
            self.hub.open(session)
        for session in self.sessions[:watchers]:
            subscription = Subscription(session.subscriptions, "t", NOTES, EVERYTHING, WHOLE)
            session.subscriptions.add(subscription, None)
            session.subscriptions._listen(subscription, self.fanout.order)

    @property
    def suspended(self) -> list[int]:
        return [n for n, session in enumerate(self.sessions) if session.subscriptions.suspended]

    async def end(self) -> None:
        await end_tasks(*self.hub._tasks)


async def test_a_revoked_token_is_found_among_all_sessions() -> None:
    """It is found by an index; the other sessions are not visited."""
    crowd = Crowd(SESSIONS, 0)
    with counted_steps() as steps:
        await crowd.fanout.advance([revoked(7)], "1".zfill(9))
    assert steps.count < FEW
    assert crowd.suspended == [7]
    await crowd.end()


async def test_a_changed_role_reaches_all_sessions_in_slices_before_the_next_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other tasks run between the slices. Yet no session receives an event of this or a later change by its old rights:
    all sessions are suspended from the first turn on."""
    ended = iter(range(1_000_000))

    class ShortTurn:
        """A turn that is over after 100 sessions."""

        @property
        def is_over(self) -> bool:
            return next(ended) % 100 == 99

        async def pass_on(self) -> None:
            await asyncio.sleep(0)

    monkeypatch.setattr(session_registry, "Turn", ShortTurn)
    crowd = Crowd(SLICED, 500)
    role = changed("roles", "reader", {"scopes": ["GET /*"]}, {"scopes": []})
    event = changed("notes", "note", None, {"_id": "note", "text": "later"}, at=2)
    advancing = asyncio.create_task(crowd.fanout.advance([role, event], event.position))
    turns = 0
    while not advancing.done():
        await asyncio.sleep(0)
        turns += 1
        assert len(crowd.suspended) >= SLICED - len(crowd.hub._tasks)  # the others are resolving their principals
    await advancing
    assert turns >= SLICED / 100
    assert len(crowd.hub._tasks) == SLICED
    assert [session.sink.said for session in crowd.sessions[:500] if session.sink.said] == []  # type: ignore[attr-defined]
    await crowd.end()


def narrowed_scopes(number: int, at: int) -> Change:
    token: Entity = {"user": f"user{number}"}
    return changed("tokens", f"token{number}", token | {"scopes": [at]}, token | {"scopes": [at + 1]}, at)


async def test_changes_of_one_token_lead_to_one_look_up() -> None:
    """Its owner may change its scopes in a loop. What changes before the look-up begins is part of it; what changes
    during it leads to one more."""
    crowd = Crowd(10, 10)
    for at in range(1, 100):
        await crowd.fanout.advance([narrowed_scopes(7, at)], str(at).zfill(9))
    assert len(crowd.hub._tasks) == 1
    for _ in range(5):
        await asyncio.sleep(0)
    assert crowd.suspended == []  # it waits for the resolver
    for at in range(100, 200):
        await crowd.fanout.advance([narrowed_scopes(7, at)], str(at).zfill(9))
    assert (crowd.suspended, len(crowd.hub._tasks)) == ([7], 1)
    crowd.principals.go.set()
    await asyncio.gather(*crowd.hub._tasks)
    assert (crowd.principals.resolved, crowd.suspended) == (2, [])
    assert crowd.principals.readers == {"user7"}  # not the hub, whose own reads would wait behind theirs
    await crowd.fanout.advance([narrowed_scopes(7, 200)], "200".zfill(9))
    assert len(crowd.hub._tasks) == 1
    await crowd.end()


async def test_look_ups_that_never_wait_leave_turns_to_others() -> None:
    """On SQLite a read by id does not wait. A role may concern thousands of sessions."""
    crowd = Crowd(100, 0)
    crowd.principals.go.set()
    role = changed("roles", "reader", {"scopes": ["GET /*"]}, {"scopes": []})
    await crowd.fanout.advance([role], role.position)
    resolved = [0]
    while crowd.hub._tasks:
        await asyncio.sleep(0)
        resolved.append(crowd.principals.resolved)
    assert resolved[-1] == 100
    assert max(later - earlier for earlier, later in pairwise(resolved)) <= BEGUN_AT_ONCE


class EverySecond:
    """Shared turns in which every second piece of work has to wait."""

    def __init__(self) -> None:
        self.asked = 0

    def is_over(self) -> bool:
        self.asked += 1
        return self.asked % 2 == 0


def watching(crowd: Crowd, count: int) -> LiveSession:
    """Return a session with `count` subscriptions, which shares its turns."""
    crowd.context.turns = EverySecond()  # type: ignore[assignment]
    session = crowd.sessions[0]
    for number in range(count):
        subscription = Subscription(session.subscriptions, str(number), NOTES, EVERYTHING, WHOLE, position="0" * 9)
        session.subscriptions.add(subscription, None)
        session.subscriptions._listen(subscription, crowd.fanout.order)
    return session


async def turns_of(work: Coroutine[Any, Any, None]) -> int:
    task, turns = asyncio.ensure_future(work), 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    await task
    return turns


async def test_many_subscriptions_go_on_and_end_in_slices() -> None:
    """One session may have a thousand. A client that has left only its namespace gets no further event."""
    crowd = Crowd(1, 0)
    crowd.principals.go.set()
    session = watching(crowd, 50)
    session.suspend()
    assert await turns_of(session.refresh()) > 20
    session = watching(crowd, 50)
    assert await turns_of(crowd.hub.close(session)) < 5
    session = watching(crowd, 50)
    session.sink.closed = True  # type: ignore[misc]
    assert await turns_of(crowd.hub.close(session)) > 20
    assert len(crowd.fanout.channels) == 0


class SlowRounds:
    """A registry in a time of its own, in which a round over the sessions takes `seconds`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float, rounds: int) -> None:
        self.now = 0.0
        self.rounds: list[tuple[float, bool]] = []
        """When each round began, and whether it sent the position."""
        self._rounds = rounds
        monkeypatch.setattr(session_registry, "asyncio", SimpleNamespace(sleep=self.sleep))
        monkeypatch.setattr(session_registry, "monotonic", lambda: self.now)
        self.crowd = Crowd(1, 0)

        def check(session: LiveSession, is_due: bool) -> None:
            self.rounds.append((self.now, is_due))
            self.now += seconds

        monkeypatch.setattr(self.crowd.hub, "_check", check)

    async def sleep(self, seconds: float) -> None:
        if len(self.rounds) == self._rounds:
            raise asyncio.CancelledError
        self.now += seconds


async def test_a_round_over_many_subscriptions_is_sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    """By time: a session may have a thousand subscriptions."""
    slow = SlowRounds(monkeypatch, 0, rounds=3)
    passed: list[int] = []

    class NoTurn:
        is_over = True

        async def pass_on(self) -> None:
            passed.append(1)

    monkeypatch.setattr(session_registry, "Turn", NoTurn)
    with pytest.raises(asyncio.CancelledError):
        await slow.crowd.hub.run()
    assert len(passed) == 3


async def test_a_round_over_many_sessions_delays_neither_the_next_round_nor_the_position(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = SlowRounds(monkeypatch, 0.75, rounds=130)
    with pytest.raises(asyncio.CancelledError):
        await slow.crowd.hub.run()
    assert [began for began, _ in slow.rounds] == [*range(1, 131)]
    assert [began for began, is_due in slow.rounds if is_due] == [60, 120]


async def test_rounds_that_take_longer_than_a_second_leave_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowRounds(monkeypatch, 5, rounds=25)
    with pytest.raises(asyncio.CancelledError):
        await slow.crowd.hub.run()
    began = [began for began, _ in slow.rounds]
    assert all(5 < later - earlier < 5.5 for earlier, later in pairwise(began))
    assert 60 <= next(at for at, is_due in slow.rounds if is_due) < 66


def positions(session: LiveSession) -> list[Any]:
    return [payload for name, payload in session.sink.said if name == "position"]  # type: ignore[attr-defined]


async def test_no_position_beyond_a_gap_is_sent_before_the_end_of_the_view() -> None:
    """Ending the views takes several turns. A client that resumed from such a position would miss the gap."""
    crowd = Crowd(2, 2)
    waiting, muted = crowd.sessions
    waiting.send_position()
    assert len(positions(waiting)) == 1
    crowd.fanout.start("5".zfill(9))
    waiting.send_position()
    assert len(positions(waiting)) == 1
    [subscription] = muted.subscriptions
    subscription.position = "0" * 9
    muted.suspend()
    assert subscription.position == "0" * 9
    await crowd.end()


async def test_no_position_is_sent_after_a_failure_in_the_middle_of_a_change() -> None:
    """The first client has got the change, and the position of fan-out is before it."""
    crowd = Crowd(2, 2)
    told, failing = crowd.sessions

    def fail(frame: bytes, text: str) -> bool:
        raise ZeroDivisionError

    [subscription] = failing.subscriptions
    subscription.deliver = fail
    note = changed("notes", "note", None, {"_id": "note", "text": "later"})
    with pytest.raises(ZeroDivisionError):
        await crowd.fanout.advance([note], note.position)
    told.send_position()
    assert [name for name, _ in told.sink.said] == ["change"]  # type: ignore[attr-defined]
    await crowd.end()


async def test_after_a_gap_in_the_feed_every_session_looks_again_at_who_it_is() -> None:
    """A revocation within the gap would otherwise go unnoticed."""
    crowd = Crowd(10, 1)
    await crowd.hub.start_afresh()
    assert crowd.suspended == [*range(10)]
    await crowd.end()
