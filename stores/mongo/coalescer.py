"""Request coalescing: calls made while a batch of their kind is in flight share the next one.

An exchange with the server costs much the same for one document as for a hundred. A call by itself never waits; many
at once share that cost. No call joins an exchange that has begun, so each sees what was acknowledged before it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Kind = TypeVar("Kind", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Coalescer(Generic[Kind, Item, Answer]):
    """`send` takes a kind of call and at most `most` items; it returns each item's answer in their order, an exception
    for one that failed by itself, or raises what all of them failed with."""

    def __init__(
        self, send: Callable[[Kind, list[Item]], Awaitable[Sequence[Answer | BaseException]]], most: int
    ) -> None:
        self._send = send
        self._most = most
        self._waiting: dict[Kind, list[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._senders: dict[Kind, asyncio.Task[None]] = {}

    async def call(self, kind: Kind, item: Item) -> Answer:
        """The answer for `item`, which travels with others of its kind."""
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
            # Nobody is left waiting, should this task be cancelled.
            for _, answer in (*sending, *self._waiting.pop(kind)):
                answer.cancel()
            del self._senders[kind]

    async def _send_some(self, kind: Kind, waiting: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | BaseException]
        try:
            answers = await self._send(kind, [item for item, _ in waiting])
        except Exception as error:
            answers = [error] * len(waiting)
        for (_, future), answer in zip(waiting, answers, strict=True):
            if future.done():  # whoever called has gone away
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
