"""One run of the model: users, their connections and views, and the checks after every step.

A step is over for a connection when it has received a later write of the beacon, and the answer to a request sent after
that. Events arrive in the order of the feed, so all events of the step have arrived by then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from typing import Any

from stores.records import Entity
from tests.live.model_checks import Checks
from tests.live.model_definitions import DATA
from tests.live.model_oracle import Holder, Moment
from tests.live.model_predictions import Asked, explained
from tests.live.model_stage import PLAIN, TYPED, USERS, Stage
from tests.live.model_state import Kept, Seat, State
from tests.support.hub import Client, entity_of
from tests.support.live import Declined, Ended, LiveClient, Watch, live, order_of

STORES = (PLAIN, TYPED, *DATA, USERS)
MOST_WATCHES = 3
MOST_PATIENCE = 0.2
"""Seconds between writes to the beacon. The first ones follow more quickly."""
Token = tuple[int, tuple[str, ...] | None]
"""The number of its user, and its scopes."""


class Run(State):
    """`asked` are the requests of the current operation that the oracle predicts."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.tag = stage.tag()
        self.users: list[str] = []
        self.writers: list[Client] = []
        self.tokens: dict[str, Token] = {}
        self.role_scopes = stage.scopes(0)
        self.parents = stage.tree()
        self.hidden = True
        self.meanwhile: list[tuple[str, Entity]] = []
        self.together = False
        self.asked: list[Asked] = []
        self._checks = Checks(self)
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
        headers, entity = {"Authorization": f"Bearer {token['token']}"}, {"_id": self.users[user]}
        client = Client(self.stage.hub.url, headers, entity, self.stage.transport)
        self._clients.append(client)
        return client, token["_id"]

    # State.

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

    def holder_of(self, writer: int) -> Holder:
        """Return the administrator (0), or one of the users, as a writer."""
        if writer == 0:
            return Holder(self.admin.id, self.admin.user["group"], True, None, None)
        id = self.writers[writer].id
        return next(self.now.holders[t] for t, (user, _) in self.tokens.items() if self.users[user] == id)

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
        self.rights_changes = sum(operation.changes_rights for operation in operations)
        self.meanwhile, self.together = [], together
        self.commits = []
        for seat in self.seats:
            seat.formerly, seat.lost = seat.token, None
        if together:
            before = self.now
            await asyncio.gather(*(self._perform(operation) for operation in operations))
            after = await self.look(*{store for operation in operations for store in operation.touches})
            self._explain(after)
            either = (*self.meanwhile, *((s, e) for s in STORES for e in after.entities[s].values()))
            during = Moment(before.entities, before.holders, before.parents, before.hidden, either, blurred=True)
            self.moments += [during, *self._between(during), after]
        else:
            for operation in operations:
                self.meanwhile = []
                await self._perform(operation)
                after = await self.look(*operation.touches)
                self._explain(after)
                self.moments.append(replace(after, meanwhile=tuple(self.meanwhile)))
        await self._checks.perform(
            self._everybody_has_heard(), exactly=not together and all(operation.predicted for operation in operations)
        )

    def _explain(self, after: Moment) -> None:
        """Compare what was asked, and the moment after it, with the oracle."""
        asked, self.asked = self.asked, []
        commits = explained(self.definitions, self.now, asked, after) if asked else []
        changes = [change for commit in commits for change in commit.changes]
        self.meanwhile += [(change.store, change.after) for change in changes if change.after is not None]
        self.stage.note_numbers([(c.store, c.after["number"]) for c in changes if c.before is None and c.after])
        self.commits += [commit for commit in commits if commit.changes]

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
        patience = 0.02
        hearing = asyncio.gather(*(self._has_heard(seat, lit) for seat in self.seats))
        while not hearing.done():
            entity_of(await self.admin.patch(f"/{self.stage.beacons}/{self._beacon}", {"n": self._lit}))
            await asyncio.wait([hearing], timeout=patience)
            patience = min(2 * patience, MOST_PATIENCE)
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
            kept.remember(self.visibilities(seat))

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
            before.follow_commits(before.watch.take())
            kept = Kept(watch, before.since, revs=before.revs, redefined=before.redefined, within=before.within)
        kept.order = order_of(watch.began)
        seat.kept = [*(other for other in seat.kept if other.watch.channel != watch.channel), kept]
        return kept
