"""The checks after every step: what each client has been sent, what REST shows to it, and what the oracle says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import groupby

import httpx

from stores.records import Entity
from tests.live.model_answers import events_expected
from tests.live.model_oracle import Moment, matches, shown, timeless
from tests.live.model_reads import Reads
from tests.live.model_state import Kept, Seat, State
from tests.support.live import Event, order_of

Listed = dict[Kept, httpx.Response]


class Checks:
    def __init__(self, state: State) -> None:
        self._state = state
        self._reads = Reads(state)

    async def perform(self, hearing: Awaitable[None], *, exactly: bool) -> None:
        """Check everything once the clients have heard of the step. `exactly`: the oracle has predicted every change
        of it."""
        listed, _, _ = await asyncio.gather(self._listed(), self._reads.check(), hearing)
        for seat in self._state.seats:
            for kept in list(seat.kept):
                self._check_view(seat, kept, listed, exactly=exactly)
            self._reads.keep_page(seat, listed)

    async def _listed(self) -> Listed:
        """Return the REST list for each view of a connected client."""
        seats = self._state.seats
        asked = [(seat.caller, kept) for seat in seats if seat.client is not None for kept in seat.kept]
        answers = await asyncio.gather(*(caller.get(f"/{kept.store}", kept.parameters) for caller, kept in asked))
        return {kept: answer for (_, kept), answer in zip(asked, answers, strict=True)}

    def _check_view(self, seat: Seat, kept: Kept, listed: Listed, *, exactly: bool) -> None:
        events = kept.watch.take()
        self._check_states(seat, kept, events)
        kept.follow_commits(events)
        if seat.client is None:
            return
        if not self._goes_on(seat, kept):
            seat.kept.remove(kept)
            return
        assert kept.within is None, f"the commit {kept.within} does not end: {events}"
        if exactly and kept.since == self._state.begun:
            self._check_events(seat, kept, events)
        self._check_entities(seat, kept, listed[kept])

    def _check_states(self, seat: Seat, kept: Kept, events: list[Event]) -> None:
        for entity in kept.fresh:
            assert self._could_see(seat, kept, entity), f"a leak: {entity}"
        kept.fresh = []
        moved = len(self._state.visibilities(seat)) > 1
        for event in events:
            before, kept.order = kept.order, order_of(event["position"])
            # All events of a change of visibility have the same position, the one before it.
            assert before < kept.order or (moved and before == kept.order), f"twice, or out of order: {event}"
            if event["op"] != "remove":
                assert self._could_see(seat, kept, event["entity"]), f"a leak: {event}"
                self._check_revision(kept, event)

    @staticmethod
    def _check_revision(kept: Kept, event: Event) -> None:
        last = kept.revs.get(event["_id"], 0)
        assert event["_rev"] >= last + (event["op"] == "update"), f"after revision {last}: {event}"
        kept.revs[event["_id"]] = event["_rev"]

    def _could_see(self, seat: Seat, kept: Kept, entity: Entity) -> bool:
        """Return whether `entity` is a state from a moment that the client does not know yet, as the client could see
        it then or later, but before its token was revoked."""
        moments, begun = self._state.moments, self._state.begun
        for then in range(kept.since, len(moments)):
            for state in moments[then].states(kept.store, entity["_id"]):
                for moment in moments[max(then, begun) : seat.lost]:
                    seen = any(moment.sees(token, kept.store, state) for token in {seat.formerly, seat.token})
                    # A client that comes back with another token hears of what its user could see meanwhile.
                    seen = seen or (then < begun and self._saw(seat, moments[then], kept.store, state))
                    hidden = moment.hidden.get(kept.store, frozenset())
                    if seen and moments[then].had(state, entity, kept.only, hidden):
                        return True
        return False

    def _saw(self, seat: Seat, moment: Moment, store: str, state: Entity) -> bool:
        """Return whether the seat's user, with the rights of now, could see the state at an earlier moment."""
        holder = self._state.now.holders.get(seat.token)
        return holder is not None and holder.sees(store, state, moment.parents)

    def _goes_on(self, seat: Seat, kept: Kept) -> bool:
        """Return whether the subscription continues. It must end exactly if its store may no longer be read or shows
        other fields."""
        moments = self._state.moments[self._state.begun :]
        readable = [m.holders[seat.token].may_read(kept.store) for m in moments if seat.token in m.holders]
        # After a long absence the hub may notice a redefinition only after it has begun to send the missed changes.
        redefined = kept.redefined or len({moment.hidden.get(kept.store) for moment in moments}) > 1
        if kept.watch.ended:
            code = kept.watch.ended["code"]
            moved = len(self._state.visibilities(seat)) > 1
            # A view ends if its rights change again while the first part of their last change has been sent.
            interrupted = moved and self._state.rights_changes > 1
            gone = redefined or (moved and self._state.stage.remembers_little) or interrupted
            assert (code == "410" and gone) or (code == "403" and not all(readable)), kept.watch.ended
            return False
        assert readable[-1], f"still watched, and not to be read: {kept.watch.request}"
        assert not redefined, f"still watched, though it shows other fields: {kept.watch.request}"
        return True

    def _check_events(self, seat: Seat, kept: Kept, events: list[Event]) -> None:
        """Check that the events of each entity are those of the predicted changes, no more and no fewer, and that those
        of a commit say so exactly if it has several changes."""
        found: dict[str, list[tuple[str, Entity | None]]] = {}
        for event in events:
            entity = None if event["op"] == "remove" else timeless(event["entity"])
            found.setdefault(event["_id"], []).append((event["op"], entity))
        expected: dict[str, list[tuple[str, Entity | None]]] = {}
        commits: list[bool] = []
        for commit in self._state.commits:
            shown_in_view = 0
            for change in commit.changes:
                if change.store == kept.store:
                    pair = tuple(self._in_view(seat, kept, state) for state in (change.before, change.after))
                    new = events_expected([(pair[0], pair[1])])
                    if new:
                        expected.setdefault(change.id, []).extend(new)
                    shown_in_view += len(new)
            commits += [len(commit.changes) > 1] if shown_in_view else []
        request = kept.watch.request
        assert found == expected, f"{request}\nexpected {expected}\nevents   {found}"
        runs = groupby(events, lambda event: event.get("commit", event["position"]))
        assert [any("commit" in event for event in run) for _, run in runs] == commits, f"{request}: {events}"

    def _in_view(self, seat: Seat, kept: Kept, state: Entity | None) -> Entity | None:
        """Return what a view shows of a state of an entity, None if it is not in the view."""
        now = self._state.now
        if state is None or not now.sees(seat.token, kept.store, state) or not matches(kept.filter, state):
            return None
        return timeless(shown(state, kept.only, now.hidden.get(kept.store, frozenset())))

    def _check_entities(self, seat: Seat, kept: Kept, listed: httpx.Response) -> None:
        expected = self._state.now.view(seat.token, kept.store, kept.filter, kept.only)
        assert listed.status_code == 200, listed.text
        assert {e["_id"]: e for e in listed.json()} == expected, f"REST shows something else: {kept.watch.request}"
        assert kept.watch.view == expected, f"not what REST shows: {kept.watch.request}"
        kept.since = len(self._state.moments) - 1
        kept.remember(self._state.visibilities(seat))
