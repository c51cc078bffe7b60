"""A durable reader of the change feed that works in one process at a time: the part that both engines share.

An engine stores a consumer's position and its lease (`ConsumerState`). `LeasedConsumer` follows the feed from that
position, calls the handler, renews the lease, retries, and stops when it cannot continue.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from stores.errors import (
    ConsumerBehind,
    ConsumerFailing,
    ConsumerStopped,
    HistoryGone,
    LeaseLost,
    StorageFull,
    StoreError,
    Unavailable,
)
from stores.options import ConsumerOptions
from stores.protocol import Batch, ChangeHandler, Write
from stores.records import Change, now_ms
from stores.tasks import end_tasks

log = logging.getLogger(__name__)

RENEWALS: Final = 3
"""Renewals of a lease within its length, so that one may fail."""

_MOST_DOUBLINGS: Final = 64
"""Doublings of a pause: it is longer than the longest one by then, and a number can hold it."""


@dataclass(slots=True)
class Lease:
    """The right to work as a consumer for `seconds`. A renewal restarts this time.

    Each lease of a consumer has a greater `token` than the one before. A commit under an older token is refused, so a
    process that was suspended for longer than its lease does no harm when it resumes. `position` is the stored one.
    """

    token: int
    seconds: float
    position: str


class ConsumerState(Protocol):
    """The stored state of one consumer. Methods raise the errors of `Engine.commit`."""

    def follow(self, since: str) -> AsyncGenerator[Batch]:
        """See `stores.protocol.Feed.follow`."""

    async def acquire(self, holder: str, seconds: float, since: str | None) -> Lease | None:
        """Take the lease. Return None while another holder has it. A new consumer begins at `since` (None: now)."""

    async def renew(self, lease: Lease, position: str) -> None:
        """Renew the lease and store a position. Raises LeaseLost."""

    async def commit(self, lease: Lease, writes: Sequence[Write], position: str) -> None:
        """Do all writes and store the position, or do nothing. Raises LeaseLost when another process has taken the
        lease or stored a position."""

    async def release(self, lease: Lease) -> None:
        """Give up the lease, so that another process can take it at once. Does nothing if it is lost."""

    async def restart_at(self, since: str | None, writes: Sequence[Write], instead_of: str | None) -> None:
        """Store a position (None: now), do `writes`, and end every lease. Raises LeaseLost, and does nothing, when the
        stored position is not `instead_of` (None: it may be any)."""


class LeasedConsumer:
    """See `stores.protocol.Consumer`."""

    def __init__(self, name: str, handle: ChangeHandler, options: ConsumerOptions, state: ConsumerState) -> None:
        self.name = name
        self.error: ConsumerStopped | None = None
        self._handle = handle
        self._options = options
        self._state = state
        self._holder = secrets.token_hex(8)
        self._storing = asyncio.Lock()  # of positions: a renewal must not collide with a commit
        self._behind_at: str | None = None  # the stored position that the feed does not reach back to
        self._reached = ""  # the position up to which everything has been handled
        self._attempts = 0  # failures of the handler in a row
        self._interruptions = 0  # in a row
        self._is_active = False
        self._oldest: int | None = None  # Unix ms of the oldest unhandled change, or of the start of an interruption

    @property
    def lag(self) -> float | None:
        if not self._is_active and self.error is None:
            return None
        return 0.0 if self._oldest is None else max(0, now_ms() - self._oldest) / 1000

    async def restart_at(self, since: str | None = None, writes: Sequence[Write] = ()) -> None:
        try:
            await self._state.restart_at(since, writes, self._behind_at)
        except LeaseLost:
            log.info("consumer %s: another process has restarted it", self.name)

    async def run(self) -> NoReturn:
        self.error, self._attempts, self._interruptions, self._behind_at = None, 0, 0, None
        while True:
            pause = self._options.lease_seconds / RENEWALS
            try:
                await self._take_part()
            except LeaseLost as error:
                log.warning("consumer %s: %s", self.name, error)
            except ConsumerStopped:
                raise
            except HistoryGone as error:
                raise self._stopped(ConsumerBehind(f"changes that it has not handled are gone: {error}")) from error
            except StoreError as error:
                pause = self._interrupted(error)
            except Exception as error:
                log.exception("consumer %s: interrupted by a defect", self.name)
                pause = self._interrupted(error)
            await asyncio.sleep(pause)

    async def _take_part(self) -> None:
        """Try to take the lease, and work while it lasts. Raises LeaseLost at its end."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._options.lease_seconds
        lease = await self._state.acquire(self._holder, self._options.lease_seconds, self._options.since)
        if lease is None:
            self._is_active, self._oldest = False, None
            return
        self._is_active, self._reached = True, lease.position
        expiry = asyncio.timeout_at(ends)
        renewing = asyncio.create_task(self._renew(lease, expiry), name=f"lease of {self.name}")
        try:
            async with expiry:
                await self._follow(lease)
        except TimeoutError:
            raise LeaseLost("its lease could not be renewed") from None
        except HistoryGone:
            self._behind_at = lease.position
            raise
        finally:
            await end_task(renewing)
            with suppress(StoreError):
                await self._state.release(lease)

    async def _renew(self, lease: Lease, expiry: asyncio.Timeout) -> None:
        """Renew the lease periodically, and postpone the time at which the work is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(lease.seconds / RENEWALS)
            ends = loop.time() + lease.seconds
            try:
                async with self._storing:
                    await self._state.renew(lease, self._reached)
            except LeaseLost:
                ends = loop.time()
            except StoreError:
                continue  # unless a later attempt succeeds, the lease expires
            with suppress(RuntimeError):  # it has just expired
                expiry.reschedule(ends)

    async def _follow(self, lease: Lease) -> None:
        async with aclosing(self._state.follow(lease.position)) as batches:
            async for batch in batches:
                for part in split(batch, self._options.most_changes, self._options.most_bytes):
                    await self._consume(lease, part)
                self._reached, self._interruptions = batch.position, 0
                if not batch.more:
                    self._oldest = None

    async def _consume(self, lease: Lease, batch: Batch) -> None:
        """Pass a batch to the handler, and repeat it after a pause when it fails."""
        while True:
            self._oldest = batch.changes[0].time
            try:
                async with asyncio.timeout(self._options.handle_seconds):
                    writes = await self._handle(batch.changes)
                if writes is not None:
                    async with self._storing:
                        await self._state.commit(lease, writes, batch.position)
                self._reached, self._attempts, self._interruptions = batch.position, 0, 0
                return
            except (LeaseLost, Unavailable, StorageFull):
                raise  # not the handler's fault
            except Exception as error:
                await self._failed(error, batch.changes)

    async def _failed(self, error: Exception, changes: Sequence[Change]) -> None:
        """Wait before the next attempt. Raises ConsumerFailing after the last one."""
        self._attempts += 1
        text = f"attempt {self._attempts} to handle {len(changes)} changes from {changes[0]} on failed"
        log.warning("consumer %s: %s", self.name, text, exc_info=error)
        most = self._options.most_attempts
        if most is not None and self._attempts >= most:
            raise self._stopped(ConsumerFailing(f"{text}: {type(error).__name__}: {error}")) from error
        await asyncio.sleep(self._pause_after(self._attempts))

    def _interrupted(self, error: Exception) -> float:
        """Note an interruption. Return the seconds to wait for the database."""
        self._interruptions += 1
        if self._interruptions == 1:
            log.warning("consumer %s: interrupted: %s: %s", self.name, type(error).__name__, error)
        self._oldest = self._oldest or now_ms()
        return self._pause_after(self._interruptions)

    def _pause_after(self, failures: int) -> float:
        """Return the seconds to wait after that many failures in a row."""
        doublings = min(failures - 1, _MOST_DOUBLINGS)
        return min(self._options.first_pause * 2.0**doublings, self._options.longest_pause)

    def _stopped(self, error: ConsumerStopped) -> ConsumerStopped:
        self.error = error
        self._oldest = self._oldest or now_ms()
        log.error("consumer %s has stopped: %s: %s", self.name, type(error).__name__, error)
        return error


def split(batch: Batch, most_changes: int, most_bytes: int) -> Iterator[Batch]:
    """Yield the batch in parts within these bounds. A larger change is a part of its own. A batch without changes has
    no parts."""
    changes, start, size = batch.changes, 0, 0
    for index, change in enumerate(changes):
        if index > start and (index - start == most_changes or size + change.size > most_bytes):
            yield Batch(changes[start:index], changes[index - 1].position, True)
            start, size = index, 0
        size += change.size
    if changes:
        yield Batch(changes[start:], batch.position, batch.more)


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended. Its failure is logged."""
    await end_tasks([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s has failed", task.get_name(), exc_info=error)
