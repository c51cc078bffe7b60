"""Commits: all writes or none, and repeated when transactions collide."""

from __future__ import annotations

import asyncio
import time as clock
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import orjson
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from stores.errors import refused_at
from stores.mongo.array_paths import naming_paths
from stores.mongo.batched_inserts import BatchedInserts
from stores.mongo.bounding import check_size
from stores.mongo.codec import revision, to_document
from stores.mongo.compile import REVISION, UNNUMBERED
from stores.mongo.connection import META, Connection, Session
from stores.mongo.definition_gate import DefinitionGate
from stores.mongo.entity_turns import EntityTurns
from stores.mongo.errors import (
    is_of_wrong_type,
    refusals_at,
    store_errors,
)
from stores.mongo.idempotency import write_once
from stores.mongo.locks import Numbers, Precedence, make_locks
from stores.mongo.orphans import end_orphans
from stores.mongo.planning import guard_id, guards_of, is_bulk, is_large, runs_of, with_long_procedures
from stores.mongo.procedures import proceed
from stores.mongo.repetition import Repetition
from stores.mongo.room import Room, longest_wait
from stores.mongo.serials import numbered
from stores.mongo.writes import WriteExecutor
from stores.protocol import (
    Definitions,
    Feed,
    IdempotencyKey,
    Insert,
    Procedure,
    Recheck,
    Update,
    Upsert,
    Write,
    Written,
)
from stores.rechecking import check_changes
from stores.superseded import changed_definitions
from stores.tasks import end_tasks
from stores.threads import of_transaction
from stores.tracebacks import drop_tracebacks
from stores.turns import FairSemaphore

T = TypeVar("T")
Attempt = Callable[[], Awaitable[list[Written]]]

_SUSPICIOUS_SECONDS: Final = 1.0
"""Seconds after which a commit is suspicious. It normally takes milliseconds; it may be waiting for a transaction whose
hub has died."""

_AT_ONCE: Final = 64
"""Commits in progress at a time. The pool has more connections, so some are left for reads."""

_TRANSACTIONS: Final = 32
"""Of these, transactions, which take several steps and may collide. The rest is left for single changes."""

_TRANSACTIONS_EACH: Final = 16
"""Transactions of one user: if they collide with each other, they delay no other user's."""

_BULK: Final = 16
"""Of the commits in progress, bulk changes, which may take long to find their entities."""

_BULK_EACH: Final = 8

_COLLISIONS: Final = 2
"""Collisions after which a transaction that locks exclusively goes before others."""


