"""An incoming call: what a dialect reads of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from auth.addresses import address_block
from auth.principal import Principal
from hub.http.active import ACTIVE, ActiveRequest
from hub.http.body import BodyLimit, beginning
from hub.http.cookies import cookie_value
from hub.http.errors import BadRequest, BodyTooLarge, ClientGone, TooSlow, UnsupportedCoding
from hub.http.headers import first_headers
from hub.http.inflate import find_coding, inflate, joined
from hub.http.scope import BODY, CHARGE, RELEASE
from stores.bounds import Limit

T = TypeVar("T")

SESSION_COOKIE = b"sid"
HOST_COOKIE = b"__Host-sid"
"""Name of the session cookie over https: browsers accept it from this host only, over https only."""

LINGER_BYTES = 2_097_152
LINGER_SECONDS = 1.0

MOST_PARAMETERS: Annotated[int, Limit("request", "parameters", "400")] = 1_000


@dataclass(slots=True)
class Call:
    """One request. `path` holds the path parameters."""

    scope: Scope
    receive: Receive
    path: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    """Whether the last piece of the body has been received."""
    caller: tuple[str, Principal] | None = None
    """The credential that the request was authenticated with, and the principal at that time."""
    kept_body: bytes | None = None
    """The body, kept so that the request can be authorised again after it has arrived."""

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
    def block(self) -> str:
        """The key under which limits count the client's address."""
        return address_block(self.address)

    @property
    def scheme(self) -> str:
        return self.scope.get("scheme", "http")  # type: ignore[no-any-return]

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def header(self, name: bytes) -> str | None:
        """Return the first header of this name (lower case), or None."""
        value = first_headers(self.scope).get(name)
        return None if value is None else value.decode("latin-1")

    def cookie(self, name: bytes) -> str | None:
        return cookie_value(self.scope["headers"], name) if b"cookie" in first_headers(self.scope) else None

    def session(self) -> str | None:
        """Return the credential in the session cookie: under its https name, or under the documented name."""
        return self.cookie(HOST_COOKIE) or self.cookie(SESSION_COOKIE)

    def bearer(self) -> str | None:
        """Return the token of the Authorization header; None if it is missing or of another scheme."""
        scheme, _, token = (self.header(b"authorization") or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    def parameters(self) -> list[tuple[str, str]]:
        """Return the decoded pairs of the query string. Raises BadRequest if it is not UTF-8 or has too many pairs."""
        raw = self.scope["query_string"]
        if not raw:
            return []
        if raw.isascii() and b"%" not in raw and b"+" not in raw and raw.count(b"&") < MOST_PARAMETERS:
            # Nothing to decode: same result as the parser below, in a fifth of the time.
            parts = [field.partition("=") for field in raw.decode().split("&") if field]
            return [(name, value) for name, _, value in parts]
        try:
            text = raw.decode("utf-8")
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
        except UnicodeDecodeError:
            raise BadRequest("query", "The query string is not UTF-8.") from None
        except ValueError:
            raise BadRequest("query", f"More than {MOST_PARAMETERS} parameters.").at("MOST_PARAMETERS") from None

    async def body(self, limit: BodyLimit, timeout: float) -> bytes:
        """Return the whole body, inflated if it is compressed. It must arrive within `timeout` seconds. Raises
        TooSlow."""
        there: bytes | None = self.scope.get(BODY)
        header = self.header(b"content-encoding")
        if there is not None and len(there) <= limit.plain and header is None:
            return there
        coding = find_coding(header or "")
        # Whether a compressed body is an array is only known after inflating it.
        arriving = limit if not coding else BodyLimit(limit.largest, limit.largest, limit.name)
        self._refuse_declared(arriving)
        try:
            async with asyncio.timeout(timeout):
                chunks, size = await self._whole(arriving)
        except TimeoutError:
            raise TooSlow("the body did not arrive in time").at("body_timeout") from None
        except BodyTooLarge:
            await self.discard()
            raise
        raw = await joined(chunks, size)  # it may wait for a thread, for which the client cannot be blamed
        if not coding:
            return raw
        return await inflate(raw, coding, self._inflating(limit), limit.largest + 1, self.block)

    def _refuse_declared(self, limit: BodyLimit) -> None:
        """Refuse a body by its declared length, before a client that waits for `100 Continue` sends it."""
        declared = self.header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared[:20]) > limit.largest:
            raise limit.refusal(as_array=limit.largest > limit.plain)

    async def _whole(self, limit: BodyLimit) -> tuple[list[bytes], int]:
        """Return the pieces of the body and their size."""
        chunks: list[bytes] = []
        size, begin = 0, b""
        async for chunk in self._chunks():
            chunks.append(chunk)
            size += len(chunk)
            begin = beginning(begin, chunk)
            if size > limit.plain:
                limit.check(begin, size)
        return chunks, size

    def _inflating(self, limit: BodyLimit) -> Callable[[bytes], None]:
        """Return a check for a body that is being inflated: it charges each new piece and applies the limit."""
        charge: Callable[[int], None] | None = self.scope.get(CHARGE)
        size, begin = 0, b""

        def check(piece: bytes) -> None:
            nonlocal size, begin
            if charge is not None:
                charge(len(piece))
            size += len(piece)
            begin = beginning(begin, piece)
            limit.check(begin, size)

        return check

    async def pieces(self, limit: BodyLimit) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces as they arrive, for consumers that never hold all of it. Raises BodyTooLarge beyond
        `limit`, UnsupportedCoding for a compressed body, and ClientGone."""
        coding = self.header(b"content-encoding")
        if coding is not None and coding.strip().lower() != "identity":
            raise UnsupportedCoding("Content-Encoding", "This body must not be compressed.", "identity")
        self._refuse_declared(limit)
        size = 0
        async for piece in self._chunks():
            size += len(piece)
            if size > limit.largest:
                raise limit.refusal(as_array=False)
            yield piece

    def release(self, size: int) -> None:
        """Say that so many bytes of the body are not in memory any more."""
        release: Callable[[int], None] | None = self.scope.get(RELEASE)
        if release is not None:
            release(size)

    async def while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`. If the client disconnects first, cancel it, wait for its end and raise
        ClientGone."""
        active: ActiveRequest | None = self.scope.get(ACTIVE)
        if active is not None:
            active.is_at_work = True
        working, leaving = asyncio.create_task(work), asyncio.create_task(self._disconnection())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            leaving.result()
            raise ClientGone("the client went away")
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    async def _disconnection(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def discard(self) -> None:
        """Read some of a refused body: closing the connection with unread input would reset it, and the client might
        never see the answer."""
        left = LINGER_BYTES
        with suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(LINGER_SECONDS):
                async for chunk in self._chunks():
                    left -= len(chunk)
                    if left < 0:
                        return

    async def _chunks(self) -> AsyncIterator[bytes]:
        while not self.ended:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client went away")
            self.ended = not message.get("more_body")
            if message.get("body"):
                yield message["body"]
