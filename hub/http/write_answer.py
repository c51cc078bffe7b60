"""Answers to writes. A write that has been made is never refused because its answer has no room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope, Send

from hub.http.active import ACTIVE, ActiveRequest
from hub.http.answer import Answer
from hub.http.errors import Overloaded
from hub.http.scope import LIMIT_REACHED, MADE
from hub.http.unread import NOT_MUCH


@dataclass(slots=True, kw_only=True)
class WriteAnswer(Answer):
    """The answer to a write. If the bytes that clients have not read leave no room for it (`hub.http.unread`), `brief`
    is sent instead, with the header ``Preference-Applied: return=minimal`` (RFC 7240).

    `size`: bytes of the body. A streamed body counts as unread until it has been sent: it is all in memory."""

    size: int
    brief: Callable[[], bytes]

    async def send(self, scope: Scope, send: Send) -> None:
        scope[MADE] = True
        active: ActiveRequest | None = scope.get(ACTIVE)
        if active is None or self.size <= NOT_MUCH:
            await Answer.send(self, scope, send)
            return
        try:
            active.check_unread(self.size)
        except Overloaded as full:
            scope[LIMIT_REACHED] = full.limit_name
            headers = [*self.headers, (b"preference-applied", b"return=minimal")]
            await Answer(self.brief(), self.status, headers, self.content_type).send(scope, send)
            return
        if isinstance(self.body, bytes):  # its connection counts it
            await Answer.send(self, scope, send)
            return
        with active.unread(self.size):
            await Answer.send(self, scope, send)
