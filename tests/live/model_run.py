"""One run of the model: users, their connections and views, and the checks after every step.

A step is over for a connection when it has received a later write of the beacon, and the answer to a request sent after
that. Events arrive in the order of the feed, so all events of the step have arrived by then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from stores.records import Entity
from tests.live.model_oracle import Holder, Moment
from tests.live.model_stage import PLAIN, TYPED, USERS, Stage
from tests.support.hub import Client, entity_of
from tests.support.live import Declined, Ended, Event, LiveClient, Watch, live, order_of

STORES = (PLAIN, TYPED, USERS)
MOST_WATCHES = 3
Token = tuple[int, tuple[str, ...] | None]
"""The number of its user, and its scopes."""


@dataclass(eq=False)
class Kept:
    """A view as its client keeps it. `since`: the last moment that the client knows; `visibilities`: those that its
    holder may have had then; `redefined`: whether the store was redefined after that."""

    watch: Watch
    since: int
    visibilities: set[Any] = field(default_factory=set)
    place: str = ""
    redefined: bool = False
    order: bytes = b""
    revs: dict[str, int] = field(default_factory=dict)
    fresh: list[Entity] = field(default_factory=list)

    def remember(self, visibilities: set[Any]) -> None:
        """Set the holder's visibilities in this step. If the view has received no position in it, its position is
        older, so the earlier visibilities count too."""
        self.visibilities = visibilities if self.watch.position != self.place else self.visibilities | visibilities
        self.place = self.watch.position

    @property
    def store(self) -> str:
        return str(self.watch.request["store"])

    @property
    def only(self) -> str | None:
        return self.watch.request.get("only")

    @property
    def filter(self) -> Any:
        return self.watch.request["filter"]

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of the REST list that shows the same entities."""
        return {"filter": json.dumps(self.filter)} | ({"only": self.only} if self.only else {})


@dataclass(eq=False)
class Seat:
    """A client program. `token` is its current token, `formerly` its token at the beginning of the step. Changes after
    the moment `lost`, when its token was revoked, must not reach it."""

    caller: Client
    token: str
    formerly: str = ""
    lost: int | None = None
    client: LiveClient | None = None
    beacon: Watch | None = None
    kept: list[Kept] = field(default_factory=list)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)


