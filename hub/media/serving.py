"""Serves files at ``/media/{id}``, and the commands that look after them at ``/media/-/``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from starlette.types import Scope, Send

from auth.errors import Explained
from auth.principal import Principal
from hub.dialects.base import Dialect, Operation
from hub.http.active import ACTIVE, ActiveRequest
from hub.http.answer import Answer, json_answer
from hub.http.body import BodyLimit, parse_body
from hub.http.bounded_json import JsonLimits
from hub.http.call import Call
from hub.http.errors import AnswerBroken, BadRequest, ClientTooSlow, Failure
from hub.http.scope import CACHING, FOR_PAGES
from hub.media.access import FileAccess, Readable
from hub.media.ranges import check_not_modified, range_of
from hub.media.reading import PIECE, pieces_of
from hub.media.records import FileRecord
from hub.media.storage import Storage
from hub.media.sweeping import MediaKeeper, Moved, Report
from hub.media.thumbnails import Thumbnails
from stores.errors import NotFound, StoreError
from stores.records import now_ms

YEAR: Final = 31_536_000
SLOWEST: Final = 65_536
"""Bytes a second that a client must take of a file, after `HUB_STREAM_TIMEOUT` seconds."""

_SHOWN: Final = frozenset(
    {
        *("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "text/plain"),
        *("audio/mpeg", "audio/ogg", "audio/wav", "audio/webm", "audio/mp4"),
        *("video/mp4", "video/webm", "video/ogg"),
    }
)
"""Media types that a browser shows and runs nothing of. All others are downloads, such as HTML, SVG and PDF."""
_POLICY: Final = b"default-src 'none'; style-src 'unsafe-inline'; sandbox"
_PLAYER_POLICY: Final = b"default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; sandbox allow-same-origin"
"""For sound and films. The browser's player loads the file once more, in pieces, under the policy of the first answer:
from an origin of its own it would send no cookie."""
_FOR_ALL_PAGES: Final = [(b"access-control-allow-origin", b"*")]
"""Caches keep one answer for all pages, so it does not depend on the page."""
_BODY: Final = BodyLimit(16_384)
_JSON: Final = JsonLimits(100, 16_384, 1_000, 1_000)


@dataclass(slots=True)
class MediaContext:
    """`authenticate` returns the caller's principal. `seconds`: those in which a client must read a small file."""

    access: FileAccess
    thumbnails: Thumbnails
    storage: Storage
    keeper: MediaKeeper
    authenticate: Callable[[Call], Awaitable[Principal]]
    render: Callable[[Failure, Scope], Answer]
    seconds: float
    body_seconds: float


@dataclass(slots=True, kw_only=True)
class FileAnswer(Answer):
    """A file, or a range of it, of `size` bytes. It is never compressed. One piece of it is in memory at a time, and
    counts as unread until it has been sent."""

    size: int

    async def send(self, scope: Scope, send: Send) -> None:
        headers = [(b"content-type", self.content_type), (b"content-length", b"%d" % self.size), *self.headers]
        active: ActiveRequest | None = scope.get(ACTIVE)
        if scope["method"] == "HEAD" or isinstance(self.body, bytes):
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif active is None:
            await self._stream(send, headers, self.body)
        else:
            active.check_unread(min(self.size, PIECE))
            with active.unread(min(self.size, PIECE)):
                await self._stream(send, headers, self.body)

    async def _stream(self, send: Send, headers: list[tuple[bytes, bytes]], body: AsyncIterator[bytes]) -> None:
        try:
            async with asyncio.timeout(self.timeout) as deadline, aclosing(body) as pieces:  # type: ignore[type-var]
                await send({"type": "http.response.start", "status": self.status, "headers": headers})
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            if not deadline.expired():
                raise
            raise ClientTooSlow("the file was not taken in time").at("stream_timeout") from None


