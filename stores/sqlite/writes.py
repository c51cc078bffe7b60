"""Writes of every kind, and the steps of procedures, as a commit does them one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import cast

import orjson

from stores.errors import HistoryGone, NotAsExpected, StoreError, refused_at
from stores.protocol import (
    Delete,
    DeleteMany,
    Expect,
    Find,
    IdempotencyKey,
    Insert,
    InsertMany,
    Lock,
    Procedure,
    Recheck,
    Serial,
    Stamp,
    Step,
    StepOutcome,
    Take,
    Update,
    UpdateMany,
    Upsert,
    UpsertBytes,
    Write,
    Written,
)
from stores.records import Entity
from stores.sqlite import serials, stamps
from stores.sqlite.bulk_writes import BulkWriter
from stores.sqlite.compile import Compiler
from stores.sqlite.connection import translated
from stores.sqlite.heavy import HEAVY, HEAVY_BYTES, TooLongForLoop
from stores.sqlite.idempotency import earlier_outcome, remember
from stores.sqlite.matches import CREATION_ORDER_SQL, Found, search_sql
from stores.sqlite.tables import StoreTable, json_path


class WriteExecutor(BulkWriter):
    """The writes of a transaction that the caller has opened."""

    def over(self, tables: dict[str, StoreTable]) -> WriteExecutor:
        """Return an executor of the same transaction that knows other tables."""
        bounds = (self.read_timeout, self.most_bytes)
        return WriteExecutor(self.connection, tables, self.transaction, self.feed, *bounds)

    def on_loop(self) -> WriteExecutor:
        """Return an executor of the same transactions for the event loop. Raises TooLongForLoop."""
        bounds = (self.read_timeout, self.most_bytes)
        return WriteExecutor(self.connection, self.tables, self.transaction, self.feed, *bounds, longest=HEAVY_BYTES)

    def within(self, seconds: float, found: Found | None) -> WriteExecutor:
        """Return an executor of the same transaction whose bulk change may test its filter for `seconds`, and that
        changes only entities in `found` if it is given."""
        bounds = (seconds, self.most_bytes)
        return WriteExecutor(self.connection, self.tables, self.transaction, self.feed, *bounds, found)

    def run_once(self, writes: Sequence[Write], key: IdempotencyKey | None) -> list[Written]:
        """Run the writes of one commit, or return the outcome of the commit that was done with this key."""
        earlier = earlier_outcome(self.connection, key, self.longest) if key else None
        if earlier is not None:
            return earlier
        written = self.run_all(writes)
        if key:
            with translated(self.connection):
                remember(self.connection, key, written)
        return written

    def run_all(self, writes: Sequence[Write]) -> list[Written]:
        """Run the writes of one commit, in their order."""
        first = writes[0] if writes else None
        if isinstance(first, Insert):
            alike = [w.entity for w in writes if isinstance(w, Insert) and w.goes_with(first)]
            if len(alike) == len(writes):
                return self.insert_all(self.table(first.store), alike, first.serials, first.stamps)
        self._count_kept(writes)
        met = UpsertBytes()
        return [self.run(write, index, met) for index, write in enumerate(writes)]

    def _count_kept(self, writes: Sequence[Write]) -> None:
        """Let counters go on above the serial numbers that new entities bring, before the first of them gets one."""
        kept: dict[Serial, list[Entity]] = {}
        for write in writes:
            if isinstance(write, Insert):
                for serial in write.serials:
                    kept.setdefault(serial, []).append(write.entity)
        for serial, entities in kept.items():
            if (least := serial.least(entities)) > serial.start:
                serials.take(self.connection, replace(serial, start=least), 0)

    def run(self, write: Write, index: int, met: UpsertBytes | None = None) -> Written:
        """Run the write at position `index` of a commit, whose upserts count in `met` what they meet. Raises the errors
        of `stores.protocol.Engine.commit`."""
        if index == 0:
            self.begin()
        with translated(self.connection, index), refused_at(index):
            return self.do(write, index, met)

    def do(self, write: Write, index: int, met: UpsertBytes | None) -> Written:
        table = self.table(write.store)
        match write:
            case Insert():
                return self.insert(table, write.entity, write.serials, write.stamps)
            case Update():
                return self.update(table, write)
            case Delete():
                return self.delete(table, write)
            case Upsert():
                return self.upsert(table, write, index, met)
            case UpdateMany():
                return self.update_many(table, write)
            case DeleteMany():
                return self.delete_many(table, write)
            case Expect():
                return self.expect(table, write)
            case Recheck():
                return self.recheck(write)
            case Procedure():
                return self.proceed(write, index)

    def expect(self, table: StoreTable, write: Expect) -> Written:
        # No guard is needed: the writer's transactions run one after another.
        compiler = Compiler(table)
        condition = compiler.condition(write.where)
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {table.table} WHERE {condition} LIMIT {write.count_limit})"
        with self.searching():
            count = self.connection.execute(sql, compiler.values).get
        if not write.holds(count):
            raise NotAsExpected
        return Written(b"", 0, 0)

    def proceed(self, procedure: Procedure, index: int) -> Written:
        """Carry out the steps of a procedure. Raises TooLongForLoop."""
        steps, met = procedure.steps(), UpsertBytes()
        self.computing_time.start()
        self.computing_time.allow(sent=procedure.size)
        outcome: StepOutcome = None
        done = 0
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as ended:
                return cast(Written, ended.value)
            done += 1
            if done > HEAVY and self.longest < math.inf:
                raise TooLongForLoop
            try:
                self.computing_time.check()
                outcome = self.step(step, index, met)
            except StoreError as error:
                if not isinstance(error, TooLongForLoop):
                    with suppress(StopIteration):
                        steps.throw(error)  # it may explain the error
                raise

    def step(self, step: Step, index: int, met: UpsertBytes) -> StepOutcome:
        match step:
            case Find():
                return self.find(step)
            case Take():
                return self.take(step)
            case Lock():
                return None  # the writer's transactions run one after another
            case InsertMany():
                with translated(self.connection, index), refused_at(index):
                    self.insert_many(step)
                return None
            case _:
                with translated(self.connection, index), refused_at(index):
                    return self.do(step, index, met)

    def take(self, step: Take) -> int:
        if isinstance(step.serial, Stamp):
            return stamps.take(self.connection, step.serial, step.count)
        return serials.take(self.connection, step.serial, step.count)

    def insert_many(self, step: InsertMany) -> None:
        if len(step.entities) > HEAVY and self.longest < math.inf:
            raise TooLongForLoop
        self.computing_time.allow(changed=len(step.entities))
        self.insert_all(self.table(step.store), step.entities)

    def find(self, step: Find) -> list[Entity]:
        table = self.table(step.store)
        if step.only is None:
            columns = "doc"
        else:
            columns = ",".join(["id", *(f"doc->{json_path((name,))}" for name in step.only)])
        order = CREATION_ORDER_SQL if step.in_order else ""
        sql, values = search_sql(self.connection, table, columns, step.where, step.limit, order)
        found: list[Entity] = []
        with self.searching():
            for row in self.connection.execute(sql, values):
                size = sum(len(text) for text in row if text is not None)
                self.found_bytes.add(size)
                self.parsed += size
                if self.parsed > self.longest:
                    raise TooLongForLoop
                if step.only is None:
                    found.append(orjson.loads(row[0]))
                else:
                    named = zip(step.only, row[1:], strict=True)
                    found.append({"_id": row[0], **{n: orjson.loads(text) for n, text in named if text is not None}})
        self.computing_time.allow(found=len(found))
        return found

    def recheck(self, write: Recheck) -> Written:
        since, more = write.since, True
        while more:
            try:
                batch = self.feed.read_from(self.connection, since)
            except HistoryGone:
                raise NotAsExpected from None
            write.check(batch.changes)
            since, more = batch.position, batch.more
        return Written(b"", 0, 0)
