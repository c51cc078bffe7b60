"""Repairs group paths (the field `branch`) stamped while a group was being moved. An entity created meanwhile may get
the chain of groups from before the move, too late for the move to re-stamp it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from auth.groups import chain_of, subtree_of
from auth.principal import Principal
from hub.services.move_notes import MoveNotes
from hub.services.registry import StoreRegistry
from hub.services.stamping import stamps_of
from hub.services.walking import each_entity
from stores.errors import InvalidEntity, ReadTimeout, StoreError
from stores.protocol import UNBOUNDED, Engine, UpdateMany, Write
from stores.query import And, Equal, Not
from stores.records import Change, now_ms
from stores.tasks import end_tasks

T = TypeVar("T")
log = logging.getLogger(__name__)

CLOCK_MS: Final = 5_000
"""Milliseconds by which the clocks of this machine and of the database may differ."""

LONGEST_REQUEST: Final = 120.0
"""Seconds for which a request may use a principal from before a group's move."""

NOTE: Final = "what a note names"

_MOST_TIMEOUTS: Final = 10
"""Attempts that may exceed a time limit: beyond that, the work is more than a read or a bulk change may take."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
"""Seconds between attempts to re-stamp."""


class Stamping:
    """Context manager for a write, from stamping to commit. `overlapped` is false if no other write overlapped with
    it."""

    __slots__ = ("_group_paths", "_number", "overlapped")

    def __init__(self, group_paths: GroupPathKeeper) -> None:
        self._group_paths = group_paths
        self._number = 0
        self.overlapped = True

    def __enter__(self) -> Stamping:
        self._number, alone = self._group_paths.begin()
        self.overlapped = not alone
        return self

    def __exit__(self, *_: object) -> None:
        self.overlapped = not self._group_paths.end(self._number) or self.overlapped


class GroupPathKeeper:
    """Tracks the writes in flight in this process, and re-stamps their entities when a group moves."""

    def __init__(self, engine: Engine, registry: StoreRegistry) -> None:
        self._engine = engine
        self._registry = registry
        self._begun = 0
        self._open: set[int] = set()
        self._ended = asyncio.Event()
        self._moved_at = -LONGEST_REQUEST
        self._ended_ms = 0
        self._mine: set[str] = set()
        self._notes = MoveNotes(engine)
        self._unsure: dict[str, str] = {}
        """The notes of moves, by group, whose commit this process cannot confirm."""
        self._restamping: set[asyncio.Task[None]] = set()
        self._gaps = 0

    def stamping(self) -> Stamping:
        """Return the context for any code that stamps entities with a branch or moves a group, up to its commit."""
        return Stamping(self)

    def begin(self) -> tuple[int, bool]:
        """Begin a write. Return its number, and whether no other write is in flight."""
        self._begun += 1
        alone = not self._open
        self._open.add(self._begun)
        return self._begun, alone

    def end(self, number: int) -> bool:
        """End a write. Return whether no other write has begun since it began."""
        self._open.remove(number)
        self._ended_ms = now_ms()
        self._ended.set()
        return self._begun == number

    async def start(self) -> None:
        """Re-stamp in the background what an earlier process has left."""
        left = await self._notes.left()
        if left:
            self._start(self._restamp_left(left))

    @contextmanager
    def moving(self, group: str, note: str) -> Iterator[None]:
        """Context for the commit that moves a group, and writes the note with this id. The caller must `finish_move`
        afterwards."""
        self._moved_at = time.monotonic()
        self._mine.add(group)
        try:
            yield
        except BaseException:
            self._mine.discard(group)
            self._unsure[group] = note
            raise

    async def finish_move(self, group: str, by: str | None, note: str, *, overlapped: bool) -> None:
        """Re-stamp the entities that a move has missed, if another write overlapped with it, and remove its note. If
        that fails, it is retried in the background: the move itself is committed."""
        try:
            if overlapped:
                await self.restamp(group, by)
            await self._notes.remove([note])
        except BaseException as error:
            self._start(self._restamp_later(group, by, note))
            if not isinstance(error, StoreError):
                raise
            log.warning("group %s has moved, and what was created meanwhile is re-stamped later: %s", group, error)

    def follow(self, changes: Iterable[Change]) -> None:
        """Process changes from the feed, which also contains moves by other processes."""
        for change in changes:
            if change.store == "groups" and change.op == "lost":
                self.start_afresh()
            elif change.store == "groups" and _moves(change):
                self._moved_at = time.monotonic()
                note = self._unsure.pop(change.id, None)
                if change.id in self._mine:
                    self._mine.remove(change.id)
                elif note or self._open or self._ended_ms > change.time - CLOCK_MS:
                    self._start(self._restamp_later(change.id, change.by, note))

    def start_afresh(self) -> None:
        """Process a gap in the feed, in which any group may have moved."""
        self._moved_at = time.monotonic()
        self._mine.clear()
        self._gaps += 1
        if self._gaps == 1:
            self._start(self._restamp_trees_later())

    async def branch_of(self, principal: Principal) -> tuple[str, ...]:
        """Return the chain of the principal's group. It is read from the database if groups have moved recently."""
        if time.monotonic() - self._moved_at > LONGEST_REQUEST:
            return principal.branch
        return await chain_of(self._engine, principal.group)

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._restamping.add(task)
        task.add_done_callback(self._restamping.discard)

    async def stop(self) -> None:
        await end_tasks(self._restamping)

    async def _restamp_left(self, left: Mapping[str | None, Sequence[str]]) -> None:
        """Re-stamp what the notes of earlier processes name."""
        done: dict[str | None, bool] = {}
        # Other processes may still write with the chains of groups from before.
        for pause in (0, LONGEST_REQUEST) if self._engine.shared else (0,):
            await asyncio.sleep(pause)
            for group in left:
                done[group] = await (self._restamp_trees() if group is None else self._restamp_tree(group, None))
        for group, notes in left.items():
            if done[group]:
                await _repeat(partial(self._notes.remove, notes), NOTE)

    async def _restamp_trees_later(self) -> None:
        """Re-stamp the entities that moves in a gap have missed, once more if there is another gap meanwhile."""
        done = 0
        note: str | None = None
        try:
            while done < self._gaps:
                done = self._gaps
                note = note or await _repeat(partial(self._notes.add, None), NOTE)
                if await self._restamp_trees() and note is not None:
                    await _repeat(partial(self._notes.remove, [note]), NOTE)
                    note = None
        finally:
            self._gaps = 0

    async def _restamp_trees(self) -> bool:
        """Re-stamp everything that is stale. Return whether all of it could be re-stamped."""
        roots = await _repeat(partial(_roots, self._engine), "what was created during a gap in the feed")
        # One by one: a group that cannot be re-stamped keeps no other from it.
        done = [await self._restamp_tree(root, None) for root in roots or ()]
        return roots is not None and all(done)

    async def _restamp_later(self, group: str, by: str | None, note: str | None) -> None:
        """Re-stamp what a move has missed. `note` is the one that was written with the move."""
        note = note or await _repeat(partial(self._notes.add, group), NOTE)
        if await self._restamp_tree(group, by) and note is not None:
            await _repeat(partial(self._notes.remove, [note]), NOTE)

    async def _restamp_tree(self, group: str, by: str | None) -> bool:
        """Return whether everything in and below the group is re-stamped; false if that cannot be done."""
        done = await _repeat(partial(self.restamp, group, by), f"what was created while group {group} moved")
        return done is not None

    async def restamp(self, group: str, by: str | None) -> bool:
        """Wait for the writes in flight, then re-stamp the entities that the group's move has missed. Return true."""
        newest = self._begun
        while any(number <= newest for number in self._open):
            self._ended.clear()
            await self._ended.wait()
        with self.stamping():
            writes = await restamped(self._engine, self._registry, group)
            await self._engine.commit(writes, by)
        return True