class Run:
    """`moments` is the history of states; the last one is current. Those from `begun` on belong to the current step."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.admin = stage.admin
        self.tag = stage.tag()
        self.users: list[str] = []
        self.writers: list[Client] = []
        self.seats: list[Seat] = []
        self.tokens: dict[str, Token] = {}
        self.role_scopes = stage.scopes(0)
        self.parents = stage.tree()
        self.hidden = True
        self.moments: list[Moment] = []
        self.begun = 0
        self.meanwhile: list[tuple[str, Entity]] = []
        self.together = False
        self._clients: list[Client] = []
        self._lit = 0
        self._beacon = ""

    # Beginning and end.

    async def open(self) -> None:
        groups = self.stage.groups
        users = [{"login": f"{self.tag}-{n}", "name": self.tag, "group": groups[n + 1]} for n in range(3)]
        self.users = [user["_id"] for user in await self.admin.make_all(USERS, users)]
        tokens, _ = await asyncio.gather(self.new_tokens(0, 1, 2, 0, 1, 0), self._new_beacon())
        self.writers = [self.admin, *(caller for caller, _ in tokens[:3])]
        self.seats = [Seat(caller, token) for caller, token in tokens[3:]]
        self.moments.append(await self.look(*STORES))

    async def close(self) -> None:
        await asyncio.gather(*map(self.cut, self.seats), return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients))
        await self.stage.reset(self.users, self.parents, self.role_scopes, self.hidden)

    async def _new_beacon(self) -> None:
        self._beacon = (await self.admin.make(self.stage.beacons, n=0))["_id"]
        entity_of(await self.admin.put(f"/{self.stage.beacons}/{self._beacon}/access", {"access": self.users}))

    async def new_tokens(self, *users: int) -> list[tuple[Client, str]]:
        """Create one token for each user; return the callers with the ids of their tokens."""
        bodies = [{"name": self.tag, "user": self.users[user]} for user in users]
        made = await self.admin.make_all("tokens", bodies)
        return [self._caller(user, token) for user, token in zip(users, made, strict=True)]

    def _caller(self, user: int, token: Entity) -> tuple[Client, str]:
        self.tokens[token["_id"]] = (user, None)
        client = Client(self.stage.hub.url, {"Authorization": f"Bearer {token['token']}"}, {"_id": self.users[user]})
        self._clients.append(client)
        return client, token["_id"]

    # State.

    @property
    def now(self) -> Moment:
        return self.moments[-1]

    @property
    def of_run(self) -> Entity:
        """The filter by which every client watches only the users of this run."""
        return {"_id": {"$in": self.users}}

    async def look(self, *stores: str) -> Moment:
        """Return the current state, with the entities of `stores` as an administrator lists them and other stores as
        before."""
        of_run = {USERS: {"filter": json.dumps(self.of_run)}}
        listed = await asyncio.gather(*(self.admin.list(store, of_run.get(store)) for store in stores))
        found = {store: {e["_id"]: e for e in entities} for store, entities in zip(stores, listed, strict=True)}
        entities = {**self.now.entities, **found} if self.moments else found
        holders = {id: self._holder(entities[USERS][self.users[user]], s) for id, (user, s) in self.tokens.items()}
        hidden = {TYPED: frozenset({"pin"} if self.hidden else ())}
        valid = {id: holder for id, holder in holders.items() if holder is not None}
        return Moment(entities, valid, dict(self.parents), hidden, tuple(self.meanwhile))

    def _holder(self, user: Entity, scopes: tuple[str, ...] | None) -> Holder | None:
        roles = user.get("roles") or []
        by_role = (self.role_scopes if self.stage.role in roles else ()) if roles else None
        admin = self.stage.admin_role in roles
        return None if user.get("disabled") else Holder(user["_id"], user["group"], admin, by_role, scopes)

    def place_of(self, seat: Seat) -> tuple[int, int | None]:
        """Return the numbers of the seat's user and of this user's group."""
        user = self.tokens[seat.token][0]
        group = self.now.entities[USERS][self.users[user]]["group"]
        return user, None if group is None else self.stage.groups.index(group)

    # Steps.

    async def step(self, *operations: Any, together: bool = False) -> None:
        """Perform operations, wait until every client has received their events, and check all views. Operations that
        run `together` may take effect in any order: every state from before, after or in between may be seen by every
        holder who could see it before, after or in between. Otherwise each operation has its own moment."""
        self.begun = len(self.moments) - 1
        self.meanwhile, self.together = [], together
        for seat in self.seats:
            seat.formerly, seat.lost = seat.token, None
        if together:
            before = self.now
            await asyncio.gather(*(self._perform(operation) for operation in operations))
            after = await self.look(*{store for operation in operations for store in operation.touches})
            either = (*self.meanwhile, *((s, e) for s in STORES for e in after.entities[s].values()))
            during = Moment(before.entities, before.holders, before.parents, before.hidden, either, blurred=True)
            self.moments += [during, *self._between(during), after]
        else:
            for operation in operations:
                self.meanwhile = []
                await self._perform(operation)
                self.moments.append(await self.look(*operation.touches))
        listed, _ = await asyncio.gather(self._listed(), self._everybody_has_heard())
        for seat in self.seats:
            self._check(seat, listed)

    def _between(self, during: Moment) -> Iterator[Moment]:
        """Yield the moment again with each role or group that a user had only in between."""
        for store, entity in self.meanwhile:
            if store == USERS:
                own = {id: s for id, (user, s) in self.tokens.items() if self.users[user] == entity["_id"]}
                holders = {id: holder for id, s in own.items() if (holder := self._holder(entity, s)) is not None}
                yield replace(during, holders={**during.holders, **holders})

    async def _perform(self, operation: Any) -> None:
        """Perform an operation. A request may fail if its client is to be cut after some number of changes."""
        try:
            await operation.perform(self)
        except Ended:
            assert any(seat.client.was_cut for seat in self.seats if seat.client is not None)

    async def _everybody_has_heard(self) -> None:
        """Write to the beacon until all clients have caught up. On MongoDB the work after a change of visibility waits
        for another change in the feed, up to half a second."""
        self._lit = lit = self._lit + 1
        hearing = asyncio.gather(*(self._has_heard(seat, lit) for seat in self.seats))
        while not hearing.done():
            entity_of(await self.admin.patch(f"/{self.stage.beacons}/{self._beacon}", {"n": self._lit}))
            await asyncio.wait([hearing], timeout=0.02)
            self._lit += 1
        await hearing

    async def _has_heard(self, seat: Seat, lit: int) -> None:
        if seat.client is None or seat.beacon is None:
            return
        try:
            await self._sees(seat.client, seat.beacon, lit)
            if seat.beacon.ended:
                await self._light_again(seat, seat.client)
            await seat.client.ask("unsubscribe", {"channel": "none"})
        except Ended:
            assert seat.client.was_cut, f"nobody ended this connection: {seat.client.notices}"
        seat.client.check()
        if seat.client.was_cut:
            await self.cut(seat)

    async def _sees(self, client: LiveClient, beacon: Watch, lit: int) -> None:
        await client.until(lambda: beacon.ended or beacon.view[self._beacon]["n"] >= lit)

    async def _light_again(self, seat: Seat, client: LiveClient) -> None:
        """Subscribe to the beacon again. A change of visibility may end views if the hub remembers little. Events of
        the new subscription arrive after those of the other views."""
        assert seat.beacon is not None
        while seat.beacon.ended:
            assert self.stage.remembers_little, seat.beacon.ended
            assert seat.beacon.ended["code"] == "410", seat.beacon.ended
            seat.beacon = await self._watch_beacon(client)
            await self._sees(client, seat.beacon, seat.beacon.view[self._beacon]["n"] + 1)

    async def _watch_beacon(self, client: LiveClient) -> Watch:
        return await client.watch(self.stage.beacons, filter={"_id": self._beacon})

    # Connections.

    async def connect(self, seat: Seat) -> LiveClient:
        client = await seat.stack.enter_async_context(live(self.stage.hub.url, seat.caller))
        seat.client = client
        seat.beacon = await self._watch_beacon(client)
        return client

    async def cut(self, seat: Seat) -> None:
        """Drop the seat's connection if it has one. It is unknown whether the last events still arrived."""
        if seat.client is None:
            return
        client, seat.client = seat.client, None
        client.abort()
        await client.closed.wait()
        await seat.stack.aclose()
        client.check()
        for kept in seat.kept:
            kept.remember({moment.holders[token].visibility() for moment, token in self._then(seat)})

    async def ended(self, seat: Seat, notices: list[str]) -> None:
        """Wait for the hub to end this connection, and check its notices."""
        if seat.client is not None:
            try:
                said = await seat.client.ending()
                assert said == notices or seat.client.was_cut, said
            finally:
                await self.cut(seat)

    async def keep(self, seat: Seat, store: str, asking: Awaitable[Watch], before: Kept | None = None) -> Kept | None:
        """Keep a new view, or one that continues `before`. Returns None if the hub refuses it, which it must do exactly
        if the store may not be read. Raises Declined if `before` cannot be continued."""
        may = self.now.holders[seat.token].may_read(store)
        try:
            watch = await asking
        except Declined as refusal:
            if refusal.answer["error"]["code"] != "403":
                raise
            watch = None
        assert (watch is not None) is may or self.together, f"may it read {store}? {may}: {watch}"
        if watch is None:
            return None
        if before is None or watch.resync:
            kept = Kept(watch, self.begun, fresh=[*watch.view.values()])
        else:
            kept = Kept(watch, before.since, revs=before.revs, redefined=before.redefined)
        kept.order = order_of(watch.began)
        seat.kept = [*(other for other in seat.kept if other.watch.channel != watch.channel), kept]
        return kept

    def _then(self, seat: Seat) -> list[tuple[Moment, str]]:
        """Return the moments of the current step with the tokens that the seat may have had."""
        tokens = {seat.formerly, seat.token}
        return [(moment, token) for moment in self.moments[self.begun :] for token in tokens if token in moment.holders]

    # Checks.

    async def _listed(self) -> dict[Kept, httpx.Response]:
        """Return the REST list for each view of a connected client."""
        asked = [(seat.caller, kept) for seat in self.seats if seat.client is not None for kept in seat.kept]
        answers = await asyncio.gather(*(caller.get(f"/{kept.store}", kept.parameters) for caller, kept in asked))
        return {kept: answer for (_, kept), answer in zip(asked, answers, strict=True)}

    def _check(self, seat: Seat, listed: dict[Kept, httpx.Response]) -> None:
        for kept in list(seat.kept):
            self._check_events(seat, kept)
            if seat.client is not None and self._goes_on(seat, kept):
                self._check_view(seat, kept, listed[kept])
            elif seat.client is not None:
                seat.kept.remove(kept)

    def _check_events(self, seat: Seat, kept: Kept) -> None:
        for entity in kept.fresh:
            assert self._could_see(seat, kept, entity), f"a leak: {entity}"
        kept.fresh = []
        moved = len({m.holders[t].visibility() for m, t in self._then(seat)}) > 1
        for event in kept.watch.take():
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
        for then in range(kept.since, len(self.moments)):
            for state in self.moments[then].states(kept.store, entity["_id"]):
                for moment in self.moments[max(then, self.begun) : seat.lost]:
                    seen = any(moment.sees(token, kept.store, state) for token in {seat.formerly, seat.token})
                    hidden = moment.hidden.get(kept.store, frozenset())
                    if seen and self.moments[then].had(state, entity, kept.only, hidden):
                        return True
        return False

    def _goes_on(self, seat: Seat, kept: Kept) -> bool:
        """Return whether the subscription continues. It must end exactly if its store may no longer be read or shows
        other fields."""
        moments = self.moments[self.begun :]
        readable = [m.holders[seat.token].may_read(kept.store) for m in moments if seat.token in m.holders]
        # After a long absence the hub may notice a redefinition only after it has begun to send the missed changes.
        redefined = kept.redefined or len({moment.hidden.get(kept.store) for moment in moments}) > 1
        if kept.watch.ended:
            code = kept.watch.ended["code"]
            moved = len({moment.holders[token].visibility() for moment, token in self._then(seat)}) > 1
            gone = redefined or (moved and self.stage.remembers_little)
            assert (code == "410" and gone) or (code == "403" and not all(readable)), kept.watch.ended
            return False
        assert readable[-1], f"still watched, and not to be read: {kept.watch.request}"
        assert not redefined, f"still watched, though it shows other fields: {kept.watch.request}"
        return True

    def _check_view(self, seat: Seat, kept: Kept, listed: httpx.Response) -> None:
        expected = self.now.view(seat.token, kept.store, kept.filter, kept.only)
        assert listed.status_code == 200, listed.text
        assert {e["_id"]: e for e in listed.json()} == expected, f"REST shows something else: {kept.watch.request}"
        assert kept.watch.view == expected, f"not what REST shows: {kept.watch.request}"
        kept.since = len(self.moments) - 1
        kept.remember({moment.holders[token].visibility() for moment, token in self._then(seat)})
