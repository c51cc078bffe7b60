"""A transport for httpx over plain HTTP/1.1, at a quarter of the CPU time of httpx's own.

For tests of very many requests. It has no TLS, proxies, streaming, or answers to HEAD.
"""

from __future__ import annotations

import asyncio
from typing import Final

import httptools
import httpx

_CLOSED: Final = "the connection is closed"


class DirectTransport(httpx.AsyncBaseTransport):
    """Sends requests over connections that it keeps open, one request at a time over each. Several clients may share
    it. `patience`: seconds for a request and its answer."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._idle: list[_Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            async with asyncio.timeout(self._patience):
                connection = await self._connection(request.url)
                try:
                    answer = await connection.exchange(await _bytes_of(request))
                except BaseException:
                    connection.close()
                    raise
        except TimeoutError:
            raise httpx.ReadTimeout(f"no answer in {self._patience} s", request=request) from None
        if connection.is_open:
            self._idle.append(connection)
        return answer

    async def aclose(self) -> None:
        """Close the connections without a request."""
        while self._idle:
            self._idle.pop().close()

    async def _connection(self, url: httpx.URL) -> _Connection:
        """Return an idle connection to the server, or a new one."""
        server = url.host, url.port or 80
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.server == server:
                return connection
            connection.close()
        try:
            _, connection = await asyncio.get_running_loop().create_connection(lambda: _Connection(server), *server)
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return connection


async def _bytes_of(request: httpx.Request) -> bytes:
    head = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    head += [b"%s: %s" % header for header in request.headers.raw]
    return b"\r\n".join([*head, b"", await request.aread()])


class _Connection(asyncio.Protocol):
    """A connection to a server. The methods with ``on_`` are those that httptools calls."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser
        self._answer: asyncio.Future[httpx.Response] | None = None

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()

    async def exchange(self, request: bytes) -> httpx.Response:
        """Send a request; return the whole answer. Raises httpx.ReadError if the connection closes before."""
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # an answer without a request, such as that to a connection which is idle for too long
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(httpx.RemoteProtocolError(str(error)))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(httpx.ReadError(str(error or _CLOSED)))

    def _fail(self, error: httpx.TransportError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.close()

    # Called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        assert self._answer is not None
        if not self._answer.done():  # nobody waits any longer
            status, body = self._parser.get_status_code(), httpx.ByteStream(b"".join(self._body))
            self._answer.set_result(httpx.Response(status, headers=self._headers, stream=body))