async def _repeat(work: Callable[[], Awaitable[T]], what: str) -> T | None:
    """Repeat `work` until it succeeds, with growing pauses, and return its result; None once a repetition is of no
    use."""
    pause = _FIRST_PAUSE
    timeouts = 0
    while True:
        try:
            return await work()
        except InvalidEntity as error:  # more than the database can change at once
            log.error("cannot re-stamp %s: %s", what, error)
            return None
        except ReadTimeout as error:
            timeouts += 1
            if timeouts == _MOST_TIMEOUTS:
                log.error("cannot re-stamp %s: %s", what, error)
                return None
            log.warning("cannot re-stamp %s yet: %s", what, error)
        except StoreError as error:
            log.warning("cannot re-stamp %s yet: %s", what, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _roots(engine: Engine) -> list[str]:
    """Return groups below which are all groups: those without a parent that exists, and one of each circle, which only
    another program can make."""
    parents = {group["_id"]: group.get("parent") async for group in each_entity(engine, "groups")}
    children: dict[str, list[str]] = {}
    for group, parent in parents.items():
        if isinstance(parent, str) and parent in parents:
            children.setdefault(parent, []).append(group)
    below = {child for some in children.values() for child in some}
    roots: list[str] = []
    reached: set[str] = set()
    for group in sorted(parents, key=below.__contains__):  # circles last
        if group not in reached:
            roots.append(group)
            level = [group]
            while level:
                reached.update(level)
                level = [child for each in level for child in children.get(each, ()) if child not in reached]
    return roots


def _moves(change: Change) -> bool:
    before, after = change.before, change.after
    return before is not None and after is not None and before.get("parent") != after.get("parent")


async def restamped(engine: Engine, registry: StoreRegistry, group: str) -> list[Write]:
    """Return writes that update the outdated branches of everything in and below the group."""

    async def branch_of(each: str) -> list[str]:
        return list(await chain_of(engine, each))

    return await restamping(engine, registry, list(await subtree_of(engine, group)), branch_of, stale_only=True)


async def restamping(
    engine: Engine,
    registry: StoreRegistry,
    groups: Sequence[str],
    branch_of: Callable[[str], Awaitable[list[str]]],
    *,
    stale_only: bool = False,
) -> list[Write]:
    """Return writes that give each entity of the groups its group's branch, for the stores and groups that contain any.
    With `stale_only`, they affect only entities with another branch."""
    definitions = {definition.name: definition for definition in registry.all()}
    in_use = await engine.groups_in_use([*definitions], groups)
    stores_of: dict[str, list[str]] = {}
    for store, group in sorted(in_use):
        stores_of.setdefault(group, []).append(store)
    writes: list[Write] = []
    for group in groups:
        if group not in stores_of:
            continue
        branch = await branch_of(group)
        inside = Equal(("group",), group)
        where = And((inside, Not(Equal(("branch",), branch)))) if stale_only else inside
        changes = {"branch": branch, "_at": now_ms()}
        writes += [
            UpdateMany(store, where, changes, UNBOUNDED, stamps=stamps_of(definitions[store]))
            for store in stores_of[group]
        ]
    return writes
