"""The operations of a run that change who sees what, and those of its clients."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from stores.records import Entity
from tests.live.model_oracle import upwards
from tests.live.model_run import MOST_WATCHES, STORES, Run
from tests.live.model_stage import FIELDS, PLAIN, TYPED, USERS, pin
from tests.live.model_state import Kept, Seat
from tests.live.model_writes import Operation, named
from tests.support.hub import entity_of
from tests.support.live import Declined, Watch

# Visibility.


class OfUsers(Operation):
    @property
    def touches(self) -> tuple[str, ...]:
        return (USERS,)


class OfAll(Operation):
    @property
    def touches(self) -> tuple[str, ...]:
        return STORES


@dataclass(frozen=True)
class MoveUser(OfUsers):
    user: int
    group: int | None
    changes_rights = True

    async def perform(self, run: Run) -> None:
        group = None if self.group is None else run.stage.groups[self.group]
        moved = entity_of(await run.admin.patch(f"/{USERS}/{run.users[self.user]}", {"group": group}))
        run.meanwhile.append((USERS, moved))


@dataclass(frozen=True)
class GiveRoles(OfUsers):
    user: int
    roles: str
    changes_rights = True

    async def perform(self, run: Run) -> None:
        known = {"r": run.stage.role, "a": run.stage.admin_role}
        roles = [known[letter] for letter in self.roles]
        changed = entity_of(await run.admin.patch(f"/{USERS}/{run.users[self.user]}", {"roles": roles}))
        run.meanwhile.append((USERS, changed))


@dataclass(frozen=True)
class ChangeRole(Operation):
    scopes: int
    changes_rights = True

    async def perform(self, run: Run) -> None:
        scopes = run.stage.scopes(self.scopes)
        entity_of(await run.admin.patch(f"/roles/{run.stage.role}", {"scopes": scopes}))
        run.role_scopes = scopes


@dataclass(frozen=True)
class NarrowToken(Operation):
    seat: int
    scopes: int | None
    changes_rights = True

    async def perform(self, run: Run) -> None:
        token = run.seats[self.seat].token
        scopes = None if self.scopes is None else run.stage.scopes(self.scopes)
        entity_of(await run.admin.patch(f"/tokens/{token}", {"scopes": scopes}))
        run.tokens[token] = (run.tokens[token][0], scopes)


@dataclass(frozen=True)
class MoveGroup(OfAll):
    group: int
    parent: int | None
    changes_rights = True

    async def perform(self, run: Run) -> None:
        group = run.stage.groups[self.group]
        parent = None if self.parent is None else run.stage.groups[self.parent]
        if group not in upwards(parent, run.parents):
            entity_of(await run.admin.patch(f"/groups/{group}", {"parent": parent}))
            run.parents[group] = parent


@dataclass(frozen=True)
class Redefine(OfAll):
    """Show or hide the field `pin` of the typed store."""

    hidden: bool

    async def perform(self, run: Run) -> None:
        if run.hidden is not self.hidden:
            fields = [*FIELDS, pin(self.hidden)]
            entity_of(await run.admin.patch(f"/stores/{run.stage.typed}", {"fields": fields}))
            run.hidden = self.hidden
            for kept in (kept for seat in run.seats for kept in seat.kept if kept.store == TYPED):
                kept.redefined = True


@dataclass(frozen=True)
class Revoke(OfAll):
    """Delete a seat's token or disable its user, change entities that it watched, then give it a new token or enable
    the user."""

    seat: int
    disable: bool

    async def perform(self, run: Run) -> None:
        seat = run.seats[self.seat]
        user = run.tokens[seat.token][0]
        path = f"/{USERS}/{run.users[user]}"
        if self.disable:
            concerned = [s for s in run.seats if run.tokens[s.token][0] == user]
            entity_of(await run.admin.patch(path, {"disabled": True}))
        else:
            concerned = [seat]
            entity_of(await run.admin.delete(f"/tokens/{seat.token}"))
            del run.tokens[seat.token]
        run.moments.append(await run.look(*self.touches))
        watched = dict.fromkeys((k.store, id) for s in concerned for k in s.kept for id in k.watch.view)
        for store, id in [*watched][:2]:
            if store != USERS and id in run.now.entities[store]:
                entity_of(await run.admin.patch(f"/{store}/{id}", {"n": 5}))
        run.moments.append(await run.look(*self.touches))
        for other in concerned:
            other.lost = len(run.moments)
            await run.ended(other, ["revoked"])
            assert (await other.caller.get(f"/{PLAIN}")).status_code == 401
        if self.disable:
            entity_of(await run.admin.patch(path, {"disabled": False}))
        else:
            [(seat.caller, seat.token)] = await run.new_tokens(user)


# Clients.


@dataclass(frozen=True)
class Subscribe(Operation):
    """Subscribe. `how`: with a snapshot (``snapshot`` or ``auto``), or from the position of a ``list``."""

    quiet = True
    seat: int
    store: str
    filter: Entity | None
    only: str | None
    how: str

    async def perform(self, run: Run) -> None:
        seat = run.seats[self.seat]
        client = seat.client
        if client is None:
            return
        only = "login,group" if self.only and self.store == USERS else self.only
        more: dict[str, Any] = {"filter": self.of_the_run(run)} | ({"only": only} if only else {})
        if len(seat.kept) == MOST_WATCHES:
            gone = seat.kept.pop(0)
            assert (await client.ask("unsubscribe", {"channel": gone.watch.channel}))["ok"]
        if self.how == "list" and run.now.holders[seat.token].may_read(self.store):
            listed = await seat.caller.get(f"/{self.store}", more | {"filter": json.dumps(more["filter"])})
            if listed.status_code == 403 and run.together:
                return
            assert listed.status_code == 200, listed.text
            view = {entity["_id"]: entity for entity in listed.json()}
            seen = Watch("", {"store": self.store, **more}, listed.headers["x-position"], view)
            await run.keep(seat, self.store, client.resume(seen, snapshot="auto" if run.together else False))
        else:
            snapshot = "auto" if self.how == "auto" else True
            await run.keep(seat, self.store, client.watch(self.store, snapshot=snapshot, **more))

    def of_the_run(self, run: Run) -> Any:
        if self.store == USERS:
            return run.of_run
        return {} if self.filter is None else named(self.filter, run)


@dataclass(frozen=True)
class Leave(Operation):
    """Drop a connection, immediately or after some more changes."""

    quiet = True
    seat: int
    after: int

    async def perform(self, run: Run) -> None:
        seat = run.seats[self.seat]
        if self.after and seat.client is not None:
            seat.client.cut_after(self.after)
        else:
            await run.cut(seat)


@dataclass(frozen=True)
class Return(Operation):
    """Connect, and resume every view; subscribe anew to those that cannot be resumed."""

    quiet = True
    seat: int
    auto: bool

    async def perform(self, run: Run) -> None:
        seat = run.seats[self.seat]
        if seat.client is None:
            await run.connect(seat)
            views, seat.kept = seat.kept, []
            for kept in views:
                await self.go_on(run, seat, kept)

    async def go_on(self, run: Run, seat: Seat, kept: Kept) -> None:
        assert seat.client is not None
        more = {"snapshot": "auto"} if self.auto else {}
        try:
            again = await run.keep(seat, kept.store, seat.client.resume(kept.watch, **more), kept)
            anew = again is not None and again.watch.resync
        except Declined:
            assert not self.auto
            again, anew = await run.keep(seat, kept.store, watch_anew(seat, kept)), True
        if again is not None and not run.together:
            now = run.now.holders[seat.token].visibility()
            assert anew or now in kept.visibilities, f"resumed, by a visibility that it never had: {kept}"
            assert not anew or kept.visibilities != {now} or kept.redefined, "begun anew, without need"


def watch_anew(seat: Seat, kept: Kept) -> Any:
    assert seat.client is not None
    request = {name: value for name, value in kept.watch.request.items() if name != "since"}
    return seat.client.watch(**request | {"snapshot": True})


@dataclass(frozen=True)
class Become(Operation):
    """Send `authenticate` with a new token of a user, perhaps another one."""

    seat: int
    user: int

    async def perform(self, run: Run) -> None:
        seat = run.seats[self.seat]
        [(caller, token)] = await run.new_tokens(self.user)
        run.moments.append(await run.look(*self.touches))
        if seat.client is not None:
            secret = caller.http.headers["Authorization"].removeprefix("Bearer ")
            assert await seat.client.ask("authenticate", {"token": secret}) == {"ok": True}
        seat.caller, seat.token = caller, token


@dataclass(frozen=True)
class Restart(OfAll):
    """Stop or kill the hub during writes, start it again, and let all clients return and resume."""

    number: signal.Signals
    recent: int
    writes: int

    async def perform(self, run: Run) -> None:
        writing = asyncio.create_task(self.write(run))
        if self.writes:
            await asyncio.sleep(0)
        await run.stage.restart(self.number, self.recent)
        await writing
        for seat in run.seats:
            await run.ended(seat, ["shutdown"] if self.number == signal.SIGTERM else [])
        run.moments.append(await run.look(*self.touches))
        for number in range(len(run.seats)):
            await Return(number, False).perform(run)

    async def write(self, run: Run) -> None:
        """Write until all writes are done or the hub has stopped."""
        with suppress(httpx.HTTPError):
            for number in range(self.writes):
                await run.admin.post(f"/{PLAIN}", {"n": number})