class Committer:
    """The writing methods of `stores.protocol.Engine`."""

    def __init__(self, connection: Connection, feed: Feed, most_bytes: int) -> None:
        self._connection = connection
        self._feed = feed
        self._most_bytes = most_bytes
        # Requests with the same key wait for each other here, so that they do not collide in the database.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._running: dict[asyncio.Task[list[Written]], float] = {}  # since when
        self._watch: asyncio.Task[None] | None = None
        self._batched_inserts = BatchedInserts(connection)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._slots = FairSemaphore(_TRANSACTIONS, _TRANSACTIONS_EACH)
        self._bulk_slots = FairSemaphore(_BULK, _BULK_EACH)
        self._large = asyncio.Lock()
        self._gate = DefinitionGate()
        self._entity_turns = EntityTurns()
        self._guards: set[str] = set()  # guards whose documents are known to exist
        self._has_locks = False
        self._numbers = Numbers()
        self._precedence = Precedence()

    async def commit(
        self,
        writes: Sequence[Write],
        by: str | None,
        key: IdempotencyKey | None,
        definition: Definitions = None,
    ) -> list[Written]:
        writes = with_long_procedures(writes)
        return await self._finished(writes, partial(self._attempt, writes, by, key, definition), definition)

    async def commit_with(
        self, writes: Sequence[Write], owner: str, also: Callable[[Session], Awaitable[None]]
    ) -> None:
        """Call `also`, then do `writes`, in one transaction, which may take several attempts. `owner` takes turns with
        the users whose transactions wait."""
        await self._finished(writes, partial(self._attempt_with, writes, owner, also))

    async def _attempt_with(
        self, writes: Sequence[Write], owner: str, also: Callable[[Session], Awaitable[None]]
    ) -> list[Written]:
        async def work(session: Session, room: Room) -> list[Written]:
            await also(session)
            return await self._write(writes, None, None, session, room)

        async with self._entity_turns.of(writes, owner):
            await self._make_guards(writes)
            return await self._in_transaction(writes, self._turn(writes, owner), work)

    async def _finished(
        self, writes: Sequence[Write], attempt: Attempt, definition: Definitions = None
    ) -> list[Written]:
        # In a task of its own: the cancellation of the caller must not interrupt a transaction or cost a connection of
        # the pool.
        task = asyncio.create_task(self._in_order(writes, attempt, definition))
        self._running[task] = clock.monotonic()
        task.add_done_callback(self._running.pop)
        if self._watch is None:
            self._watch = asyncio.create_task(self._clear_the_way())
        with naming_paths(definition):
            outcome = await asyncio.shield(task)
        for write, done in zip(writes, outcome, strict=False):
            if isinstance(write, Procedure):
                continue  # its outcome may stand for many entities
            self._connection.sizes.note(write.store, len(done.entity))
        return outcome

    async def finish(self, seconds: float) -> None:
        """Wait for the commits in progress, for at most `seconds`. Then cancel them; the server undoes those that are
        not complete."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        await end_tasks(self._running)
        if self._watch is not None:
            await end_tasks([self._watch])

    async def _clear_the_way(self) -> None:
        """While there are commits, end transactions of dead hubs that keep one of them waiting. A single write waits
        for such a transaction inside the server, without an error."""
        try:
            while self._running:
                await asyncio.sleep(_SUSPICIOUS_SECONDS)
                long_ago = clock.monotonic() - _SUSPICIOUS_SECONDS
                if any(since < long_ago for since in self._running.values()):
                    await end_orphans(self._connection)
        finally:
            self._watch = None  # if this task fails, the next commit starts another one

    async def _in_order(self, writes: Sequence[Write], attempt: Attempt, definition: Definitions) -> list[Written]:
        if definition is None:
            return await self._commit(writes, attempt)
        async with self._gate.relying_on(definition, writes):
            return await self._commit(writes, attempt)

    async def _commit(self, writes: Sequence[Write], attempt: Attempt) -> list[Written]:
        with store_errors():
            try:
                return await attempt()
            except PyMongoError as error:
                if not is_of_wrong_type(error):
                    raise
            await self._drop_false_revisions({write.store for write in writes})
            return await attempt()

    async def _attempt(
        self, writes: Sequence[Write], by: str | None, key: IdempotencyKey | None, definition: Definitions
    ) -> list[Written]:
        if key is None and (unaltered := await self._unaltered(writes, by, definition)) is not None:
            return [unaltered]
        # Before all other turns, so that nobody who waits for an entity holds what its writer needs.
        async with self._entity_turns.of(writes, by):
            return await self._attempt_in_turn(writes, by, key, definition)

    async def _unaltered(self, writes: Sequence[Write], by: str | None, definition: Definitions) -> Written | None:
        """Return the outcome of a single write that has stamps, if it alters nothing: it waits for nobody."""
        only = writes[0] if len(writes) == 1 else None
        if not isinstance(only, Update | Upsert) or not only.stamps:
            return None
        async with self._turns:
            with self._gate.attempt(definition, writes):
                return await WriteExecutor(self._connection, by, self._most_bytes).unaltered(only)

    async def _attempt_in_turn(
        self, writes: Sequence[Write], by: str | None, key: IdempotencyKey | None, definition: Definitions
    ) -> list[Written]:
        await self._make_guards(writes)
        if not self._has_locks and any(isinstance(write, Procedure) for write in writes):
            await make_locks(self._connection)
            self._has_locks = True
        if key is not None:
            lock = self._locks.setdefault(key.key, asyncio.Lock())
            async with lock:
                write = partial(self._write, writes, by, definition)
                work = partial(write_once, self._connection, key, write)
                return await self._in_transaction(writes, self._turn(writes, by), work, definition)
        only = writes[0] if len(writes) == 1 else None
        if isinstance(only, Insert) and not only.stamps:
            [entity] = await numbered(self._connection, [only.entity], only.serials)
            text = orjson.dumps(entity)  # the same as that of the document: both begin with `_id`
            check_size(text, self._most_bytes)
            await self._batched_inserts.insert(only.store, to_document(entity, by))
            return [Written(text, revision(entity))]
        if isinstance(only, Update | Upsert) and not only.stamps and not changed_definitions(writes):
            async with self._turns:
                with self._gate.attempt(definition, writes):
                    return [await WriteExecutor(self._connection, by, self._most_bytes).write(only)]
        if not writes:
            return []
        work = partial(self._write, writes, by, definition)
        return await self._in_transaction(writes, self._turn(writes, by), work, definition)

    async def _drop_false_revisions(self, stores: Collection[str]) -> None:
        """Remove `_rev` from documents in which another program stored a value that cannot be incremented. Their
        revision is 0 before and after."""
        for store in stores:
            false = {REVISION: {"$exists": True}, **UNNUMBERED}
            await self._connection.collection(store).update_many(false, {"$unset": {REVISION: ""}})

    async def _make_guards(self, writes: Sequence[Write]) -> None:
        """Create the documents of guards, before the transactions with expectations that use them. If two transactions
        created one, they would fail with a duplicate id, after which a transaction is not repeated."""
        for guard in guards_of(writes):
            if guard not in self._guards:
                meta = self._connection.collection(META)
                await meta.update_one({"_id": guard_id(guard)}, {"$setOnInsert": {"commits": 0}}, upsert=True)
                self._guards.add(guard)

    async def _write(
        self, writes: Sequence[Write], by: str | None, definition: Definitions, session: Session, room: Room
    ) -> list[Written]:
        for guard in guards_of(writes):
            # Snapshot isolation does not detect conflicts with reads: of two transactions that change the same
            # document, one is repeated.
            meta = self._connection.collection(META)
            await meta.update_one({"_id": guard_id(guard)}, {"$inc": {"commits": 1}}, session=session)
        executor = WriteExecutor(self._connection, by, self._most_bytes, session, room)
        await executor.reserve_stamps(writes)
        outcome: list[Written] = []
        for run in runs_of(writes):
            with refusals_at(len(outcome)):
                outcome += await self._write_run(executor, run, len(outcome), definition)
        return outcome

    async def _write_run(
        self, executor: WriteExecutor, run: Sequence[Write], start: int, definition: Definitions
    ) -> list[Written]:
        """Do a run of similar writes. `start` is the position of the run in its commit."""
        inserts = [write for write in run if isinstance(write, Insert)]
        upserts = [write for write in run if isinstance(write, Upsert)]
        if len(inserts) > 1:
            return await executor.insert_all(inserts, start)
        if len(upserts) > 1:
            return await executor.upsert_all(upserts, start)
        only = run[0]
        if isinstance(only, Recheck):
            return [await self._recheck(only)]
        if isinstance(only, Procedure):
            return [await proceed(executor, only, start, definition)]
        with refused_at(start):
            return [await executor.write(only)]

    async def _recheck(self, write: Recheck) -> Written:
        await check_changes(self._feed, write.since, write.check)
        return Written(b"", 0, 0)

    @asynccontextmanager
    async def _turn(self, writes: Sequence[Write], by: str | None) -> AsyncIterator[None]:
        """Wait for the turn of a transaction, and hold it while the block runs. Bulk changes wait only for each other.
        Raises TooManySlowWrites."""
        slots = self._bulk_slots if is_bulk(writes) else self._slots
        async with AsyncExitStack() as stack:
            async with longest_wait():
                await stack.enter_async_context(slots.slot(by or ""))
                await stack.enter_async_context(self._turns)
            yield

    async def _in_transaction(
        self,
        writes: Sequence[Write],
        turn: AbstractAsyncContextManager[None],
        work: Callable[[Session, Room], Awaitable[list[Written]]],
        definition: Definitions = None,
    ) -> list[Written]:
        """Run `work`, which does `writes` that rely on `definition`, in a transaction, commit it and return its result.

        It is repeated when it collides with another transaction, and a few times when the server's cache has no room
        for it: the changes of earlier transactions may still be there. Raises Unavailable when it has collided for too
        long or waited too long for its definition, and InvalidEntity when it does not fit into the cache."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(turn)
            session = await stack.enter_async_context(self._connection.client.start_session())
            number = stack.enter_context(self._numbers.number())
            room = await stack.enter_async_context(Room(self._large, number, {write.store for write in writes}))
            repetition, mended = Repetition(self._connection, writes, room), False
            while True:
                await self._enter(writes, room, stack, repetition)
                try:
                    with self._gate.attempt(definition, writes):
                        async with self._gate.changing(writes) as note:
                            result = await _transact(session, partial(work, session, room), repetition.give_up)
                            note(result)
                    return result
                except PyMongoError as error:
                    if not is_of_wrong_type(error) or mended:
                        await repetition.after(error)
                        drop_tracebacks(error)
                        continue
                await self._drop_false_revisions(room.stores)
                mended = True

    async def _enter(self, writes: Sequence[Write], room: Room, stack: AsyncExitStack, repetition: Repetition) -> None:
        """Wait, before an attempt, for what others must do or leave first. Raises TooManySlowWrites."""
        if any(isinstance(write, Procedure) for write in writes):
            repetition.give_up += await self._in_line(writes, room, stack, repetition.collisions)
        if not self._gate.is_free_for(writes):
            room.leave()  # those for whom the gate waits may need it
        if is_large(writes):
            await self._take_room(writes, room)

    async def _take_room(self, writes: Sequence[Write], room: Room) -> None:
        """Take room before the transaction, which holds guards and leases that others need. Those for whom the gate
        waits may need the room themselves. Raises TooManySlowWrites, and Unavailable when they do not end in time."""
        async with longest_wait():
            while not room.is_taken:
                await self._gate.freed(writes)
                await room.take()
                if not self._gate.is_free_for(writes):  # others have begun meanwhile
                    room.leave()

    async def _in_line(self, writes: Sequence[Write], room: Room, stack: AsyncExitStack, collisions: int) -> float:
        """Wait, before an attempt of a transaction that may lock keys, while another one goes first. After some
        collisions of an exclusive lock, go first until `stack` closes. Return the seconds of waiting. Raises
        TooManySlowWrites."""
        if room.goes_first or room.is_taken:  # the one that goes first may need the room
            return 0
        began = clock.monotonic()
        if room.excludes and collisions >= _COLLISIONS and not changed_definitions(writes):
            await stack.enter_async_context(self._precedence.taken())
            room.goes_first = True
        else:
            await self._precedence.passed()
        return clock.monotonic() - began


async def _transact(session: Session, work: Callable[[], Awaitable[T]], give_up: float) -> T:
    async with await session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority", j=True)):
        with of_transaction():
            result = await work()
        await _end(session, give_up)
    return result


async def _end(session: Session, give_up: float) -> None:
    """Commit, and repeat the command while its result is unknown. The server commits a transaction only once."""
    while True:
        try:
            return await session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label("UnknownTransactionCommitResult") or clock.monotonic() > give_up:
                raise
