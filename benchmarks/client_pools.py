"""Client pools in processes of their own, for more clients than one process may have open files."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from benchmarks.runs import GIVE_UP, PAUSE
from benchmarks.watchers import ClientPool
from hub.serve import allow_connections


@dataclass(frozen=True, slots=True)
class Heard:
    """What a pool received: the number of events, when its last client received each number, and the faults.

    Times are of perf_counter, which all processes of a machine share.
    """

    deliveries: int
    latest: dict[int, float]
    faults: list[str]


@dataclass(frozen=True, slots=True)
class PoolSetup:
    """The server that a pool watches: its address, the first packet of its clients, and the subscription (JSON) of
    each."""

    address: tuple[str, int]
    greeting: str
    subscription: str


class RemotePool:
    """A pool in another process. It does one thing after the other, and reports when each is done."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def joined(self) -> None:
        """Wait until all clients have subscribed."""
        await self._report()

    async def expect(self, numbers: Sequence[int]) -> None:
        """Let the pool wait for these numbers, which must not be written before this returns. Then call `heard`."""
        self._pipe.send(numbers)
        await self._report()

    async def heard(self) -> Heard:
        found = await self._report()
        assert isinstance(found, Heard)
        return found

    async def _report(self) -> Any:
        try:
            return await asyncio.to_thread(self._pipe.recv)
        except EOFError:
            raise RuntimeError("a process of clients ended: see what it printed") from None


@contextmanager
def remote_pool(setup: PoolSetup, number: int) -> Iterator[RemotePool]:
    """Run so many clients of one server. They are still connecting when this yields, and leave at the end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_attend, args=(theirs, setup, number), daemon=True)
    process.start()
    theirs.close()
    try:
        yield RemotePool(ours)
    finally:
        ours.close()  # the other process takes this for the end
        process.join(GIVE_UP)
        process.terminate()


def _attend(pipe: Connection, setup: PoolSetup, number: int) -> None:
    allow_connections()
    uvloop.run(_watch(pipe, setup, number))


async def _watch(pipe: Connection, setup: PoolSetup, number: int) -> None:
    pool = ClientPool(setup.address, setup.greeting)
    await pool.join([[setup.subscription]] * number)
    pipe.send(None)
    while (numbers := await asyncio.to_thread(_next, pipe)) is not None:
        complete = pool.expect(number * len(numbers))
        pipe.send(None)
        await asyncio.wait([complete], timeout=GIVE_UP)
        await asyncio.sleep(PAUSE)  # so that a surplus event can arrive
        faults = pool.check(lambda _, wanted=numbers: wanted)  # type: ignore[misc]
        pipe.send(Heard(len(pool.lags), pool.latest, faults))
    pool.leave()


def _next(pipe: Connection) -> Sequence[int] | None:
    """Return the numbers to wait for; None when there is nothing more to do."""
    try:
        return pipe.recv()  # type: ignore[no-any-return]
    except EOFError:
        return None
