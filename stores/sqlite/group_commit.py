"""Group commit: concurrent writes share one transaction and one fsync, and each is answered after it.

Light jobs run on the event loop, a few microseconds of SQL each in an open transaction. Only COMMIT, which waits for
the disk, runs in the writer thread: if light jobs ran there too, each statement would compete with the loop for the
interpreter lock. A heavy job (a bulk change, an index) runs in the thread in a transaction of its own, which is rolled
back if the job fails. A light job of several statements needs a savepoint.

Users take turns, and waiting light jobs run between two heavy ones: a user who sends many jobs at once delays other
users by one job only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeVar

import apsw

from stores.bounds import Limit
from stores.errors import StorageFull, StoreError, TooManySlowWrites, Unavailable
from stores.records import now_ms
from stores.sqlite.connection import translate
from stores.sqlite.feed import CommittedChanges
from stores.sqlite.transaction import Transaction
from stores.tracebacks import drop_tracebacks
from stores.turns import Queue

log = logging.getLogger(__name__)
T = TypeVar("T")

LARGEST_BATCH = 256
"""Jobs in one transaction: this bounds the time that the loop spends on writes before it serves other tasks."""

TURN: Final = 0.01
"""CPU seconds after which a transaction accepts no further job.

CPU time, not the clock: otherwise a moment without a processor would split the jobs of clients that write in step into
two commits, and they would stay split for as long as the clients go on."""


MOST_HEAVY_WRITES: Annotated[int, Limit("user on SQLite", "bulk changes and long arrays that wait", "503")] = 128
"""Heavy jobs of one user that wait: each may take a second, and holds its entities in memory until then."""

_INTERRUPT_EVERY: Final = 0.02
"""Seconds between two attempts to interrupt a job."""


@dataclass(slots=True)
class Job:
    run: Callable[[], Any]
    by: str | None
    heavy: bool
    done: asyncio.Future[Any]
    committed: Callable[[], None] | None
    outcome: Any = None
    error: StoreError | None = None


@dataclass
class GroupCommitter:
    """Runs jobs and commits them in groups. It is the only user of the writing connection.

    `changes_made` returns what the open transaction adds to the feed. `publish` is called with it on the loop, once it
    is durable. `light` and `heavy` are the jobs that wait: to run on the loop, and to run in the thread.
    """

    connection: apsw.Connection
    transaction: Transaction
    changes_made: Callable[[], CommittedChanges]
    publish: Callable[[CommittedChanges], None]
    light: Queue[Job] = field(default_factory=Queue)
    heavy: Queue[Job] = field(default_factory=Queue)
    _changes: CommittedChanges | None = None
    _busy: bool = False
    _was_heavy: bool = False
    _heavy_job: Job | None = None
    """The heavy job that is running."""
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "hub-sqlite-writer")
        self.connection.create_scalar_function("hub_by", lambda *_: self.transaction.by, 0)
        self.connection.create_scalar_function("hub_time", lambda *_: self.transaction.time, 0)
        self.connection.create_scalar_function("hub_commit", lambda *_: self.transaction.commit, 0)
        self.refusal = ""
        """Why no more jobs are accepted."""
        self._idle.set()

    async def submit(
        self, run: Callable[[], T], by: str | None, *, heavy: bool = False, committed: Callable[[], None] | None = None
    ) -> T:
        """Call `run` in a transaction. Return its result once the transaction is durable; raise the StoreError that
        undid it, or TooManySlowWrites for a heavy job if too many of this user wait.

        `committed`, only of a heavy job: it is called on the loop once the transaction is durable, before the feed gets
        its changes and before the next job runs. It is called even if the submitter has been cancelled."""
        if self.refusal:
            raise Unavailable(self.refusal)
        if heavy and by is not None and self.heavy.length(by) >= MOST_HEAVY_WRITES:
            raise TooManySlowWrites().at("MOST_HEAVY_WRITES")
        loop = asyncio.get_running_loop()
        job = Job(run, by, heavy, loop.create_future(), committed)
        (self.heavy if heavy else self.light).put(by or "", job)
        if not self._busy:
            self._busy = True
            self._idle.clear()
            # In the next iteration of the loop, so that jobs that other tasks submit in this one join the batch.
            loop.call_soon(self._next_batch)
        try:
            # The cancellation of a submitter cancels only this future: a job that has begun is still carried out.
            return await job.done  # type: ignore[no-any-return]
        finally:
            del job  # its error would keep this frame, and this frame the job

    async def close(self) -> None:
        """Finish the submitted jobs and accept no more. A heavy job whose submitter has been cancelled is undone."""
        self.refusal = "the store is closed"
        while not self._idle.is_set():
            if self._heavy_job is not None and self._heavy_job.done.cancelled():
                # Again and again: it interrupts a running statement only, not the Python code between two.
                self.connection.interrupt()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _INTERRUPT_EVERY)
        self.thread.shutdown()

    def _next_batch(self) -> None:
        batch = self._take_batch()
        self._heavy_job = batch[0] if batch and batch[0].heavy else None
        if not batch:
            self._busy = False
            self._idle.set()
            return
        self._was_heavy = batch[0].heavy
        if not self._was_heavy:
            self._run(batch)
        step = self._run_and_commit if self._was_heavy else self._commit
        asyncio.get_running_loop().run_in_executor(self.thread, step, batch).add_done_callback(
            lambda finished: self._finish(batch, finished)
        )

    def _take_batch(self) -> list[Job]:
        """Remove the next jobs from the queues. Those of cancelled submitters are dropped."""
        batch: list[Job] = []
        while not batch and (self.heavy or self.light):
            if self.heavy and not (self._was_heavy and self.light):
                job = self.heavy.take()
                if not job.done.cancelled():
                    batch.append(job)
                continue
            while self.light and len(batch) < LARGEST_BATCH:
                job = self.light.take()
                if not job.done.cancelled():
                    batch.append(job)
        return batch

    def _run(self, batch: list[Job]) -> None:
        """Run the jobs in one transaction, left open. A failing job undoes itself; a failing disk undoes all jobs."""
        self.transaction.begin(now_ms())
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            clock_ends, ends = time.perf_counter() + TURN, time.thread_time() + TURN
            for done, job in enumerate(batch, 1):
                self._run_one(job)
                if not self.connection.in_transaction:
                    self._fail(batch, job.error or Unavailable("the transaction was rolled back"))
                    return
                # The clock first: reading it takes a tenth of the time of reading the CPU time.
                if time.perf_counter() > clock_ends and time.thread_time() > ends and done < len(batch):
                    for late in reversed(batch[done:]):
                        self.light.put_back(late.by or "", late)
                    del batch[done:]
            if batch[0].heavy and batch[0].error:
                self.connection.execute("ROLLBACK")
                return
            # In the thread that has run the jobs: the writer thread would wait for the loop at each row it reads.
            self._changes = self.changes_made()
        except apsw.Error as error:
            self._undo(batch, error)

    def _run_one(self, job: Job) -> None:
        self.transaction.begin_job(job.by)
        before = self.transaction.mark()
        try:
            job.outcome = job.run()
        except StoreError as error:
            job.error = error
        except apsw.Error as error:
            job.error = translate(self.connection, error)
        except Exception as error:
            log.exception("a write failed")
            job.error = Unavailable(f"internal error: {type(error).__name__}")
        if job.error is not None:
            self.transaction.rewind(before)

    def _run_and_commit(self, batch: list[Job]) -> None:
        self._run(batch)
        self._commit(batch)

    def _commit(self, batch: list[Job]) -> None:
        """Make the transaction durable. Runs in the writer thread."""
        if not self.connection.in_transaction:
            return
        try:
            self.connection.execute("COMMIT")
        except apsw.Error as error:
            self._undo(batch, error)

    def _undo(self, batch: list[Job], error: apsw.Error) -> None:
        failure = translate(self.connection, error)
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self._fail(batch, failure)

    def _fail(self, batch: list[Job], error: StoreError) -> None:
        self._changes = None
        for job in batch:
            # The disk's failure overrides the job's own error. Each job gets an exception object of its own.
            job.error = StorageFull(*error.args) if isinstance(error, StorageFull) else Unavailable(*error.args)

    def _finish(self, batch: list[Job], finished: asyncio.Future[None]) -> None:
        if finished.exception() is not None:
            log.error("commit failed", exc_info=finished.exception())
            self._fail(batch, Unavailable("commit failed"))
        first = batch[0]
        if first.committed is not None and first.error is None:
            first.committed()
        changes, self._changes = self._changes, None
        if changes is not None:
            self.publish(changes)
        for job in batch:
            if job.done.done():
                continue
            if job.error is not None:
                drop_tracebacks(job.error)
                job.done.set_exception(job.error)
                job.done.exception()  # mark it as retrieved: the submitter may have been cancelled
            else:
                job.done.set_result(job.outcome)
        self._next_batch()
