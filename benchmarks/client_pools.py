"""Client pools in processes of their own: together more clients than one process may have open files for."""

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
    """What a pool got: how many events, when its last client got each number (perf_counter, which all
    processes of a machine share), and what was wrong."""

    deliveries: int
    latest: dict[int, float]
    faults: list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """The server that a pool watches: its address, the packet that its clients greet it with, and the subscription
    (JSON) that each of them makes."""

    address: tuple[str, int]
    greeting: str
    subscription: str


class RemotePool:
    """A pool in another process, which does one thing after the other and reports when it is done."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def joined(self) -> None:
        """Wait until all clients stand."""
        await self._report()

    async def expect(self, numbers: Sequence[int]) -> None:
        """Have it wait for these, which must not be written before this returns; then ask what it `heard`."""
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
def remote_pool(place: Place, number: int) -> Iterator[RemotePool]:
    """So many clients of one server; they are connecting when this returns, and leave at the end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_attend, args=(theirs, place, number), daemon=True)
    process.start()
    theirs.close()
    try:
        yield RemotePool(ours)
    finally:
        ours.close()  # which the other side takes for the end
        process.join(GIVE_UP)
        process.terminate()


def _attend(pipe: Connection, place: Place, number: int) -> None:
    allow_connections()
    uvloop.run(_watch(pipe, place, number))


async def _watch(pipe: Connection, place: Place, number: int) -> None:
    pool = ClientPool(place.address, place.greeting)
    await pool.join([[place.subscription]] * number)
    pipe.send(None)
    while (numbers := await asyncio.to_thread(_next, pipe)) is not None:
        complete = pool.expect(number * len(numbers))
        pipe.send(None)
        await asyncio.wait([complete], timeout=GIVE_UP)
        await asyncio.sleep(PAUSE)  # for one too many to arrive
        faults = pool.check(lambda _, wanted=numbers: wanted)  # type: ignore[misc]
        pipe.send(Heard(len(pool.lags), pool.latest, faults))
    pool.leave()


def _next(pipe: Connection) -> Sequence[int] | None:
    """The numbers to wait for; None when there is nothing more to do."""
    try:
        return pipe.recv()  # type: ignore[no-any-return]
    except EOFError:
        return None
