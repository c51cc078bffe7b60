"""Just enough HTTP between ASGI and the dialects: a call as it comes in, an answer as it goes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope, Send

from hub.bodies import BodyBounds, parse_bounded
from hub.compression import SMALLEST, coding_for
from hub.cookies import cookie_value
from hub.errors import BadRequest, BodyTooLarge, ClientGone, ClientTooSlow, TooSlow
from stores.bounds import Limit
from stores.limits import parse_json

JSON_TYPE = b"application/json"
SMALL_BODY = 131_072
"""Bytes; a larger body is parsed in a thread. None as small has too many values."""

WHOLE_ANSWER = "hub.response"
"""ASGI extension of our own server: head and body in one message, `status`, `headers` and `body`."""

BODY = "hub.body"
"""Key of the scope under which our own server puts a body that is there, whole, before the application is called: it
need not be waited for (measured: a timeout that never fires costs 10 µs)."""

LIMIT_REACHED = "hub.limit"
"""Key of the scope for the name of the limit that a request has reached."""

SESSION_COOKIE = b"sid"
HOST_COOKIE = b"__Host-sid"
"""Over https: browsers take a cookie of this name from this host alone, over https."""

LINGER_BYTES = 2_097_152
LINGER_SECONDS = 1.0

MOST_PARAMETERS: Annotated[int, Limit("request", "parameters", "400")] = 1_000


@dataclass(slots=True)
class Answer:
    """A response. `body` is bytes, or an iterator of them that is sent as it comes, within `timeout` seconds: then the
    answer is broken off (ClientTooSlow), since a client that does not read would hold what the iterator holds."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()
    content_type: bytes = JSON_TYPE
    timeout: float | None = None

    async def send(self, scope: Scope, send: Send) -> None:
        head = scope["method"] == "HEAD"
        headers = [(b"content-type", self.content_type), *self.headers]
        if isinstance(self.body, bytes):
            body = self.body
            if len(body) >= SMALLEST and not head and (coding := coding_for(scope)):
                body = await coding.pack(body)
                headers += coding.headers
            headers.append((b"content-length", b"%d" % len(body)))
            start = {"type": "http.response.start", "status": self.status, "headers": headers}
            if WHOLE_ANSWER in scope.get("extensions", ()) and not head:
                await send({**start, "type": WHOLE_ANSWER, "body": body})
                return
            await send(start)
            await send({"type": "http.response.body", "body": b"" if head else body})
            return
        packed = None if head else coding_for(scope, streamed=True)
        if packed is not None:
            headers += packed.headers
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


@dataclass(slots=True)
class Call:
    """One request. `path` holds the path's parameters."""

    scope: Scope
    receive: Receive
    path: dict[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.scope["method"]  # type: ignore[no-any-return]

    @property
    def host(self) -> str:
        return self.header(b"host") or ""

    @property
    def address(self) -> str:
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def scheme(self) -> str:
        return self.scope.get("scheme", "http")  # type: ignore[no-any-return]

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def header(self, name: bytes) -> str | None:
        """The first header of this name (lower case), None when there is none."""
        for key, value in self.scope["headers"]:
            if key == name:
                return value.decode("latin-1")  # type: ignore[no-any-return]
        return None

    def cookie(self, name: bytes) -> str | None:
        return cookie_value(self.scope["headers"], name)

    def session(self) -> str | None:
        """The credential in the session's cookie: under its name over https, or the one that is documented."""
        return self.cookie(HOST_COOKIE) or self.cookie(SESSION_COOKIE)

    def bearer(self) -> str | None:
        """The token of the Authorization header; None without one, also for another scheme."""
        scheme, _, token = (self.header(b"authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    def parameters(self) -> list[tuple[str, str]]:
        """The query string's pairs, decoded. Raises BadRequest when it is not UTF-8 or has too many."""
        raw = self.scope["query_string"]
        if not raw:
            return []
        try:
            text = raw.decode("utf-8")
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
        except UnicodeDecodeError:
            raise BadRequest("query", "The query string is not UTF-8.") from None
        except ValueError:
            raise BadRequest("query", f"More than {MOST_PARAMETERS} parameters.").at("MOST_PARAMETERS") from None

    async def body(self, limit: int, array_limit: int, timeout: float) -> bytes:
        """The whole body: at most `limit` bytes, or `array_limit` when it is a JSON array; within `timeout` s."""
        there: bytes | None = self.scope.get(BODY)
        if there is not None and len(there) <= limit:
            return there
        try:
            async with asyncio.timeout(timeout):
                return await self._whole(limit, max(limit, array_limit))
        except TimeoutError:
            raise TooSlow("the body did not arrive in time").at("body_timeout") from None
        except BodyTooLarge:
            await self._discard()
            raise

    async def _whole(self, limit: int, array_limit: int) -> bytes:
        declared = self.header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared[:20]) > array_limit:
            raise self._too_large(limit)
        chunks: list[bytes] = []
        size = 0
        async for chunk in self._chunks():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit and (size > array_limit or not _is_array(chunks)):
                raise self._too_large(limit)
        return b"".join(chunks)

    @staticmethod
    def _too_large(limit: int) -> BodyTooLarge:
        return BodyTooLarge("body", f"The body must not exceed {limit} bytes.").at("max_body_bytes")

    async def _discard(self) -> None:
        """Take in some of a body that is refused: with input unread, closing the connection would reset it, and the
        client might never see the answer."""
        left = LINGER_BYTES
        with suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(LINGER_SECONDS):
                async for chunk in self._chunks():
                    left -= len(chunk)
                    if left < 0:
                        return

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client went away")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return


def _is_array(chunks: list[bytes]) -> bool:
    return next((chunk.lstrip() for chunk in chunks if chunk.strip()), b"").startswith(b"[")


async def parse_body(body: bytes, bounds: BodyBounds) -> Any:
    """The JSON value of a body. Raises BadRequest that says what is wrong with it, and InvalidEntity."""
    try:
        if len(body) <= SMALL_BODY:
            return parse_json(body)
        return await asyncio.to_thread(parse_bounded, body, bounds)
    except ValueError as error:
        raise BadRequest("body", f"The body is not JSON: {error}.") from None
