"""An outgoing answer, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.types import Scope, Send

from hub.http.compression import SMALLEST, negotiate, variation
from hub.http.errors import ClientTooSlow
from hub.http.scope import WHOLE_ANSWER

JSON_TYPE = b"application/json"
NOT_MODIFIED: Final = int(HTTPStatus.NOT_MODIFIED)
"""A constant, since Python calls functions to read a member of an enumeration and to compare it."""
NO_CONTENT: Final = int(HTTPStatus.NO_CONTENT)


@dataclass(slots=True)
class Answer:
    """A response. `body` is bytes, or an iterator that is streamed within `timeout` seconds.

    A stream that takes longer is cut off with ClientTooSlow, since a client that does not read would keep the
    iterator's resources occupied.
    """

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()
    content_type: bytes = JSON_TYPE
    timeout: float | None = None

    async def send(self, scope: Scope, send: Send) -> None:
        head = scope["method"] == "HEAD"
        headers = [(b"content-type", self.content_type), *self.headers]
        if self.status == NO_CONTENT:  # RFC 9110, 8.6: without a length, and there is nothing that has a type
            await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers]})
            await send({"type": "http.response.body", "body": b""})
            return
        if isinstance(self.body, bytes):
            body = self.body
            is_large = len(body) >= SMALLEST
            has_length = self.status != NOT_MODIFIED  # there, it would be the length of the client's copy
            if not has_length:
                headers += variation(scope)
            elif is_large:
                coding, about = negotiate(scope)
                headers += about[:1] if head else about
                if head:
                    has_length = coding is None  # RFC 9110, 8.6: the length of the answer to GET, or none
                elif coding is not None:
                    body = await coding.pack(body)
            if has_length:
                headers.append((b"content-length", b"%d" % len(body)))
            if WHOLE_ANSWER in scope.get("extensions", ()) and not head:
                await send({"type": WHOLE_ANSWER, "status": self.status, "headers": headers, "body": body})
                return
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if head else body})
            return
        packed, about = (None, variation(scope, streamed=True)) if head else negotiate(scope, streamed=True)
        headers += about
        try:
            async with asyncio.timeout(self.timeout) as deadline, aclosing(self.body) as pieces:  # type: ignore[type-var]
                await send({"type": "http.response.start", "status": self.status, "headers": headers})
                if not head:
                    async for piece in pieces if packed is None else packed.pack_pieces(pieces):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            if not deadline.expired():
                raise
            raise ClientTooSlow("the answer was not taken in time").at("stream_timeout") from None


def json_answer(value: Any, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    return Answer(orjson.dumps(value), status, headers)
