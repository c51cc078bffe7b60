"""The objects that all live sessions of a process share, and the limits of a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from auth.principal import Principal
from auth.resolver import Resolver
from auth.view import View
from realtime.fanout import Fanout
from realtime.filter_sizes import FilterSizes
from realtime.reconcile import Reconciler
from realtime.unread import UnreadLists
from stores.long_lists import LongLists
from stores.parse import FilterLimits
from stores.protocol import Engine
from stores.schema import StoreDefinition
from stores.turns import Gate, SharedTurns

REFRESHED_AT_ONCE: Final = 50
"""Maximum sessions that read a changed principal from the database at the same time. A role may concern all
sessions."""
BEGUN_AT_ONCE: Final = 16
"""Requests, or look-ups of changed principals, that start in one iteration of the event loop."""


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Limits of a session.

    `subscriptions` is the maximum number of its subscriptions. `snapshot` and `snapshot_bytes` are the maximum numbers
    of entities and of their bytes in one acknowledgement. `reading` is the number of seconds in which a client must
    read a long one.
    """

    subscriptions: int = 1_000
    snapshot: int = 10_000
    snapshot_bytes: int = 16_777_216
    filter_limits: FilterLimits = field(default_factory=FilterLimits)
    reading: float = 300


@dataclass(slots=True)
class LiveContext:
    """Objects that all sessions of a process share.

    `view` returns what a principal may read of a store, or raises Forbidden or NotFound. `describe` renders an error as
    ``{code, message, tags}``. `check_same_life` raises HistoryGone if a store's definition was not yet in force at a
    position.
    """

    engine: Engine
    resolver: Resolver
    fanout: Fanout
    view: Callable[[Principal, str], View]
    describe: Callable[[Exception], dict[str, Any]]
    settings: LiveSettings
    check_same_life: Callable[[StoreDefinition, str], Awaitable[None]]
    refreshing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REFRESHED_AT_ONCE))
    beginning: Gate = field(default_factory=lambda: Gate(BEGUN_AT_ONCE))
    """Spreads the start of requests: thousands of clients may subscribe at the same moment."""
    looking: Gate = field(default_factory=lambda: Gate(BEGUN_AT_ONCE))
    """Spreads the look-ups of changed principals: none of them waits for anything on SQLite."""
    turns: SharedTurns = field(default_factory=SharedTurns)
    """Shared by the sessions that continue or end their subscriptions."""
    reconciler: Reconciler = field(init=False)
    filter_sizes: FilterSizes = field(default_factory=FilterSizes)
    unread: UnreadLists = field(default_factory=lambda: UnreadLists(LongLists(32)))

    def __post_init__(self) -> None:
        self.reconciler = Reconciler(self.engine, self.fanout)
