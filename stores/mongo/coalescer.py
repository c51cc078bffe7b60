"""Request coalescing: calls made while a batch of their kind is in flight share the next one.

A request to the server costs about the same for one document as for a hundred. A single call never waits; concurrent
calls share the cost. No call joins a request that has been sent, so each call sees everything that was acknowledged
before it was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Kind = TypeVar("Kind", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Coalescer(Generic[Kind, Item, Answer]):
    """A queue that passes calls to `send` in batches.

    `send` takes a kind of call and at most `most` items. It returns the answers in the order of the items, with an
    exception for an item that failed alone, or raises the error with which all of them failed."""

    def __init__(
        self, send: Callable[[Kind, list[Item]], Awaitable[Sequence[Answer | BaseException]]], most: int
    ) -> None:
        self._send = send
        self._most = most
        self._waiting: dict[Kind, list[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._senders: dict[Kind, asyncio.Task[None]] = {}

    async def call(self, kind: Kind, item: Item) -> Answer:
        """Return the answer for `item`, which is sent together with others of its kind."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, []).append((item, answer))
        if kind not in self._senders:
            self._senders[kind] = asyncio.create_task(self._send_all(kind))
        return await answer

    async def _send_all(self, kind: Kind) -> None:
        sending: list[tuple[Item, asyncio.Future[Answer]]] = []
        try:
            while waiting := self._waiting[kind]:
                sending, self._waiting[kind] = waiting[: self._most], waiting[self._most :]
                await self._send_some(kind, sending)
        finally:
            # If this task is cancelled, no caller is left waiting.
            for _, answer in (*sending, *self._waiting.pop(kind)):
                answer.cancel()
            del self._senders[kind]

    async def _send_some(self, kind: Kind, waiting: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | BaseException]
        try:
            answers = await self._send(kind, [item for item, _ in waiting])
        except Exception as error:
            answers = [error, *(_copy_of(error) for _ in waiting[1:])]
        for (_, future), answer in zip(waiting, answers, strict=True):
            if future.done():  # the caller has been cancelled
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def _copy_of(error: Exception) -> Exception:
    """Return an equal error for another caller: whoever raises an error adds to its traceback, and may add a cause."""
    # `copy.copy` would call `__init__`, whose parameters need not be `args`.
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy.with_traceback(error.__traceback__)
