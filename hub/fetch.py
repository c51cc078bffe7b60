"""Requests to servers that users name: images by URL, webhooks, connectors.

A user must not reach, through the hub, what only the hub can reach. So the addresses of a host are looked up once, all
of them are checked, and the connection goes to a checked address; a redirect is a new URL, for which all of this is
done again. There are no cookies, no credentials of the URL or of a `.netrc`, and no proxy of the environment.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Annotated, BinaryIO, Final

import httpcore
from starlette.datastructures import Headers

from hub.fetching.addresses import Address
from hub.fetching.connecting import CheckedBackend
from hub.fetching.errors import AnswerTooLarge, FetchError, FetchFailed, FetchRefused
from hub.fetching.fetch_rules import FetchRules
from hub.fetching.lookups import Lookup
from hub.fetching.urls import Target, parse_url, redirected
from stores.bounds import Limit
from stores.threads import in_thread
from stores.turns import Turn

__all__ = ["AnswerTooLarge", "FetchError", "FetchFailed", "FetchRefused", "Fetched", "Fetcher", "Response"]

log = logging.getLogger(__name__)

MOST_REDIRECTS: Final[Annotated[int, Limit("download", "redirects", "refused")]] = 5
MOST_ANSWER_BYTES: Final[Annotated[int, Limit("answer to the hub", "bytes", "refused")]] = 1_048_576
"""Bytes of an answer that is held in memory (`Fetcher.request`)."""

MOST_ADDRESSES: Final[Annotated[int, Limit("host", "addresses", "refused")]] = 64
"""Each is checked, on the event loop."""

_UNCOMPRESSED: Final = ("", "identity", "aws-chunked")
"""Codings of answers that are what they are. The last one is that of an upload, which some servers of the S3 API
repeat."""
_WRITTEN_AT_ONCE: Final = 262_144
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_FIXED: Final = (("User-Agent", "hub"), ("Accept", "*/*"))
_OURS: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "expect"})
"""Headers that callers cannot set."""
_WITH_BODY: Final = frozenset({"PATCH", "POST", "PUT"})
"""Methods whose requests have a length, even of 0: some servers refuse them without one."""
_FOR_EVERYBODY: Final = frozenset({"accept", "accept-language", "user-agent"})
"""Headers of the caller that another server gets too when the first one redirects to it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A download: the media type that the server gives it, lower case and without parameters; its bytes; and the URL
    from which it came at the end."""

    type: str
    size: int
    url: str


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of any status, and the URL that gave it."""

    status: int
    headers: Headers
    content: bytes
    url: str


@dataclass(frozen=True, slots=True)
class _Request:
    """A request, and how it goes on: `follow` redirects at most; without `strict`, the host may be an address."""

    method: str
    target: Target
    headers: Headers
    content: bytes | None
    follow: int
    strict: bool

    def redirected(self, location: str) -> _Request:
        """Return the request for a redirect. Raises FetchRefused."""
        target = redirected(self.target, location)
        headers = self.headers
        if target.origin != self.target.origin:
            headers = Headers({name: value for name, value in headers.items() if name in _FOR_EVERYBODY})
        return replace(self, target=target, headers=headers, follow=self.follow - 1)

    def sent_headers(self) -> list[tuple[bytes, bytes]]:
        given = self.headers
        fixed = {name: value for name, value in _FIXED if name not in given}
        length = {} if self.content is None else {"Content-Length": str(len(self.content))}
        own = {"Host": self.target.authority, "Connection": "close", "Accept-Encoding": "identity"}
        return [*Headers({**own, **fixed, **length}).raw, *given.raw]


