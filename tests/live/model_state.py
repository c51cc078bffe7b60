"""The state of a run: its clients, the views that they keep, and the history of the hub's state."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from stores.records import Entity
from tests.live.model_definitions import DEFINITIONS, Definitions
from tests.live.model_oracle import Moment
from tests.live.model_predictions import Commit
from tests.live.model_stage import Stage
from tests.support.hub import Client
from tests.support.live import Event, LiveClient, Watch


@dataclass(eq=False)
class Kept:
    """A view as its client keeps it. `since`: the last moment that the client knows; `visibilities`: those that its
    holder may have had then; `redefined`: whether the store was redefined after that; `within`: the commit of which the
    client has some events, but not the last one."""

    watch: Watch
    since: int
    visibilities: set[Any] = field(default_factory=set)
    place: str = ""
    redefined: bool = False
    within: str | None = None
    order: bytes = b""
    revs: dict[str, int] = field(default_factory=dict)
    fresh: list[Entity] = field(default_factory=list)

    def remember(self, visibilities: set[Any]) -> None:
        """Set the holder's visibilities in this step. If the view has received no position in it, its position is
        older, so the earlier visibilities count too."""
        self.visibilities = visibilities if self.watch.position != self.place else self.visibilities | visibilities
        self.place = self.watch.position

    def follow_commits(self, events: Iterable[Event]) -> None:
        """Check that no other event comes before the last one of a commit."""
        for event in events:
            commit = event.get("commit")
            assert self.within in (None, commit), f"within the commit {self.within}: {event}"
            self.within = None if event.get("last") else commit

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


@dataclass(frozen=True)
class Page:
    """The list for a view, as a client has read it at the moment `since`, to ask later what has changed. `visibility`:
    that of its holder then."""

    kept: Kept
    position: str
    entities: dict[str, Entity]
    since: int
    visibility: Any


@dataclass(eq=False)
class Seat:
    """A client program. `token` is its current token, `formerly` its token at the beginning of the step. Changes after
    the moment `lost`, when its token was revoked, must not reach it. `page`: a list of which it asks later what has
    changed."""

    caller: Client
    token: str
    formerly: str = ""
    lost: int | None = None
    client: LiveClient | None = None
    beacon: Watch | None = None
    kept: list[Kept] = field(default_factory=list)
    page: Page | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)


class State:
    """`moments` is the history of states; the last one is current. Those from `begun` on belong to the current step,
    `commits` are what its requests have changed, as far as the oracle predicts it, and `rights_changes` counts its
    operations that may change who sees what. `definitions` are those of the stores that it predicts: a step that
    changes a definition and its data changes them too."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.admin = stage.admin
        self.seats: list[Seat] = []
        self.moments: list[Moment] = []
        self.begun = 0
        self.rights_changes = 0
        self.definitions: Definitions = DEFINITIONS
        self.commits: list[Commit] = []

    @property
    def now(self) -> Moment:
        return self.moments[-1]

    def then(self, seat: Seat) -> list[tuple[Moment, str]]:
        """Return the moments of the current step with the tokens that the seat may have had."""
        tokens = {seat.formerly, seat.token}
        return [(moment, token) for moment in self.moments[self.begun :] for token in tokens if token in moment.holders]

    def visibilities(self, seat: Seat) -> set[Any]:
        """Return the visibilities that the holder may have had in the current step."""
        return {moment.holders[token].visibility() for moment, token in self.then(seat)}