async def read_file(context: MediaContext, call: Call) -> Answer:
    """Answer with a file, or a thumbnail of it, if the caller may read it."""
    given = dict(call.parameters())
    found = await context.access.find(call.path["file"], given.get("sig"), lambda: context.authenticate(call))
    record, key, size, etag = found.record, found.record.key, found.record.size, f'"{found.record.file}"'
    if "w" in given:
        width = int(given["w"]) if given["w"].isascii() and given["w"].isdigit() and len(given["w"]) < 6 else 0
        key, size = await context.thumbnails.find(record, width)
        if key != record.key:
            etag = f'"{record.file}-{width}"'
    call.scope[CACHING] = caching_of(found)
    if found.public:
        call.scope[FOR_PAGES] = _FOR_ALL_PAGES
    check_not_modified(call, etag)
    part = range_of(call, etag, size)
    start, end = part or (0, size)
    headers = [(b"etag", etag.encode()), (b"content-disposition", disposition_of(record).encode()), *safety_of(record)]
    if part is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)))
    try:
        body = b"" if call.method == "HEAD" else await _begun(pieces_of(context.storage, key, start, end))
    except NotFound:
        context.thumbnails.forget(record)  # somebody may have removed one: the next request makes it again
        raise
    kind = "text/plain; charset=utf-8" if record.type == "text/plain" else record.type
    seconds = context.seconds + size / SLOWEST
    return FileAnswer(body, 206 if part else 200, headers, kind.encode(), seconds, size=end - start)


async def _begun(pieces: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """Return the pieces, of which the first one is there: an error comes before the answer has begun. Later errors end
    the answer with AnswerBroken."""
    first = await anext(pieces, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
        except StoreError as error:
            raise AnswerBroken(f"the rest of a file cannot be read: {error}") from error

    return all_of_them()


def caching_of(found: Readable) -> bytes:
    """Return the Cache-Control header: a file never changes, but a private one is for its reader, and only as long as
    this one may read it."""
    if found.public:
        return b"public, max-age=%d, immutable" % YEAR
    if found.until is not None:
        return b"private, max-age=%d" % max(0, min(YEAR, (found.until - now_ms()) // 1000))
    return b"private, no-cache"


def safety_of(record: FileRecord) -> list[tuple[bytes, bytes]]:
    """Return the headers that keep a browser from running anything in a file."""
    is_played = record.type in _SHOWN and record.type.startswith(("audio/", "video/"))
    return [(b"content-security-policy", _PLAYER_POLICY if is_played else _POLICY), (b"accept-ranges", b"bytes")]


def disposition_of(record: FileRecord) -> str:
    """Return the Content-Disposition header (RFC 6266): browsers show only what they do not run."""
    kind = "inline" if record.type in _SHOWN else "attachment"
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in record.name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(record.name, safe='')}"


# The commands.


async def check(context: MediaContext, call: Call, principal: Principal) -> Answer:
    require_admin(principal)
    return await _commanded(context, call, partial(context.keeper.check, remove=False))


async def sweep(context: MediaContext, call: Call, principal: Principal) -> Answer:
    require_admin(principal)
    return await _commanded(context, call, partial(context.keeper.check, remove=True))


async def _commanded(context: MediaContext, call: Call, command: Callable[[], Awaitable[Report | Moved]]) -> Answer:
    """Return the answer to a command, which ends when the client goes. Raises Conflict while another one runs."""

    async def run() -> Report | Moved:
        async with context.keeper.commanding():
            return await command()

    return json_answer({"success": True, **asdict(await call.while_connected(run()))})


async def move(context: MediaContext, call: Call, principal: Principal) -> Answer:
    require_admin(principal)
    body: Any = await parse_body(await call.body(_BODY, context.body_seconds), _JSON, call.block)
    url = body.get("url") if isinstance(body, dict) else None
    if not isinstance(url, str):
        raise BadRequest("url", "Must be the URL of a storage, as HUB_MEDIA_URL takes it.")
    return await _commanded(context, call, partial(context.keeper.move, url))


def require_admin(principal: Principal) -> None:
    """Raise Explained for a caller who is no administrator, or whose token is narrowed."""
    if not principal.may_administer("POST", "stores"):
        raise Explained("files", "Only an administrator can do this.")


OPERATIONS: Final[tuple[Operation[MediaContext], ...]] = (
    Operation("readFile", "GET", "/media/{file}", "Read a file or a thumbnail", read_file, open=True),
    Operation("checkFiles", "POST", "/media/-/check", "Compare files, records and entities", check),
    Operation("sweepFiles", "POST", "/media/-/sweep", "Remove files that nothing has", sweep),
    Operation("moveFiles", "POST", "/media/-/move", "Copy all files to another storage", move),
)


class MediaDialect(Dialect[MediaContext]):
    """Files. Errors have the format of the platform API."""

    prefixes = ("/media",)

    def __init__(self, context: MediaContext) -> None:
        super().__init__(context, OPERATIONS)

    def authenticate(self, call: Call) -> Awaitable[Principal]:
        return self.context.authenticate(call)

    def render(self, failure: Failure, scope: Scope) -> Answer:
        return self.context.render(failure, scope)
