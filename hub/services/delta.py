"""Delta sync: the changes in a view of a store since a position."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from auth.positions import bind, unbind
from auth.principal import Principal
from hub.services.registry import StoreRegistry
from hub.services.store_lives import StoreLives
from realtime.change_view import ChangeView, ViewChange
from realtime.redefinitions import check_same_store
from stores.bounds import Limit
from stores.commits import rest_of_commit
from stores.protocol import Batch, Engine
from stores.query import Filter, Projection
from stores.records import Change
from stores.steps import TakesLong
from stores.turns import Turn

READ_AT_ONCE = 1_000
READ_AT_LEAST = 100
ROUNDS = 10
"""Reads of the feed for one answer, so that a quiet store in a busy database does not delay the request."""

MOST_DELTA_BYTES: Annotated[int, Limit("request", "bytes", "`more`")] = 8_388_608
"""Size of the changes in one answer. The change that exceeds it is still included."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Changes since a position. `position` resumes after them; if `more` is set, further changes are available. The
    positions of single changes are bound to `digest` (see `auth.positions`)."""

    changes: list[ViewChange]
    position: str
    more: bool
    digest: str


class DeltaService:
    def __init__(self, engine: Engine, registry: StoreRegistry, lives: StoreLives) -> None:
        self._engine = engine
        self._registry = registry
        self._lives = lives

    async def since(
        self,
        principal: Principal,
        store: str,
        position: str,
        where: Filter,
        projection: Projection,
        limit: int,
        *,
        searched: bool = False,
    ) -> Delta:
        """Return at most `limit` changes; with 0 none, and whether there are any. Raises HistoryGone if the position is
        unknown or too old, or if the principal's visibility or the store has changed: the caller needs a fresh list
        then. `searched`: `where` contains a search, which depends on the searchable fields of the store."""
        view = self._registry.authorized(principal, store)
        position = unbind(position, view.digest)
        changes = ChangeView(store, view.narrowed(where), view.shown(projection))
        most = limit or READ_AT_ONCE
        builder = _DeltaBuilder(changes, most, position)
        for round in range(ROUNDS):
            # At least so many, because a read that begins or ends within a commit reads the rest of it, too.
            limit_of_read = max(READ_AT_LEAST, min(READ_AT_ONCE, most - len(builder.found)))
            batch = await self._engine.feed.read(builder.position, limit_of_read, whole=True)
            check_same_store(view.definition, batch.changes, searched=searched)
            if round == 0:  # the position is one of this feed
                await self._lives.check(view.definition, position, searched=searched)
            await builder.add(batch)
            if builder.is_full or not batch.more:
                break
        if limit == 0:
            return Delta([], bind(position, view.digest), bool(builder.found) or builder.more, view.digest)
        return Delta(builder.found, bind(builder.position, view.digest), builder.more, view.digest)


@dataclass(slots=True)
class _DeltaBuilder:
    """Collects the changes of a view for one answer. `position` is the end of the part already examined."""

    view: ChangeView
    limit: int
    position: str
    found: list[ViewChange] = field(default_factory=list)
    size: int = 0
    more: bool = True

    @property
    def is_full(self) -> bool:
        return len(self.found) >= self.limit or self.size >= MOST_DELTA_BYTES

    async def add(self, batch: Batch) -> None:
        """Add a range of the feed that cuts no commit, as far as there is room. Raises FilterTooCostly."""
        turn = Turn()
        begun = len(self.found)
        """The first of the found changes that may be of the current commit."""
        for index, change in enumerate(batch.changes):
            event = await self._seen(change)
            if event is not None:
                self.found.append(event)
                self.size += change.size
            if change.commit is None or change.ends_commit:
                self._mark_last(begun, change)
                begun = len(self.found)
            if self.is_full:
                if begun < len(self.found) and not await self._goes_on(batch, index):
                    self._mark_last(begun, change)
                self.position = change.position
                self.more = change is not batch.changes[-1] or batch.more
                return
            if turn.is_over:
                await turn.pass_on()
        self.position, self.more = batch.position, batch.more

    async def _seen(self, change: Change) -> ViewChange | None:
        try:
            return self.view.at_once(change)
        except TakesLong:
            return await self.view.off_loop(change)

    async def _goes_on(self, batch: Batch, index: int) -> bool:
        """Return whether the view shows a further change of the commit of the one at `index`."""
        turn = Turn()
        for change in rest_of_commit(batch.changes, index):
            if await self._seen(change) is not None:
                return True
            if turn.is_over:
                await turn.pass_on()
        return False

    def _mark_last(self, begun: int, change: Change) -> None:
        """Mark the last of the found changes since `begun`, if it is of the commit of `change`."""
        if begun < len(self.found) and (last := self.found[-1]).change.commit == change.commit is not None:
            self.found[-1] = replace(last, is_last=True)
