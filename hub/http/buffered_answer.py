"""Answers to reads that are held in memory until they are sent."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope, Send

from hub.http.active import ACTIVE, ActiveRequest
from hub.http.answer import Answer


@dataclass(slots=True, kw_only=True)
class BufferedAnswer(Answer):
    """An answer of `size` bytes that is streamed from memory. It counts as unread until it has been sent; if clients
    leave no room for it (`hub.http.unread`), it is refused. A whole body is counted by its connection."""

    size: int

    async def send(self, scope: Scope, send: Send) -> None:
        active: ActiveRequest | None = scope.get(ACTIVE)
        if active is None or isinstance(self.body, bytes):
            await Answer.send(self, scope, send)
            return
        active.check_unread(self.size)
        with active.unread(self.size):
            await Answer.send(self, scope, send)
