"""Checks of what the hub answers to other reads: sums, expansions, delta sync and history.

After each step one seat reads some of them, in turn: to read all would take longer than the rest of the run.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.live.model_answers import aggregated, expanded, followed, groups_of, referring
from tests.live.model_data import Change
from tests.live.model_definitions import DATA, LINES, ORDERS, relations
from tests.live.model_state import Kept, Page, Seat, State

SUMMED = "amount"
BY = (None, "name", "marks", "order", "n", "kind", "heads")
REVERSE = (("order", LINES), ("head", LINES), ("parent", ORDERS))
MOST_HISTORIES = 2


class Reads:
    def __init__(self, state: State) -> None:
        self._state = state
        self._turn = 0

    async def check(self) -> None:
        self._turn += 1
        seats = self._state.seats
        seat = seats[self._turn % len(seats)]
        store = DATA[self._turn // 2 % len(DATA)]
        joined = self._check_groups if self._turn % 2 else self._check_expansion
        await asyncio.gather(joined(seat, store), self._check_writers(), self._check_delta(seat))

    async def _get(self, seat: Seat, store: str, parameters: dict[str, Any]) -> Any:
        """Return the answer, None if the seat's holder may not read the store, which must be refused."""
        answer = await seat.caller.get(f"/{store}", parameters)
        may = self._state.now.holders[seat.token].may_read(store)
        assert answer.status_code == (200 if may else 403), answer.text
        return answer.json() if may else None

    async def _check_groups(self, seat: Seat, store: str) -> None:
        """Check count and sum of what the seat's holder sees."""
        by = BY[self._turn % len(BY)]
        if by not in (None, *(field["id"] for field in self._state.definitions[store])):
            by = None
        request = {"aggregate": f"count,sum:{SUMMED}"} | ({"by": by} if by else {})
        answer = await self._get(seat, store, request)
        if answer is not None:
            expected = aggregated(self._state.now.visible(seat.token, store), by, SUMMED)
            assert groups_of(answer, by, SUMMED) == expected, f"{store} by {by}: {answer}, and not {expected}"

    async def _check_expansion(self, seat: Seat, store: str) -> None:
        """Check what the seat's holder sees of what entities refer to, and of what refers to them."""
        now, definitions = self._state.now, self._state.definitions
        names = [each.name for each in relations(definitions) if each.store == store]
        name, other = REVERSE[self._turn % len(REVERSE)]
        key = f"{other}({name})"
        answer = await self._get(
            seat, store, {"expand": ",".join([*names, *([key] if store == ORDERS else [])]), "limit": 1_000}
        )
        if answer is None:
            return
        expected = {e["_id"]: expanded(now, seat.token, definitions, store, e) for e in now.visible(seat.token, store)}
        if store == ORDERS:
            for id, entity in expected.items():
                entity[key] = referring(now, seat.token, other, name, id)
        found = {entity["_id"]: entity for entity in answer}
        assert found == expected, f"expanded {store}\nexpected {expected}\nfound    {found}"

    async def _check_writers(self) -> None:
        """Check that the history names the user whose request has made a change, also for its consequences."""
        chosen = [(commit.by, change) for commit in self._state.commits for change in commit.changes]
        step = max(1, len(chosen) // MOST_HISTORIES)
        await asyncio.gather(*(self._check_writer(by, change) for by, change in chosen[::step][:MOST_HISTORIES]))

    async def _check_writer(self, by: str, change: Change) -> None:
        answer = await self._state.admin.get(f"/{change.store}/{change.id}/history")
        assert answer.status_code == 200, answer.text
        entries = answer.json()["history"]
        if change.after is None:
            made = [entry for entry in entries if entry["op"] == "delete"]
        else:
            made = [entry for entry in entries if entry["_rev"] == change.after["_rev"] and entry["op"] != "delete"]
        assert [entry["by"] for entry in made] == [by], f"not by {by}: {change}: {entries}"

    # Delta sync.

    def keep_page(self, seat: Seat, listed: dict[Kept, httpx.Response]) -> None:
        """Keep the list for one of the seat's views, if there is none yet."""
        holder = self._state.now.holders[seat.token]
        # A client that has just left keeps views that its user may not read any more.
        views = [each for each in seat.kept if each in listed and holder.may_read(each.store)]
        if views and seat.page is None:
            kept = views[self._turn % len(views)]
            entities = {entity["_id"]: entity for entity in listed[kept].json()}
            position = listed[kept].headers["x-position"]
            seat.page = Page(kept, position, entities, len(self._state.moments) - 1, holder.visibility())

    async def _check_delta(self, seat: Seat) -> None:
        """Check that a list and its changes since then are the list of now."""
        page, now = seat.page, self._state.now
        if page is None:
            return
        seat.page, kept, holder = None, page.kept, now.holders[seat.token]
        answer = await seat.caller.get(f"/{kept.store}", {**kept.parameters, "since": page.position})
        redefined = len({moment.hidden.get(kept.store) for moment in self._state.moments[page.since :]}) > 1
        if not holder.may_read(kept.store):
            assert answer.status_code == 403, answer.text
        elif holder.visibility() != page.visibility or redefined:
            assert answer.status_code == 410, answer.text
        else:
            assert answer.status_code == 200, answer.text
            delta = answer.json()
            assert not delta["more"], delta
            expected = now.view(seat.token, kept.store, kept.filter, kept.only)
            assert followed(page.entities, delta["changes"]) == expected, f"{page}: {delta}"