class Fetcher:
    """Fetches under `fetch_rules`. `lookup` finds the addresses of a host; `tls` verifies servers, by default with the
    system's certificates."""

    def __init__(self, fetch_rules: FetchRules, lookup: Lookup, tls: ssl.SSLContext | None = None) -> None:
        self._fetch_rules = fetch_rules
        self._lookup = lookup
        self._tls = tls

    async def download(self, url: str, target: BinaryIO, most_bytes: int, *, strict: bool = True) -> Fetched:
        """Write the content at a URL to `target`, in pieces and in threads.

        With `strict`, the host of the URL and of redirects must be a name. After an error, `target` holds a part.
        Raises FetchRefused; FetchFailed, also for another status than 200, and AnswerTooLarge beyond `most_bytes`; and
        OSError if `target` cannot be written.
        """
        request = _Request("GET", parse_url(url), Headers(), None, MOST_REDIRECTS, strict)
        async with self._answer(request, self._fetch_rules.seconds) as (answer, at):
            if answer.status != 200:
                raise FetchFailed(f"{at.host} answered with status {answer.status}", answer.status)
            headers = _headers_of(answer)
            size, held = 0, bytearray()
            async with aclosing(_body(answer, at, most_bytes)) as pieces:
                async for piece in pieces:
                    size += len(piece)
                    held += piece
                    if len(held) >= _WRITTEN_AT_ONCE:
                        await in_thread(target.write, bytes(held))
                        held.clear()
            await in_thread(target.write, bytes(held))
            return Fetched(_media_type(headers), size, str(at))

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float,
        follow: int = 0,
        most_bytes: int = MOST_ANSWER_BYTES,
    ) -> Response:
        """Send a request and return the answer, of any status, within `seconds`.

        A redirect is returned like other answers, unless `follow` says how many to follow: of GET and HEAD only. The
        headers that another server then gets are those of `_FOR_EVERYBODY`. Raises FetchRefused, FetchFailed and
        AnswerTooLarge; ValueError for headers that the fetcher sets itself, or that are none.
        """
        if follow and method not in ("GET", "HEAD"):
            raise ValueError("redirects of a request that may change something are not followed")
        given = _checked(Headers(headers))
        if content is None and method in _WITH_BODY:
            content = b""
        request = _Request(method, parse_url(url), given, content, follow, strict=False)
        async with self._answer(request, seconds) as (answer, at):
            received = bytearray()  # many small pieces would take many times their bytes
            if method != "HEAD":  # its headers describe a body that does not come
                async for piece in _body(answer, at, most_bytes):
                    received += piece
            return Response(answer.status, _headers_of(answer), bytes(received), str(at))

    @asynccontextmanager
    async def _answer(self, request: _Request, seconds: float) -> AsyncIterator[tuple[httpcore.Response, Target]]:
        """Yield the answer at the end of the redirects, with its body still to be read, and who gave it."""
        try:
            async with asyncio.timeout(seconds):
                follows = request.follow > 0
                while True:
                    async with self._exchange(request) as answer:
                        location = _location(answer) if follows else None
                        if location is None:
                            yield answer, request.target
                            return
                    if request.follow == 0:
                        host = request.target.host
                        raise FetchFailed(f"{host} redirects too often", answer.status).at("MOST_REDIRECTS")
                    request = request.redirected(location)
        except TimeoutError:
            raise FetchFailed(f"{request.target.host} did not answer within {seconds:g} s") from None

    @asynccontextmanager
    async def _exchange(self, request: _Request) -> AsyncIterator[httpcore.Response]:
        """Send a request on a connection of its own, and yield the answer."""
        target = request.target
        tls = await self._context() if target.scheme == "https" else None
        most = self._fetch_rules.connect_seconds
        began = asyncio.get_running_loop().time()
        addresses = await self._addresses(target, request.strict, most)
        backend = CheckedBackend(addresses, most - (asyncio.get_running_loop().time() - began))
        origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        sent = httpcore.Request(request.method, url, headers=request.sent_headers(), content=request.content)
        try:
            with _translated(target.host):
                async with httpcore.AsyncHTTPConnection(origin, tls, network_backend=backend) as connection:
                    answer = await connection.handle_async_request(sent)
                    backend.in_head = False
                    if answer.status < 200:
                        raise FetchFailed(f"{target.host} wants another protocol", answer.status)
                    try:
                        yield answer
                    finally:
                        await answer.aclose()
        finally:
            await backend.aclose()

    async def _addresses(self, target: Target, strict: bool, seconds: float) -> list[Address]:
        """Return the addresses to which the hub may connect. Raises FetchRefused and FetchFailed."""
        if target.address is not None and strict:
            raise FetchRefused("the host of the URL must be a name, not an address")
        try:
            async with asyncio.timeout(seconds):
                found = [target.address] if target.address else await self._lookup(target.host)
        except TimeoutError:
            raise FetchFailed(f"{target.host} was not found within {seconds:g} s") from None
        if not found:
            raise FetchFailed(f"{target.host} has no address")
        if len(found) > MOST_ADDRESSES:
            raise FetchFailed(f"{target.host} has too many addresses").at("MOST_ADDRESSES")
        try:
            return self._fetch_rules.check(target.host, target.port, found)
        except FetchRefused:
            log.info("not fetched from %s, port %d: it has %s", target.host, target.port, ", ".join(map(str, found)))
            raise

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await in_thread(ssl.create_default_context)  # 20 ms, for all certificates of the system
        return self._tls


async def _body(answer: httpcore.Response, at: Target, most_bytes: int) -> AsyncGenerator[bytes]:
    """Yield the body of an answer as it was sent. A compressed one is refused: it was not asked for, and its size says
    nothing of what it becomes. Raises FetchFailed."""
    headers = _headers_of(answer)
    if any(coding.strip().lower() not in _UNCOMPRESSED for coding in headers.getlist("content-encoding")):
        raise FetchFailed(f"{at.host} compresses its answer, which was not asked for", answer.status)
    too_large = AnswerTooLarge(f"the answer of {at.host} exceeds {most_bytes} bytes", answer.status)
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise too_large
    size, turn = 0, Turn()
    async for piece in answer.aiter_stream():
        size += len(piece)
        if size > most_bytes:
            raise too_large
        yield piece
        if turn.is_over:
            await turn.pass_on()


def _location(answer: httpcore.Response) -> str | None:
    """Return where an answer redirects to; None if it does not."""
    if answer.status not in _REDIRECTS:
        return None
    location = _headers_of(answer).get("location")
    if location is None:
        return None
    with suppress(UnicodeDecodeError):
        return location.encode("latin-1").decode()
    return location


def _headers_of(answer: httpcore.Response) -> Headers:
    return Headers(raw=[(name.lower(), value) for name, value in answer.headers])


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _checked(headers: Headers) -> Headers:
    """Return the headers. Raises ValueError for those that callers cannot set."""
    taken = [name for name in headers if name in _OURS]
    if taken:
        raise ValueError(f"the fetcher itself sets {', '.join(taken)}")
    return headers


@contextmanager
def _translated(host: str) -> Iterator[None]:
    """Raise the errors of httpcore as FetchFailed."""
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise FetchFailed(f"the certificate of {host} is not valid: {cause.verify_message}") from error
        raise FetchFailed(f"{host} cannot be reached") from error
    except httpcore.LocalProtocolError as error:
        raise ValueError(f"the request cannot be sent: {error}") from error
    except (httpcore.NetworkError, httpcore.TimeoutException) as error:
        raise FetchFailed(f"the connection to {host} broke off") from error
    except ssl.SSLError as error:  # in the middle of a connection, httpcore lets it through
        raise FetchFailed(f"the connection to {host} broke off") from error
    except httpcore.ProtocolError as error:
        raise FetchFailed(f"{host} does not answer in HTTP") from error
